"""`rowtrail run --follow` over a real server: changes arrive as they are committed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from tests.duckdb_files import look_into
from tests.pipelines.followed import SECONDS, batches, in_source, in_target, is_loaded, wait_for
from tests.postgres_server import PostgresServer

FILE = """
[pipeline]
name = "shop"
source = "{url}"
destination = "duckdb:///warehouse.duckdb"
install_capture = true

[defaults]
capture = "log"

[streams.items]
[streams.others]
"""


class Follower:
    """The command in a process of its own; its ledger is watched from outside meanwhile."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        (folder / "rowtrail.toml").write_text(FILE.format(url=url))
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "rowtrail", "--debug", "run", "--follow"],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def loaded(self, stream: str) -> int:
        return batches(self.folder, stream)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        wait_for(condition, lambda: self.process.poll() is None)

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, output
        return output


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def source(server: PostgresServer) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        for table in ("items", "others"):
            connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, name text)")
            connection.execute(f"INSERT INTO {table} VALUES (1, 'one'), (2, 'two')")
        yield connection


def test_changes_arrive_until_it_is_told_to_stop(
    server: PostgresServer, source: psycopg.Connection[tuple[object, ...]], tmp_path: Path
) -> None:
    follower = Follower(tmp_path, server.url("postgres"))
    follower.wait_for(lambda: follower.loaded("others") >= 2)
    for number in range(3, 40):
        source.execute("INSERT INTO items VALUES (%s, 'new')", [number])
        source.execute("UPDATE others SET name = %s WHERE id = 1", [f"{number}"])
    source.execute("DELETE FROM items WHERE id = 2")
    source.execute("UPDATE items SET id = 100 WHERE id = 3")
    source.execute("ALTER TABLE items ADD COLUMN note text")
    source.execute("INSERT INTO items VALUES (41, 'with a note', 'here')")
    before = follower.loaded("others")
    source.execute("UPDATE others SET name = 'last' WHERE id = 2")
    follower.wait_for(lambda: follower.loaded("others") > before)
    output = follower.stop()
    assert in_target(tmp_path, "items") == in_source(source, "items")
    assert in_target(tmp_path, "others") == in_source(source, "others")
    with look_into(tmp_path / "warehouse.duckdb") as target:
        assert target.sql("SELECT note FROM items WHERE id = 41").fetchall() == [("here",)]
    assert "Complete" in output


def test_types_are_widened_while_they_are_followed(
    server: PostgresServer, source: psycopg.Connection[tuple[object, ...]], tmp_path: Path
) -> None:
    """No record fails for a value that the old type does not hold."""
    source.execute("ALTER TABLE others ADD COLUMN size numeric(5,2)")
    follower = Follower(tmp_path, server.url("postgres"))
    follower.wait_for(lambda: follower.loaded("others") >= 2)
    for number in (3, 4):  # the second time it is followed for certain
        source.execute("INSERT INTO items VALUES (%s, 'followed')", [number])
        follower.wait_for(lambda key=number: is_loaded(tmp_path, "items", key))
    source.execute("ALTER TABLE items ALTER COLUMN id TYPE bigint")
    source.execute("INSERT INTO items VALUES (%s, 'large')", [2**40])
    source.execute("DELETE FROM items WHERE id = 2")
    follower.wait_for(lambda: is_loaded(tmp_path, "items", 2**40))
    source.execute("ALTER TABLE others ALTER COLUMN size TYPE numeric(8,4)")
    source.execute("INSERT INTO others VALUES (3, 'finer', 1234.5678)")
    follower.wait_for(lambda: is_loaded(tmp_path, "others", 3))
    output = follower.stop()
    assert in_target(tmp_path, "items") == in_source(source, "items")
    assert in_target(tmp_path, "others") == in_source(source, "others")
    with look_into(tmp_path / "warehouse.duckdb") as target:
        sizes = target.sql("SELECT size FROM others WHERE id = 3").fetchall()
    assert sizes == [(Decimal("1234.5678"),)]
    assert 'ALTER COLUMN "id" TYPE BIGINT' in output
    assert 'ALTER COLUMN "size" TYPE DECIMAL(8,4)' in output


def test_goes_on_after_a_kill_and_after_a_restart_of_the_server(
    server: PostgresServer, source: psycopg.Connection[tuple[object, ...]], tmp_path: Path
) -> None:
    follower = Follower(tmp_path, server.url("postgres"))
    follower.wait_for(lambda: follower.loaded("others") >= 2)
    source.execute("INSERT INTO items SELECT i, 'many' FROM generate_series(10, 5000) AS i")
    follower.process.kill()
    follower.process.communicate()
    follower.process = follower.start()
    before = follower.loaded("others")  # which is read last, before following begins
    follower.wait_for(lambda: follower.loaded("others") > before)
    before = follower.loaded("items")
    source.execute("INSERT INTO items VALUES (6000, 'followed')")
    follower.wait_for(lambda: follower.loaded("items") > before)

    server.stop(how=signal.SIGQUIT)
    server.start()
    with psycopg.connect(server.url("postgres"), autocommit=True) as again:
        again.execute("UPDATE items SET name = 'after' WHERE id < 100")
        before = follower.loaded("items")
        follower.wait_for(lambda: follower.loaded("items") > before)
        output = follower.stop()
        assert "Trying again" in output
        assert in_target(tmp_path, "items") == in_source(again, "items")
