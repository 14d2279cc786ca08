"""Something that writes to a PostgreSQL database all the time: pgbench, or threads of our own.

Debian's package has pgbench beside the server; the build from PyPI has not.
"""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.postgres_server import PostgresServer, find_programs

CLIENTS = 4
PER_SECOND = 200
"""Transactions, so that the pipeline gets its share of the machine."""
TABLES = {
    "pgbench_accounts": "aid",
    "pgbench_branches": "bid",
    "pgbench_tellers": "tid",
    "pgbench_history": "id",
    "items": "id",
}
"""The tables with their keys."""

_ACCOUNTS, _TELLERS = 100_000, 10  # as pgbench makes them at scale 1
_TABLES = """
CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
CREATE TABLE pgbench_history (
    tid int, bid int, aid int, delta int, mtime timestamp, filler char(22)
);
INSERT INTO pgbench_branches VALUES (1, 0);
INSERT INTO pgbench_tellers SELECT n, 1, 0 FROM generate_series(1, 10) AS n;
INSERT INTO pgbench_accounts SELECT n, 1, 0 FROM generate_series(1, 100000) AS n;
"""
_MORE = """
CREATE SEQUENCE moved START 100000;
CREATE TABLE items (id int PRIMARY KEY, n int, note text);
ALTER TABLE pgbench_history ADD id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
"""
# Each client has rows of its own, so that none waits for another in a circle.
_SCRIPT = r"""
\set id random(1, 400) * 8 + :client_id
\set other random(1, 400) * 8 + :client_id
BEGIN;
INSERT INTO items VALUES (:id, :other, repeat('x', :other))
  ON CONFLICT (id) DO UPDATE SET n = :other;
UPDATE items SET n = n + 1 WHERE id = :other;
DELETE FROM items WHERE id = (:id * 7) % 3200 / 8 * 8 + :client_id;
UPDATE items SET id = nextval('moved') WHERE id = :id;
COMMIT;
"""
_TRANSFER = """
UPDATE pgbench_accounts SET abalance = abalance + %(delta)s WHERE aid = %(aid)s;
UPDATE pgbench_tellers SET tbalance = tbalance + %(delta)s WHERE tid = %(tid)s;
UPDATE pgbench_branches SET bbalance = bbalance + %(delta)s WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)
  VALUES (%(tid)s, 1, %(aid)s, %(delta)s, now());
"""


@contextmanager
def writing(server: PostgresServer, url: str, folder: Path) -> Iterator[str]:
    """Makes the tables, and writes to them until the end; says by what."""
    if (find_programs() / "pgbench").exists():
        _by_pgbench_made(server, url)
        with _pgbench(server, url, folder):
            yield "pgbench"
        return
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TABLES + _MORE)
    with _threads(url):
        yield "threads"


def _by_pgbench_made(server: PostgresServer, url: str) -> None:
    subprocess.run(
        [*server.program("pgbench"), "-i", "-s", "1", "-q", url],
        check=True,
        capture_output=True,
        cwd="/",
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_MORE)


@contextmanager
def _pgbench(server: PostgresServer, url: str, folder: Path) -> Iterator[None]:
    """Half of its transactions are its own, half of them those of the script."""
    told = folder / "pgbench.log"
    script = server.folder / "changes.sql"  # where the server's user may read it
    script.write_text(_SCRIPT)
    script.chmod(0o644)
    options = f"-n -c {CLIENTS} -j 2 -T 86400 -R {PER_SECOND} -b tpcb-like@1 -f {script}@1"
    with (
        told.open("w") as log,
        subprocess.Popen(
            [*server.program("pgbench"), *options.split(), url], stdout=log, stderr=log, cwd="/"
        ) as load,
    ):
        try:
            yield
            assert load.poll() is None, f"pgbench has ended before: {told.read_text()}"
        finally:
            load.terminate()
    assert "aborted" not in told.read_text(), told.read_text()


@contextmanager
def _threads(url: str) -> Iterator[None]:
    stop = threading.Event()
    failed: list[Exception] = []
    threads = [
        threading.Thread(target=_client, args=(url, number, stop, failed), daemon=True)
        for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []


def _client(url: str, client: int, stop: threading.Event, failed: list[Exception]) -> None:
    chance = random.Random(client)
    try:
        with psycopg.connect(url) as connection:
            while not stop.is_set():
                if chance.random() < 0.5:
                    _transfer(connection, chance)
                else:
                    _change_items(connection, client, chance)
                connection.commit()
                time.sleep(CLIENTS / PER_SECOND)
    except psycopg.Error as error:
        failed.append(error)


def _transfer(connection: psycopg.Connection[tuple[object, ...]], chance: random.Random) -> None:
    values = {
        "aid": chance.randint(1, _ACCOUNTS),
        "tid": chance.randint(1, _TELLERS),
        "delta": chance.randint(-5_000, 5_000),
    }
    for statement in _TRANSFER.split(";")[:-1]:
        connection.execute(statement.encode(), values)


def _change_items(
    connection: psycopg.Connection[tuple[object, ...]], client: int, chance: random.Random
) -> None:
    one, other = (chance.randint(1, 400) * 8 + client for _ in range(2))
    for statement in _SCRIPT.split("BEGIN;")[1].split(";")[:-2]:
        filled = statement.replace(":client_id", str(client)).replace(":other", str(other))
        connection.execute(filled.replace(":id", str(one)).encode())
