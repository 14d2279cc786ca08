"""What a planned batch holds back beside what failed: changes that have to wait for the failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import HeldBack
from rowtrail.connectors.changes import Changes
from rowtrail.pipelines.definition import StreamDefinition
from rowtrail.pipelines.images import Keeping
from rowtrail.pipelines.key_changes import old_keys_of
from rowtrail.pipelines.plan import Plan, new_failure
from rowtrail.pipelines.waiting import blocker, in_order, waiting_row, waiting_rows


def with_waiting(
    plan: Plan,
    changes: Changes,
    stream: StreamDefinition,
    before: Sequence[HeldBack],
    code_fingerprint: str | None,
    images: Keeping,
) -> Plan:
    """The plan, whose failures are known, without the rows that have to wait for one of them.

    `before` are changes of earlier batches that are waited for, too (see `waiting.blockers`).
    """
    plan = replace(plan, failures=in_order(stream.policy, plan.failures, before))
    held: set[RecordId] = set()
    while len(records := {one.record_id for one in plan.failures}) > len(held):
        held = records
        plan = _without_old_keys(plan, changes, images, code_fingerprint, held)
        if stream.keeps_versions:
            plan = _without_later(plan, changes, images, code_fingerprint)
    return plan


def _without_later(
    plan: Plan, changes: Changes, images: Keeping, code_fingerprint: str | None
) -> Plan:
    """Without newer versions of the records that are held back."""
    behind = [blocker(one.record_id, one.version) for one in plan.failures]
    waiting = {one.row: one for one in waiting_rows(changes, plan.numbers, behind)}
    rows = np.flatnonzero(np.isin(plan.numbers.to_numpy(), np.array(sorted(waiting), np.int64)))
    failures = [
        new_failure(changes, waiting[number], code_fingerprint, images)
        for number in plan.numbers.take(rows).to_pylist()
    ]
    return plan.without(rows.tolist(), failures) if failures else plan


def _without_old_keys(
    plan: Plan,
    changes: Changes,
    images: Keeping,
    code_fingerprint: str | None,
    held: set[RecordId],
) -> Plan:
    """Without the deletes of keys in whose place there is a record that is held back."""
    new_of = old_keys_of(changes, held)
    if not new_of:
        return plan
    rows = np.flatnonzero(np.isin(plan.numbers.to_numpy(), np.array(sorted(new_of))))
    failures = [
        new_failure(
            changes,
            waiting_row(number, new_of[number]),
            code_fingerprint,
            images,
        )
        for number in plan.numbers.take(rows).to_pylist()
    ]
    return plan.without(rows.tolist(), failures)
