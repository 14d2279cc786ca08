"""Rows of the log, as they are after transactions of many kinds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from rowtrail.connectors.changes import Operation
from tests.connectors.follower import reported, reported_keys
from tests.connectors.postgres_logged import LoggedDatabase
from tests.postgres_server import GivenServer, PostgresServer

BIG = "(SELECT string_agg(md5(n::text || {seed}), '') FROM generate_series(1, 200) AS n)"
"""SQL for 6,400 characters, which go out of line."""


@pytest.fixture(scope="module")
def shared(postgres_server: PostgresServer | GivenServer) -> Iterator[LoggedDatabase]:
    with postgres_server.database() as url, closing(LoggedDatabase(url)) as database:
        yield database


@pytest.fixture
def database(shared: LoggedDatabase) -> Iterator[LoggedDatabase]:
    yield shared
    shared.empty()


def big(seed: object) -> str:
    return BIG.replace("{seed}", f"'{seed}'")


class TestLargeValues:
    """A value that is stored out of line and did not change is not in the log."""

    @pytest.fixture(params=["DEFAULT", "FULL", "USING INDEX docs_code"])
    def docs(self, database: LoggedDatabase, request: pytest.FixtureRequest) -> LoggedDatabase:
        key = "id" if "INDEX" not in request.param else "code"
        database.run(
            f"CREATE TABLE docs (id int NOT NULL, code int NOT NULL, n int, body text, "
            f"CONSTRAINT docs_key PRIMARY KEY ({key}))",
            "ALTER TABLE docs ALTER body SET STORAGE EXTERNAL",
            "CREATE UNIQUE INDEX docs_code ON docs (code)",
            f"ALTER TABLE docs REPLICA IDENTITY {request.param}",
            *(f"INSERT INTO docs VALUES ({n}, {n}, 0, {big(n)})" for n in range(1, 8)),
        )
        return database

    def key(self, docs: LoggedDatabase) -> str:
        ((key,),) = docs.select(
            "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = "
            "indkey[0] WHERE indrelid = 'docs'::regclass AND indisprimary"
        )
        return str(key)

    def test_is_unchanged(self, docs: LoggedDatabase) -> None:
        key = self.key(docs)
        follower = docs.followed("docs", key)
        docs.run("UPDATE docs SET n = 1 WHERE id < 4")
        assert sorted(reported_keys(docs.check(follower, key))) == [(1,), (2,), (3,)]

    def test_in_a_row_that_came_in_the_same_transaction(self, docs: LoggedDatabase) -> None:
        key = self.key(docs)
        follower = docs.followed("docs", key)
        docs.run(
            f"INSERT INTO docs VALUES (20, 20, 0, {big('new')})",
            "UPDATE docs SET n = 2 WHERE id = 20",
            "UPDATE docs SET n = 3 WHERE id = 20",
        )
        docs.check(follower, key)

    def test_in_a_row_whose_key_changes(self, docs: LoggedDatabase) -> None:
        key = self.key(docs)
        follower = docs.followed("docs", key)
        docs.run(f"UPDATE docs SET {key} = 30 WHERE id = 3", "UPDATE docs SET n = 4 WHERE n = 0")
        docs.check(follower, key)
        docs.run(f"UPDATE docs SET {key} = 3 WHERE {key} = 30")
        docs.run(f"UPDATE docs SET {key} = 31 WHERE {key} = 3")
        docs.check(follower, key)

    def test_in_a_row_that_is_gone_or_another_one_when_it_is_read(
        self, docs: LoggedDatabase
    ) -> None:
        key = self.key(docs)
        follower = docs.followed("docs", key)
        docs.run("UPDATE docs SET n = 5")
        docs.run("DELETE FROM docs WHERE id IN (2, 4)")
        docs.run(f"INSERT INTO docs VALUES (2, 2, 9, {big('other')})")
        docs.run(f"UPDATE docs SET body = {big('newer')} WHERE id = 5")
        docs.check(follower, key)

    @pytest.mark.parametrize("lost", [False, True], ids=["durable", "lost"])
    def test_broken_off_after_each_item(self, docs: LoggedDatabase, lost: bool) -> None:
        key = self.key(docs)
        follower = docs.followed("docs", key, batch_rows=2)
        docs.run(
            "UPDATE docs SET n = 6",
            f"UPDATE docs SET {key} = 40 WHERE id = 1",
            "DELETE FROM docs WHERE id = 2",
            f"INSERT INTO docs VALUES (2, 2, 1, {big('again')})",
            "UPDATE docs SET n = 7 WHERE id <> 5",
        )
        assert docs.resumed(follower, key, lost=lost) > 3


@pytest.fixture
def items(database: LoggedDatabase) -> LoggedDatabase:
    database.run(
        "CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL, name text)",
        "INSERT INTO items SELECT n, 0, 'row ' || n FROM generate_series(1, 9) AS n",
    )
    return database


class TestTransactions:
    def test_several_changes_of_one_key(self, items: LoggedDatabase) -> None:
        follower = items.followed("items")
        items.run(
            "UPDATE items SET n = 1 WHERE id = 1",
            "UPDATE items SET n = 2 WHERE id = 1",
            "DELETE FROM items WHERE id = 1",
            "INSERT INTO items VALUES (1, 3, 'again')",
            "UPDATE items SET n = 4 WHERE id = 1",
            "INSERT INTO items VALUES (50, 1, 'short')",
            "DELETE FROM items WHERE id = 50",
            "INSERT INTO items VALUES (51, 1, 'short')",
            "UPDATE items SET id = 52 WHERE id = 51",
            "DELETE FROM items WHERE id = 52",
        )
        changes = reported(items.check(follower))
        assert [operation for operation, row in changes if row["id"] == 1] == [
            Operation.UPDATE,
            Operation.UPDATE,
            Operation.DELETE,
            Operation.INSERT,
            Operation.UPDATE,
        ]
        assert [(op, row["id"]) for op, row in changes if row["id"] > 50 and op < 3] == [
            (Operation.INSERT, 51),
            (Operation.UPDATE, 52),
        ]

    def test_savepoints(self, items: LoggedDatabase) -> None:
        follower = items.followed("items")
        items.run(
            "UPDATE items SET n = 1 WHERE id = 1",
            "SAVEPOINT a",
            "UPDATE items SET n = 2",
            "SAVEPOINT b",
            "DELETE FROM items",
            "ROLLBACK TO a",
            "SAVEPOINT c",
            "UPDATE items SET n = 3 WHERE id = 2",
            "RELEASE c",
        )
        assert sorted(reported_keys(items.check(follower))) == [(1,), (2,)]

    def test_two_phases(self, items: LoggedDatabase) -> None:
        """Told when it is committed, which is after later ones."""
        follower = items.followed("items")
        with items.another() as other:
            other.execute("UPDATE items SET n = 7, id = id + 100 WHERE id < 3")
            other.execute("PREPARE TRANSACTION 'held'")
            other.rollback()
        items.run("UPDATE items SET n = 8 WHERE id = 5")
        assert reported_keys(items.check(follower)) == [(5,)]
        items.run("UPDATE items SET n = 9 WHERE id = 6")
        items.connection.execute("COMMIT PREPARED 'held'")
        assert reported_keys(items.check(follower)) == [(6,), (1,), (101,), (2,), (102,)]
        with items.another() as other:
            other.execute("DELETE FROM items")
            other.execute("PREPARE TRANSACTION 'dropped'")
            other.rollback()
        items.connection.execute("ROLLBACK PREPARED 'dropped'")
        assert reported(items.check(follower)) == []

    def test_copy_and_on_conflict(self, items: LoggedDatabase) -> None:
        follower = items.followed("items", batch_rows=10)
        with (
            items.another() as other,
            other.cursor() as cursor,
            cursor.copy("COPY items FROM STDIN") as copy,
        ):
            for number in range(100, 150):
                copy.write_row((number, number, None))
        keys = reported_keys(items.check(follower))
        assert keys == [(number,) for number in range(100, 150)]
        items.run(
            "INSERT INTO items SELECT n, -1, 'both' FROM generate_series(8, 11) AS n "
            "ON CONFLICT (id) DO UPDATE SET n = items.n - 1"
        )
        items.run("INSERT INTO items VALUES (1, 0, 'not') ON CONFLICT DO NOTHING")
        changes = reported(items.check(follower))
        assert [(op, row["id"], row["n"]) for op, row in changes] == [
            (Operation.UPDATE, 8, -1),
            (Operation.UPDATE, 9, -1),
            (Operation.INSERT, 10, -1),
            (Operation.INSERT, 11, -1),
        ]

    @pytest.mark.parametrize("lost", [False, True], ids=["durable", "lost"])
    def test_one_that_is_larger_than_a_batch(self, items: LoggedDatabase, lost: bool) -> None:
        """Each batch is durable by itself: what is read again is what was not."""
        follower = items.followed("items", batch_rows=5)
        items.run(
            "INSERT INTO items SELECT n, 1, 'x' FROM generate_series(100, 141) AS n",
            "UPDATE items SET id = id + 1000 WHERE id BETWEEN 110 AND 119",
            "DELETE FROM items WHERE id BETWEEN 130 AND 135",
        )
        items.run("UPDATE items SET n = 2 WHERE id = 1")
        everything = 42 + 20 + 6 + 1
        read = []
        for stop in range(1, 40):
            before = len(read)
            with (
                items.source() as source,
                closing(source.read(follower.stream, follower.state(source))) as reading,
            ):
                for number, item in enumerate(reading, start=1):
                    if lost and number == 2:
                        break
                    follower.apply(item)
                    read += reported_keys([item])
                    if not lost:
                        break
                else:
                    break
                if item.read_complete and not lost:
                    break
            assert len(read) - before <= 5, stop
        assert len(read) == everything, "each change once, none left out"
        assert follower.live() == items.table("items", "id")

    def test_batches_of_one_row(self, items: LoggedDatabase) -> None:
        follower = items.followed("items", batch_rows=1)
        items.run("UPDATE items SET id = 20 WHERE id = 1", "UPDATE items SET id = 1 WHERE id = 2")
        items.run("TRUNCATE items", "INSERT INTO items VALUES (3, 3, 'three'), (1, 1, 'one')")
        items.check(follower)


class TestKeys:
    def test_chains_and_swaps(self, items: LoggedDatabase) -> None:
        follower = items.followed("items")
        items.run(*(f"UPDATE items SET id = {n + 1} WHERE id = {n}" for n in range(9, 0, -1)))
        items.check(follower)
        items.run(
            "UPDATE items SET id = -1 WHERE id = 2",
            "UPDATE items SET id = 2 WHERE id = 3",
            "UPDATE items SET id = 3 WHERE id = -1",
            "UPDATE items SET id = 60 WHERE id = 4",
            "UPDATE items SET id = 61 WHERE id = 60",
            "UPDATE items SET id = 4, n = 5 WHERE id = 61",
        )
        assert items.resumed(follower) >= 2

    def test_swapped_in_one_statement(self, database: LoggedDatabase) -> None:
        """A key that is checked at the end of the statement cannot be the replica identity."""
        database.run(
            "CREATE TABLE pairs (id int PRIMARY KEY DEFERRABLE, n int)",
            "INSERT INTO pairs SELECT n, n FROM generate_series(1, 6) AS n",
        )
        stream = database.stream("pairs")
        with database.source() as source:
            (problem,) = [one for one in source.preflight([stream]) if one.stream and one.fatal][:1]
        assert "DEFERRABLE" in problem.message and "REPLICA IDENTITY FULL" in problem.remedy
        database.run("ALTER TABLE pairs REPLICA IDENTITY FULL")
        follower = database.followed("pairs")
        database.run("UPDATE pairs SET id = 7 - id")
        database.check(follower)
        database.run("UPDATE pairs SET id = 1 + id % 6")
        assert database.resumed(follower) == 2

    def test_of_several_columns(self, database: LoggedDatabase) -> None:
        database.run(
            "CREATE TABLE lines (n int, shop text, at timestamptz, v int, "
            "PRIMARY KEY (shop, at, n))",
            "INSERT INTO lines SELECT n, 'shop ' || n % 2, '2024-01-01 12:00+00', 0 "
            "FROM generate_series(1, 7) AS n",
        )
        key = ("shop", "at", "n")
        follower = database.followed("lines", *key)
        database.run(
            "UPDATE lines SET at = at + '1 microsecond' WHERE n = 2",
            "UPDATE lines SET shop = 'Größe' WHERE n = 3",
            "UPDATE lines SET v = 1 WHERE n > 4",
            "DELETE FROM lines WHERE n = 7",
        )
        assert len(reported_keys(database.check(follower, *key))) == 8
        database.run("DELETE FROM lines WHERE n = 2")
        database.check(follower, *key)

    def test_that_is_not_the_primary_key(self, database: LoggedDatabase) -> None:
        database.run(
            "CREATE TABLE parts (id int PRIMARY KEY, code text NOT NULL UNIQUE, n int)",
            "INSERT INTO parts SELECT n, 'c' || n, 0 FROM generate_series(1, 6) AS n",
        )
        stream = database.stream("parts", key=("code",))
        database.install(stream)
        with database.source() as source:
            (problem,) = [one for one in source.preflight([stream]) if one.fatal]
        assert "and not by code" in problem.message
        database.run("ALTER TABLE parts REPLICA IDENTITY USING INDEX parts_code_key")
        follower = database.followed("parts", "code", key=("code",))
        database.run(
            "UPDATE parts SET id = 90 WHERE id = 1",
            "UPDATE parts SET code = 'other' WHERE id = 2",
            "DELETE FROM parts WHERE id = 3",
        )
        database.check(follower, "code")
        database.run("ALTER TABLE parts REPLICA IDENTITY FULL", "UPDATE parts SET n = 1")
        database.run("DELETE FROM parts WHERE code = 'other'")
        database.check(follower, "code")

    def test_a_table_that_got_another_identity_in_the_log(self, database: LoggedDatabase) -> None:
        """The log before it does not name deleted rows by the stream's key."""
        from rowtrail.connectors.errors import PositionLostError

        database.run("CREATE TABLE parts (id int PRIMARY KEY, code text NOT NULL UNIQUE)")
        database.run("ALTER TABLE parts REPLICA IDENTITY FULL")
        follower = database.followed("parts", "code", key=("code",))
        database.run("ALTER TABLE parts REPLICA IDENTITY DEFAULT")
        database.run("INSERT INTO parts VALUES (1, 'a')", "DELETE FROM parts")
        database.run("ALTER TABLE parts REPLICA IDENTITY FULL")
        with database.source() as source, pytest.raises(PositionLostError, match="does not name"):
            follower.read(source)


