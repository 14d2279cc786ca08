"""What goes wrong with a PostgreSQL server in a night: the run waits, goes on, or says what to do.

No record is held back for a system's fault, and nothing is lost. Cut connections have a test of
their own, `test_postgres_cuts.py`.
"""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from rowtrail import Breakers, Pipeline, Stream
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.pipelines import retrying
from rowtrail.pipelines.results import RunResult
from tests.pipelines.copied_table import AfterBatch, CopiedTable, Notes
from tests.postgres_server import PostgresServer
from tests.small_disk import resize, small_disk
from tests.soak import SOAK

RESTART, CRASH = signal.SIGINT, signal.SIGQUIT
OUTAGES = [("log", RESTART), ("trigger", CRASH), ("cursor", RESTART), ("snapshot", CRASH)]
if SOAK:
    OUTAGES += [("log", CRASH), ("trigger", RESTART), ("cursor", CRASH), ("snapshot", RESTART)]

SECONDS = 30.0
"""After so long what has not happened never will."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0.05)


def run(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Each a transaction; what the last one gives."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


class Outage:
    """A server is stopped, and started again half a second later."""

    def __init__(self, server: PostgresServer, how: signal.Signals) -> None:
        self._server = server
        self._how = how
        self._end = threading.Timer(0.5, server.start)

    def begin(self) -> None:
        self._server.stop(how=self._how)
        self._end.start()

    def wait_for_its_end(self) -> None:
        self._end.join(SECONDS)
        assert not self._end.is_alive()


@contextmanager
def beside(action: Callable[[], object]) -> Iterator[None]:
    """Does something in a thread meanwhile; what it raises is raised in the end."""
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(action)
        yield
        done.result(SECONDS)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def who_waits(connection: psycopg.Connection[Any]) -> list[Any]:
    """Other sessions of this database that wait for a lock."""
    return connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND datname = current_database() AND pid <> pg_backend_pid()"
    ).fetchall()


@pytest.mark.parametrize(("capture", "how"), OUTAGES)
def test_the_source_is_stopped_in_mid_run_and_started_again(
    server: PostgresServer, from_server: CopiedTable, capture: str, how: signal.Signals
) -> None:
    """While the first batches are read, and again while changes are."""
    pipeline = from_server.pipeline(capture=capture, batch_rows=50)
    for first in (True, False):
        outage = Outage(server, how)
        told = AfterBatch(2, outage.begin)
        result = pipeline.run(reporter=told)
        outage.wait_for_its_end()
        assert result.complete, result.streams["orders"].error
        # What the log has since is fetched at once, before the first batch.
        if first or capture != "log":
            assert any("Trying again in" in note for note in told.notes)
        from_server.check()
        from_server.happen()
        from_server.happen()
    assert pipeline.run().complete
    from_server.check()


@pytest.mark.parametrize("how", [RESTART, CRASH], ids=["restart", "crash"])
def test_the_target_is_stopped_in_mid_run_and_started_again(
    server: PostgresServer, to_server: CopiedTable, how: signal.Signals
) -> None:
    outage = Outage(server, how)
    told = AfterBatch(3, outage.begin)
    result = to_server.pipeline(capture="trigger", batch_rows=50).run(reporter=told)
    outage.wait_for_its_end()
    assert result.complete, result.streams["orders"].error
    assert result.streams["orders"].counts.loaded == 600
    assert any("Trying again in" in note for note in told.notes)
    to_server.check()


@pytest.mark.parametrize("capture", ["log", "trigger", "cursor"])
def test_an_administrator_ends_every_session_of_the_source(
    from_server: CopiedTable, capture: str
) -> None:
    pipeline = from_server.pipeline(capture=capture, batch_rows=50)
    for number in range(1, 6):
        result = pipeline.run(reporter=AfterBatch(number, lambda: end_all(from_server.source)))
        assert result.complete, result.streams["orders"].error
        from_server.check()
        from_server.happen()


def test_an_administrator_ends_every_session_of_the_target(to_server: CopiedTable) -> None:
    pipeline = to_server.pipeline(capture="trigger", batch_rows=50)
    for number in range(1, 6):
        result = pipeline.run(reporter=AfterBatch(number, lambda: end_all(to_server.target)))
        assert result.complete, result.streams["orders"].error
        to_server.check()
        to_server.happen()


def end_all(url: str) -> None:
    run(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


@pytest.mark.parametrize("capture", ["log", "trigger", "cursor", "snapshot"])
def test_a_statement_at_the_source_that_takes_too_long(
    from_server: CopiedTable, monkeypatch: pytest.MonkeyPatch, capture: str
) -> None:
    """Somebody has locked the table: for a moment, and for longer than the run waits."""
    monkeypatch.setattr(retrying, "PATIENCE", 0.5)
    monkeypatch.setattr(retrying, "OPENING_PATIENCE", 0.5)
    limit_statements(from_server.source, "100ms")
    pipeline = from_server.pipeline(capture=capture, batch_rows=50)
    for resnapshot in ((), ("orders",)):
        with psycopg.connect(from_server.source) as other:

            def lock(connection: psycopg.Connection[Any] = other) -> None:
                connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")

            def unlock_soon(connection: psycopg.Connection[Any] = other) -> None:
                lock()
                threading.Timer(0.3, connection.rollback).start()

            passing = AfterBatch(2, unlock_soon)
            assert pipeline.run(reporter=passing, resnapshot=resnapshot).complete
            from_server.check()
            from_server.happen()
            lasting = AfterBatch(2, lock)
            result = pipeline.run(reporter=lasting, resnapshot=("orders",))
            error = result.streams["orders"].error
            if error is not None:  # a reader beside may have had all rows already
                assert "statement timeout" in error
                assert "raise statement_timeout for this user" in error
            other.rollback()
        assert pipeline.run().complete
        from_server.check()


def limit_statements(url: str, limit: str) -> None:
    run(url, f"ALTER DATABASE {name_of(url)} SET statement_timeout = '{limit}'")


def name_of(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def test_a_statement_at_the_target_that_takes_too_long(
    to_server: CopiedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = to_server.pipeline(capture="trigger")
    assert pipeline.run().complete
    to_server.happen()
    limit_statements(to_server.target, "100ms")
    with psycopg.connect(to_server.target) as other:
        other.execute("UPDATE orders SET note = note")
        told = Notes()
        with beside(lambda: (wait_until(lambda: told.notes), other.rollback())):
            assert pipeline.run(reporter=told).complete
        assert any("statement timeout" in note for note in told.notes)
        to_server.check()
        to_server.happen()

        monkeypatch.setattr(retrying, "PATIENCE", 0.5)
        other.execute("UPDATE orders SET note = note")
        error = pipeline.run().streams["orders"].error
        assert error is not None
        assert "statement timeout" in error and "raise statement_timeout for this user" in error
        other.rollback()
    assert pipeline.run().complete
    to_server.check()


def test_a_deadlock_at_the_target(to_server: CopiedTable) -> None:
    """Another session has a row that the merge needs, and needs a lock that the merge has."""
    pipeline = to_server.pipeline(capture="trigger")
    assert pipeline.run().complete
    to_server.change("UPDATE orders SET note = 'changed'")
    told = Notes()
    with (
        psycopg.connect(to_server.target) as other,
        psycopg.connect(to_server.target, autocommit=True) as watcher,
    ):
        other.execute("SET deadlock_timeout = '1min'")  # so that the merge is the one that gives in
        other.execute("UPDATE orders SET note = note WHERE id = 2")

        def wait_for_each_other() -> None:
            wait_until(lambda: who_waits(watcher))
            other.execute("LOCK TABLE orders IN SHARE MODE")
            other.rollback()

        with beside(wait_for_each_other):
            assert pipeline.run(reporter=told).complete
    assert any("deadlock detected" in note for note in told.notes), told.notes
    to_server.check()


FIVE = ("a", "b", "c", "d", "e")


def five_tables(folder: Path, source: str, target: str) -> Pipeline:
    return Pipeline(
        name="test",
        source=source,
        destination=target,
        ledger=folder / "ledger.db",
        streams=[Stream(name, capture="snapshot") for name in FIVE],
        breakers=Breakers(deleted_share=1.0),
    )


def as_user(url: str, user: str) -> str:
    return url.replace("postgres@", f"{user}@", 1)


def test_no_rights_on_one_of_five_tables(server: PostgresServer, tmp_path: Path) -> None:
    """At the source, then at the target: four go on, the fifth says what it lacks."""
    with server.database() as source, server.database() as target:
        run(source, "CREATE ROLE reader LOGIN", "CREATE ROLE writer LOGIN")
        for name in FIVE:
            run(
                source,
                f"CREATE TABLE {name} (id int PRIMARY KEY)",
                f"INSERT INTO {name} VALUES (1)",
            )
        run(source, "GRANT SELECT ON a, b, d, e TO reader")
        result = five_tables(tmp_path, as_user(source, "reader"), target).run()
        assert what_stopped(result).keys() == {"c"}
        assert "User reader may not read c" in what_stopped(result)["c"]

        run(source, "GRANT SELECT ON c TO reader")
        run(
            target,
            "GRANT ALL ON SCHEMA public TO writer",
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO writer",
            "REVOKE ALL ON b FROM writer",
        )
        for name in FIVE:
            run(source, f"INSERT INTO {name} VALUES (2)")
        pipeline = five_tables(tmp_path, as_user(source, "reader"), as_user(target, "writer"))
        result = pipeline.run()
        assert what_stopped(result).keys() == {"b"}
        assert "permission denied for table b" in what_stopped(result)["b"]
        assert "Give this user the right" in what_stopped(result)["b"]

        run(target, "GRANT ALL ON b TO writer")
        assert pipeline.run().complete
        for name in FIVE:
            assert run(target, f"SELECT id FROM {name} ORDER BY id") == [(1,), (2,)]
        with closing(open_ledger(tmp_path / "ledger.db", "test")) as ledger:
            assert list(ledger.failures.list()) == []


def what_stopped(result: RunResult) -> dict[str, str]:
    told = {one.name: one.error or one.skipped or "" for one in result.streams.values()}
    return {name: words for name, words in told.items() if words}


def test_a_full_disk_at_the_target(server: PostgresServer, tmp_path: Path) -> None:
    """A tablespace of its own on a small disk; the server's own files have room."""
    with small_disk(server.folder / "small") as disk:
        disk.chmod(0o700)
        shutil.chown(disk, "postgres", "postgres")
        run(server.url("postgres"), f"CREATE TABLESPACE small LOCATION '{disk}'")
        with server.database() as target:
            run(target, f"ALTER DATABASE {name_of(target)} SET default_tablespace = small")
            fill_the_disk(tmp_path, target, disk)
        run(server.url("postgres"), "DROP TABLESPACE small")


def fill_the_disk(folder: Path, target: str, disk: Path) -> None:
    table = CopiedTable(folder, f"sqlite:///{folder / 'source.db'}", target)
    table.make()
    pipeline = table.pipeline(capture="trigger", batch_rows=1_000)
    assert pipeline.run().complete
    table.change(
        "INSERT INTO orders WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        "WHERE i < 9000) SELECT i + 1000, 1, hex(randomblob(800)), NULL FROM n"
    )
    result = pipeline.run()
    error = result.streams["orders"].error
    assert error is not None
    assert "could not extend file" in error and "Free some space on the server's disk" in error
    assert 0 < result.streams["orders"].counts.loaded < 9000
    resize(disk, "200m")
    assert pipeline.run().complete
    table.check()
