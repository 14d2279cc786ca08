"""A `--follow` that runs for weeks: tables come and go, and it is stopped anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import pandas as pd
import psycopg
import pytest

from rowtrail import Pipeline, Stream
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.states import HELD_BACK, StreamState
from rowtrail.connectors.sources import postgres_follow, postgres_stream
from rowtrail.pipelines import follow
from rowtrail.pipelines.results import RunResult
from tests.pipelines.copied_table import Notes
from tests.pipelines.followed import batches, in_source, in_target, is_loaded, wait_for
from tests.postgres_server import PostgresServer

Source = psycopg.Connection[tuple[object, ...]]
SLOT = "followed"
GIVEN_UP = (StreamState.STOPPED, StreamState.NEEDS_SNAPSHOT)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def source(server: PostgresServer) -> Iterator[Source]:
    with server.database() as url, psycopg.connect(url, autocommit=True) as connection:
        for table in ("items", "others"):
            connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, name text)".encode())
            connection.execute(f"INSERT INTO {table} VALUES (1, 'one'), (2, 'two')".encode())
        yield connection


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LOOK_SECONDS", 0.3)
    monkeypatch.setattr(follow, "BUSY_SECONDS", 0.3)
    monkeypatch.setattr(follow, "AGAIN_SECONDS", 1.0)
    monkeypatch.setattr(postgres_follow, "IDLE_SECONDS", 0.3)


def pipeline_of(server: PostgresServer, source: Source, folder: Path, **given: Any) -> Pipeline:
    settings: dict[str, Any] = {
        "streams": [Stream("public.*", capture="log", exclude_tables=["no_*"])],
        "install_capture": True,
        **given,
    }
    return Pipeline(
        name="shop",
        source=server.url(source.info.dbname),
        destination=f"duckdb:///{folder / 'warehouse.duckdb'}",
        ledger=folder / ".rowtrail" / "shop.ledger",
        slot=SLOT,
        **settings,
    )


class Following:
    """A run that follows, in a thread."""

    def __init__(self, run: Future[RunResult], stop: Event) -> None:
        self._run = run
        self._stop = stop

    def wait_for(self, condition: Callable[[], bool]) -> None:
        wait_for(condition, lambda: not self._run.done())

    def stop(self) -> RunResult:
        self._stop.set()
        return self._run.result()

    def result(self) -> RunResult:
        """When it has ended by itself."""
        return self._run.result(timeout=30)


@contextmanager
def followed(pipeline: Pipeline) -> Iterator[Following]:
    stop = Event()
    with ThreadPoolExecutor(1) as threads:
        try:
            yield Following(threads.submit(pipeline.run, follow=stop.is_set), stop)
        finally:
            stop.set()


def run_sql(source: Source, *statements: str) -> None:
    for statement in statements:
        source.execute(statement.encode())


@contextmanager
def somebody_writes(server: PostgresServer, source: Source) -> Iterator[None]:
    """To `others`, all the time."""
    enough = Event()

    def write() -> None:
        url = server.url(source.info.dbname)
        with psycopg.connect(url, autocommit=True) as other:
            while not enough.wait(0.005):
                other.execute("UPDATE others SET name = clock_timestamp() WHERE id = 1")

    with ThreadPoolExecutor(1) as threads:
        writer = threads.submit(write)
        try:
            yield
        finally:
            enough.set()
            writer.result()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_table_that_comes_meanwhile_is_taken_up(
    server: PostgresServer, source: Source, tmp_path: Path, *, busy: bool
) -> None:
    """Also where there is always something to be loaded."""
    pipeline = pipeline_of(server, source, tmp_path)
    with followed(pipeline) as following:
        following.wait_for(lambda: batches(tmp_path, "others") >= 2)
        with somebody_writes(server, source) if busy else nullcontext():
            for name in ("late", "later"):
                run_sql(
                    source,
                    f"CREATE TABLE {name} (id int PRIMARY KEY, name text)",
                    f"INSERT INTO {name} VALUES (1, 'first')",
                    f"CREATE TABLE no_{name} (id int PRIMARY KEY)",
                )
                following.wait_for(lambda n=name: is_loaded(tmp_path, n, 1))
                run_sql(source, f"INSERT INTO {name} VALUES (2, 'second')")
                following.wait_for(lambda n=name: is_loaded(tmp_path, n, 2))
        result = following.stop()
    assert result.complete
    assert set(result.streams) == {"items", "others", "late", "later"}
    assert result.streams["late"].counts.loaded == 2
    assert pipeline.run().complete
    for table in result.streams:
        assert in_target(tmp_path, table) == in_source(source, table)


def test_a_new_table_that_could_not_be_taken_up_is_tried_again(
    server: PostgresServer, source: Source, tmp_path: Path
) -> None:
    """Without `install_capture` a person puts it into the publication, some time later."""
    assert pipeline_of(server, source, tmp_path).run().complete
    with followed(pipeline_of(server, source, tmp_path, install_capture=False)) as following:
        # More than a run that does not follow would write.
        following.wait_for(lambda: batches(tmp_path, "others") >= 5)
        run_sql(
            source,
            "CREATE TABLE late (id int PRIMARY KEY, name text)",
            "INSERT INTO late VALUES (1, 'first')",
        )
        following.wait_for(lambda: state_of(tmp_path, "late") is StreamState.STOPPED)
        run_sql(source, "INSERT INTO items VALUES (3, 'meanwhile')")
        following.wait_for(lambda: is_loaded(tmp_path, "items", 3))
        run_sql(source, f"ALTER PUBLICATION {SLOT} ADD TABLE late")
        following.wait_for(lambda: is_loaded(tmp_path, "late", 1))
        run_sql(source, "INSERT INTO late VALUES (2, 'second')")
        following.wait_for(lambda: is_loaded(tmp_path, "late", 2))
        assert following.stop().complete
    assert in_target(tmp_path, "late") == in_source(source, "late")


def state_of(folder: Path, stream: str) -> StreamState | None:
    with closing(open_ledger(folder / ".rowtrail" / "shop.ledger", "shop")) as ledger:
        record = ledger.streams.get(stream)
        return None if record is None else record.state


def test_a_lock_on_a_new_table_does_not_hold_up_the_others(
    server: PostgresServer, source: Source, tmp_path: Path
) -> None:
    pipeline = pipeline_of(server, source, tmp_path)
    with followed(pipeline) as following:
        following.wait_for(lambda: batches(tmp_path, "others") >= 2)
        with psycopg.connect(server.url(source.info.dbname)) as other:
            other.execute("CREATE TABLE late (id int PRIMARY KEY, name text)")
            other.commit()
            other.execute("LOCK TABLE late IN SHARE UPDATE EXCLUSIVE MODE")  # as VACUUM does
            for number in range(3, 9):
                run_sql(source, f"INSERT INTO items VALUES ({number}, 'meanwhile')")
                following.wait_for(lambda n=number: is_loaded(tmp_path, "items", n))
            other.execute("INSERT INTO late VALUES (1, 'first')")
            other.commit()
        following.wait_for(lambda: is_loaded(tmp_path, "late", 1))
        assert {one.error for one in following.stop().streams.values()} == {None}
    assert pipeline.run().complete
    assert in_target(tmp_path, "late") == in_source(source, "late")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (f"ALTER PUBLICATION {SLOT} DROP TABLE others", "is not in publication"),
        ("DROP TABLE others; CREATE TABLE others (id int PRIMARY KEY, name text)", "publication"),
    ],
    ids=["unpublished", "made again"],
)
def test_a_table_that_is_not_told_any_more_stops_its_own_stream(
    server: PostgresServer, source: Source, tmp_path: Path, what: str, words: str
) -> None:
    pipeline = pipeline_of(server, source, tmp_path)
    with followed(pipeline) as following:
        following.wait_for(lambda: batches(tmp_path, "others") >= 2)
        with source.transaction():  # no look falls between its statements
            run_sql(source, *what.split("; "))
        following.wait_for(lambda: state_of(tmp_path, "others") is StreamState.NEEDS_SNAPSHOT)
        run_sql(source, "INSERT INTO items VALUES (3, 'goes on')")
        following.wait_for(lambda: is_loaded(tmp_path, "items", 3))
        result = following.stop()
    assert result.streams["items"].error is None
    error = result.streams["others"].error or ""
    assert words in error and "rowtrail run --resnapshot others" in error


@pytest.mark.parametrize("when", ["while it is made ready", "while it is followed"])
def test_a_table_that_is_dropped_stops_its_own_stream(
    server: PostgresServer,
    source: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    """Also where it goes after it was described for the target, and before the log is opened."""
    dropped = Event()
    make_ready = follow.make_ready

    def drop_once(*given: Any, **named: Any) -> Any:
        ready = make_ready(*given, **named)
        if ready.lane.stream.name == "others" and not dropped.is_set():
            dropped.set()
            run_sql(source, "DROP TABLE others")
        return ready

    if when == "while it is made ready":
        monkeypatch.setattr(follow, "make_ready", drop_once)
    with followed(pipeline_of(server, source, tmp_path)) as following:
        if when == "while it is followed":
            # More than a run that does not follow would write.
            following.wait_for(lambda: batches(tmp_path, "others") >= 5)
            run_sql(source, "DROP TABLE others")
        following.wait_for(lambda: state_of(tmp_path, "others") in GIVEN_UP)
        run_sql(source, "INSERT INTO items VALUES (3, 'goes on')")
        following.wait_for(lambda: is_loaded(tmp_path, "items", 3))
        result = following.stop()
    assert result.streams["items"].error is None
    assert "others" in (result.streams["others"].error or "")


def test_the_publication_is_dropped(server: PostgresServer, source: Source, tmp_path: Path) -> None:
    pipeline = pipeline_of(server, source, tmp_path, streams=[Stream("items", capture="log")])
    with followed(pipeline) as following:
        following.wait_for(lambda: batches(tmp_path, "items") >= 2)
        run_sql(source, f"DROP PUBLICATION {SLOT}", "INSERT INTO items VALUES (3, 'untold')")
        error = following.result().streams["items"].error or ""
    assert "rowtrail run --resnapshot items" in error


def test_deletes_of_weeks_are_not_added_up(
    server: PostgresServer, source: Source, tmp_path: Path
) -> None:
    """More rows go in time than the table ever has, a tenth of it at once."""
    run_sql(source, "INSERT INTO items SELECT n, 'x' FROM generate_series(3, 100) AS n")
    pipeline = pipeline_of(server, source, tmp_path)
    with followed(pipeline) as following:
        following.wait_for(lambda: batches(tmp_path, "others") >= 2)
        for first in range(100, 250, 10):
            run_sql(
                source,
                f"DELETE FROM items WHERE id <= {first - 90}",
                f"INSERT INTO items SELECT {first} + n, 'x' FROM generate_series(1, 10) AS n",
            )
            following.wait_for(lambda n=first: is_loaded(tmp_path, "items", n + 10))
            looked = batches(tmp_path, "others")
            following.wait_for(lambda n=looked: batches(tmp_path, "others") > n + 1)
        result = following.stop()
    assert result.streams["items"].error is None
    assert result.streams["items"].counts.deleted > 100
    assert in_target(tmp_path, "items") == in_source(source, "items")


def test_a_stream_that_is_behind_the_others_loses_nothing(
    server: PostgresServer, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One stream has yet to get what came while another was read for the first time; and it is
    stopped after the first part of that."""
    monkeypatch.setattr(postgres_stream, "_LONG", 50)
    run_sql(source, "INSERT INTO others SELECT n, 'x' FROM generate_series(3, 100) AS n")
    streams = [Stream("items", capture="log"), Stream("others", capture="log", batch_rows=10)]
    assert pipeline_of(server, source, tmp_path, streams=streams[:1]).run().complete
    stop = Event()

    class Behind(Notes):
        written = False

        def batch_done(self, name: str, batch: object) -> None:
            if name == "others" and not self.written:
                self.written = True
                for number in range(3, 400):
                    run_sql(source, f"INSERT INTO items VALUES ({number}, 'behind')")
            elif name == "items" and self.written:
                stop.set()

    both = pipeline_of(server, source, tmp_path, streams=streams)
    told = Behind()
    both.run(follow=stop.is_set, reporter=told)
    assert told.written
    assert len(in_target(tmp_path, "items")) < 399, "it was not stopped in the midst of it"
    assert both.run().complete
    assert in_target(tmp_path, "items") == in_source(source, "items")