class TestTruncate:
    def test_alone_and_with_what_follows(self, items: LoggedDatabase) -> None:
        follower = items.followed("items", batch_rows=2)
        items.run("TRUNCATE items")
        changes = reported(items.check(follower))
        assert {operation for operation, _ in changes} == {Operation.DELETE} and len(changes) == 9
        items.run("INSERT INTO items VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c')")
        items.check(follower)
        items.run(
            "UPDATE items SET n = 5 WHERE id = 1",
            "INSERT INTO items VALUES (4, 4, 'before')",
            "TRUNCATE items",
            "INSERT INTO items VALUES (2, 5, 'after'), (9, 9, 'after')",
            "TRUNCATE items",
            "INSERT INTO items VALUES (1, 6, 'after all'), (4, 6, 'after all')",
        )
        items.run("INSERT INTO items VALUES (5, 7, 'last')")
        assert items.resumed(follower) > 4

    def test_an_empty_table(self, items: LoggedDatabase) -> None:
        items.run("TRUNCATE items")
        follower = items.followed("items")
        items.run("TRUNCATE items")
        assert reported(items.check(follower)) == []

    def test_several_tables_at_once(self, items: LoggedDatabase) -> None:
        items.run(
            "CREATE TABLE lines (id int PRIMARY KEY, item int REFERENCES items ON DELETE CASCADE)",
            "INSERT INTO lines SELECT n, n FROM generate_series(1, 9) AS n",
        )
        first, second = items.followed("items"), items.followed("lines")
        items.run("DELETE FROM items WHERE id < 3")
        items.check(first)
        items.check(second)
        items.run("TRUNCATE items CASCADE", "INSERT INTO items VALUES (1, 1, 'a')")
        with items.source() as source:
            first.read(source)
            second.read(source)
        assert first.live().keys() == {(1,)} and second.live() == {}

    def test_a_row_that_is_held_back(self, items: LoggedDatabase) -> None:
        """It is gone as the others are."""
        items.run("ALTER TABLE items ADD d date", "UPDATE items SET d = 'infinity' WHERE id = 3")
        follower = items.follow("items")
        with items.source() as source:
            follower.read(source)
            assert follower.rejected.keys() == {(3,)}
            items.run("TRUNCATE items")
            follower.read(source)
        assert (follower.live(), follower.rejected) == ({}, {})


