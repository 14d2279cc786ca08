"""What every destination must do. A connector runs it with one fixture; each test reads back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum, auto
from itertools import combinations, count, product
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowtrail.connectors.base import (
    Deletes,
    Destination,
    Fence,
    Gap,
    Load,
    PlansTables,
    ReadsRows,
    RowsThere,
    Target,
)
from rowtrail.connectors.changes import Operation, Version, version_at
from rowtrail.connectors.errors import (
    ConfigurationError,
    OwnershipError,
    RecordError,
    RowtrailError,
    StopError,
)
from tests.soak import times

from .builders import (
    EDGE_VALUES,
    FENCE,
    NOW,
    Row,
    delete,
    dropped,
    gap_of,
    load_of,
    orders,
    receipt_of,
    target_of,
    upsert,
    version,
)

OWN = ("_rowtrail_epoch", "_rowtrail_position", "_rowtrail_ordinal", "_rowtrail_revision")
BOTH = pytest.mark.parametrize("deletes", [Deletes.SOFT, Deletes.HARD])


ALL = 1_000_000
"""Keys at most: more than any test has."""


class Widening(Enum):
    """What becomes of a column that is to hold what it cannot."""

    IN_PLACE = auto()
    NOTHING = auto()  # its type is that already
    REFUSED = auto()


class Warehouse(ABC):
    """One empty target of a test. Reads and changes it by the database's own means, not by ours."""

    no_types: frozenset[str] = frozenset()  # names in EDGE_VALUES that the database cannot hold
    zero_bytes: bool = True  # whether a text may hold U+0000
    slow: int = 1  # so many times as few random examples are tried
    integers_are_decimals: bool = False  # a column of integers is one of decimals without places
    wider: tuple[pa.DataType, object] = (pa.decimal128(12, 2), Decimal("0.25"))
    """What an int32 can be widened to, and a value of it that is none of int32."""
    spellings: tuple[str, ...]  # other names under which the database finds the table `orders`

    @abstractmethod
    def open(self, fence: Fence | None = FENCE) -> Destination: ...

    @abstractmethod
    def table(self, name: str) -> pa.Table:
        """All rows and columns of a table, Rowtrail's own too; the destination is closed."""

    @abstractmethod
    def run(self, sql: str) -> None:
        """As a user of the target would, in SQL that all databases understand."""

    def names_held(self, names: Sequence[str]) -> list[str]:
        """Those of the names that a column can have."""
        return list(names)

    def retyping(self, column: str) -> str:
        """What the statement that gives a column another type has in it."""
        return f'"{column}" TYPE'

    def widening(self, existing: pa.DataType, wanted: pa.DataType) -> Widening:
        return Widening.IN_PLACE

    def holds(self, value: object) -> bool:
        return self.zero_bytes or not (isinstance(value, str) and "\0" in value)

    def alter(self, target: Target, fence: Fence = FENCE) -> list[str]:
        destination = self.open(fence)
        try:
            return destination.alter(target)
        finally:
            destination.close()

    def plan(self, target: Target) -> list[str]:
        """As somebody asks who may only read."""
        destination = self.open(None)
        try:
            assert isinstance(destination, PlansTables)
            return destination.plan(target)
        finally:
            destination.close()

    def write(self, *loads: Load, probe: bool = False) -> list[bool]:
        """Writes the loads one by one; what the last one says was superseded."""
        destination = self.open()
        try:
            for load in loads:
                superseded = destination.write(load, probe=probe)
            return superseded.to_pylist()
        finally:
            destination.close()

    def load(self, target: Target, *rows: Row) -> list[bool]:
        return self.write(load_of(target, *rows))

    def rows(self, name: str = "orders") -> dict[object, dict[str, object]]:
        """Rows by their first column."""
        rows = self.table(name).to_pylist()
        return {next(iter(row.values())): row for row in rows}

    def notes(self) -> dict[object, object]:
        """The live rows of `orders()`: id and note."""
        return {
            key: row["note"]
            for key, row in self.rows().items()
            if row.get("_rowtrail_deleted_at") is None
        }

    def keys(
        self,
        target: Target,
        after: tuple[object, ...] | None = None,
        upto: tuple[object, ...] | None = None,
        limit: int = ALL,
    ) -> list[tuple[object, ...]]:
        destination = self.open()
        try:
            found = destination.keys(target, after, upto, limit)
        finally:
            destination.close()
        assert found.schema.names == [*target.schema.key, "present"]
        assert [field.type for field in found.schema][:-1] == target.schema.arrow_key().types
        return [tuple(row.values()) for row in found.to_pylist()]

    def there(self, target: Target, *ids: int) -> list[Seen]:
        """What the destination shows of these keys of `orders()`."""
        destination = self.open()
        try:
            found = rows_of(destination, target, pa.record_batch({"id": pa.array(ids, pa.int64())}))
        finally:
            destination.close()
        absent = found.versions["epoch"].is_null().to_pylist()
        notes = found.rows["note"].to_pylist() if "note" in found.rows.schema.names else [None]
        deleted = found.deleted_at.is_valid().to_pylist()
        assert {at for at in found.deleted_at.to_pylist() if at} <= {NOW}
        return [
            Seen(
                key,
                notes[i],
                None if absent[i] else version_at(found.versions, i),
                deleted=deleted[i],
                filtered=found.filtered[i].as_py(),
            )
            for i, key in enumerate(found.rows["id"].to_pylist())
        ]


@dataclass(frozen=True)
class Seen:
    """What a destination shows of one key of `orders()`."""

    id: int
    note: str | None
    version: Version | None
    deleted: bool
    filtered: bool


Batch = tuple[Deletes, list[Row]]


def key_of(row: Row) -> int:
    key = row.values["id"]
    assert isinstance(key, int)
    return key


def superseded_in(model: dict[int, Row], rows: list[Row]) -> list[bool]:
    """What the fence is to say, from nothing but the newest change of each key so far."""
    return [
        (newest := model.get(key_of(row))) is not None and newest.version >= row.version
        for row in rows
    ]


VERSIONS = st.builds(
    Version,
    st.integers(1, 2),
    st.integers(0, 2),
    st.integers(0, 1),
    st.integers(0, 1),
)
ROWS = st.builds(
    lambda make, key, at: make(at, key),
    st.sampled_from(
        [
            lambda at, key: upsert(at, id=key, note=f"{key} {tuple(at)}"),
            lambda at, key: delete(at, id=key),
            lambda at, key: dropped(at, id=key),
        ]
    ),
    st.integers(0, 3),
    VERSIONS,
)
BATCHES: st.SearchStrategy[list[Batch]] = st.lists(
    st.tuples(
        st.sampled_from([Deletes.SOFT, Deletes.HARD]),
        st.lists(ROWS, min_size=1, max_size=4, unique_by=key_of),
    ),
    min_size=1,
    max_size=6,
)


