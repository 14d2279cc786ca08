"""Snapshots and reads while others write: nothing is lost, whoever dies."""

from __future__ import annotations

import random
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pyarrow as pa
import pytest

from rowtrail.connectors.errors import PositionLostError, TransientError
from rowtrail.connectors.sources import postgres_log_rows
from rowtrail.connectors.sources.postgres import PostgresSource
from tests.connectors.follower import Follower, reported, reported_keys
from tests.connectors.postgres_logged import LoggedDatabase
from tests.connectors.postgres_writers import writers
from tests.postgres_server import GivenServer, PostgresServer
from tests.soak import times


@pytest.fixture(scope="module")
def shared(postgres_server: PostgresServer | GivenServer) -> Iterator[LoggedDatabase]:
    with postgres_server.database() as url, closing(LoggedDatabase(url)) as database:
        yield database


@pytest.fixture
def items(shared: LoggedDatabase) -> Iterator[LoggedDatabase]:
    """Wide rows, eight to a block, so that few of them are many blocks."""
    shared.run(
        "CREATE TABLE items (id int PRIMARY KEY, n int, pad text DEFAULT repeat('x', 900))",
        "INSERT INTO items SELECT n, 0 FROM generate_series(1, 200) AS n",
    )
    yield shared
    shared.empty()


def write(cursor: psycopg.Cursor[tuple[object, ...]], dice: random.Random, serial: int) -> None:
    one = dice.randrange(1, 300)
    what = dice.random()
    if what < 0.4:
        cursor.execute("UPDATE items SET n = %s WHERE id = %s", [serial, one])
    elif what < 0.6:
        cursor.execute("DELETE FROM items WHERE id = %s", [one])
    elif what < 0.8:
        cursor.execute("SAVEPOINT a")
        cursor.execute("INSERT INTO items VALUES (%s, %s) ON CONFLICT DO NOTHING", [one, serial])
        if dice.random() < 0.3:
            cursor.execute("ROLLBACK TO a")
    else:
        cursor.execute(
            "UPDATE items SET id = %s, n = %s WHERE id = %s AND NOT EXISTS "
            "(SELECT FROM items WHERE id = %s)",
            [one + 1000, serial, one, one + 1000],
        )
        cursor.execute(
            "DELETE FROM items WHERE id = %s AND n <> %s", [dice.randrange(1000, 1300), serial]
        )


def tolerant(cursor: psycopg.Cursor[tuple[object, ...]], dice: random.Random, serial: int) -> None:
    """Two that insert the same key at once: the second one gives its transaction up."""
    try:
        write(cursor, dice, serial)
    except psycopg.errors.UniqueViolation:
        cursor.connection.rollback()


@pytest.mark.parametrize("readers", [1, 2, 4])
@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
def test_four_writers_and_a_follower_that_dies(
    items: LoggedDatabase, readers: int, identity: str
) -> None:
    items.run(f"ALTER TABLE items REPLICA IDENTITY {identity}")
    dice = random.Random(readers)
    follower = items.follow("items", batch_rows=16, readers=readers)
    with writers(items.url, tolerant):
        deadline = time.monotonic() + times(1, 3)
        reads = 0
        while time.monotonic() < deadline or reads < 4:
            with items.source() as source:
                follower.read_until(source, dice.randrange(1, 12), lost=dice.random() < 0.3)
                if dice.random() < 0.5:
                    items.acknowledge(source, follower)
            reads += 1
    items.check(follower)
    assert reported(items.check(follower)) == []


def test_the_snapshot_goes_on_at_the_next_range(items: LoggedDatabase) -> None:
    """The log tells of rows that have moved in between, to blocks that were read or were not."""
    items.run("ANALYZE items")
    follower = items.follow("items", batch_rows=16, readers=1)
    read: list[int] = []
    with items.source() as source:
        again = True
        while again:
            before = set(follower.live())
            with closing(source.read(follower.stream, follower.state(source))) as reading:
                item = next(reading)
                follower.apply(item)
                again = '"phase":"snapshot"' in item.position
            if again:
                read += [key for (key,) in set(follower.live()) - before]
                assert [key for (key,) in reported_keys([item])], "a range with rows"
            # The last rows go to the end of the table, or into space that is free again.
            items.run(
                "UPDATE items SET n = n + 1 WHERE id % 40 = 7",
                f"DELETE FROM items WHERE id = {len(read) + 3}",
            )
            items.connection.execute("VACUUM items")
    assert len(read) == len(set(read)) > 150, "no range was read twice"
    assert len(set(read)) < 200
    items.check(follower)