class TestPartitions:
    @pytest.fixture
    def events(self, database: LoggedDatabase) -> LoggedDatabase:
        database.run(
            "CREATE TABLE events (id int, part int, note text, PRIMARY KEY (id, part)) "
            "PARTITION BY LIST (part)",
            "CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1)",
            "CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2) PARTITION BY RANGE (id)",
            "CREATE TABLE events_2a PARTITION OF events_2 FOR VALUES FROM (0) TO (10)",
            "CREATE TABLE events_2b PARTITION OF events_2 FOR VALUES FROM (10) TO (1000)",
            "INSERT INTO events SELECT n, 1 + n % 2, 'x' FROM generate_series(1, 20) AS n",
        )
        return database

    def test_rows_that_move_between_them(self, events: LoggedDatabase) -> None:
        follower = events.followed("events", "id", "part")
        events.run(
            "UPDATE events SET part = 3 - part WHERE id IN (1, 2, 12)",
            "UPDATE events SET id = id + 100 WHERE id = 3",
            "DELETE FROM events WHERE id = 4",
            "UPDATE events SET note = 'y' WHERE id > 15",
        )
        events.check(follower, "id", "part")

    def test_one_that_is_added_later(self, events: LoggedDatabase) -> None:
        follower = events.followed("events", "id", "part")
        events.run("CREATE TABLE events_3 PARTITION OF events FOR VALUES IN (3)")
        events.run(
            "INSERT INTO events VALUES (1, 3, 'new')", "UPDATE events SET part = 3 WHERE id = 5"
        )
        events.check(follower, "id", "part")
        events.run("UPDATE events SET note = 'z' WHERE part = 3")
        events.run("DELETE FROM events WHERE id = 1 AND part = 3")
        events.check(follower, "id", "part")

    def test_one_with_its_columns_in_another_order(self, events: LoggedDatabase) -> None:
        events.run(
            "CREATE TABLE late (note text, gone int, part int NOT NULL, id int NOT NULL, "
            "PRIMARY KEY (id, part))",
            "ALTER TABLE late DROP gone",
            "ALTER TABLE events ATTACH PARTITION late FOR VALUES IN (4)",
            "INSERT INTO events VALUES (1, 4, 'before')",
        )
        follower = events.followed("events", "id", "part")
        events.run(
            "INSERT INTO events VALUES (2, 4, 'log')", "UPDATE events SET part = 4 WHERE id = 7"
        )
        events.check(follower, "id", "part")

    def test_the_root_is_truncated(self, events: LoggedDatabase) -> None:
        follower = events.followed("events", "id", "part")
        events.run("TRUNCATE events", "INSERT INTO events VALUES (1, 1, 'after')")
        events.check(follower, "id", "part")

    def test_one_partition_and_its_root_in_one_publication(self, events: LoggedDatabase) -> None:
        """The server tells the changes of the partition as the root's."""
        root, leaf = events.stream("events"), events.stream("events_1")
        events.install(root, leaf)
        with events.source() as source:
            (problem,) = [one for one in source.preflight([root, leaf]) if one.fatal]
        assert problem.stream == "events_1" and "whose partition it is" in problem.message
        alone = events.stream("events_1", log=events.new_log())
        events.install(alone)
        events.log = alone.log
        follower = events.followed("events_1", "id", "part")
        events.run("UPDATE events SET note = 'told' WHERE id = 2")
        events.check(follower, "id", "part")


def test_tables_that_others_inherit_from_are_refused(items: LoggedDatabase) -> None:
    items.run("CREATE TABLE special (more int) INHERITS (items)")
    with items.source() as source:
        problems = [one for one in source.preflight([items.stream("items")]) if one.stream]
    assert "inherit" in problems[0].message and problems[0].fatal


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER PUBLICATION {p} SET (publish = 'insert')", "all of insert, update"),
        ("ALTER PUBLICATION {p} SET TABLE items WHERE (id > 3)", "WHERE"),
    ],
)
def test_a_publication_that_hides_something(items: LoggedDatabase, change: str, words: str) -> None:
    from rowtrail.connectors.errors import PositionLostError

    stream = items.stream("items")
    follower = items.followed("items")
    items.connection.execute(change.format(p=items.log))
    with items.source() as source:
        assert any(words in one.message for one in source.preflight([stream]) if one.fatal)
        with pytest.raises(PositionLostError, match="resnapshot items"):
            follower.read(source)
