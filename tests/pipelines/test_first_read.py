"""What is known of an empty target is told at once; of what the read has given it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from rowtrail.connectors.changes import Changes, Operation, Rejected, Version
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.pipelines.first_read import FirstRead
from rowtrail.pipelines.key_extent import Extent, UnknownExtentError, extent_of

from .gathered_changes import SCHEMA, changes_of
from .world import World


class Asked:
    """Notes the ranges that it was asked for."""

    def __init__(self) -> None:
        self.ranges: list[tuple[object, object]] = []

    def keys(self, after: object, upto: object, limit: int) -> pa.Table:
        self.ranges.append((after, upto))
        return pa.table({"id": [1], "present": [True]})

    def pages(self) -> Iterator[pa.RecordBatch]:
        return iter([])


def test_only_what_was_given_is_asked_for() -> None:
    asked = Asked()
    first = FirstRead(asked, SCHEMA)
    empty = first.keys(None, None, 9)
    assert (empty.num_rows, empty.schema.names) == (0, ["id", "present"])
    items = first.watched(iter([changes_of(1, 2), changes_of(), changes_of(4, 3)]))
    next(items)
    first.keys((2,), (9,), 9)
    assert asked.ranges == []
    first.keys((1,), (9,), 9)
    first.keys(None, None, 9)  # as after a truncation
    assert asked.ranges == [((1,), (9,)), (None, None)]
    assert len(list(items)) == 2
    first.keys((3,), None, 9)
    first.keys((4,), None, 9)
    assert asked.ranges[2:] == [((3,), None)]


def test_where_keys_cannot_be_compared_everything_is_asked_for() -> None:
    for bad in (
        changes_of(1, rejected=(rejected_row(),)),
        keyed([[0.5]], pa.float64()),
    ):
        asked = Asked()
        first = FirstRead(asked, bad.schema)
        list(first.watched(iter([bad])))
        first.keys((10**9,), None, 9)
        assert asked.ranges == [((10**9,), None)]


def rejected_row() -> Rejected:
    return Rejected(
        key=("x",),
        operation=Operation.UPDATE,
        version=Version(1, 1, 0, 0),
        column="id",
        message="is no number",
        image=pa.record_batch({"id": ["x"]}),
    )


def keyed(columns: list[list[Any]], *types: pa.DataType) -> Changes:
    names = [f"k{place}" for place in range(len(types))]
    schema = TableSchema(
        table="orders",
        columns=tuple(Column(name=n, type=t) for n, t in zip(names, types, strict=True)),
        key=tuple(names),
    )
    arrays = [pa.array(values, kind) for values, kind in zip(columns, types, strict=True)]
    like = changes_of(*range(len(columns[0])))
    return Changes(
        stream="orders",
        schema=schema,
        rows=pa.RecordBatch.from_arrays(arrays, schema=schema.arrow()),
        operations=like.operations,
        versions=like.versions,
        position="",
    )


def test_the_least_and_the_greatest_of_keys_of_several_columns() -> None:
    changes = keyed([[2, 1, 2, 1], ["b", "é", "a", "z"]], pa.int32(), pa.string())
    assert extent_of(changes) == Extent((1, "z"), (2, "b"))
    decimals = keyed([[Decimal("1.10"), Decimal("-3.00")]], pa.decimal128(9, 2))
    assert extent_of(decimals) == Extent((Decimal("-3.00"),), (Decimal("1.10"),))
    assert extent_of(changes_of()) is None
    with pytest.raises(UnknownExtentError):
        extent_of(keyed([[0.5, float("nan")]], pa.float64()))


@pytest.mark.parametrize("capture", ["trigger", "cursor", "snapshot"])
def test_a_first_read_asks_the_target_for_nothing(
    world: World, capture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rowtrail.connectors.destinations.duckdb import DuckdbDestination

    asked: list[object] = []
    keys = DuckdbDestination.keys

    def asking(destination: DuckdbDestination, *args: Any) -> pa.Table:
        asked.append(args)
        return keys(destination, *args)

    monkeypatch.setattr(DuckdbDestination, "keys", asking)
    world.put((i, i, f"note {i}") for i in range(30))
    pipeline = world.pipeline(batch_rows=10, capture=capture)
    assert pipeline.run().complete
    assert asked == []
    world.delete(3, 17)
    assert pipeline.run().complete
    assert world.loaded() == world.expected()
