"""What every destination must do that keeps the history of a table (SCD2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowtrail.connectors.base import Deletes
from rowtrail.connectors.changes import Operation, Version
from rowtrail.connectors.errors import ConfigurationError, StopError
from tests.soak import times

from .builders import NOW, Row, delete, dropped, load_of, orders, target_of, upsert
from .destination_conformance import OWN, Warehouse

HISTORY = orders(Deletes.HISTORY)


def at(minute: float) -> datetime:
    return NOW + timedelta(minutes=minute)


@dataclass(frozen=True)
class Event:
    """A change as a source gives it: with the time of its commit, or as it was read."""

    row: Row
    committed: float | None  # minutes; None: as it was read


@dataclass(frozen=True)
class Kept:
    """One version of a record in the model."""

    row: Row
    starts: datetime


@dataclass
class Model:
    """The history as its definition has it, one change at a time."""

    events: dict[object, list[Kept]] = field(default_factory=dict)

    def apply_all(
        self,
        batch: Sequence[Event],
        read_at: datetime,
        *,
        fresh: bool = True,
        replaces: bool = False,
    ) -> list[bool]:
        """Whether each change of a batch was superseded."""
        late = {}
        there = {key: list(kept) for key, kept in self.events.items()}
        for event in sorted(batch, key=lambda one: one.row.version):
            key = event.row.values["id"]
            beside = _beside(event, batch, there.get(key, []))
            late[id(event)] = self._apply(event, read_at, beside, fresh=fresh, replaces=replaces)
        return [late[id(event)] for event in batch]

    def _apply(
        self,
        event: Event,
        read_at: datetime,
        beside: Sequence[Kept],
        *,
        fresh: bool,
        replaces: bool,
    ) -> bool:
        row = event.row
        kept = self.events.setdefault(row.values["id"], [])
        for index, one in enumerate(kept):
            if one.row.version == row.version:
                if replaces:
                    kept[index] = Kept(row, one.starts)
                return not replaces
        before = [one for one in kept if one.row.version < row.version]
        after = [one for one in kept if one.row.version > row.version]
        if event.committed is None:
            if fresh and after:
                return True
            if any(_alike(one.row, row) for one in beside):
                return False
        starts = read_at if event.committed is None else at(event.committed)
        starts = max([starts, *(one.starts for one in before)])
        starts = min([starts, *(one.starts for one in after)])
        kept.append(Kept(row, starts))
        kept.sort(key=lambda one: one.row.version)
        return False

    def rows(self) -> list[tuple[object, ...]]:
        """id, note, version, from, to, is current."""
        found = []
        for key, kept in self.events.items():
            ends = [one.starts for one in kept[1:]] + [None]
            found += [
                (key, one.row.values.get("note"), one.row.version, one.starts, end, end is None)
                for one, end in zip(kept, ends, strict=True)
                if one.row.operation is not Operation.DELETE
            ]
        return sorted(found, key=lambda row: (row[0], row[2]))

    def tombstones(self) -> list[tuple[object, ...]]:
        """id, version, from, filtered."""
        return sorted(
            (key, one.row.version, one.starts, one.row.filtered)
            for key, kept in self.events.items()
            for one in kept
            if one.row.operation is Operation.DELETE
        )


def _beside(event: Event, batch: Sequence[Event], there: Sequence[Kept]) -> list[Kept]:
    """The events before and after a change, of those that were there before its batch; none on the
    side on which the batch has another change of its record."""
    key, version = event.row.values["id"], event.row.version
    others = [one.row.version for one in batch if one.row.values["id"] == key]
    before = [one for one in there if one.row.version < version][-1:]
    after = [one for one in there if one.row.version > version][:1]
    return [
        *(before if min(others) == version else []),
        *(after if max(others) == version else []),
    ]


def _alike(one: Row, other: Row) -> bool:
    if Operation.DELETE in (one.operation, other.operation):
        return one.operation is other.operation and one.filtered == other.filtered
    return one.values == other.values


def rows_in(warehouse: Warehouse, name: str = "orders") -> list[tuple[object, ...]]:
    """As `Model.rows`."""
    found = [
        (
            row["id"],
            row["note"],
            Version(*(row[part] for part in OWN)),
            row["_rowtrail_valid_from"],
            row["_rowtrail_valid_to"],
            row["_rowtrail_is_current"],
        )
        for row in warehouse.table(name).to_pylist()
    ]
    return sorted(found, key=lambda row: (row[0], row[2]))


def tombstones_in(warehouse: Warehouse, name: str = "orders") -> list[tuple[object, ...]]:
    """As `Model.tombstones`."""
    return sorted(
        (
            row["id"],
            Version(*(row[part] for part in OWN)),
            row["_rowtrail_deleted_at"],
            row["_rowtrail_filtered"],
        )
        for row in warehouse.table(f"_rowtrail_tombstones_{name}").to_pylist()
    )


def history_of(warehouse: Warehouse, key: object = 1) -> list[tuple[object, ...]]:
    """note, and from and to in minutes, of each version of a record."""

    def minutes(moment: object) -> float | None:
        return (moment - NOW).total_seconds() / 60 if isinstance(moment, datetime) else None

    return [
        (note, minutes(starts), minutes(ends))
        for id_, note, _, starts, ends, _ in rows_in(warehouse)
        if id_ == key
    ]


Write = Callable[..., list[bool]]


VERSIONS = st.builds(
    Version, st.integers(1, 2), st.integers(0, 4), st.integers(0, 1), st.integers(0, 1)
)
EVENTS = st.builds(
    lambda make, key, version, note, committed: Event(make(version, key, note), committed),
    st.sampled_from(
        [
            lambda version, key, note: upsert(version, id=key, note=note),
            lambda version, key, note: upsert(version, id=key, note=note),
            lambda version, key, note: delete(version, id=key),
            lambda version, key, note: dropped(version, id=key),
        ]
    ),
    st.integers(0, 2),
    VERSIONS,
    st.sampled_from(["a", "b", None]),
    st.one_of(st.none(), st.integers(0, 6)),
)
BATCHES = st.lists(
    st.tuples(
        st.lists(
            EVENTS,
            min_size=1,
            max_size=6,
            unique_by=lambda one: (one.row.values["id"], one.row.version),
        ),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)
"""Events; whether what was read is so still; whether versions that are there are replaced."""


class HistoryConformance:
    """Subclass it with a fixture `warehouse` that gives an empty Warehouse."""

    @pytest.fixture
    def written(self, warehouse: Warehouse) -> Write:
        """Writes events as one batch: pairs of a row and the minute of its commit, or None."""
        warehouse.alter(HISTORY)

        def write(
            *events: tuple[Row, float | None],
            read: float = 0,
            fresh: bool = True,
            replaces: bool = False,
        ) -> list[bool]:
            rows, committed = zip(*events, strict=True)
            load = load_of(
                HISTORY,
                *rows,
                committed=[None if one is None else at(one) for one in committed],
                read_at=at(read),
                fresh=fresh,
            )
            return warehouse.write(replace(load, replaces=replaces))

        return write

    def test_each_version_holds_until_the_next_one(
        self, warehouse: Warehouse, written: Write
    ) -> None:
        written((upsert(1, id=1, note="a"), 1), (upsert(1, id=2, note="x"), 1))
        written((upsert(2, id=1, note="b"), 4))
        assert history_of(warehouse) == [("a", 1, 4), ("b", 4, None)]
        assert history_of(warehouse, 2) == [("x", 1, None)]

    def test_no_version_of_a_batch_is_lost(self, warehouse: Warehouse, written: Write) -> None:
        written(
            (upsert(1, id=1, note="a"), 1),
            (upsert(2, id=1, note="a"), 2),
            (upsert(3, id=1, note="b"), 3),
        )
        assert history_of(warehouse) == [("a", 1, 2), ("a", 2, 3), ("b", 3, None)]

    def test_equal_times_of_commit(self, warehouse: Warehouse, written: Write) -> None:
        """Each version has a row of its own, in the order of the versions."""
        one, two = Version(1, 5, 2, 0), Version(1, 5, 4, 0)
        written((upsert(two, id=1, note="b"), 1), (upsert(one, id=1, note="a"), 1))
        assert history_of(warehouse) == [("a", 1, 1), ("b", 1, None)]

    def test_a_clock_that_went_back(self, warehouse: Warehouse, written: Write) -> None:
        written((upsert(1, id=1, note="a"), 5))
        written((upsert(2, id=1, note="b"), 3))
        assert history_of(warehouse) == [("a", 5, 5), ("b", 5, None)]

    def test_a_delete_ends_the_row(self, warehouse: Warehouse, written: Write) -> None:
        written((upsert(1, id=1, note="a"), 1))
        written((delete(2, id=1), 3))
        assert history_of(warehouse) == [("a", 1, 3)]
        assert warehouse.keys(HISTORY) == []

    def test_a_row_that_comes_back(self, warehouse: Warehouse, written: Write) -> None:
        written((upsert(1, id=1, note="a"), 1), (delete(2, id=1), 3))
        written((upsert(3, id=1, note="a"), 5))
        assert history_of(warehouse) == [("a", 1, 3), ("a", 5, None)]
        assert warehouse.keys(HISTORY) == [(1, True)]

    def test_a_delete_of_a_row_that_was_never_there(
        self, warehouse: Warehouse, written: Write
    ) -> None:
        assert written((delete(5, id=1), 5)) == [False]
        assert written((upsert(3, id=1, note="late"), 3)) == [False]
        assert history_of(warehouse) == [("late", 3, 5)]

    def test_a_late_version_goes_to_its_place(self, warehouse: Warehouse, written: Write) -> None:
        written((upsert(1, id=1, note="a"), 1))
        written((upsert(5, id=1, note="c"), 5))
        assert written((upsert(3, id=1, note="b"), 3)) == [False]
        assert history_of(warehouse) == [("a", 1, 3), ("b", 3, 5), ("c", 5, None)]

    def test_a_late_version_before_all_others(self, warehouse: Warehouse, written: Write) -> None:
        written((upsert(5, id=1, note="b"), 5))
        written((upsert(1, id=1, note="a"), 9))  # whatever its time says
        assert history_of(warehouse) == [("a", 5, 5), ("b", 5, None)]

    def test_a_late_delete(self, warehouse: Warehouse, written: Write) -> None:
        written((upsert(1, id=1, note="a"), 1))
        written((upsert(5, id=1, note="b"), 5))
        written((delete(3, id=1), 3))
        assert history_of(warehouse) == [("a", 1, 3), ("b", 5, None)]

    def test_the_same_version_again_changes_nothing(
        self, warehouse: Warehouse, written: Write
    ) -> None:
        written((upsert(1, id=1, note="a"), 1), (delete(2, id=1), 2))
        before = rows_in(warehouse), tombstones_in(warehouse)
        assert written((upsert(1, id=1, note="x"), 7), (delete(2, id=1), 7)) == [True, True]
        assert (rows_in(warehouse), tombstones_in(warehouse)) == before

    def test_a_replayed_version_takes_its_own_place(
        self, warehouse: Warehouse, written: Write
    ) -> None:
        written((upsert(1, id=1, note="a"), 1), (upsert(2, id=1, note="b"), 2))
        assert written((upsert(1, id=1, note="mended"), 9), replaces=True) == [False]
        assert history_of(warehouse) == [("mended", 1, 2), ("b", 2, None)]

    def test_a_row_that_is_fetched_where_a_version_is(
        self, warehouse: Warehouse, written: Write
    ) -> None:
        """It comes after that version, and before the next one that the source reports."""
        written((upsert(1, id=1, note="a"), None), read=1)
        written((upsert(Version(1, 1, 0, 7), id=1, note="b"), None), read=2)
        written((upsert(Version(1, 1, 0, 8), id=1, note="c"), None), read=3)
        written((upsert(2, id=1, note="d"), None), read=4)
        assert history_of(warehouse) == [("a", 1, 2), ("b", 2, 3), ("c", 3, 4), ("d", 4, None)]

    def test_a_row_as_it_was_read_once_takes_its_place(
        self, warehouse: Warehouse, written: Write
    ) -> None:
        written((upsert(1, id=1, note="a"), None), read=1)
        written((upsert(5, id=1, note="c"), None), read=5)
        again = (upsert(4, id=1, note="c"), None)
        assert written(again, read=4, fresh=False) == [False]
        once = (upsert(2, id=1, note="a"), None), (upsert(2, id=2, note="x"), None)
        assert written(*once, read=2, fresh=False) == [False, False]
        assert written((upsert(3, id=1, note="b"), None), read=3, fresh=False) == [False]
        assert history_of(warehouse) == [("a", 1, 3), ("b", 3, 5), ("c", 5, None)]

    def test_a_replayed_version_that_is_dropped_now(
        self, warehouse: Warehouse, written: Write
    ) -> None:
        """And one that was dropped and no longer is."""
        written((upsert(1, id=1, note="a"), 1), (upsert(2, id=1, note="b"), 2))
        written((dropped(2, id=1), 9), replaces=True)
        assert history_of(warehouse) == [("a", 1, 2)]
        assert warehouse.keys(HISTORY) == [(1, False)]
        written((upsert(2, id=1, note="b"), 9), replaces=True)
        assert history_of(warehouse) == [("a", 1, 2), ("b", 2, None)]
        assert warehouse.keys(HISTORY) == [(1, True)]

    def test_a_row_as_it_was_read(self, warehouse: Warehouse, written: Write) -> None:
        """It is a version of its own only where it differs from what is current."""
        written((upsert(1, id=1, note="a"), None), read=1)
        written((upsert(2, id=1, note="a"), None), read=2)
        ((*_, version, starts, ends, current),) = rows_in(warehouse)
        assert (version, starts, ends, current) == (Version(1, 1, 0, 0), at(1), None, True)
        written((upsert(3, id=1, note="b"), None), read=3)
        assert history_of(warehouse) == [("a", 1, 3), ("b", 3, None)]

    def test_an_older_read_tells_nothing(self, warehouse: Warehouse, written: Write) -> None:
        written((upsert(5, id=1, note="a"), 5), (delete(5, id=2), 5))
        old = (upsert(4, id=1, note="b"), None), (upsert(4, id=2, note="b"), None)
        assert written(*old, read=9) == [True, True]
        assert history_of(warehouse) == [("a", 5, None)]
        assert history_of(warehouse, 2) == []

    def test_null_is_a_value(self, warehouse: Warehouse, written: Write) -> None:
        written((upsert(1, id=1, note=None), None), read=1)
        written((upsert(2, id=1, note=None), None), read=2)
        written((upsert(3, id=1, note=""), None), read=3)
        assert history_of(warehouse) == [(None, 1, 3), ("", 3, None)]

    def test_a_row_that_is_read_as_gone_twice(self, warehouse: Warehouse, written: Write) -> None:
        written((upsert(1, id=1, note="a"), None), read=1)
        written((delete(2, id=1), None), read=2)
        written((delete(3, id=1), None), read=3)
        assert tombstones_in(warehouse) == [(1, Version(1, 2, 0, 0), at(2), False)]
        assert history_of(warehouse) == [("a", 1, 2)]

    def test_a_batch_tried_only(self, warehouse: Warehouse, written: Write) -> None:
        written((upsert(1, id=1, note="a"), 1))
        before = rows_in(warehouse)
        warehouse.write(load_of(HISTORY, upsert(2, id=1, note="b"), delete(1, id=2)), probe=True)
        assert rows_in(warehouse) == before
        assert tombstones_in(warehouse) == []

    def test_a_version_that_comes_twice_in_a_batch_is_refused(
        self, warehouse: Warehouse, written: Write
    ) -> None:
        with pytest.raises(StopError, match="twice"):
            written((upsert(1, id=1, note="a"), 1), (delete(1, id=1), 1))
        assert rows_in(warehouse) == []

    def test_what_is_current_is_what_is_shown(self, warehouse: Warehouse, written: Write) -> None:
        written((upsert(1, id=1, note="a"), 1), (upsert(2, id=1, note="b"), 2))
        written((upsert(1, id=2, note="x"), 1), (dropped(2, id=2), 2), (delete(3, id=2), 3))
        written((upsert(1, id=3, note="y"), 1), (dropped(2, id=3), 2))
        destination = warehouse.open()
        try:
            described = destination.describe("orders")
        finally:
            destination.close()
        assert described is not None
        assert described.live_rows == 1
        assert described.schema.names == ("id", "note")
        assert described.schema.key == ("id",)
        assert warehouse.keys(HISTORY) == [(1, True), (3, False)]

    def test_what_is_there_of_a_record(self, warehouse: Warehouse, written: Write) -> None:
        written((upsert(1, id=1, note="a"), 0), (upsert(2, id=1, note="b"), 0))
        written((upsert(1, id=2, note="x"), 0), (delete(2, id=2), 0), (dropped(4, id=2), 0))
        written(
            (upsert(1, id=3, note="y"), 0), (delete(2, id=3), 0), (upsert(3, id=3, note="z"), 0)
        )
        one, two, three, four = warehouse.there(HISTORY, 1, 2, 3, 4)
        assert (one.note, one.version, one.deleted) == ("b", Version(1, 2, 0, 0), False)
        assert (two.note, two.version) == (None, Version(1, 4, 0, 0))
        assert (two.deleted, two.filtered) == (True, True)
        assert (three.note, three.version) == ("z", Version(1, 3, 0, 0))
        assert (three.deleted, three.filtered) == (False, False)
        assert four.version is None

    def test_columns_of_others_stay_with_their_version(
        self, warehouse: Warehouse, written: Write
    ) -> None:
        """What ends, what is confirmed and what is replayed keeps them; a new version has none."""
        written((upsert(1, id=1, note="a"), 1), (upsert(1, id=2, note="x"), None), read=1)
        warehouse.run("ALTER TABLE orders ADD COLUMN seen INTEGER")
        warehouse.run("UPDATE orders SET seen = 7")
        written((upsert(2, id=1, note="b"), 2), (upsert(2, id=2, note="x"), None))
        written((upsert(1, id=1, note="mended"), 1), replaces=True)
        found = {
            (row["id"], row["note"]): row["seen"] for row in warehouse.table("orders").to_pylist()
        }
        assert found == {(1, "mended"): 7, (1, "b"): None, (2, "x"): 7}

    def test_a_column_that_comes_later(self, warehouse: Warehouse, written: Write) -> None:
        """A row with a value in it is another version; one without is not."""
        written((upsert(1, id=1, note="a"), None), (upsert(1, id=2, note="a"), None), read=1)
        wider = target_of(
            {"id": pa.int64(), "note": pa.string(), "size": pa.int64()}, deletes=Deletes.HISTORY
        )
        warehouse.alter(wider)
        rows = [upsert(2, id=1, note="a", size=3), upsert(2, id=2, note="a")]
        warehouse.write(load_of(wider, *rows, committed=[None, None], read_at=at(2)))
        assert history_of(warehouse) == [("a", 1, 2), ("a", 2, None)]
        assert history_of(warehouse, 2) == [("a", 1, None)]

    @pytest.mark.parametrize("before", [Deletes.SOFT, Deletes.HARD, Deletes.HISTORY])
    def test_a_table_that_was_made_for_something_else(
        self, warehouse: Warehouse, before: Deletes
    ) -> None:
        warehouse.alter(orders(before))
        for after in Deletes:
            if (before is Deletes.HISTORY) != (after is Deletes.HISTORY):
                with pytest.raises(ConfigurationError, match="Name another table"):
                    warehouse.alter(orders(after))
                with pytest.raises(ConfigurationError, match=r"put back what it had \(deletes"):
                    warehouse.plan(orders(after))
            else:
                warehouse.alter(orders(after))

    def test_keys_of_several_columns_and_of_text(self, warehouse: Warehouse) -> None:
        target = target_of(
            {"shop": pa.string(), "id": pa.string(), "note": pa.string()},
            key=("shop", "id"),
            deletes=Deletes.HISTORY,
        )
        warehouse.alter(target)
        first = [upsert(1, shop=s, id=i, note="a") for s in ("n", "s") for i in ("1", "2")]
        warehouse.load(target, *first)
        warehouse.load(
            target,
            upsert(2, shop="s", id="1", note="b"),
            upsert(3, shop="s", id="1", note="c"),
            delete(2, shop="n", id="2"),
        )
        current = {
            (row["shop"], row["id"]): row["note"]
            for row in warehouse.table("orders").to_pylist()
            if row["_rowtrail_is_current"]
        }
        assert current == {("n", "1"): "a", ("s", "1"): "c", ("s", "2"): "a"}
        assert warehouse.table("orders").num_rows == 6

    def test_a_large_batch_on_a_larger_table(self, warehouse: Warehouse) -> None:
        warehouse.alter(HISTORY)
        warehouse.load(HISTORY, *(upsert(1, id=i, note="a") for i in range(5_000)))
        changes = [upsert(2, id=i, note="b") for i in range(0, 5_000, 2)]
        changes += [upsert(3, id=i, note="c") for i in range(0, 5_000, 4)]
        changes += [delete(4, id=i) for i in range(0, 5_000, 8)]
        warehouse.write(load_of(HISTORY, *changes, committed=[at(1)] * len(changes)))
        table = warehouse.table("orders")
        assert table.num_rows == 5_000 + 2_500 + 1_250
        assert sum(table["_rowtrail_is_current"].to_pylist()) == 5_000 - 625

    def test_any_changes_in_any_order(self, warehouse: Warehouse) -> None:
        """Rows, tombstones and what was superseded are what the model has."""
        names = (f"orders_{number}" for number in count())

        @settings(max_examples=times(40 // warehouse.slow, 1_000), deadline=None, database=None)
        @given(batches=BATCHES)
        def check(batches: list[tuple[list[Event], bool, bool]]) -> None:
            name = next(names)
            target = orders(Deletes.HISTORY, table=name)
            warehouse.alter(target)
            model = Model()
            destination = warehouse.open()
            try:
                for number, (batch, fresh, replaces) in enumerate(batches):
                    load = load_of(
                        target,
                        *(event.row for event in batch),
                        committed=[
                            None if event.committed is None else at(event.committed)
                            for event in batch
                        ],
                        read_at=at(number),
                        fresh=fresh,
                    )
                    superseded = destination.write(replace(load, replaces=replaces)).to_pylist()
                    assert superseded == model.apply_all(
                        batch, at(number), fresh=fresh, replaces=replaces
                    )
            finally:
                destination.close()
            assert rows_in(warehouse, name) == model.rows()
            assert tombstones_in(warehouse, name) == model.tombstones()

        check()
