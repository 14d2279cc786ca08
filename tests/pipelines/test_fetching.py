"""A fetched row's version: never below that of the failure which it is to end."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import FailureState, HeldBack
from rowtrail.connectors.changes import (
    Changes,
    Operation,
    Rejected,
    Version,
    constant_operations,
    constant_versions,
    version_at,
)
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.pipelines.fetching import _not_below

SCHEMA = TableSchema(
    table="orders",
    columns=(Column(name="id", type=pa.int64()), Column(name="note", type=pa.string())),
    key=("id",),
)
READ = Version(1, 10, 0, 7)
"""What the stream has applied, and the number of the decision."""


def fetched(keys: Sequence[int], rejected: Sequence[object] = ()) -> Changes:
    rows = pa.RecordBatch.from_pydict(
        {"id": list(keys), "note": ["x"] * len(keys)}, schema=SCHEMA.arrow()
    )
    return Changes(
        stream="orders",
        schema=SCHEMA,
        rows=rows,
        operations=constant_operations(Operation.UPDATE, len(keys)),
        versions=constant_versions(READ, len(keys)),
        position="",
        rejected=tuple(
            Rejected(
                key=(key,),
                operation=Operation.UPDATE,
                version=READ,
                column="note",
                message="",
                image=rows.slice(0, 0),
            )
            for key in rejected
        ),
    )


def held(*changes: tuple[object, Version]) -> list[HeldBack]:
    return [
        HeldBack(
            failure_id=number,
            record_id=RecordId("orders", (key,)),  # type: ignore[arg-type]
            version=version,
            state=FailureState.FAILED,
        )
        for number, (key, version) in enumerate(changes)
    ]


def versions(changes: Changes) -> list[Version]:
    return [version_at(changes.versions, row) for row in range(len(changes))]


def test_only_rows_whose_failure_is_newer_are_raised_to_it() -> None:
    """As in the midst of a first read. The decision's number stays, so that it wins over itself."""
    failures = held((3, Version(1, 20, 4, 0)), (2, Version(1, 9, 0, 0)), (8, Version(1, 30, 0, 0)))
    changes = _not_below(fetched([1, 2, 3]), failures)
    assert versions(changes) == [READ, READ, Version(1, 20, 4, 7)]
    assert changes.rows == fetched([1, 2, 3]).rows


def test_of_several_failures_the_newest_counts() -> None:
    for order in (1, -1):
        failures = held(*[(3, Version(1, at, 0, 0)) for at in (20, 40, 30)[::order]])
        assert versions(_not_below(fetched([3]), failures)) == [Version(1, 40, 0, 7)]


def test_a_row_that_fails_again_at_extract_is_raised_too() -> None:
    failures = held((3, Version(1, 20, 0, 0)), ("text", Version(1, 25, 0, 0)))
    changes = _not_below(fetched([], [3, "text", 4]), failures)
    assert [one.version for one in changes.rejected] == [
        Version(1, 20, 0, 7),
        Version(1, 25, 0, 7),
        READ,
    ]


def test_an_equal_place_and_no_failure_change_nothing() -> None:
    assert versions(_not_below(fetched([3]), held((3, Version(1, 10, 0, 3))))) == [READ]
    unchanged = fetched([3], [4])
    assert _not_below(unchanged, []) is unchanged
