"""Policy `block`: changes that wait behind a failed change of their record, in order (DESIGN §5).

A change waits as long as an older one of its record, of the same epoch, is failed or waits itself.
What is ignored holds up nothing. A read of a new epoch begins the table anew, so that it waits for
nothing that an older one held back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import (
    OPEN_FAILURES,
    FailureState,
    HeldBack,
    NewFailure,
    Stage,
    VersionTuple,
)
from rowtrail.connectors.changes import Changes, version_at
from rowtrail.pipelines.definition import Policy
from rowtrail.pipelines.record_keys import held_keys
from rowtrail.pipelines.staged import FailedRow

WAITING = "Waiting"
"""What stands for an error class where nothing has gone wrong yet."""


def blockers(policy: Policy, held: Iterable[HeldBack]) -> tuple[HeldBack, ...]:
    """The oldest change of each record that is failed or waits; none but under `block`."""
    if policy is not Policy.BLOCK:
        return ()
    return tuple(_oldest(one for one in held if one.state in OPEN_FAILURES))


def blockers_within(policy: Policy, changes: Changes) -> tuple[HeldBack, ...]:
    """Likewise of the rows of this batch that the source could not represent."""
    if policy is not Policy.BLOCK:
        return ()
    return tuple(
        _oldest(
            HeldBack(
                failure_id=0,
                record_id=RecordId(changes.stream, rejected.key),  # type: ignore[arg-type]
                version=rejected.version,
                state=FailureState.FAILED,
            )
            for rejected in changes.rejected
        )
    )


def waiting_rows(
    changes: Changes, numbers: pa.Array, before: Sequence[HeldBack]
) -> tuple[FailedRow, ...]:
    """Those among the rows `numbers` (int64) of the changes that must wait, in their order."""
    theirs = held_keys(before, changes.schema) if before else None
    if theirs is None:
        return ()
    names = list(changes.schema.key)
    mine = pa.Table.from_batches([changes.keys().take(numbers)]).append_column("_row", numbers)
    joined = theirs.join(mine, keys=names, join_type="inner")
    pairs = zip(joined.column("_row").to_pylist(), joined.column("_held").to_pylist(), strict=True)
    behind = {
        row: before[held].record_id
        for row, held in pairs
        if _holds_up(before[held].version, version_at(changes.versions, row))
    }
    return tuple(
        FailedRow(
            row=row,
            stage=Stage.TRANSFORM,
            error_class=WAITING,
            message=f"an older change of {behind[row]} has to be loaded first",
        )
        for row in sorted(behind)
    )


def less(numbers: pa.Array, waiting: Sequence[FailedRow]) -> pa.Array:
    """The row numbers without those that wait."""
    if not waiting:
        return numbers
    rows = np.array([one.row for one in waiting], dtype=np.int64)
    return pa.array(np.setdiff1d(numbers.to_numpy(), rows, assume_unique=True))


def in_order(
    policy: Policy, failures: Sequence[NewFailure], before: Sequence[HeldBack]
) -> tuple[NewFailure, ...]:
    """The failures of a batch: under `block`, those behind an older one of their record wait."""
    if policy is not Policy.BLOCK:
        return tuple(failures)
    oldest: dict[RecordId, VersionTuple] = {}
    for record_id, version in (
        *((one.record_id, one.version) for one in before),
        *((one.record_id, one.version) for one in failures),
    ):
        oldest[record_id] = min(version, oldest.get(record_id, version))
    return tuple(
        replace(one, state=FailureState.WAITING, waits_for=str(one.record_id))
        if _holds_up(oldest[one.record_id], one.version)
        else one
        for one in failures
    )


def _holds_up(older: VersionTuple, newer: VersionTuple) -> bool:
    """Another attempt at the same version does not wait for itself."""
    return older[0] == newer[0] and older < newer


def _oldest(held: Iterable[HeldBack]) -> list[HeldBack]:
    oldest: dict[RecordId, HeldBack] = {}
    for one in held:
        known = oldest.get(one.record_id)
        if known is None or one.version < known.version:
            oldest[one.record_id] = one
    return list(oldest.values())
