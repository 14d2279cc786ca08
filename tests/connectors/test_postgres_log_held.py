"""Commits that are in the log but that nobody can see yet: they wait for a synchronous standby.

Whatever reads the database then reads it without them. Were the log told as far as it goes, such a
read would carry a version above theirs, and shut them out for ever.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count

import psycopg
import pyarrow as pa
import pytest

from rowtrail.connectors.base import Source
from rowtrail.connectors.errors import TransientError
from rowtrail.connectors.sources import postgres_log_rows
from tests.connectors.follower import Follower, reported, reported_keys
from tests.connectors.postgres_logged import LoggedDatabase
from tests.postgres_server import PostgresServer

_revisions = count(1)


class Standby:
    """`pg_receivewal --synchronous`, as the one standby that every commit waits for."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        folder = server.folder / "received"
        folder.mkdir()
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        self._process = subprocess.Popen(
            [
                *server.program("pg_receivewal"),
                "--synchronous",
                "--no-loop",
                f"--directory={folder}",
                f"--dbname=host={server.folder} user=postgres application_name=standby",
            ],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def standby(server: PostgresServer) -> Iterator[Standby]:
    """All commits wait for it, less those of sessions with `synchronous_commit = local`."""
    standby = Standby(server)
    try:
        with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
            wait(lambda: bool(admin.execute("SELECT 1 FROM pg_stat_replication").fetchall()))
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            admin.execute("SELECT pg_reload_conf()")
            wait(lambda: admin.execute("SHOW synchronous_standby_names").fetchone() == ("standby",))
            wait(
                lambda: (
                    admin.execute("SELECT sync_state FROM pg_stat_replication").fetchone()
                    == ("sync",)
                )
            )
        yield standby
    finally:
        release(server)
        standby.kill()
        shutil.rmtree(server.folder / "received")


def release(server: PostgresServer) -> None:
    """No commit waits any more."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
        admin.execute("SELECT pg_reload_conf()")


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def items(server: PostgresServer, standby: Standby) -> Iterator[LoggedDatabase]:
    with server.database() as url, closing(LoggedDatabase(url)) as database:
        database.run(
            "CREATE TABLE items (id int PRIMARY KEY, n int, name text)",
            "INSERT INTO items SELECT n, 0, 'row ' || n FROM generate_series(1, 9) AS n",
        )
        yield database
        release(server)  # or the database could not be dropped
        database.close()


class Held:
    """A transaction whose commit is in the log and does not end."""

    def __init__(self, database: LoggedDatabase, *statements: str) -> None:
        self._statements = statements
        self._url = database.url
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait(
            lambda: (
                database.select(
                    "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' "
                    "AND application_name = 'held'"
                )
                != []
            )
        )

    def _run(self) -> None:
        with psycopg.connect(self._url, application_name="held") as connection:
            for statement in self._statements:
                connection.execute(statement)

    def ended(self) -> None:
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()


def run_local(database: LoggedDatabase, *statements: str) -> None:
    """A transaction that waits for nobody, and is visible at once."""
    database.run("SET LOCAL synchronous_commit = local", *statements)


def fetch(source: Source, follower: Follower, *keys: int) -> None:
    """As a retry or replay does: the rows as they are now win over what is there."""
    asked = pa.record_batch([pa.array(keys, pa.int32())], names=["id"])
    found = source.fetch(follower.stream, asked, follower.state(source))
    follower.apply(found.with_revision(next(_revisions)))


@pytest.mark.parametrize("end", ["the standby goes on", "the setting is cleared"])
def test_a_read_ends_before_it(
    items: LoggedDatabase, server: PostgresServer, standby: Standby, end: str
) -> None:
    follower = items.followed("items")
    items.run("UPDATE items SET n = 1 WHERE id = 9")
    standby.stop()
    held = Held(items, "UPDATE items SET n = 5 WHERE id IN (1, 2)", "DELETE FROM items WHERE id=3")
    run_local(items, "UPDATE items SET n = 7 WHERE id = 8", "INSERT INTO items VALUES (20, 7)")
    with items.source() as source:
        for _ in range(2):
            changes = follower.read(source)
            assert set(reported_keys(changes)) <= {(9,)}
            fetch(source, follower, 1, 3, 8, 20)
            items.acknowledge(source, follower)
        assert follower.live()[(1,)]["n"] == 0 and follower.live()[(8,)]["n"] == 7
    if end == "the standby goes on":
        standby.go_on()
    else:
        release(server)
    held.ended()
    told = items.check(follower)
    assert {(1,), (2,), (3,), (8,), (20,)} == set(reported_keys(told))
    assert follower.live()[(1,)]["n"] == 5 and (3,) not in follower.live()
    assert reported(items.check(follower)) == []


def test_a_row_that_is_read_since_the_log_does_not_tell_it_whole(
    items: LoggedDatabase, standby: Standby
) -> None:
    """The look-up for a value out of line shows the row without the held change."""
    items.run("ALTER TABLE items ALTER name SET STORAGE EXTERNAL")
    items.run("UPDATE items SET name = repeat('x', 5000)")
    follower = items.followed("items")
    items.run("UPDATE items SET n = 1 WHERE id = 4")
    standby.stop()
    held = Held(items, "UPDATE items SET n = n + 10")
    with items.source() as source:
        assert reported_keys(follower.read(source)) == [(4,)]
        assert follower.live()[(4,)]["n"] == 1
    standby.go_on()
    held.ended()
    items.check(follower)


def test_it_comes_in_the_midst_of_a_snapshot(items: LoggedDatabase, standby: Standby) -> None:
    follower = items.follow("items")
    with items.source() as source:
        reading = source.read(follower.stream, follower.state(source))
        follower.apply(next(reading))
        standby.stop()
        held = Held(items, "UPDATE items SET n = 5", "DELETE FROM items WHERE id = 1")
        run_local(items, "INSERT INTO items VALUES (20, 7)")
        for item in reading:
            follower.apply(item)
        assert follower.live()[(1,)]["n"] == 0
        fetch(source, follower, 1, 2, 9)
        follower.read(source)
    standby.go_on()
    held.ended()
    items.check(follower)


def test_a_stream_does_not_begin_before_it_is_visible(
    items: LoggedDatabase, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = items.follow("items")
    standby.stop()
    held = Held(items, "UPDATE items SET n = 5 WHERE id < 4")
    monkeypatch.setattr(postgres_log_rows, "OLDER_SECONDS", 0.2)
    with items.source() as source, pytest.raises(TransientError, match="under way"):
        follower.read(source)
    assert follower.position is None
    monkeypatch.undo()
    threading.Timer(0.5, standby.go_on).start()
    items.check(follower)
    held.ended()
    items.check(follower)


def test_a_stream_that_begins_between_the_held_ones_of_another(
    items: LoggedDatabase, standby: Standby
) -> None:
    """One that has begun already has a position; the second begins once all is visible."""
    first = items.followed("items")
    items.run("CREATE TABLE lines (id int PRIMARY KEY)", "INSERT INTO lines VALUES (1)")
    second = items.follow("lines")
    standby.stop()
    held = Held(items, "INSERT INTO lines VALUES (2)", "UPDATE items SET n = 6 WHERE id = 6")
    with items.source() as source:
        assert reported(first.read(source)) == []
        items.acknowledge(source, first)
    standby.go_on()
    held.ended()
    items.check(second)
    assert reported_keys(items.check(first)) == [(6,)]
    items.run("INSERT INTO lines VALUES (3)")
    items.check(second)


def test_a_slot_that_is_made_meanwhile(items: LoggedDatabase, standby: Standby) -> None:
    """The server makes it once the held transaction is visible: so nothing falls between."""
    items.run(f"CREATE PUBLICATION {items.log} FOR TABLE items")
    stream = items.stream("items")
    standby.stop()
    held = Held(items, "UPDATE items SET n = 5 WHERE id < 4")
    making = threading.Thread(target=lambda: items.install(stream))
    making.start()
    time.sleep(0.3)
    assert making.is_alive()
    standby.go_on()
    held.ended()
    making.join(timeout=20)
    follower = Follower(stream)
    items.check(follower)
    items.run("UPDATE items SET n = 6 WHERE id = 5")
    assert reported_keys(items.check(follower)) == [(5,)]


def test_a_held_transaction_of_two_phases(items: LoggedDatabase, standby: Standby) -> None:
    follower = items.followed("items")
    with items.another() as other:
        other.execute("UPDATE items SET n = 5 WHERE id = 1")
        other.execute("PREPARE TRANSACTION 'two'")
        other.rollback()
    standby.stop()

    def commit() -> None:
        with psycopg.connect(items.url, autocommit=True) as connection:
            connection.execute("COMMIT PREPARED 'two'")

    committing = threading.Thread(target=commit)
    committing.start()
    wait(lambda: items.select("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'") != [])
    with items.source() as source:
        assert reported(follower.read(source)) == []
        fetch(source, follower, 1)
    standby.go_on()
    committing.join(timeout=20)
    assert reported_keys(items.check(follower)) == [(1,)]


def test_commits_that_are_visible_before_they_are_in_the_log(items: LoggedDatabase) -> None:
    """With synchronous_commit = off: what a read shows may be told later once more."""
    follower = items.follow("items")
    for number in range(5):
        items.run("SET LOCAL synchronous_commit = off", f"UPDATE items SET n = {number}")
        with items.source() as source:
            follower.read(source)
            fetch(source, follower, 1, 2)
    items.run("UPDATE items SET name = 'last' WHERE id = 9")
    items.check(follower)