class DestinationConformance:
    """Subclass it with a fixture `warehouse` that gives an empty Warehouse."""

    # --- what a load does ---------------------------------------------------------------------

    @BOTH
    def test_rows_come_back_with_their_versions(
        self, warehouse: Warehouse, deletes: Deletes
    ) -> None:
        target = orders(deletes)
        assert warehouse.alter(target)
        assert warehouse.load(target, upsert(Version(2, 3, 4, 5), id=1, note="a")) == [False]
        (row,) = warehouse.rows().values()
        assert (row["id"], row["note"]) == (1, "a")
        assert tuple(row[name] for name in OWN) == (2, 3, 4, 5)
        assert row.get("_rowtrail_deleted_at") is None

    def test_the_same_batch_twice_changes_nothing(self, warehouse: Warehouse) -> None:
        target = orders()
        warehouse.alter(target)
        warehouse.load(target, upsert(5, id=1, note="newer"))
        batch = load_of(target, upsert(4, id=1, note="old"), upsert(4, id=2, note="b"))
        assert warehouse.write(batch) == [True, False]
        before = warehouse.rows()
        again = replace(batch, watermark=NOW, gaps_opened=(gap_of("orders:2"),))
        assert warehouse.write(again) == [True, False]
        assert warehouse.rows() == before
        assert warehouse.table("_rowtrail_gaps").num_rows == 0

    def test_an_equal_version_is_superseded(self, warehouse: Warehouse) -> None:
        target = orders()
        warehouse.alter(target)
        warehouse.load(target, upsert(5, id=1, note="first"))
        assert warehouse.load(target, upsert(5, id=1, note="second")) == [True]
        assert warehouse.notes() == {1: "first"}

    def test_versions_compare_as_tuples(self, warehouse: Warehouse) -> None:
        """Among every two of these the later one wins, in whichever order they come."""
        versions = [
            Version(1, 1, 9, 9),
            Version(1, 2, 0, 0),
            Version(1, 2, 0, 1),
            Version(1, 2, 1, 0),
            Version(2, 0, 0, 0),
        ]
        target = orders()
        warehouse.alter(target)
        pairs = list(combinations(versions, 2))
        older = [upsert(low, id=i, note="older") for i, (low, _) in enumerate(pairs)]
        newer = [upsert(high, id=i, note="newer") for i, (_, high) in enumerate(pairs)]
        assert warehouse.load(target, *older) == [False] * len(pairs)
        assert warehouse.load(target, *newer) == [False] * len(pairs)
        assert warehouse.load(target, *older) == [True] * len(pairs)
        assert set(warehouse.notes().values()) == {"newer"}

    def test_an_empty_load_still_leaves_its_receipt(self, warehouse: Warehouse) -> None:
        target = orders()
        warehouse.alter(target)
        assert warehouse.write(load_of(target, watermark=NOW)) == []
        assert warehouse.table("_rowtrail_receipts").num_rows == 1
        assert warehouse.table("_rowtrail_watermarks").num_rows == 1

    def test_rows_and_receipt_come_together_or_not_at_all(self, warehouse: Warehouse) -> None:
        """A receipt that the target refuses takes the rows back with it, and the gaps."""
        target = orders()
        warehouse.alter(target)
        refused = replace(receipt_of(), run_id=None)  # type: ignore[arg-type]
        load = load_of(
            target, upsert(1, id=1, note="a"), receipt=refused, gaps_opened=[gap_of("orders:2")]
        )
        with pytest.raises(RowtrailError):
            warehouse.write(load)
        assert warehouse.rows() == {}
        assert warehouse.table("_rowtrail_receipts").num_rows == 0
        assert warehouse.table("_rowtrail_gaps").num_rows == 0

    def test_a_key_that_comes_twice_is_refused(self, warehouse: Warehouse) -> None:
        target = orders()
        warehouse.alter(target)
        with pytest.raises(StopError, match="twice"):
            warehouse.load(target, upsert(1, id=1, note="a"), upsert(2, id=1, note="b"))
        assert warehouse.rows() == {}

    def test_one_row_into_a_larger_table(self, warehouse: Warehouse) -> None:
        target = orders()
        warehouse.alter(target)
        many = [upsert(1, id=i, note=f"note {i}") for i in range(5_000)]
        warehouse.load(target, *many)
        assert warehouse.load(target, upsert(2, id=2_500, note="mended")) == [False]
        notes = warehouse.notes()
        assert len(notes) == 5_000
        assert notes[2_500] == "mended"
        assert warehouse.table("orders").num_rows == 5_000

    # --- deletes ------------------------------------------------------------------------------

    def test_a_hard_delete_removes_the_row(self, warehouse: Warehouse) -> None:
        target = orders(Deletes.HARD)
        warehouse.alter(target)
        warehouse.load(target, upsert(1, id=1, note="a"), upsert(1, id=2, note="b"))
        assert warehouse.load(target, delete(2, id=1)) == [False]
        assert warehouse.notes() == {2: "b"}
        assert warehouse.table("orders").num_rows == 1

    def test_a_soft_delete_keeps_the_row_and_says_when(self, warehouse: Warehouse) -> None:
        target = orders(Deletes.SOFT)
        warehouse.alter(target)
        warehouse.load(target, upsert(1, id=1, note="a"))
        assert warehouse.load(target, delete(2, id=1)) == [False]
        (row,) = warehouse.rows().values()
        assert row["note"] == "a"
        assert row["_rowtrail_position"] == 2
        assert row["_rowtrail_deleted_at"] == NOW

    @BOTH
    def test_a_delete_older_than_the_row(self, warehouse: Warehouse, deletes: Deletes) -> None:
        target = orders(deletes)
        warehouse.alter(target)
        warehouse.load(target, upsert(5, id=1, note="a"))
        assert warehouse.load(target, delete(4, id=1)) == [True]
        assert warehouse.load(target, delete(5, id=1)) == [True]
        assert warehouse.notes() == {1: "a"}

    @BOTH
    def test_a_deleted_row_is_not_brought_back(
        self, warehouse: Warehouse, deletes: Deletes
    ) -> None:
        target = orders(deletes)
        warehouse.alter(target)
        warehouse.load(target, upsert(1, id=1, note="a"))
        warehouse.load(target, delete(5, id=1))
        assert warehouse.load(target, upsert(4, id=1, note="late")) == [True]
        assert warehouse.load(target, upsert(5, id=1, note="late")) == [True]
        assert warehouse.notes() == {}

    @BOTH
    def test_a_delete_of_an_absent_row_is_remembered(
        self, warehouse: Warehouse, deletes: Deletes
    ) -> None:
        target = orders(deletes)
        warehouse.alter(target)
        assert warehouse.load(target, delete(5, id=1)) == [False]
        assert warehouse.load(target, delete(5, id=1)) == [True]
        assert warehouse.load(target, upsert(4, id=1, note="late")) == [True]
        assert warehouse.notes() == {}

    @BOTH
    def test_a_row_comes_back_after_its_delete(
        self, warehouse: Warehouse, deletes: Deletes
    ) -> None:
        target = orders(deletes)
        warehouse.alter(target)
        warehouse.load(target, upsert(1, id=1, note="a"), delete(1, id=2))
        warehouse.load(target, delete(2, id=1))
        back = [upsert(3, id=1, note="again"), upsert(3, id=2, note="at last")]
        assert warehouse.load(target, *back) == [False, False]
        assert warehouse.notes() == {1: "again", 2: "at last"}
        assert warehouse.table("orders").num_rows == 2
        assert warehouse.load(target, delete(2, id=1)) == [True]
        assert warehouse.load(target, delete(4, id=1), delete(4, id=2)) == [False, False]
        assert warehouse.notes() == {}

    @BOTH
    def test_a_second_delete_counts_and_keeps_the_first_time(
        self, warehouse: Warehouse, deletes: Deletes
    ) -> None:
        target = orders(deletes)
        warehouse.alter(target)
        warehouse.load(target, upsert(1, id=1, note="a"))
        warehouse.load(target, delete(2, id=1))
        later = replace(receipt_of(), written_at=NOW + timedelta(days=1))
        assert warehouse.write(load_of(target, delete(4, id=1), receipt=later)) == [False]
        assert warehouse.load(target, upsert(3, id=1, note="late")) == [True]
        for row in warehouse.rows().values():
            assert row["_rowtrail_deleted_at"] == NOW

    @BOTH
    def test_a_dropped_row_goes_and_is_known_to_be_absent(
        self, warehouse: Warehouse, deletes: Deletes
    ) -> None:
        target = orders(deletes)
        warehouse.alter(target)
        warehouse.load(target, upsert(1, id=1, note="a"), upsert(1, id=2, note="b"))
        assert warehouse.load(target, dropped(2, id=1), dropped(2, id=3)) == [False, False]
        assert warehouse.notes() == {2: "b"}
        assert warehouse.keys(target) == [(1, False), (2, True), (3, False)]
        assert warehouse.load(target, upsert(1, id=1, note="late")) == [True]
        # The source deletes one for good and changes the other so that it passes.
        warehouse.load(target, delete(3, id=1), upsert(3, id=3, note="c"))
        assert warehouse.notes() == {2: "b", 3: "c"}
        assert warehouse.keys(target) == [(2, True), (3, True)]

    def test_soft_deletes_become_hard_and_back(self, warehouse: Warehouse) -> None:
        soft, hard = orders(Deletes.SOFT), orders(Deletes.HARD)
        warehouse.alter(soft)
        warehouse.load(soft, *(upsert(1, id=i, note="a") for i in (1, 2, 3)))
        warehouse.load(soft, delete(2, id=1))
        assert warehouse.alter(hard) == []
        warehouse.load(hard, delete(3, id=2), upsert(3, id=1, note="again"))
        assert warehouse.notes() == {1: "again", 3: "a"}
        assert warehouse.table("orders").num_rows == 2
        warehouse.load(hard, delete(4, id=1))
        assert warehouse.keys(hard) == [(3, True)]

    def test_hard_deletes_become_soft(self, warehouse: Warehouse) -> None:
        soft, hard = orders(Deletes.SOFT), orders(Deletes.HARD)
        warehouse.alter(hard)
        warehouse.load(hard, upsert(1, id=1, note="a"), upsert(1, id=2, note="b"))
        warehouse.load(hard, delete(2, id=2))
        assert len(warehouse.alter(soft)) == 1
        warehouse.load(soft, delete(3, id=1))
        assert warehouse.load(soft, upsert(2, id=2, note="late")) == [True]
        assert warehouse.rows()[1]["_rowtrail_deleted_at"] == NOW
        assert warehouse.notes() == {}

    # --- values and names ---------------------------------------------------------------------

    def test_every_type_with_null_and_edge_values(self, warehouse: Warehouse) -> None:
        kinds = {
            name: (kind, [value for value in values if warehouse.holds(value)])
            for name, (kind, values) in EDGE_VALUES.items()
            if name not in warehouse.no_types
        }
        types = {"id": pa.int64()} | {f"c_{name}": kind for name, (kind, _) in kinds.items()}
        target = target_of(types)
        length = max(len(values) for _, values in kinds.values()) + 1
        rows = [
            {"id": i} | {f"c_{n}": v[i] for n, (_, v) in kinds.items() if i < len(v)}
            for i in range(length)
        ]
        warehouse.alter(target)
        batch = load_of(target, *(upsert(1, **row) for row in rows))
        warehouse.write(batch)
        back = warehouse.table("orders").sort_by("id").select(target.schema.names)
        for column in target.schema.columns:
            found = back[column.name].cast(column.type).to_pylist()
            assert list(map(repr, found)) == list(map(repr, batch.rows[column.name].to_pylist())), (
                column.name
            )

    @pytest.mark.parametrize("name", EDGE_VALUES)
    def test_every_type_as_a_key(self, warehouse: Warehouse, name: str) -> None:
        if name in warehouse.no_types:
            pytest.skip(f"the database has no {name}")
        kind, values = EDGE_VALUES[name]
        values = [value for value in values if warehouse.holds(value)]
        target = target_of({"id": kind, "note": pa.string()})
        warehouse.alter(target)
        warehouse.load(target, *(upsert(2, id=value, note="a") for value in values))
        assert all(warehouse.load(target, *(upsert(1, id=v, note="late") for v in values)))
        for value in values:
            assert warehouse.load(target, upsert(3, id=value, note="b")) == [False]
        table = warehouse.table("orders")
        assert table.num_rows == len(values)
        assert set(table["note"].to_pylist()) == {"b"}
        keys = [key for key, _ in warehouse.keys(target)]
        assert sorted(map(repr, keys)) == sorted(map(repr, pa.array(values, kind).to_pylist()))
        rest = [key for key, _ in warehouse.keys(target, after=(keys[0],))]
        assert list(map(repr, rest)) == list(map(repr, keys[1:]))

    def test_a_text_with_a_zero_byte(self, warehouse: Warehouse) -> None:
        """It comes back as it was, or is refused by name; it is never cut off."""
        target = orders()
        warehouse.alter(target)
        row = upsert(1, id=1, note="a\0b")
        if warehouse.holds("a\0b"):
            warehouse.load(target, row)
            assert warehouse.notes() == {1: "a\0b"}
            return
        with pytest.raises(RecordError) as caught:
            warehouse.load(target, row, upsert(1, id=2, note="b"))
        assert caught.value.column == "note"
        assert warehouse.notes() == {}

    @BOTH
    def test_composite_keys(self, warehouse: Warehouse, deletes: Deletes) -> None:
        types = {"line": pa.int32(), "order": pa.string(), "amount": pa.decimal128(8, 2)}
        target = target_of(types, key=("order", "line"), deletes=deletes)
        warehouse.alter(target)
        key = [{"order": o, "line": n} for o in ("A", "B") for n in (1, 2)]
        warehouse.load(target, *(upsert(1, **k, amount=None) for k in key))
        warehouse.load(target, delete(2, **key[1]))
        late = [upsert(1, **k, amount=None) for k in key]
        assert warehouse.load(target, *late) == [True] * 4
        assert warehouse.keys(target) == [("A", 1, True), ("B", 1, True), ("B", 2, True)]

    @BOTH
    def test_composite_keys_of_text(self, warehouse: Warehouse, deletes: Deletes) -> None:
        """Parts that give the same text when put together are different keys."""
        types = {"a": pa.string(), "b": pa.string(), "c": pa.binary(), "note": pa.string()}
        target = target_of(types, key=("a", "b", "c"), deletes=deletes)
        parts = [("x", "yz", b""), ("xy", "z", b""), ("x\0y", "z", b""), ("x", "y\0z", b"\xff")]
        parts = [part for part in parts if all(map(warehouse.holds, part))]
        keys = [dict(zip("abc", part, strict=True)) for part in parts]
        warehouse.alter(target)
        for key in keys:
            assert warehouse.load(target, upsert(1, **key, note="a")) == [False]
        for key in keys:
            assert warehouse.load(target, upsert(2, **key, note="b")) == [False]
        assert warehouse.load(target, delete(3, **keys[0])) == [False]
        assert {key[:3] for key in warehouse.keys(target)} == set(parts[1:])

    def test_names_that_need_quotes(self, warehouse: Warehouse) -> None:
        names = ["select", "from", 'quo"te', "with space", "naïve", "名前", "a.b", "1st", "n", "t"]
        names += ["place", "newer", "present", "rows", "value; --", "%s", "?"]
        target = target_of(dict.fromkeys(names, pa.string()), key=names[:3], table="group")
        warehouse.alter(target)
        warehouse.load(target, upsert(1, **{name: f"a {name}" for name in names}))
        warehouse.load(target, upsert(2, **{name: f"a {name}" for name in names}))
        back = warehouse.table("group").select(names).to_pylist()
        assert back == [{name: f"a {name}" for name in names}]
        assert warehouse.keys(target) == [("a select", "a from", 'a quo"te', True)]
        warehouse.load(target, delete(3, **{name: f"a {name}" for name in names[:3]}))
        assert warehouse.keys(target) == []

    def test_a_table_in_a_schema(self, warehouse: Warehouse) -> None:
        target = orders(table="Sales Dept.orders")
        warehouse.alter(target)
        assert warehouse.alter(target) == []
        warehouse.load(target, upsert(1, id=1, note="a"), delete(1, id=2))
        assert warehouse.table("Sales Dept.orders").num_rows == 1
        destination = warehouse.open()
        try:
            assert destination.describe("orders") is None
            there = destination.describe("Sales Dept.orders")
        finally:
            destination.close()
        assert there is not None
        assert there.live_rows == 1

    # --- schema -------------------------------------------------------------------------------

    def test_an_added_column_is_null_in_older_rows(self, warehouse: Warehouse) -> None:
        target = orders()
        warehouse.alter(target)
        warehouse.load(target, upsert(1, id=1, note="a"))
        wider = target_of({"id": pa.int64(), "note": pa.string(), "size": pa.int32()})
        assert len(warehouse.alter(wider)) == 1
        assert warehouse.alter(wider) == []
        warehouse.load(wider, upsert(2, id=2, note="b", size=7))
        assert {key: row["size"] for key, row in warehouse.rows().items()} == {1: None, 2: 7}

    @BOTH
    def test_a_dropped_column_keeps_its_values(
        self, warehouse: Warehouse, deletes: Deletes
    ) -> None:
        """New rows have NULL there; what replaced rows held is not lost."""
        target = orders(deletes)
        warehouse.alter(target)
        warehouse.load(target, *(upsert(1, id=i, note="kept") for i in (1, 2, 3)))
        narrower = target_of({"id": pa.int64()}, deletes=deletes)
        assert warehouse.alter(narrower) == []
        warehouse.load(narrower, upsert(2, id=1), upsert(2, id=4), delete(2, id=3))
        assert warehouse.notes() == {1: "kept", 2: "kept", 4: None}
        assert warehouse.rows()[1]["_rowtrail_position"] == 2

    def test_a_narrower_column_is_taken_by_a_wider_one(self, warehouse: Warehouse) -> None:
        warehouse.alter(target_of({"id": pa.int64(), "n": pa.int64()}))
        narrow = target_of({"id": pa.int32(), "n": pa.int16()})
        assert warehouse.alter(narrow) == []
        warehouse.load(narrow, upsert(1, id=1, n=5))
        warehouse.load(narrow, upsert(2, id=1, n=6))
        assert warehouse.rows()[1]["n"] == 6
        assert warehouse.keys(narrow, after=(0,)) == [(1, True)]

    @pytest.mark.parametrize(
        ("existing", "wanted"),
        [
            (pa.int64(), pa.string()),
            (pa.string(), pa.int64()),
            (pa.int32(), pa.float64()),
            (pa.int16(), pa.float32()),
            (pa.int64(), pa.decimal128(18, 0)),
            (pa.float64(), pa.int64()),
            (pa.float64(), pa.decimal128(38, 10)),
            (pa.decimal128(10, 2), pa.decimal128(10, 3)),
            (pa.decimal128(10, 2), pa.decimal128(14, 1)),
            (pa.decimal128(10, 2), pa.float64()),
            (pa.timestamp("us"), pa.timestamp("us", tz="UTC")),
            (pa.date32(), pa.timestamp("us")),
        ],
        ids=str,
    )
    def test_a_column_of_another_kind_is_refused(
        self, warehouse: Warehouse, existing: pa.DataType, wanted: pa.DataType
    ) -> None:
        warehouse.alter(target_of({"id": pa.int64(), "n": existing}))
        before = warehouse.table("orders").schema
        both = pa.types.is_integer(existing) and pa.types.is_decimal(wanted)
        if warehouse.integers_are_decimals and both:
            assert warehouse.alter(target_of({"id": pa.int64(), "n": wanted})) == []
            return
        with pytest.raises(ConfigurationError, match="Column n of table orders is") as caught:
            warehouse.alter(target_of({"id": pa.int64(), "n": wanted}))
        assert 'ALTER TABLE "' in str(caught.value) and "TYPE" in str(caught.value)
        assert warehouse.table("orders").schema == before

    @pytest.mark.parametrize(
        ("existing", "wanted", "old", "new"),
        [
            (pa.int16(), pa.int32(), [-(2**15), 2**15 - 1], 2**31 - 1),
            (pa.int16(), pa.int64(), [-(2**15), 0], -(2**63)),
            (pa.int32(), pa.int64(), [2**31 - 1, None], 2**53 + 1),
            (pa.int64(), pa.decimal128(21, 2), [-(2**63), 2**53 + 1], Decimal("0.25")),
            (pa.decimal128(10, 2), pa.decimal128(11, 2), [Decimal("99999999.99")], Decimal(10**8)),
            (pa.decimal128(4, 2), pa.decimal128(38, 10), [Decimal("-1.25")], Decimal("1e-10")),
            (pa.float32(), pa.float64(), [0.5, -0.0, float("inf")], 0.1),
        ],
        ids=str,
    )
    def test_a_column_is_widened(
        self,
        warehouse: Warehouse,
        existing: pa.DataType,
        wanted: pa.DataType,
        old: list[Any],
        new: Any,
    ) -> None:
        """What it has stays what it is, and what it could not hold comes back exactly."""
        narrow = target_of({"id": pa.int64(), "n": existing})
        wide = target_of({"id": pa.int64(), "n": wanted})
        warehouse.alter(narrow)
        warehouse.load(narrow, *(upsert(1, id=i, n=value) for i, value in enumerate(old)))
        match warehouse.widening(existing, wanted):
            case Widening.NOTHING:
                assert warehouse.plan(wide) == []
            case Widening.REFUSED:
                with pytest.raises(ConfigurationError, match="Column n of table orders is"):
                    warehouse.plan(wide)
                return
            case Widening.IN_PLACE:
                (statement,) = warehouse.plan(wide)
                assert warehouse.retyping("n") in statement
        plan = warehouse.plan(wide)
        assert warehouse.alter(wide) == plan
        assert warehouse.plan(wide) == warehouse.plan(narrow) == []
        warehouse.load(wide, upsert(1, id=len(old), n=new))
        rows = warehouse.rows()
        assert repr([rows[i]["n"] for i in range(len(old))]) == repr(
            pa.array(old, existing).cast(wanted).to_pylist()
        )
        assert rows[len(old)]["n"] == new

    def test_columns_are_widened_and_added_together_or_not_at_all(
        self, warehouse: Warehouse
    ) -> None:
        warehouse.alter(target_of({"id": pa.int64(), "a": pa.int16(), "b": pa.int32()}))
        kind, value = warehouse.wider
        types = {"id": pa.int64(), "a": pa.int64(), "b": kind, "c": pa.date32()}
        wide = target_of(types, deletes=Deletes.SOFT)
        before = warehouse.table("orders").schema
        with pytest.raises(ConfigurationError, match="Column b of table orders is"):
            warehouse.alter(target_of({**types, "b": pa.string()}, deletes=Deletes.SOFT))
        assert warehouse.table("orders").schema == before
        plan = warehouse.plan(wide)
        assert warehouse.alter(wide) == plan
        assert warehouse.plan(wide) == []
        row = {"a": 2**40, "b": value, "c": date(2024, 1, 31)}
        warehouse.load(wide, upsert(1, id=1, **row))
        assert {name: warehouse.rows()[1][name] for name in row} == row

    def test_a_key_is_widened_with_its_tombstones(self, warehouse: Warehouse) -> None:
        narrow = target_of({"id": pa.int32(), "note": pa.string()})
        wide = target_of({"id": pa.int64(), "note": pa.string()})
        warehouse.alter(narrow)
        warehouse.load(narrow, upsert(1, id=1, note="a"), upsert(1, id=2, note="b"))
        warehouse.load(narrow, delete(5, id=2))
        plan = warehouse.plan(wide)
        assert len(plan) == 2 and "_rowtrail_tombstones_orders" in plan[1].lower()
        assert warehouse.alter(wide) == plan
        assert warehouse.alter(wide) == []
        large = 2**40
        assert warehouse.load(wide, upsert(3, id=2, note="late")) == [True]
        warehouse.load(wide, upsert(6, id=1, note="new"), upsert(6, id=large, note="c"))
        assert warehouse.notes() == {1: "new", large: "c"}
        assert warehouse.keys(wide) == [(1, True), (large, True)]
        warehouse.load(wide, delete(7, id=large))
        assert warehouse.load(wide, upsert(6, id=large, note="late")) == [True]
        assert warehouse.notes() == {1: "new"}

    @pytest.mark.parametrize(
        ("existing", "wanted"),
        [
            (pa.int32(), pa.decimal128(12, 0)),
            (pa.string(), pa.int64()),
            (pa.int64(), pa.string()),
            (pa.date32(), pa.int32()),
        ],
        ids=str,
    )
    def test_a_key_does_not_become_one_of_another_kind(
        self, warehouse: Warehouse, existing: pa.DataType, wanted: pa.DataType
    ) -> None:
        """The ids of all records would be others, though decimals hold all integers."""
        warehouse.alter(target_of({"id": existing, "n": pa.int32()}))
        with pytest.raises(ConfigurationError, match="Column id of table orders is") as caught:
            warehouse.alter(target_of({"id": wanted, "n": pa.int32()}))
        assert "_rowtrail_tombstones_orders" in str(caught.value).lower()

    @BOTH
    def test_a_narrower_key_of_which_larger_ones_are_left(
        self, warehouse: Warehouse, deletes: Deletes
    ) -> None:
        """Nothing could tell that they are gone. One that was deleted is in nobody's way."""
        wide = target_of({"id": pa.int64(), "note": pa.string()}, deletes=deletes)
        narrow = target_of({"id": pa.int32(), "note": pa.string()}, deletes=deletes)
        warehouse.alter(wide)
        large = (2**31, -(2**40))
        warehouse.load(wide, *(upsert(1, id=key, note="a") for key in (1, 2**31 - 1, *large)))
        for key in large:
            for ask in (warehouse.plan, warehouse.alter):
                with pytest.raises(ConfigurationError, match="key id is beyond") as caught:
                    ask(narrow)
            assert 'types."id" = "int64"' in str(caught.value)
            warehouse.load(wide, delete(2, id=key))
        assert warehouse.alter(narrow) == []
        assert warehouse.keys(narrow) == [(1, True), (2**31 - 1, True)]

    def test_another_key_is_refused(self, warehouse: Warehouse) -> None:
        warehouse.alter(orders())
        other = target_of({"id": pa.int64(), "note": pa.string()}, key=("note",))
        with pytest.raises(ConfigurationError, match=r"key \(id\).*now has \(note\)"):
            warehouse.alter(other)

    def test_a_table_of_others_is_left_alone(self, warehouse: Warehouse) -> None:
        warehouse.alter(orders(table="elsewhere"))
        warehouse.run("CREATE TABLE orders (id BIGINT, note VARCHAR(10))")
        warehouse.run("INSERT INTO orders VALUES (1, 'theirs')")
        with pytest.raises(ConfigurationError, match="not made by Rowtrail"):
            warehouse.alter(orders())
        assert warehouse.table("orders").to_pylist() == [{"id": 1, "note": "theirs"}]

    @pytest.mark.parametrize("name", ["_rowtrail_epoch", "_ROWTRAIL_other", ""])
    def test_column_names_that_are_refused(self, warehouse: Warehouse, name: str) -> None:
        with pytest.raises(ConfigurationError, match="column") as caught:
            warehouse.alter(target_of({"id": pa.int64(), name: pa.string()}))
        assert name in str(caught.value)

    @pytest.mark.parametrize("table", ["_rowtrail_owner", "_Rowtrail_x", "", ".orders", "sales."])
    def test_table_names_that_are_refused(self, warehouse: Warehouse, table: str) -> None:
        with pytest.raises(ConfigurationError, match="Stream orders cannot fill"):
            warehouse.alter(orders(table=table))

    @pytest.mark.parametrize("kind", [pa.decimal256(40, 2), pa.float16(), pa.null()], ids=str)
    def test_a_type_that_it_lacks_is_refused_by_name(
        self, warehouse: Warehouse, kind: pa.DataType
    ) -> None:
        with pytest.raises(ConfigurationError, match="Column odd of table orders"):
            warehouse.alter(target_of({"id": pa.int64(), "odd": kind}))

    def test_describe(self, warehouse: Warehouse) -> None:
        types = {"b": pa.decimal128(8, 2), "a": pa.string(), "c": pa.timestamp("us", tz="UTC")}
        target = target_of(types, key=("a", "b"), deletes=Deletes.SOFT)
        warehouse.alter(target)
        keys = [{"a": text, "b": 1} for text in "xyz"]
        load = load_of(
            target, *(upsert(1, **key) for key in keys), gaps_opened=[gap_of("orders:9")]
        )
        warehouse.write(load, load_of(target, delete(2, **keys[0])))
        destination = warehouse.open(None)
        try:
            there = destination.describe("orders")
            assert destination.describe("nothing") is None
        finally:
            destination.close()
        assert there is not None
        assert {column.name: column.type for column in there.schema.columns} == types
        assert there.schema.key == ("a", "b")
        assert there.live_rows == 2
        assert there.gaps == (gap_of("orders:9"),)

    def test_describe_says_what_may_be_null(self, warehouse: Warehouse) -> None:
        warehouse.alter(orders())
        warehouse.run("ALTER TABLE orders ADD COLUMN place varchar(20) DEFAULT 'here'")
        warehouse.run("ALTER TABLE orders ALTER COLUMN place SET NOT NULL")
        destination = warehouse.open(None)
        try:
            there = destination.describe("orders")
        finally:
            destination.close()
        assert there is not None
        assert {one.name: (one.nullable, one.default) for one in there.schema.columns} == {
            "id": (False, False),
            "note": (True, False),
            "place": (False, True),
        }

    def test_a_plan_is_what_alter_then_does(self, warehouse: Warehouse) -> None:
        warehouse.alter(orders())
        wider = target_of(
            {"id": pa.int64(), "note": pa.string(), "size": pa.int32()}, deletes=Deletes.SOFT
        )
        other = orders(table="sales.orders")
        for target in (wider, other):
            before = warehouse.table("orders").schema
            plan = warehouse.plan(target)
            assert plan and warehouse.table("orders").schema == before, "it changes nothing"
            assert warehouse.alter(target) == plan
            assert warehouse.plan(target) == []
        with pytest.raises(ConfigurationError, match="note"):
            warehouse.plan(target_of({"id": pa.int64(), "note": pa.int64()}))

    # --- failures -----------------------------------------------------------------------------

    def test_a_null_key_names_its_column(self, warehouse: Warehouse) -> None:
        target = orders()
        warehouse.alter(target)
        with pytest.raises(RecordError) as caught:
            warehouse.load(target, upsert(1, id=None, note="secret"))
        assert caught.value.column == "id"
        assert "secret" not in str(caught.value)

    @BOTH
    def test_a_probe_leaves_no_trace(self, warehouse: Warehouse, deletes: Deletes) -> None:
        target = orders(deletes)
        warehouse.alter(target)
        warehouse.load(target, upsert(5, id=1, note="a"), upsert(5, id=2, note="b"))
        names = ("orders", "_rowtrail_receipts", "_rowtrail_gaps", "_rowtrail_watermarks")
        before = [warehouse.table(name) for name in names]
        rows = [upsert(6, id=1, note="c"), delete(6, id=2), delete(6, id=3), upsert(4, id=1)]
        load = load_of(target, *rows[:3], watermark=NOW, gaps_opened=[gap_of("orders:9")])
        assert warehouse.write(load, probe=True) == [False, False, False]
        assert warehouse.write(load_of(target, rows[3]), probe=True) == [True]
        assert [warehouse.table(name) for name in names] == before
        assert warehouse.keys(target) == [(1, True), (2, True)]
        assert warehouse.write(load) == [False, False, False]

    # --- owner, receipts, gaps, watermarks ----------------------------------------------------

    def test_a_second_ledger_is_refused(self, warehouse: Warehouse) -> None:
        warehouse.alter(orders())
        with pytest.raises(OwnershipError, match="rowtrail ledger rebuild") as caught:
            warehouse.open(replace(FENCE, ledger_id="ledger-2", generation=9))
        assert "ledger-1" in str(caught.value)
        assert "ledger-2" in str(caught.value)

    def test_an_older_generation_is_refused(self, warehouse: Warehouse) -> None:
        warehouse.open(replace(FENCE, generation=5)).close()
        with pytest.raises(OwnershipError, match="has generation 5, this run 4") as caught:
            warehouse.open(replace(FENCE, generation=4))
        assert caught.value.generation == 5
        warehouse.open(replace(FENCE, generation=5)).close()

    def test_who_was_taken_over_cannot_write(self, warehouse: Warehouse) -> None:
        target = orders()
        warehouse.alter(target)
        paused = warehouse.open()
        try:
            warehouse.open(replace(FENCE, generation=2)).close()
            with pytest.raises(OwnershipError, match="has generation 2, this run 1"):
                paused.write(load_of(target, upsert(1, id=1, note="a")))
            with pytest.raises(OwnershipError):
                paused.write(load_of(target, upsert(1, id=1, note="a")), probe=True)
            with pytest.raises(OwnershipError):
                paused.alter(orders(table="more"))
        finally:
            paused.close()
        assert warehouse.rows() == {}

    def test_two_pipelines_share_a_warehouse(self, warehouse: Warehouse) -> None:
        target = orders()
        warehouse.alter(target)
        warehouse.write(load_of(target, upsert(1, id=1, note="a"), receipt=receipt_of(sequence=1)))
        other = warehouse.open(Fence(pipeline="other", ledger_id="ledger-2", generation=1))
        try:
            assert other.receipts() == []
            there = replace(orders(table="theirs"), stream="orders")
            other.alter(there)
            receipt = replace(receipt_of(sequence=1), pipeline="other", ledger_id="ledger-2")
            other.write(load_of(there, upsert(1, id=1, note="b"), receipt=receipt))
            assert other.receipts() == [receipt]
        finally:
            other.close()
        reader = warehouse.open(None)
        try:
            assert {one.pipeline for one in reader.receipts()} == {FENCE.pipeline, "other"}
        finally:
            reader.close()

    @pytest.mark.parametrize("taken", [False, True])
    def test_a_table_is_filled_by_one_stream(self, warehouse: Warehouse, taken: bool) -> None:
        """`taken`: the table stood there already when it was claimed."""
        for _ in range(1 + taken):
            warehouse.alter(orders())
        warehouse.load(orders(), upsert(1, id=1, note="a"))
        for table in ("orders", *warehouse.spellings):
            with pytest.raises(ConfigurationError, match="another `target`") as caught:
                warehouse.alter(replace(orders(table=table), stream="lines"))
            message = str(caught.value)
            assert f"Stream lines of pipeline shop cannot fill table {table}" in message
            assert "stream orders of pipeline shop" in message
            assert warehouse.alter(orders(table=table)) == []
        assert warehouse.notes() == {1: "a"}

    def test_a_table_is_filled_by_one_pipeline(self, warehouse: Warehouse) -> None:
        other = Fence(pipeline="other", ledger_id="ledger-2", generation=1)
        warehouse.alter(orders())
        wider = target_of({"id": pa.int64(), "note": pa.string(), "size": pa.int32()})
        with pytest.raises(ConfigurationError, match="another `target`") as caught:
            warehouse.alter(wider, other)
        assert "Stream orders of pipeline other" in str(caught.value)
        assert "stream orders of pipeline shop" in str(caught.value)
        assert "size" not in warehouse.table("orders").column_names
        warehouse.alter(orders(table="theirs"), other)
        with pytest.raises(ConfigurationError, match="stream orders of pipeline other"):
            warehouse.alter(orders(table="theirs"))

    @BOTH
    def test_a_table_that_was_dropped_goes_to_who_makes_it_again(
        self, warehouse: Warehouse, deletes: Deletes
    ) -> None:
        """With nothing of what the other stream has left."""
        lines = target_of(
            {"note": pa.string(), "id": pa.int64()}, key=("note",), stream="lines", deletes=deletes
        )
        warehouse.alter(orders(deletes))
        warehouse.write(
            load_of(orders(deletes), delete(9, id=1), dropped(9, id=2), gaps_opened=[gap_of("o:3")])
        )
        warehouse.run("DROP TABLE orders")
        warehouse.alter(lines)
        assert warehouse.table("_rowtrail_gaps").num_rows == 0
        assert warehouse.load(lines, upsert(1, note="a", id=1)) == [False]
        assert warehouse.keys(lines) == [("a", True)]
        with pytest.raises(ConfigurationError, match="stream lines of pipeline shop"):
            warehouse.alter(orders(deletes))

    def test_a_dropped_table_comes_back_with_its_tombstones(self, warehouse: Warehouse) -> None:
        """The same stream goes on: what it has deleted stays deleted."""
        warehouse.alter(orders())
        warehouse.load(orders(), delete(9, id=1))
        warehouse.run("DROP TABLE orders")
        assert warehouse.alter(orders())
        assert warehouse.load(orders(), upsert(5, id=1, note="late")) == [True]

    def test_a_table_that_was_refused_is_not_claimed(self, warehouse: Warehouse) -> None:
        warehouse.alter(orders(table="elsewhere"))
        warehouse.run("CREATE TABLE orders (id BIGINT, note VARCHAR(10))")
        with pytest.raises(ConfigurationError, match="not made by Rowtrail"):
            warehouse.alter(orders())
        warehouse.run("DROP TABLE orders")
        assert warehouse.alter(replace(orders(), stream="lines"))

    def test_receipts_are_the_newest_of_each_stream(self, warehouse: Warehouse) -> None:
        target, lines = orders(), replace(orders(table="lines"), stream="lines")
        warehouse.alter(target)
        warehouse.alter(lines)
        first, second, third = (receipt_of(sequence=i) for i in (1, 2, 3))
        other = replace(receipt_of("lines", sequence=9), position_after=None)
        rows = [upsert(5, id=i, note="a") for i in range(4)]
        late = [upsert(4, id=i, note="late") for i in (7, 3, 8, 0)]
        warehouse.write(
            load_of(target, *rows, receipt=first),
            load_of(target, receipt=second),
            load_of(lines, receipt=other),
            load_of(target, *late, receipt=third),
        )
        numbers = bytes([1, 0, 0, 0, 3, 0, 0, 0])
        found = {receipt.stream: receipt for receipt in receipts_of(warehouse)}
        assert found == {"orders": replace(third, superseded=numbers), "lines": other}

    def test_the_newest_receipt_outlives_pruning(self, warehouse: Warehouse) -> None:
        target, lines = orders(), replace(orders(table="lines"), stream="lines")
        warehouse.alter(target)
        warehouse.alter(lines)
        old = receipt_of("lines", sequence=1)
        last = receipt_of(sequence=100_000)
        warehouse.write(
            load_of(lines, receipt=old), load_of(target, receipt=receipt_of(sequence=1))
        )
        warehouse.write(load_of(target, receipt=last))
        assert {r.batch_id for r in receipts_of(warehouse)} == {old.batch_id, last.batch_id}

    def test_a_sequence_is_used_once(self, warehouse: Warehouse) -> None:
        target = orders()
        warehouse.alter(target)
        warehouse.write(load_of(target, receipt=receipt_of(sequence=4)))
        with pytest.raises(StopError, match="behind the target"):
            warehouse.write(
                load_of(target, upsert(1, id=1, note="a"), receipt=receipt_of(sequence=4))
            )
        assert warehouse.rows() == {}

    def test_gaps_open_and_close_with_the_rows(self, warehouse: Warehouse) -> None:
        target, lines = orders(), replace(orders(table="lines"), stream="lines")
        warehouse.alter(target)
        warehouse.alter(lines)
        gaps = [gap_of("orders:1"), gap_of("orders:2", "it's é")]
        warehouse.write(
            load_of(target, gaps_opened=gaps), load_of(lines, gaps_opened=[gap_of("orders:1")])
        )
        worse = gap_of("orders:2", "still")
        warehouse.write(load_of(target, gaps_opened=[worse], gaps_closed=["orders:1", "orders:7"]))
        rows = warehouse.table("_rowtrail_gaps").sort_by("table_name").to_pylist()
        assert [(row["table_name"], row["record"], row["reason"]) for row in rows] == [
            ("lines", "orders:1", "amount is negative"),
            ("orders", "orders:2", "still"),
        ]
        assert warehouse.rows("_rowtrail_watermarks")["orders"]["gaps"] == 1

    def test_a_gap_is_there_since_the_record_first_failed(self, warehouse: Warehouse) -> None:
        target = orders()
        warehouse.alter(target)
        first = gap_of("orders:1")
        later = replace(first, since=NOW + timedelta(hours=1), reason="still")
        for gap in (first, later):
            warehouse.write(load_of(target, gaps_opened=[gap]))
        assert self.gaps(warehouse) == (replace(later, since=NOW),)
        warehouse.write(load_of(target, gaps_opened=[later], gaps_closed=["orders:1"]))
        assert self.gaps(warehouse) == (later,)

    def gaps(self, warehouse: Warehouse) -> Sequence[Gap]:
        reader = warehouse.open(None)
        try:
            found = reader.describe("orders")
        finally:
            reader.close()
        assert found is not None
        return found.gaps

    def test_a_watermark_stays_when_a_load_has_none(self, warehouse: Warehouse) -> None:
        target = orders()
        warehouse.alter(target)
        warehouse.write(load_of(target))
        assert warehouse.rows("_rowtrail_watermarks")["orders"]["loaded_up_to"] is None
        warehouse.write(load_of(target, watermark=NOW))
        warehouse.write(load_of(target))
        row = warehouse.rows("_rowtrail_watermarks")["orders"]
        assert (row["loaded_up_to"], row["gaps"], row["updated_at"]) == (NOW, 0, NOW)

    # --- keys ---------------------------------------------------------------------------------

    def test_keys_in_ranges(self, warehouse: Warehouse) -> None:
        target = target_of({"a": pa.int64(), "b": pa.string()}, key=("a", "b"))
        keys = [(a, b) for a in (1, 2, 3) for b in ("", "x", "y")]
        warehouse.alter(target)
        warehouse.load(target, *(upsert(1, a=a, b=b) for a, b in keys))
        bounds = [None, (0, "z"), (1, ""), (1, "x"), (2, "aaa"), (3, "y"), (9, "")]
        destination = warehouse.open()
        try:
            for after, upto, limit in product(bounds, bounds, (1, 4, ALL)):
                wanted = [
                    (*key, True)
                    for key in keys
                    if (after is None or key > after) and (upto is None or key <= upto)
                ]
                found = destination.keys(target, after, upto, limit).to_pylist()
                assert [tuple(row.values()) for row in found] == wanted[:limit]
        finally:
            destination.close()

    @BOTH
    def test_keys_leave_out_what_was_deleted(self, warehouse: Warehouse, deletes: Deletes) -> None:
        target = orders(deletes)
        assert warehouse.keys(target) == []
        warehouse.alter(target)
        warehouse.load(target, *(upsert(1, id=i, note="a") for i in range(5)))
        warehouse.load(target, delete(2, id=1), delete(2, id=9), dropped(2, id=3), dropped(2, id=8))
        wanted = [(0, True), (2, True), (3, False), (4, True), (8, False)]
        assert warehouse.keys(target) == wanted
        assert warehouse.keys(target, after=(2,), upto=(8,)) == wanted[2:]
        assert warehouse.keys(target, after=(0,), limit=2) == wanted[1:3]

    def test_texts_are_in_binary_order(self, warehouse: Warehouse) -> None:
        texts = ["Z", "a", "A", "é", "e", "z", "É", "ß", "ss", "", " ", "a ", "😀", "\uffff", "a\0"]
        target = target_of({"id": pa.string()})
        warehouse.alter(target)
        held = [text for text in texts if warehouse.holds(text)]
        warehouse.load(target, *(upsert(1, id=text) for text in held))
        ordered = sorted(held, key=str.encode)
        assert [key for key, _ in warehouse.keys(target)] == ordered
        for text in texts:
            beyond = [other for other in ordered if other.encode() > text.encode()]
            assert [key for key, _ in warehouse.keys(target, after=(text,))] == beyond
            upto = [key for key, _ in warehouse.keys(target, upto=(text,))]
            assert upto == ordered[: len(ordered) - len(beyond)]

    # --- rows ---------------------------------------------------------------------------------

    @BOTH
    def test_rows_by_their_keys(self, warehouse: Warehouse, deletes: Deletes) -> None:
        """One for each key, in the order asked: there, deleted, dropped, never seen."""
        target = orders(deletes)
        assert warehouse.there(target, 1) == [Seen(1, None, None, deleted=False, filtered=False)]
        warehouse.alter(target)
        warehouse.load(
            target, *(upsert(Version(1, 2, 3, 4), id=i, note=f"n{i}") for i in (1, 2, 3))
        )
        warehouse.load(target, delete(9, id=2), dropped(9, id=3), delete(8, id=5), dropped(8, id=6))
        warehouse.load(target, upsert(10, id=4, note="n4"), upsert(9, id=6, note="back"))
        kept = deletes is Deletes.SOFT
        assert warehouse.there(target, 7, 3, 1, 6, 2, 5, 4) == [
            Seen(7, None, None, deleted=False, filtered=False),
            Seen(3, "n3" if kept else None, version(9), deleted=True, filtered=True),
            Seen(1, "n1", Version(1, 2, 3, 4), deleted=False, filtered=False),
            Seen(6, "back", version(9), deleted=False, filtered=False),
            Seen(2, "n2" if kept else None, version(9), deleted=True, filtered=False),
            Seen(5, None, version(8), deleted=True, filtered=False),
            Seen(4, "n4", version(10), deleted=False, filtered=False),
        ]
        assert warehouse.there(target) == []

    @pytest.mark.parametrize("name", EDGE_VALUES)
    def test_rows_of_every_type(self, warehouse: Warehouse, name: str) -> None:
        """As key and as value, beside a column of the same type that is NULL."""
        if name in warehouse.no_types:
            pytest.skip(f"the database has no {name}")
        kind, values = EDGE_VALUES[name]
        held = [value for value in values if warehouse.holds(value)]
        target = target_of({"id": kind, "copy": kind, "none": kind, "n": pa.int32()})
        warehouse.alter(target)
        load = load_of(target, *(upsert(1, id=value, copy=value, n=1) for value in held))
        warehouse.write(load)
        reader = warehouse.open(None)
        try:
            found = rows_of(reader, target, load.rows.select(["id"]))
            there = reader.describe("orders")
        finally:
            reader.close()
        assert there is not None
        assert found.rows.schema.names == ["id", "copy", "none", "n"]
        assert found.rows.schema.field("copy").type == there.schema.column("copy").type
        back = found.rows["copy"].cast(kind).to_pylist()
        assert list(map(repr, back)) == list(map(repr, load.rows["id"].to_pylist()))
        assert found.rows["none"].null_count == len(held)
        assert found.rows["n"].to_pylist() == [1] * len(held)

    def test_rows_by_composite_keys_with_any_names(self, warehouse: Warehouse) -> None:
        names = warehouse.names_held(
            ["select", 'quo"te', "t", "s", "l", "g", "a", "live", "%s", "?", "b'\\"]
        )
        target = target_of(dict.fromkeys(names, pa.string()), key=names[:3], table="asked")
        texts = ["", "a,b", '"', "\\", "{}", "'", "NULL", "é😀"]
        warehouse.alter(target)
        rows = [
            upsert(1, **{name: f"{text}{at}" for at, name in enumerate(names)}) for text in texts
        ]
        warehouse.load(target, *rows)
        reader = warehouse.open(None)
        try:
            keys = load_of(target, *rows).rows.select(names[:3])
            found = rows_of(reader, target, keys)
            swapped = keys.set_column(0, names[0], keys[1]).set_column(1, names[1], keys[0])
            others = rows_of(reader, target, swapped)
        finally:
            reader.close()
        assert found.rows.to_pylist() == [row.values for row in rows]
        assert others.versions["epoch"].null_count == len(texts)

    def test_rows_of_a_table_that_has_changed(self, warehouse: Warehouse) -> None:
        """A column that it lacks is left out; one that the stream has lost is not shown."""
        warehouse.alter(orders())
        warehouse.load(orders(), upsert(1, id=1, note="a"))
        other = target_of({"id": pa.int64(), "size": pa.int32()})
        reader = warehouse.open(None)
        try:
            found = rows_of(reader, other, pa.record_batch({"id": pa.array([1], pa.int64())}))
        finally:
            reader.close()
        assert found.rows.to_pylist() == [{"id": 1}]
        assert found.versions["position"].to_pylist() == [1]

    def test_rows_of_a_table_of_others_are_not_read(self, warehouse: Warehouse) -> None:
        warehouse.alter(orders(table="elsewhere"))
        warehouse.run("CREATE TABLE orders (id BIGINT, note VARCHAR(10))")
        with pytest.raises(ConfigurationError, match="not made by Rowtrail"):
            warehouse.there(orders(), 1)

    def test_many_rows_by_their_keys(self, warehouse: Warehouse) -> None:
        target = target_of({"id": pa.string(), "n": pa.int64()})
        warehouse.alter(target)
        warehouse.load(target, *(upsert(1, id=f"order {i}", n=i) for i in range(0, 5_000, 2)))
        keys = pa.record_batch({"id": [f"order {i}" for i in reversed(range(5_000))]})
        destination = warehouse.open()
        try:
            found = rows_of(destination, target, keys)
        finally:
            destination.close()
        wanted = [None if i % 2 else i for i in reversed(range(5_000))]
        assert found.rows["n"].to_pylist() == wanted

    # --- the fence against a model ---------------------------------------------------------------

    def test_random_batches_end_as_a_dictionary_says(self, warehouse: Warehouse) -> None:
        """Whatever comes in whatever order, under soft and hard deletes by turns: the newest
        version of each key decides, alone."""
        names = (f"orders_{number}" for number in count())

        @settings(max_examples=times(12 // warehouse.slow, 50), deadline=None, database=None)
        @given(batches=BATCHES)
        def check(batches: list[Batch]) -> None:
            name = next(names)
            model: dict[int, Row] = {}
            warehouse.alter(orders(Deletes.SOFT, table=name))
            destination = warehouse.open()
            try:
                for deletes, rows in batches:
                    load = load_of(orders(deletes, table=name), *rows)
                    expected = superseded_in(model, rows)
                    assert destination.write(load).to_pylist() == expected
                    for row, late in zip(rows, expected, strict=True):
                        if not late:
                            model[key_of(row)] = row
                found = destination.keys(orders(table=name), None, None, ALL).to_pylist()
            finally:
                destination.close()
            live = {key: row for key, row in model.items() if row.operation is Operation.UPDATE}
            absent = {key for key, row in model.items() if row.filtered}
            assert found == [
                {"id": key, "present": key in live} for key in sorted(absent | live.keys())
            ]
            table = [
                row
                for row in warehouse.table(name).to_pylist()
                if row["_rowtrail_deleted_at"] is None
            ]
            assert len(table) == len(live)
            assert {row["id"]: (row["note"], *(row[own] for own in OWN)) for row in table} == {
                key: (row.values["note"], *row.version) for key, row in live.items()
            }

        check()

    # --- opening ------------------------------------------------------------------------------

    def test_without_a_fence_nothing_is_written(self, warehouse: Warehouse) -> None:
        target = orders()
        warehouse.alter(target)
        warehouse.load(target, upsert(1, id=1, note="a"))
        reader = warehouse.open(None)
        try:
            assert reader.keys(target, None, None, ALL).num_rows == 1
            assert len(reader.receipts()) == 1
            with pytest.raises(ConfigurationError, match="for reading only"):
                reader.write(load_of(target, upsert(2, id=1, note="b")))
            with pytest.raises(ConfigurationError, match="for reading only"):
                reader.alter(orders(table="more"))
        finally:
            reader.close()
        assert warehouse.notes() == {1: "a"}

    def test_closing_twice_is_no_error(self, warehouse: Warehouse) -> None:
        destination = warehouse.open()
        destination.close()
        destination.close()


def rows_of(destination: Destination, target: Target, keys: pa.RecordBatch) -> RowsThere:
    assert isinstance(destination, ReadsRows)
    found = destination.rows(target, keys)
    assert len(found) == len(keys) == len(found.rows) == len(found.versions) == len(found.filtered)
    return found


def receipts_of(warehouse: Warehouse) -> Sequence[object]:
    destination = warehouse.open(None)
    try:
        return destination.receipts()
    finally:
        destination.close()
