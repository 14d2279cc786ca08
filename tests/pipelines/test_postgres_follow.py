"""`rowtrail run --follow` over a real server: changes arrive as they are committed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

import duckdb
import psycopg
import pytest

from rowtrail import Pipeline, Stream
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.pipelines import follow
from tests.postgres_server import PostgresServer

SECONDS = 30.0
"""After so long what has not arrived is taken for lost."""

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


def batches(folder: Path, stream: str) -> int:
    """Closed batches of the stream, as the ledger tells."""
    path = folder / ".rowtrail" / "shop.ledger"
    if not path.exists():
        return 0
    with closing(open_ledger(path, "shop")) as ledger:
        record = ledger.streams.get(stream)
        return 0 if record is None else record.sequence


def is_loaded(folder: Path, stream: str, key: int) -> bool:
    with closing(open_ledger(folder / ".rowtrail" / "shop.ledger", "shop")) as ledger:
        if ledger.streams.get(stream) is None:
            return False
        return any(one.event == "loaded" for one in ledger.trail(RecordId(stream, (key,))))


def in_target(folder: Path, table: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as target:
        return target.sql(
            f"SELECT id, name FROM {table} WHERE _rowtrail_deleted_at IS NULL ORDER BY id"
        ).fetchall()


def wait_for(condition: Callable[[], bool], runs: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert runs(), "it has ended"
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def source(server: PostgresServer) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        for table in ("items", "others"):
            connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, name text)")
            connection.execute(f"INSERT INTO {table} VALUES (1, 'one'), (2, 'two')")
        yield connection


def in_source(
    source: psycopg.Connection[tuple[object, ...]], table: str
) -> list[tuple[object, ...]]:
    return source.execute(f"SELECT id, name FROM {table} ORDER BY id").fetchall()


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
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as target:
        assert target.sql("SELECT note FROM items WHERE id = 41").fetchall() == [("here",)]
    assert "Complete" in output


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


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_table_that_comes_meanwhile_is_taken_up(
    server: PostgresServer,
    source: psycopg.Connection[tuple[object, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    busy: bool,
) -> None:
    """Also where there is always something to be loaded."""
    monkeypatch.setattr(follow, "LOOK_SECONDS", 0.3)
    monkeypatch.setattr(follow, "BUSY_SECONDS", 0.3)
    stop, write_on = Event(), Event()
    pipeline = Pipeline(
        name="shop",
        source=server.url("postgres"),
        destination=f"duckdb:///{tmp_path / 'warehouse.duckdb'}",
        ledger=tmp_path / ".rowtrail" / "shop.ledger",
        streams=[Stream("public.*", capture="log", exclude_tables=["no_*"])],
        install_capture=True,
    )

    def write() -> None:
        with psycopg.connect(server.url("postgres"), autocommit=True) as other:
            while not write_on.wait(0.005):
                other.execute("UPDATE others SET name = clock_timestamp() WHERE id = 1")

    with ThreadPoolExecutor(2) as threads:
        run = threads.submit(pipeline.run, follow=stop.is_set)
        writer = threads.submit(write) if busy else None
        try:
            for name in ("late", "later"):
                wait_for(lambda: batches(tmp_path, "others") >= 2, lambda: not run.done())
                source.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, name text)".encode())
                source.execute(f"INSERT INTO {name} VALUES (1, 'first')".encode())
                source.execute(f"CREATE TABLE no_{name} (id int PRIMARY KEY)".encode())
                wait_for(lambda n=name: is_loaded(tmp_path, n, 1), lambda: not run.done())
                source.execute(f"INSERT INTO {name} VALUES (2, 'second')".encode())
                source.execute("INSERT INTO items SELECT max(id) + 1, 'beside' FROM items")
                wait_for(lambda n=name: is_loaded(tmp_path, n, 2), lambda: not run.done())
        finally:
            write_on.set()
            if writer is not None:
                writer.result()
            stop.set()
        result = run.result()
    assert result.complete
    assert set(result.streams) == {"items", "others", "late", "later"}
    assert result.streams["late"].counts.loaded == 2
    assert pipeline.run().complete
    for table in result.streams:
        assert in_target(tmp_path, table) == in_source(source, table)
