"""Which of the changes that are held back a batch brings to their end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import (
    FailureEnd,
    FailureState,
    HeldBack,
    VersionTuple,
)
from rowtrail.connectors.base import Deletes
from rowtrail.connectors.changes import version_at
from rowtrail.pipelines.plan import Plan
from rowtrail.pipelines.record_keys import held_keys

_NEVER: VersionTuple = (0, 0, 0, 0)
"""Before every version: epochs start at 1."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A change that is held back, and the version of the record that ends it."""

    held: HeldBack
    version: VersionTuple
    taken_up: bool = False  # it was its turn


def matches(
    plan: Plan, held: Sequence[HeldBack], taken_up: frozenset[int] = frozenset()
) -> list[Ended]:
    """The held-back changes that a change of the same or a newer version puts to an end.

    `taken_up`: the failures whose turn it is, if a decision is carried out.
    """
    return _ended_by_delete(plan, held) + _ended_by_load(plan, held, taken_up)


def _ended_by_delete(plan: Plan, held: Sequence[HeldBack]) -> list[Ended]:
    """Those whose row is gone from the source and was never at the target."""
    if not plan.gone:
        return []
    gone = {one.record_id: one.version for one in plan.gone}
    return [
        Ended(held=one, version=gone[one.record_id])
        for one in held
        if one.version <= gone.get(one.record_id, _NEVER)
    ]


def _ended_by_load(plan: Plan, held: Sequence[HeldBack], taken_up: frozenset[int]) -> list[Ended]:
    keeps_versions = plan.target.deletes is Deletes.HISTORY
    found = []
    for index, row in _pairs(plan, held):
        version: VersionTuple = version_at(plan.versions, row)
        one = Ended(
            held=held[index],
            version=version,
            taken_up=held[index].failure_id in taken_up,
        )
        if _is_ended(one, keeps_versions=keeps_versions):
            found.append(one)
    return found


def _pairs(plan: Plan, held: Sequence[HeldBack]) -> Iterable[tuple[int, int]]:
    """The numbers of held-back changes and of the plan's rows that are of one record."""
    if not held or not len(plan):
        return ()
    theirs = held_keys(held, plan.target.schema)
    if theirs is None:
        return ()
    names = list(plan.target.schema.key)
    mine = pa.Table.from_batches([plan.keys()]).append_column(
        "_row", pa.array(np.arange(len(plan), dtype=np.int64))
    )
    joined = theirs.join(mine, keys=names, join_type="inner")
    return zip(joined.column("_held").to_pylist(), joined.column("_row").to_pylist(), strict=True)


def _is_ended(one: Ended, *, keeps_versions: bool) -> bool:
    """Whether this version of its record puts the held-back change to an end.

    Where the target keeps the history a newer version does not take the place of an older one, but
    for a table that is read anew, and for a row that was fetched in place of one that failed, or of
    one that had waited and whose turn it was: its own image could not be used.
    """
    held, version = one.held, one.version
    if held.version > version or not keeps_versions:
        return held.version <= version
    *_, revision = version
    fetched = revision > 0 and (one.taken_up or held.state is FailureState.FAILED)
    return held.version == version or held.version[0] < version[0] or fetched


def past_ignored(plan: Plan, held: Sequence[HeldBack]) -> list[int]:
    """The rows of a history that are newer than an ignored change of their record. It may be taken
    up after all, and then they must not have been taken for nothing new."""
    if plan.target.deletes is not Deletes.HISTORY:
        return []
    ignored = [one for one in held if one.state is FailureState.IGNORED]
    pairs = _pairs(plan, ignored)
    return [
        row for number, row in pairs if ignored[number].version < version_at(plan.versions, row)
    ]


def ends_of(
    ended: Sequence[Ended], state: FailureState, decision_id: int | None
) -> list[FailureEnd]:
    """What the ledger is to note of them: `state`, but for those that never had their turn."""
    return [
        FailureEnd(
            failure_id=one.held.failure_id,
            state=FailureState.SUPERSEDED if _was_passed(one) else state,
            decision_id=decision_id,
        )
        for one in ended
    ]


def _was_passed(ended: Ended) -> bool:
    """Whether it is at its end without having been taken up: by a change that came after it, or,
    where it had yet to have its turn, by the row as it was fetched."""
    if ended.held.version == ended.version:
        return False
    *_, revision = ended.version
    return revision == 0 or ended.held.state is FailureState.WAITING


def closed_gaps(ended: Sequence[Ended], held: Sequence[HeldBack]) -> tuple[RecordId, ...]:
    """The records of which nothing is held back any more, once these have ended."""
    if not ended:
        return ()
    gone = {one.held.failure_id for one in ended}
    left = {one.record_id for one in held if one.failure_id not in gone}
    return tuple(
        dict.fromkeys(one.held.record_id for one in ended if one.held.record_id not in left)
    )