@pytest.mark.parametrize("readers", [2, 4])
def test_several_readers_and_small_batches(items: LoggedDatabase, readers: int) -> None:
    """Ranges end in any order; each is read once, also when the read dies."""
    items.run("ANALYZE items")
    follower = items.follow("items", batch_rows=3, readers=readers)
    given = 0
    with items.source() as source:
        for stop in (1, 2, 5, 9):
            with closing(source.read(follower.stream, follower.state(source))) as reading:
                for number, item in enumerate(reading, start=1):
                    follower.apply(item)
                    given += len(item)
                    if number == stop:
                        break
        for item in source.read(follower.stream, follower.state(source)):
            follower.apply(item)
            given += len(item)
    assert given == 200
    assert follower.live() == items.table("items", "id")


def test_a_page_does_not_end_a_range_that_has_more_rows_than_it(items: LoggedDatabase) -> None:
    """Statistics that are too old make ranges too large: they are read page by page."""
    items.run(
        "ANALYZE items", "INSERT INTO items SELECT n, 0, '' FROM generate_series(500, 900) AS n"
    )
    follower = items.follow("items", batch_rows=60, readers=1)
    with items.source() as source:
        again = True
        while again:
            again = follower.read_until(source, 1)
    assert follower.live() == items.table("items", "id")


@pytest.mark.parametrize(
    "change", ["VACUUM FULL items", "TRUNCATE items", "CLUSTER items USING items_pkey"]
)
def test_a_table_that_is_written_anew_in_the_midst_of_its_snapshot(
    items: LoggedDatabase, change: str
) -> None:
    follower = items.follow("items", batch_rows=16)
    with items.source() as source:
        assert follower.read_until(source, 2)
        items.connection.execute(change)
        with pytest.raises(PositionLostError, match=r"written anew.*resnapshot items"):
            follower.read(source)
    items.connection.execute("INSERT INTO items VALUES (1000, 1) ON CONFLICT DO NOTHING")
    follower.position, follower.epoch = None, 2
    items.check(follower)
    items.connection.execute("VACUUM FULL items")
    items.run("UPDATE items SET n = 2 WHERE id = 1000")
    assert reported_keys(items.check(follower)) == [(1000,)], "afterwards it does no harm"


def test_a_partition_that_goes_in_the_midst_of_the_snapshot(items: LoggedDatabase) -> None:
    items.run(
        "CREATE TABLE events (id int, part int, pad text, PRIMARY KEY (id, part)) "
        "PARTITION BY LIST (part)",
        *(f"CREATE TABLE events_{n} PARTITION OF events FOR VALUES IN ({n})" for n in (1, 2, 3)),
        "INSERT INTO events SELECT n, 1 + n % 3, repeat('x', 900) FROM generate_series(1, 60) AS n",
    )
    follower = items.follow("events", batch_rows=8, readers=1)
    with items.source() as source:
        assert follower.read_until(source, 1)
        items.run("CREATE TABLE events_4 PARTITION OF events FOR VALUES IN (4)")
        items.run("INSERT INTO events VALUES (1, 4)", "UPDATE events SET part = 4 WHERE id = 30")
        assert follower.read_until(source, 1)
        items.run("ALTER TABLE events DETACH PARTITION events_3", "DROP TABLE events_3")
        with pytest.raises(PositionLostError, match=r"dropped or renamed.*resnapshot events"):
            follower.read(source)
    follower.position, follower.epoch = None, 2
    items.check(follower, "id", "part")


def test_a_server_that_would_rather_use_an_index(items: LoggedDatabase) -> None:
    """It has the rows in another order than the blocks, by which a page tells where the next
    begins. Here the server is made to; it also does so for a key that is mostly NULL."""
    items.run(
        "CREATE TABLE odd (code int UNIQUE, pad text)",
        "ALTER TABLE odd REPLICA IDENTITY FULL",
        "INSERT INTO odd SELECT 1000 - n, repeat('x', 300) FROM generate_series(1, 100) AS n",
    )
    follower = items.follow("odd", key=("code",), batch_rows=7, readers=1)
    never = "options=-c%20enable_seqscan%3Doff%20-c%20enable_tidscan%3Doff"
    with closing(PostgresSource(f"{items.url}{'&' if '?' in items.url else '?'}{never}")) as source:
        follower.read(source)
    assert follower.live() == items.table("odd", "code")


