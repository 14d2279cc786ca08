"""Changes that wait for another one, and when it is their turn (DESIGN §5).

Under policy `block` a change waits as long as an older one of its record, of the same epoch, is
failed or waits itself. What is ignored holds up nothing. A read of a new epoch begins the table
anew, so that it waits for nothing that an older one held back. Under each policy the delete of a
key waits as long as the row that has another key now is held back (see `key_changes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

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
from rowtrail.pipelines.definition import Policy, StreamDefinition
from rowtrail.pipelines.key_changes import new_keys_of
from rowtrail.pipelines.record_keys import held_keys
from rowtrail.pipelines.staged import FailedRow

WAITING = "Waiting"
"""What stands for an error class where nothing has gone wrong yet."""


class Open(Protocol):
    """A change that is failed or waits."""

    @property
    def record_id(self) -> RecordId: ...
    @property
    def version(self) -> VersionTuple: ...
    @property
    def state(self) -> FailureState: ...
    @property
    def waits_for(self) -> RecordId | None: ...
    @property
    def batch(self) -> int | None: ...


AnOpen = TypeVar("AnOpen", bound=Open)


def blockers(policy: Policy, held: Iterable[HeldBack]) -> tuple[HeldBack, ...]:
    """The oldest change of each record that is failed or waits; none but under `block`."""
    if policy is not Policy.BLOCK:
        return ()
    return tuple(_firsts(Policy.BLOCK, (one for one in held if one.state in OPEN_FAILURES)))


def blockers_within(policy: Policy, changes: Changes) -> tuple[HeldBack, ...]:
    """Likewise of the rows of this batch that the source could not represent."""
    if policy is not Policy.BLOCK:
        return ()
    return tuple(
        _firsts(
            Policy.BLOCK,
            (
                blocker(RecordId(changes.stream, one.key), one.version)  # type: ignore[arg-type]
                for one in changes.rejected
            ),
        )
    )


def waiting_rows(
    changes: Changes, numbers: pa.Array, before: Sequence[HeldBack]
) -> tuple[FailedRow, ...]:
    """Those among the rows `numbers` (int64) of the changes that must wait, in their order.

    Where the delete of an old key waits, the row under the new one waits with it, and the delete
    for the row.
    """
    found: dict[int, RecordId] = {}
    behind = [(one, one.record_id) for one in before]
    while behind:
        rows = _rows_behind(changes, numbers, behind)
        fresh = {row: record for row, record in rows.items() if row not in found}
        found |= fresh
        behind = [
            (blocker(record, version_at(changes.versions, row)), fresh[row])
            for row, record in new_keys_of(changes, fresh).items()
        ]
    found |= new_keys_of(changes, found)
    return tuple(waiting_row(row, found[row]) for row in sorted(found))


def waiting_row(row: int, waits_for: RecordId) -> FailedRow:
    return FailedRow(
        row=row,
        stage=Stage.TRANSFORM,
        error_class=WAITING,
        message=f"a change of {waits_for} has to be loaded first",
        waits_for=waits_for,
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
    for record, version in (
        *((one.record_id, one.version) for one in before),
        *((one.record_id, one.version) for one in failures),
    ):
        oldest[record] = min(version, oldest.get(record, version))
    return tuple(
        replace(one, state=FailureState.WAITING, waits_for=one.record_id)
        if one.waits_for is None and _holds_up(oldest[one.record_id], one.version)
        else one
        for one in failures
    )


def in_turn(stream: StreamDefinition, changes: Sequence[AnOpen]) -> list[AnOpen]:
    """Of each record the change that is to be taken up next, where it has to wait for no other.

    Under `block` that is the oldest, else the newest, which takes the place of the others.
    """
    of_record: dict[RecordId, list[AnOpen]] = {}
    for one in changes:
        of_record.setdefault(one.record_id, []).append(one)
    firsts = _firsts(stream.policy, changes)
    return [one for one in firsts if not _must_wait(stream, one, of_record)]


def _must_wait(
    stream: StreamDefinition, one: Open, of_record: Mapping[RecordId, Sequence[Open]]
) -> bool:
    if one.state is not FailureState.WAITING or one.waits_for in (None, one.record_id):
        return False
    others = of_record.get(one.waits_for, ())
    if stream.policy is Policy.BLOCK:
        # What came later has its own turn. The other half has the next ordinal, or was folded into
        # a later change of the same batch, where changes are.
        epoch, position, ordinal, _ = one.version
        end = (epoch, position, ordinal + 2, 0)
        folds = not stream.keeps_versions
        others = [
            other for other in others if other.version < end or (folds and _same_batch(one, other))
        ]
    # Two that belong together wait for each other: the row under the new key goes first.
    return any(other.waits_for != one.record_id or other.version > one.version for other in others)


def _same_batch(one: Open, other: Open) -> bool:
    return one.batch is not None and one.batch == other.batch


def _rows_behind(
    changes: Changes, numbers: pa.Array, behind: Sequence[tuple[HeldBack, RecordId]]
) -> dict[int, RecordId]:
    """The rows that are newer than one of these of their record, with what they wait for."""
    theirs = held_keys([one for one, _ in behind], changes.schema)
    if theirs is None:
        return {}
    names = list(changes.schema.key)
    mine = pa.Table.from_batches([changes.keys().take(numbers)]).append_column("_row", numbers)
    joined = theirs.join(mine, keys=names, join_type="inner")
    pairs = zip(joined.column("_row").to_pylist(), joined.column("_held").to_pylist(), strict=True)
    return {
        row: behind[held][1]
        for row, held in pairs
        if _holds_up(behind[held][0].version, version_at(changes.versions, row))
    }


def _holds_up(older: VersionTuple, newer: VersionTuple) -> bool:
    """Another attempt at the same version does not wait for itself."""
    return older[0] == newer[0] and older < newer


def blocker(record: RecordId, version: VersionTuple) -> HeldBack:
    """A change that is held back by the batch that is under way."""
    return HeldBack(
        failure_id=0, record_id=record, version=version, state=FailureState.FAILED, waits_for=None
    )


def _firsts(policy: Policy, changes: Iterable[AnOpen]) -> list[AnOpen]:
    """Of each record the oldest change under `block`, else the newest, in the order given."""
    chosen: dict[RecordId, AnOpen] = {}
    for one in changes:
        known = chosen.get(one.record_id)
        if known is None or (one.version < known.version) == (policy is Policy.BLOCK):
            chosen[one.record_id] = one
    return list(chosen.values())