def test_told_to_stop_in_a_first_read(
    server: PostgresServer, source: Source, tmp_path: Path
) -> None:
    """It ends after the batch, says so, and the next run goes on from there."""
    run_sql(source, "INSERT INTO items SELECT n, 'x' FROM generate_series(3, 1000) AS n")
    stream = Stream("items", capture="log", batch_rows=100)
    others = Stream("others", capture="log")
    pipeline = pipeline_of(server, source, tmp_path, streams=[stream, others])
    stop = Event()

    class Stops(Notes):
        def batch_done(self, name: str, batch: object) -> None:
            stop.set()

    result = pipeline.run(follow=stop.is_set, reporter=Stops())
    assert not result.complete
    assert result.streams["items"].counts.loaded == 100
    assert "told to stop" in (result.streams["items"].skipped or "")
    assert "told to stop" in (result.streams["others"].skipped or "")
    again = pipeline.run()
    assert again.complete and again.streams["items"].counts.loaded == 900
    assert in_target(tmp_path, "items") == in_source(source, "items")


def test_a_replay_that_fails_meanwhile_ends_with_the_next_change(
    server: PostgresServer, source: Source, tmp_path: Path
) -> None:
    """It is a request of another process; the stream that is followed is to know of its failure."""
    broken = Event()

    def picky(items: pd.DataFrame) -> pd.DataFrame:
        if broken.is_set() and (items["name"] == "three").any():
            raise LookupError("there is no rate for three")
        return items

    run_sql(source, "INSERT INTO items VALUES (3, 'three')")
    stream = Stream("items", capture="log", transforms=[picky])
    pipeline = pipeline_of(server, source, tmp_path, streams=[stream])
    with followed(pipeline) as following:
        following.wait_for(lambda: is_loaded(tmp_path, "items", 3))
        following.wait_for(lambda: batches(tmp_path, "items") >= 5)
        broken.set()
        pipeline.replay("items", 3)
        following.wait_for(lambda: failed_keys(tmp_path) == [(3,)])
        broken.clear()
        run_sql(source, "UPDATE items SET name = 'drei' WHERE id = 3")
        following.wait_for(lambda: failed_keys(tmp_path) == [])
        assert following.stop().complete
    assert in_target(tmp_path, "items") == in_source(source, "items")


def failed_keys(folder: Path) -> list[tuple[Any, ...]]:
    with closing(open_ledger(folder / ".rowtrail" / "shop.ledger", "shop")) as ledger:
        return [one.record_id.key for one in ledger.failures.list(states=HELD_BACK)]
