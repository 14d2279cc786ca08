"""What every source must do, for each of its captures. A new source brings one fixture.

Subclass `SourceConformance` in a test module and give it a fixture `database`, a `SourceDatabase`,
and a fixture `capture` with the captures that the source has.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from rowtrail.connectors.base import Capture, ManagesCapture, Source, StreamSpec
from rowtrail.connectors.changes import Changes, Operation, Version
from rowtrail.connectors.errors import ConfigurationError, PositionLostError
from tests.connectors.follower import Follower, Key, Row, reported, reported_keys


class SourceDatabase(ABC):
    """A database for one test, and a way to it that has nothing to do with the source."""

    integer = "INTEGER"
    text = "TEXT"
    timestamp = "TIMESTAMP"

    @abstractmethod
    def run(self, *statements: str | tuple[str, Sequence[object]]) -> None:
        """Runs the statements in one transaction, from outside this process if need be."""

    @abstractmethod
    def select(self, statement: str) -> list[tuple[Any, ...]]: ...

    @abstractmethod
    def open(self) -> Source: ...

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    @contextmanager
    def source(self) -> Iterator[Source]:
        with closing(self.open()) as source:
            yield source

    def rows(self, table: str, *key: str) -> dict[Key, Row]:
        """The table as it is, by key."""
        names = [name for name, _ in self.columns(table)]
        found = self.select(f"SELECT * FROM {self.quote(table)}")
        rows = [dict(zip(names, row, strict=True)) for row in found]
        return {tuple(row[name] for name in key): row for row in rows}

    @abstractmethod
    def columns(self, table: str) -> list[tuple[str, str]]:
        """Names and declared types."""


class SourceConformance:
    """The tests. Each reads what it wrote, by way of the changes that the source reports."""

    @pytest.fixture
    def items(self, database: SourceDatabase) -> SourceDatabase:
        """A table of items: a number as its key, a text, and a cursor of integers."""
        database.run(
            f"CREATE TABLE items (id {database.integer} NOT NULL PRIMARY KEY, "
            f"name {database.text}, seen {database.integer})",
            "CREATE INDEX items_seen ON items (seen)",
        )
        return database

    def stream(self, capture: Capture, **settings: Any) -> StreamSpec:
        chosen = {"name": "items", "table": "items", "batch_rows": 5, **settings}
        if capture is Capture.CURSOR:
            chosen.setdefault("cursor", "seen")
        return StreamSpec(capture=capture, **chosen)

    def follow(self, database: SourceDatabase, stream: StreamSpec) -> Follower:
        """A follower of the stream; what its capture needs is installed."""
        with database.source() as source:
            if isinstance(source, ManagesCapture) and stream.capture in (
                Capture.TRIGGER,
                Capture.LOG,
            ):
                source.execute(source.capture_plan([stream]))
                assert source.capture_plan([stream]) == []
            assert [problem for problem in source.preflight([stream]) if problem.fatal] == []
        return Follower(stream)

    def put(self, database: SourceDatabase, *rows: tuple[int, str | None, int | None]) -> None:
        database.run(*(("INSERT INTO items VALUES (?, ?, ?)", row) for row in rows))

    def check(self, database: SourceDatabase, follower: Follower, *key: str) -> None:
        """A whole read, after which follower and table are equal."""
        with database.source() as source:
            follower.read(source)
        expected = database.rows(follower.stream.table, *(key or ("id",)))
        assert follower.live() == expected
        assert follower.rejected == {}

    def test_reads_the_table_and_then_nothing(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        self.put(items, *((number, f"item {number}", number) for number in range(1, 13)))
        follower = self.follow(items, self.stream(capture))
        self.check(items, follower)
        with items.source() as source:
            assert reported(follower.read(source)) == []

    def test_ten_rows_five_committed_the_other_five_after_reopening(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        self.put(items, *((number, "x", number) for number in range(1, 11)))
        follower = self.follow(items, self.stream(capture))
        with items.source() as source:
            assert follower.read_until(source, 1)
        assert sorted(follower.live()) == [(1,), (2,), (3,), (4,), (5,)]
        with items.source() as source:
            again = reported_keys(follower.read(source))
        assert again == [(6,), (7,), (8,), (9,), (10,)]

    def test_an_empty_table(self, items: SourceDatabase, capture: Capture) -> None:
        follower = self.follow(items, self.stream(capture))
        self.check(items, follower)
        self.check(items, follower)
        self.put(items, (1, "first", 1))
        self.check(items, follower)

    def test_a_table_that_is_emptied(self, items: SourceDatabase, capture: Capture) -> None:
        self.put(items, *((number, "x", number) for number in range(1, 18)))
        follower = self.follow(items, self.stream(capture))
        self.check(items, follower)
        items.run("DELETE FROM items")
        with items.source() as source:
            operations = {operation for operation, _ in reported(follower.read(source))}
        assert operations == {Operation.DELETE}
        assert follower.live() == {}

    def test_reports_what_changed_and_nothing_else(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        self.put(items, *((number, "old", number) for number in range(1, 13)))
        follower = self.follow(items, self.stream(capture))
        self.check(items, follower)
        items.run(
            "UPDATE items SET name = 'new', seen = 20 WHERE id = 3",
            "DELETE FROM items WHERE id = 7",
            "INSERT INTO items VALUES (13, 'late', 21)",
        )
        with items.source() as source:
            changes = reported(follower.read(source))
        deleted = {"id": 7, "name": None, "seen": None}
        assert (Operation.DELETE, deleted) in changes
        assert sorted(row["id"] for _, row in changes) == [3, 7, 13]
        assert follower.live() == items.rows("items", "id")

    def test_deleted_and_inserted_again(self, items: SourceDatabase, capture: Capture) -> None:
        self.put(items, *((number, "old", number) for number in range(1, 8)))
        follower = self.follow(items, self.stream(capture))
        self.check(items, follower)
        items.run("DELETE FROM items WHERE id = 2", "DELETE FROM items WHERE id = 3")
        self.put(items, (2, "again", 11))
        self.check(items, follower)
        self.put(items, (3, "much later", 12))
        self.check(items, follower)

    def test_a_changed_key(self, items: SourceDatabase, capture: Capture) -> None:
        self.put(items, *((number, "old", number) for number in range(1, 8)))
        follower = self.follow(items, self.stream(capture))
        self.check(items, follower)
        items.run("UPDATE items SET id = 40, seen = 10 WHERE id = 4")
        self.check(items, follower)
        items.run("UPDATE items SET id = 4, seen = 11 WHERE id = 40")
        self.check(items, follower)

    def test_several_changes_of_one_key(self, items: SourceDatabase, capture: Capture) -> None:
        follower = self.follow(items, self.stream(capture))
        self.check(items, follower)
        self.put(items, (1, "a", 1), (2, "b", 2))
        items.run("UPDATE items SET name = 'aa', seen = 3 WHERE id = 1")
        items.run("DELETE FROM items WHERE id = 2", "UPDATE items SET seen = 4 WHERE id = 1")
        items.run("INSERT INTO items VALUES (2, 'bb', 5)", "DELETE FROM items WHERE id = 1")
        self.check(items, follower)

    def test_equal_cursor_values_across_a_page(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        self.put(items, *((number, "x", 7) for number in range(1, 24)))
        follower = self.follow(items, self.stream(capture))
        self.check(items, follower)
        self.put(items, *((number, "y", 7) for number in range(24, 31)))
        with items.source() as source:
            keys = reported_keys(follower.read(source))
        assert sorted(keys) == [(number,) for number in range(24, 31)]
        assert follower.live() == items.rows("items", "id")

    def test_a_null_cursor(self, items: SourceDatabase, capture: Capture) -> None:
        self.put(items, *((number, "x", None if number % 2 else 1) for number in range(1, 15)))
        follower = self.follow(items, self.stream(capture))
        self.check(items, follower)
        items.run("UPDATE items SET name = 'changed' WHERE id = 3")
        with items.source() as source:
            assert reported_keys(follower.read(source)) == [(3,)]
        items.run("DELETE FROM items WHERE seen IS NULL")
        self.check(items, follower)

    def test_a_composite_key(self, database: SourceDatabase, capture: Capture) -> None:
        database.run(
            f"CREATE TABLE lines (shop {database.text} NOT NULL, number {database.integer} "
            f"NOT NULL, seen {database.integer}, PRIMARY KEY (shop, number))"
        )
        rows = [(shop, number, 1) for shop in ("a", "B", "é") for number in (10, 9, 100)]
        database.run(*(("INSERT INTO lines VALUES (?, ?, ?)", row) for row in rows))
        follower = self.follow(database, self.stream(capture, table="lines", batch_rows=2))
        self.check(database, follower, "shop", "number")
        database.run(
            "DELETE FROM lines WHERE number = 9",
            "UPDATE lines SET number = 11, seen = 2 WHERE shop = 'a' AND number = 10",
            "INSERT INTO lines VALUES ('A', 1, 2)",
        )
        self.check(database, follower, "shop", "number")

    def test_keys_that_are_not_in_the_tables_order(
        self, database: SourceDatabase, capture: Capture
    ) -> None:
        database.run(
            f"CREATE TABLE lines (b {database.integer} NOT NULL, a {database.text} NOT NULL, "
            f"seen {database.integer}, PRIMARY KEY (a, b))"
        )
        rows = [(number, name, 1) for number in (3, 1, 2) for name in ("z", "y", "x")]
        database.run(*(("INSERT INTO lines VALUES (?, ?, ?)", row) for row in rows))
        follower = self.follow(database, self.stream(capture, table="lines", batch_rows=2))
        assert follower.stream.key == ()
        self.check(database, follower, "a", "b")
        database.run("DELETE FROM lines WHERE a = 'y'")
        self.check(database, follower, "a", "b")

    def test_awkward_names_and_texts(self, database: SourceDatabase, capture: Capture) -> None:
        table, key, text, seen = 'Select "It"', "Order", "naïve Größe.x", "from"
        quoted = {name: database.quote(name) for name in (table, key, text, seen)}
        database.run(
            f"CREATE TABLE {quoted[table]} ({quoted[key]} {database.text} NOT NULL PRIMARY KEY, "
            f"{quoted[text]} {database.text}, {quoted[seen]} {database.integer})"
        )
        texts = ["", " ", "o'clock", '"', "😀", "e\u0301", "é", "Z", "a", "\U0010ffff", "\ue000"]
        insert = f"INSERT INTO {quoted[table]} VALUES (?, ?, ?)"
        database.run(*((insert, (name, name * 2, 1)) for name in texts))
        stream = self.stream(capture, table=table, batch_rows=2)
        if capture is Capture.CURSOR:
            stream = replace(stream, cursor=seen)
        follower = self.follow(database, stream)
        self.check(database, follower, key)
        database.run(
            (f"UPDATE {quoted[table]} SET {quoted[text]} = ?, {quoted[seen]} = 2", ("🐟",)),
            (f"DELETE FROM {quoted[table]} WHERE {quoted[key]} = ?", ("😀",)),
            (f"UPDATE {quoted[table]} SET {quoted[key]} = ? WHERE {quoted[key]} = ?", ("A", "a")),
        )
        self.check(database, follower, key)

    @pytest.mark.parametrize("lost", [False, True], ids=["durable", "lost"])
    def test_broken_off_after_any_item(
        self, items: SourceDatabase, capture: Capture, lost: bool
    ) -> None:
        """However often the process dies, what it ends with is the table."""
        stream = replace(self.stream(capture), batch_rows=3)
        self.put(items, *((number, "old", number % 4 or None) for number in range(1, 20)))
        follower = self.follow(items, stream)
        with items.source() as source:
            after = 1
            while follower.read_until(source, after, lost=lost):
                after += lost  # an item that is never durable would come for ever
        assert follower.live() == items.rows("items", "id")
        items.run(
            "DELETE FROM items WHERE id % 5 = 0",
            "UPDATE items SET name = 'new', seen = 9 WHERE id % 4 = 1",
            "UPDATE items SET id = 50, seen = 10 WHERE id = 1",
            "INSERT INTO items VALUES (60, 'behind the cursor', 0)",
        )
        untouched = {(number,) for number in range(2, 20) if number % 5}
        with items.source() as source:
            after = 1
            while follower.read_until(source, after, lost=lost):
                assert untouched <= follower.live().keys()
                after += lost
        self.check(items, follower)

    def test_one_read_after_a_broken_one_shows_all(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        """What has happened since to rows that the broken read had shown is in it, too."""
        self.put(items, *((number, "old", number) for number in range(1, 20)))
        follower = self.follow(items, self.stream(capture))
        with items.source() as source:
            assert follower.read_until(source, 2)
        items.run("UPDATE items SET name = 'new', seen = 30", "DELETE FROM items WHERE id = 2")
        self.check(items, follower)

    def test_keys_that_come_back_between_two_halves_of_a_read(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        """What a read deleted before it died, and what has come since, is not shut out."""
        follower = self.follow(items, replace(self.stream(capture), batch_rows=3))
        self.put(items, *((number, "old", number) for number in range(1, 12)))
        self.check(items, follower)
        for stop in range(1, 8):
            items.run("DELETE FROM items")
            with items.source() as source:
                follower.read_until(source, stop)
            self.put(items, *((number, f"{stop}", stop * 100) for number in range(1, 12)))
            with items.source() as source:
                follower.read(source)
            self.check(items, follower)

    def test_changed_while_it_is_read(self, items: SourceDatabase, capture: Capture) -> None:
        """Writers go on between any two items; the next read makes up for the rest."""
        stream = replace(self.stream(capture), batch_rows=4)
        self.put(items, *((number, "old", number) for number in range(1, 25)))
        follower = self.follow(items, stream)
        clock = 100
        with items.source() as source:
            for item in source.read(stream, follower.state(source)):
                clock += 1
                items.run(
                    ("DELETE FROM items WHERE id = ?", (clock % 24 + 1,)),
                    ("UPDATE items SET name = ?, seen = ? WHERE id % 7 = 3", ("new", clock)),
                    ("INSERT INTO items VALUES (?, 'x', ?)", (clock, clock)),
                    ("UPDATE items SET id = 0, seen = ? WHERE id = 24", (clock,)),
                )
                follower.apply(item)
        self.check(items, follower)

    def test_a_column_added_between_reads_and_in_the_midst_of_one(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        """Rows that were read without it are not given out once it is there: an item without rows
        ends the read, and the next one goes on where the last durable item was."""
        self.put(items, *((number, "x", number) for number in range(1, 12)))
        follower = self.follow(items, self.stream(capture))
        with items.source() as source:
            first, *others = self.read_while_a_column_comes(items, source, follower)
        assert first.schema.names == ("id", "name", "seen") and len(first)
        (last,) = others
        assert (last.schema.names, len(last)) == (("id", "name", "seen", "note"), 0)
        items.run("UPDATE items SET note = 'n', seen = 30 WHERE id = 5")
        with items.source() as source:
            follower.read(source)
        # What was read before has nothing in the column, as it was.
        live = {key: {"note": None, **row} for key, row in follower.live().items()}
        assert live == items.rows("items", "id")
        assert (live[1,]["note"], live[5,]["note"], live[11,]["note"]) == ("early", "n", None)

    def read_while_a_column_comes(
        self, items: SourceDatabase, source: Source, follower: Follower
    ) -> list[Changes]:
        found = []
        for item in source.read(follower.stream, follower.state(source)):
            found.append(item)
            if item.schema.names == ("id", "name", "seen"):
                follower.apply(item)
            if len(found) == 1:
                items.run(
                    f"ALTER TABLE items ADD COLUMN note {items.text}",
                    "UPDATE items SET note = 'early', seen = 20 WHERE id IN (1, 11)",
                    "UPDATE items SET note = NULL, seen = 11 WHERE id = 11",
                )
        return found

    def test_random_changes_and_deaths(self, items: SourceDatabase, capture: Capture) -> None:
        """The order is random, but the same in every run."""
        dice = random.Random(f"{capture} 7")
        follower = self.follow(items, replace(self.stream(capture), batch_rows=3))
        for clock in range(1, 25):
            for _ in range(dice.randrange(6)):
                self.random_change(items, dice, clock)
            with items.source() as source:
                follower.read_until(source, dice.randrange(1, 5), lost=dice.random() < 0.5)
        self.check(items, follower)

    def random_change(self, items: SourceDatabase, dice: random.Random, clock: int) -> None:
        key, other = dice.randrange(30), dice.randrange(30)
        items.run(
            dice.choice(
                [
                    ("DELETE FROM items WHERE id = ?", (key,)),
                    ("UPDATE items SET name = ?, seen = ? WHERE id = ?", (f"{clock}", clock, key)),
                    (
                        "UPDATE items SET id = ?, seen = ? WHERE id = ? "
                        "AND NOT EXISTS (SELECT 1 FROM items WHERE id = ?)",
                        (other, clock, key, other),
                    ),
                    (
                        "INSERT INTO items SELECT ?, ?, ? "
                        "WHERE NOT EXISTS (SELECT 1 FROM items WHERE id = ?)",
                        (key, f"{clock}", dice.choice([clock, None]), key),
                    ),
                ]
            )
        )

    def test_keys_of_the_target_that_the_first_read_does_not_find(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        """A new epoch ends with a sweep: what only the older one had is deleted."""
        self.put(items, *((number, "x", number) for number in (5, 10, 15)))
        follower = self.follow(items, replace(self.stream(capture), batch_rows=2))
        gone = [(number,) for number in (1, 6, 7, 8, 11, 99, 100, 101)]
        for key in gone:
            follower.rows[key] = (Version(0, 0, 0, 0), {"id": key[0]})
        with items.source() as source:
            deleted = [
                (row["id"],)
                for operation, row in reported(follower.read(source))
                if operation is Operation.DELETE
            ]
        assert sorted(deleted) == gone
        assert follower.live() == items.rows("items", "id")

    def test_a_key_that_is_absent_on_purpose_is_not_fetched(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        self.put(items, *((number, "x", number) for number in (1, 2, 3)))
        follower = self.follow(items, self.stream(capture))
        self.check(items, follower)
        self.drop(follower, 1)
        with items.source() as source:
            assert reported(follower.read(source)) == []

    def test_a_key_that_is_absent_on_purpose_is_deleted_and_comes_back(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        """Where its delete is not told, its next insert would not be new: see a low cursor."""
        self.put(items, (10, "x", 5), (20, "x", 9), (30, "x", 7))
        follower = self.follow(items, self.stream(capture))
        self.check(items, follower)
        self.drop(follower, 10, 30)
        items.run("DELETE FROM items WHERE id IN (10, 30)")
        with items.source() as source:
            deleted = [(operation, row["id"]) for operation, row in reported(follower.read(source))]
            assert deleted == [(Operation.DELETE, 10), (Operation.DELETE, 30)]
            assert reported(follower.read(source)) == []
        self.put(items, (10, "again", 1), (30, "again", 1))
        self.check(items, follower)

    def drop(self, follower: Follower, *numbers: int) -> None:
        """As if a transform had dropped these rows."""
        for number in numbers:
            follower.rows.pop((number,))
            follower.filtered.add((number,))

    @pytest.mark.parametrize(
        "doubling",
        [
            "INSERT INTO items VALUES (4, 'a', 9)",
            "INSERT INTO items VALUES (4, 'a', 0)",
            "INSERT INTO items VALUES (4, 'a', NULL)",
            "UPDATE items SET name = 'a', seen = 9 WHERE id = 2",
        ],
        ids=["insert", "behind the cursor", "no cursor", "update"],
    )
    def test_a_key_that_nothing_guards_and_that_gets_a_second_row(
        self, items: SourceDatabase, capture: Capture, doubling: str
    ) -> None:
        """One of the two would take the other's place, and nobody would know."""
        self.put(items, (1, "a", 1), (2, "b", 2), (3, "c", 3))
        follower = self.follow(items, self.stream(capture, key=("name",)))
        self.check(items, follower, "name")
        before = follower.live()
        items.run(doubling)
        with items.source() as source:
            for _ in range(2):
                with pytest.raises(ConfigurationError) as caught:
                    follower.read(source)
            asked = pa.record_batch({"name": ["b", "a"]})
            with pytest.raises(ConfigurationError, match="not unique"):
                source.fetch(follower.stream, asked, follower.state(source))
        assert follower.live() == before
        for words in ("stream items", "table items", "key (name)", "name = 'a'", "UNIQUE"):
            assert words in str(caught.value)
        items.run(
            "DELETE FROM items WHERE id = 4", "UPDATE items SET name = 'b', seen = 9 WHERE id = 2"
        )
        self.check(items, follower, "name")

    def test_two_rows_of_one_key_on_either_side_of_a_page(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        follower = self.follow(items, self.stream(capture, key=("name", "seen")))
        names = ["a", "b", "c", "d", "e", "e", "f"]
        self.put(items, *((number, name, 1) for number, name in enumerate(names)))
        with (
            items.source() as source,
            pytest.raises(ConfigurationError, match="name = 'e', seen = 1 "),
        ):
            follower.read(source)
        assert ("e", 1) not in follower.live()

    def test_fetches_by_key_in_the_order_asked(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        self.put(items, *((number, f"n{number}", number) for number in range(1, 9)))
        follower = self.follow(items, self.stream(capture))
        self.check(items, follower)
        items.run("UPDATE items SET name = 'new', seen = 20 WHERE id = 7")
        keys = pa.record_batch({"id": pa.array([7, 99, 2])})
        with items.source() as source:
            fetched = source.fetch(follower.stream, keys, follower.state(source))
            assert source.fetch(follower.stream, keys.slice(0, 0), follower.state(source)).rows == (
                fetched.rows.slice(0, 0)
            )
        assert reported([fetched]) == [
            (Operation.UPDATE, {"id": 7, "name": "new", "seen": 20}),
            (Operation.DELETE, {"id": 99, "name": None, "seen": None}),
            (Operation.UPDATE, {"id": 2, "name": "n2", "seen": 2}),
        ]
        assert fetched.position == follower.position

    def test_a_fetched_row_does_not_shut_out_what_comes_later(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        self.put(items, *((number, "old", number) for number in range(1, 20)))
        follower = self.follow(items, self.stream(capture))
        keys = pa.record_batch({"id": pa.array([2, 12, 19])})
        with items.source() as source:
            follower.read_until(source, 2)
            follower.apply(source.fetch(follower.stream, keys, follower.state(source)))
        items.run("UPDATE items SET name = 'new', seen = 30")
        self.check(items, follower)
        with items.source() as source:
            follower.apply(source.fetch(follower.stream, keys, follower.state(source)))
        items.run("UPDATE items SET name = 'newer', seen = 31")
        self.check(items, follower)

    def test_versions_of_one_key_never_go_back(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        follower = self.follow(items, self.stream(capture))
        newest: dict[Key, Version] = {}
        for clock in range(1, 6):
            items.run("DELETE FROM items WHERE id = 3")
            self.put(items, (10 + clock, "x", clock), (3, f"{clock}", clock))
            with items.source() as source:
                for item in follower.read(source):
                    versions = [Version(**found) for found in item.versions.to_pylist()]
                    for key, version in zip(reported_keys([item]), versions, strict=True):
                        assert version >= newest.get(key, version)
                        newest[key] = version
                        assert version.epoch == 1
                        assert version.revision == 0
        assert follower.live() == items.rows("items", "id")

    def test_the_watermark_comes_with_the_end_of_a_read(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        self.put(items, *((number, "x", number) for number in range(1, 13)))
        follower = self.follow(items, self.stream(capture))
        with items.source() as source:
            read = follower.read(source)
        assert [item.read_complete for item in read] == [False] * (len(read) - 1) + [True]
        assert [item.watermark is not None for item in read] == [
            item.read_complete for item in read
        ]

    def test_an_idle_table_is_as_fresh_as_a_busy_one(
        self, items: SourceDatabase, capture: Capture
    ) -> None:
        self.put(items, (1, "x", 1))
        follower = self.follow(items, self.stream(capture))
        with items.source() as source:
            before = follower.read(source)[-1].watermark
            idle = follower.read(source)
        assert sum(map(len, idle)) == 0
        after = idle[-1].watermark
        assert before is not None and after is not None
        assert after > before

    def test_takes_and_leaves_columns(self, items: SourceDatabase, capture: Capture) -> None:
        self.put(items, (1, "a", 1))
        for settings, names in (
            ({"columns": ("name",)}, ("id", "name")),
            ({"exclude": ("seen",)}, ("id", "name")),
            ({"columns": ("seen", "id")}, ("id", "seen")),
        ):
            follower = self.follow(items, self.stream(capture, **settings))
            with items.source() as source:
                assert source.describe(follower.stream).names == names
                follower.read(source)
            row = items.rows("items", "id")[(1,)]
            assert follower.live() == {(1,): {name: row[name] for name in names}}

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"table": "nothing"}, ["nothing", "items"]),
            ({"key": ("id", "nothing")}, ["nothing", "seen"]),
            ({"exclude": ("nothing",)}, ["nothing"]),
            ({"columns": ("nothing",)}, ["nothing"]),
            ({"exclude": ("id",)}, ["id", "exclude"]),
            ({"table": "keyless"}, ["keyless has no primary key", "`key`", "CREATE VIEW", "leave"]),
        ],
    )
    def test_settings_that_do_not_fit(
        self, items: SourceDatabase, capture: Capture, settings: dict[str, Any], words: list[str]
    ) -> None:
        items.run(f"CREATE TABLE keyless (a {items.integer}, seen {items.integer})")
        stream = self.stream(capture, **settings)
        with items.source() as source:
            with pytest.raises(ConfigurationError) as caught:
                source.describe(stream)
            problems = source.preflight([stream])
        assert all(word in str(caught.value) for word in words)
        assert any(problem.fatal and problem.stream == "items" for problem in problems)

    @pytest.mark.parametrize("token", ["", "not JSON", '{"capture":"other"}', "[]"])
    def test_a_position_of_something_else(
        self, items: SourceDatabase, capture: Capture, token: str
    ) -> None:
        follower = self.follow(items, self.stream(capture))
        follower.position = token
        with items.source() as source, pytest.raises(PositionLostError, match="resnapshot items"):
            follower.read(source)
