"""Failures of rows that the target has in a newer version: they are nobody's concern."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pyarrow as pa

from rowtrail.checkpoints.states import HeldBack
from rowtrail.connectors.base import Load
from rowtrail.connectors.changes import Changes, Operation, constant_operations
from rowtrail.pipelines.commit import Lane, make_receipt
from rowtrail.pipelines.isolation import Budget
from rowtrail.pipelines.staged import Staged


def spare_outdated(lane: Lane) -> Callable[[Changes, Budget, Sequence[HeldBack]], Staged]:
    """The lane's stages, of whose failures those are left out that the target's fence would turn
    away: an old change that no longer gets through, of a record that is there in a newer version,
    is no gap. They count as folded: a later change took their place."""

    def stage(changes: Changes, budget: Budget, before: Sequence[HeldBack]) -> Staged:
        staged = lane.stage(changes, budget, before)
        if not staged.failed:
            return staged
        numbers = [one.row for one in staged.failed]
        late = _at_target(lane, changes, numbers)
        outdated = [number for number, is_late in zip(numbers, late, strict=True) if is_late]
        return replace(
            staged,
            failed=tuple(
                one for one, is_late in zip(staged.failed, late, strict=True) if not is_late
            ),
            folded=pa.concat_arrays([staged.folded, pa.array(outdated, pa.int64())]),
        )

    return stage


def _at_target(lane: Lane, changes: Changes, numbers: Sequence[int]) -> list[bool]:
    """Which of the rows the target has in this version or a newer one; it is asked by a write that
    is rolled back."""
    part = changes.take(pa.array(numbers, pa.int64()))
    schema = lane.target.schema
    keys = part.keys()
    columns = [
        keys.column(schema.key.index(column.name))
        if column.name in schema.key
        else pa.nulls(len(part), column.type)
        for column in schema.columns
    ]
    receipt = make_receipt(
        lane,
        batch_id=str(uuid4()),
        sequence=0,
        digest="",
        position_before=None,
        position_after=None,
    )
    load = Load(
        target=lane.target,
        rows=pa.RecordBatch.from_arrays(columns, schema=schema.arrow()),
        operations=constant_operations(Operation.DELETE, len(part)),
        filtered=pa.array(np.zeros(len(part), dtype=bool)),
        versions=part.versions,
        receipt=receipt,
        times=part.times,
        replaces=lane.replaces,
    )
    superseded = lane.patience.retry(lambda: lane.destination.write(load, probe=True))
    return list(superseded.to_pylist())
