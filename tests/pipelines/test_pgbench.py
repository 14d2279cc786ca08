"""PostgreSQL's own load generator writes in four connections while syncs go on; then all is equal.

`pgbench` is a client that nobody here wrote. It runs its own script, and one that inserts, updates,
deletes and gives rows other keys. Three pipelines read meanwhile: by the log into DuckDB, run after
run; by the log into PostgreSQL, followed by a process of its own; by triggers into DuckDB.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rowtrail import Breakers, Pipeline, Stream
from tests.duckdb_files import look_into
from tests.postgres_server import PostgresServer
from tests.soak import times

SECONDS = times(8, 20)
# Two scripts in turn; so many transactions a second that the pipelines get their share of the
# machine.
LOAD = f"-n -c 4 -j 2 -T {SECONDS} -R 300 -b tpcb-like@1 -f /dev/stdin@1"
SCRIPT = r"""
\set id random(1, 3000)
\set other random(1, 3000)
BEGIN;
INSERT INTO items VALUES (:id, :other, repeat('x', :other))
  ON CONFLICT (id) DO UPDATE SET n = :other;
UPDATE items SET n = n + 1 WHERE id = :other;
DELETE FROM items WHERE id = (:id * 7) % 3000;
UPDATE items SET id = nextval('moved') WHERE id = :id;
COMMIT;
"""
KEYS = {
    "pgbench_accounts": "aid",
    "pgbench_branches": "bid",
    "pgbench_tellers": "tid",
    "pgbench_history": "id",
    "items": "id",
}
FILE = """
[pipeline]
name = "followed"
source = "{source}"
destination = "{target}"
install_capture = true

[defaults]
capture = "log"

[streams."public.*"]

[breakers]
deleted_share = 1.0
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def in_source(url: str, table: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            f"SELECT * FROM {table} ORDER BY {KEYS[table]}".encode()
        ).fetchall()


def in_postgres(url: str, table: str, columns: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            f"SELECT {columns} FROM {table} WHERE _rowtrail_deleted_at IS NULL "
            f"ORDER BY {KEYS[table]}".encode()
        ).fetchall()


def in_duckdb(path: Path, table: str, columns: str) -> list[tuple[object, ...]]:
    with look_into(path) as connection:
        return connection.execute(
            f"SELECT {columns} FROM {table} WHERE _rowtrail_deleted_at IS NULL "
            f"ORDER BY {KEYS[table]}"
        ).fetchall()


def columns_of(url: str, table: str) -> str:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(f"SELECT * FROM {table} LIMIT 0".encode())
        assert cursor.description is not None
        return ", ".join(column.name for column in cursor.description)


def test_pgbench_beside_three_pipelines(server: PostgresServer, tmp_path: Path) -> None:
    with server.database() as source, server.database() as target:
        script = tmp_path / "changes.sql"
        script.write_text(SCRIPT)
        subprocess.run(
            [*server.program("pgbench"), "-i", "-s", "1", "-q", source],
            check=True,
            capture_output=True,
            cwd="/",
        )
        with psycopg.connect(source, autocommit=True) as connection:
            connection.execute("CREATE SEQUENCE moved START 10000")
            connection.execute("CREATE TABLE items (id int PRIMARY KEY, n int, note text)")
            connection.execute(
                "ALTER TABLE pgbench_history ADD id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
            )
        by_log = Pipeline(
            name="by_log",
            source=source,
            destination=f"duckdb:///{tmp_path}/log.duckdb",
            ledger=tmp_path / "log.ledger",
            streams=[Stream("public.*", capture="log", batch_rows=5_000)],
            breakers=Breakers(deleted_share=1.0),
            install_capture=True,
        )
        by_trigger = Pipeline(
            name="by_trigger",
            source=source,
            destination=f"duckdb:///{tmp_path}/trigger.duckdb",
            ledger=tmp_path / "trigger.ledger",
            streams=[Stream("items", capture="trigger", batch_rows=500)],
            breakers=Breakers(deleted_share=1.0),
            install_capture=True,
        )
        (tmp_path / "rowtrail.toml").write_text(FILE.format(source=source, target=target))
        script.chmod(0o644)
        tmp_path.chmod(0o755)
        follower = subprocess.Popen(
            [sys.executable, "-m", "rowtrail", "run", "--follow"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        runs = 0
        for _ in range(10):  # once, unless the machine is too busy for two runs meanwhile
            with (
                script.open() as opened,
                subprocess.Popen(
                    [*server.program("pgbench"), *LOAD.split(), source],
                    cwd="/",
                    stdin=opened,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                ) as load,
            ):
                while load.poll() is None:
                    assert by_log.run().complete
                    assert by_trigger.run().complete
                    runs += 1
                output, _ = load.communicate()
            assert load.returncode == 0, output
            if runs > 1:
                break
        assert runs > 1
        assert by_log.run().complete
        assert by_trigger.run().complete
        follower.send_signal(signal.SIGTERM)
        told, _ = follower.communicate(timeout=60)
        assert follower.returncode == 0, told
        # What was committed before the signal and not yet told is read by the next run.
        last = subprocess.run(
            [sys.executable, "-m", "rowtrail", "run"], cwd=tmp_path, capture_output=True, text=True
        )
        assert last.returncode == 0, last.stderr + last.stdout
        for table in KEYS:
            expected, columns = in_source(source, table), columns_of(source, table)
            assert expected, f"{table} has rows to be compared"
            assert in_duckdb(tmp_path / "log.duckdb", table, columns) == expected
            assert in_postgres(target, table, columns) == expected
        assert in_duckdb(tmp_path / "trigger.duckdb", "items", columns_of(source, "items")) == (
            in_source(source, "items")
        )