class TestBeginning:
    def test_on_a_slot_in_use(self, items: LoggedDatabase) -> None:
        """What the slot has of the new table from before its snapshot is not told again."""
        first = items.followed("items", batch_rows=50)
        items.run(
            "CREATE TABLE lines (id int PRIMARY KEY, n int)",
            "INSERT INTO lines SELECT n, 0 FROM generate_series(1, 9) AS n",
        )
        items.run("UPDATE items SET n = 1 WHERE id = 1")
        second = items.stream("lines")
        items.install(second)
        items.run("UPDATE lines SET n = 1 WHERE id < 4", "UPDATE items SET n = 2 WHERE id = 2")
        follower = Follower(second)
        told = reported(items.check(follower))
        assert len(told) == 9, "the snapshot, and nothing else"
        items.run("UPDATE lines SET n = 2 WHERE id = 3")
        with items.source() as source:
            assert sorted(reported_keys(first.read(source))) == [(1,), (2,)]
            items.acknowledge(source, first, follower)
            assert reported_keys(follower.read(source)) == [(3,)]
            items.acknowledge(source, first, follower)
            assert reported(first.read(source)) == []

    @pytest.mark.parametrize("earlier", [True, False], ids=["older", "younger"])
    def test_while_a_transaction_is_open_that_wrote_before_the_table_was_published(
        self, items: LoggedDatabase, monkeypatch: pytest.MonkeyPatch, earlier: bool
    ) -> None:
        """Its id may be lower or higher than that of the transaction that published the table."""
        items.install(items.stream("items"))
        items.run(
            "CREATE TABLE lines (id int PRIMARY KEY, n int)", "INSERT INTO lines VALUES (1, 0)"
        )
        stream = items.stream("lines")
        add = f"ALTER PUBLICATION {items.log} ADD TABLE lines"
        with items.another() as writer, items.another() as owner:
            if earlier:
                writer.execute("INSERT INTO lines VALUES (2, 0)")
                owner.execute(add)
            else:
                owner.execute(add)
                writer.execute("INSERT INTO lines VALUES (2, 0)")
            writer.execute("UPDATE lines SET n = 1 WHERE id = 1")
            owner.commit()
            monkeypatch.setattr(postgres_log_rows, "OLDER_SECONDS", 0.1)
            follower = Follower(stream)
            with items.source() as source:
                with pytest.raises(TransientError, match="cannot begin while") as caught:
                    follower.read(source)
                assert str(writer.info.backend_pid) in str(caught.value)
                monkeypatch.undo()
                threading.Timer(0.3, writer.commit).start()
                follower.read(source)
        assert follower.live() == items.table("lines", "id")
        assert (2,) in follower.live()

    def test_while_a_prepared_one_is(
        self, items: LoggedDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        items.install(items.stream("items"))
        with items.another() as writer:
            writer.execute("INSERT INTO items VALUES (500, 0)")
            writer.execute("PREPARE TRANSACTION 'waits'")
            writer.rollback()
        monkeypatch.setattr(postgres_log_rows, "OLDER_SECONDS", 0.1)
        follower = Follower(items.stream("items", batch_rows=50))
        with items.source() as source, pytest.raises(TransientError, match="pg_prepared_xacts"):
            follower.read(source)
        items.connection.execute("COMMIT PREPARED 'waits'")
        items.check(follower)


def test_the_clients_memory_does_not_grow_with_a_transaction(items: LoggedDatabase) -> None:
    """A loose bound: what a read holds at once is some batches, whatever the transaction's size."""
    pool = pa.default_memory_pool()
    follower = items.follow("items", batch_rows=500)
    peaks = []
    with items.source() as source:
        follower.read(source)
        for rows in (45_000, 135_000):
            items.run(
                f"INSERT INTO items SELECT n, 0, repeat('x', 1900) "
                f"FROM generate_series(10000, {9_999 + rows}) AS n",
                "DELETE FROM items WHERE id >= 10000",
            )
            base, largest, count = pool.bytes_allocated(), 0, 0
            tracemalloc.start()
            for item in source.read(follower.stream, follower.state(source)):
                largest = max(largest, pool.bytes_allocated() - base)
                count += len(item)
                follower.position = item.position
            peaks.append(largest + tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert count == 2 * rows
            items.acknowledge(source, follower)
    assert peaks[1] < peaks[0] * 1.5, "the second one has three times as many rows"
