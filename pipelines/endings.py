"""Which of the changes that are held back a batch brings to their end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from rowtrail.checkpoints.states import FailureEnd, FailureState, HeldBack, VersionTuple
from rowtrail.connectors.changes import version_at
from rowtrail.connectors.schema import TableSchema
from rowtrail.pipelines.plan import Plan
from rowtrail.pipelines.record_keys import fitting, key_batch

_NEVER: VersionTuple = (0, 0, 0, 0)
"""Before every version: epochs start at 1."""


def matches(plan: Plan, held: Sequence[HeldBack]) -> list[HeldBack]:
    """The held-back changes that a change of the same or a newer version puts to an end."""
    return _ended_by_delete(plan, held) + _ended_by_load(plan, held)


def _ended_by_delete(plan: Plan, held: Sequence[HeldBack]) -> list[HeldBack]:
    """Those whose row is gone from the source and was never at the target."""
    if not plan.gone:
        return []
    gone = {one.record_id: one.version for one in plan.gone}
    return [one for one in held if one.version <= gone.get(one.record_id, _NEVER)]


def _ended_by_load(plan: Plan, held: Sequence[HeldBack]) -> list[HeldBack]:
    if not held or not len(plan):
        return []
    theirs = held_keys(held, plan.target.schema)
    if theirs is None:
        return []
    names = list(plan.target.schema.key)
    mine = pa.Table.from_batches([plan.keys()]).append_column(
        "_row", pa.array(np.arange(len(plan), dtype=np.int64))
    )
    joined = theirs.join(mine, keys=names, join_type="inner")
    found = []
    for index, row in zip(
        joined.column("_held").to_pylist(), joined.column("_row").to_pylist(), strict=True
    ):
        version: VersionTuple = version_at(plan.versions, row)
        if held[index].version <= version:
            found.append(held[index])
    return found


def held_keys(held: Sequence[HeldBack], schema: TableSchema) -> pa.Table | None:
    """The keys that fit the stream's, and `_held`: the number of each. None when there are none."""
    fields = schema.arrow_key()
    numbers = fitting([one.record_id for one in held], fields)
    if not numbers:
        return None
    keys = key_batch([held[number].record_id for number in numbers], fields)
    return pa.Table.from_batches([keys]).append_column("_held", pa.array(numbers))


def ends_of(
    matched: Sequence[HeldBack], state: FailureState, decision_id: int | None
) -> list[FailureEnd]:
    return [
        FailureEnd(failure_id=held.failure_id, state=state, decision_id=decision_id)
        for held in matched
    ]
