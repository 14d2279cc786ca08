"""What a batch would do, without doing it: `--dry-run`."""

from __future__ import annotations

from uuid import uuid4

import pyarrow as pa

from rowtrail.checkpoints.states import BatchKind
from rowtrail.connectors.base import ReadsRows
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.errors import RecordError
from rowtrail.pipelines.commit import (
    Lane,
    counts_of,
    make_receipt,
    prepare,
    says_no_redacted_value,
    warnings_of,
)
from rowtrail.pipelines.differences import Differences, differences
from rowtrail.pipelines.loading import without_refused, write
from rowtrail.pipelines.plan import Plan
from rowtrail.pipelines.results import BatchResult


@says_no_redacted_value
def preview_batch(
    lane: Lane,
    changes: Changes,
    *,
    kind: BatchKind = BatchKind.CAPTURE,
    decision_id: int | None = None,
    position_before: str | None = None,
) -> BatchResult:
    """Runs the stages and tries the load in a transaction that is rolled back.

    Takes what `commit_batch` takes and gives what it would give; nothing is written anywhere.
    """
    prepared = prepare(lane, changes, (), kind)
    staged, plan, budget = prepared.staged, prepared.plan, prepared.budget
    batch_id = str(uuid4())
    receipt = make_receipt(
        lane,
        batch_id=batch_id,
        sequence=0,
        digest="",
        position_before=position_before,
        position_after=None,
    )
    superseded: pa.Array | None = None
    while superseded is None:
        try:
            superseded = write(lane, plan, receipt, probe=True)
        except RecordError as error:
            plan = without_refused(lane, changes, plan, receipt, budget, error)
    return BatchResult(
        batch_id=batch_id,
        counts=counts_of(plan, superseded),
        filtered_by=staged.dropped_by,
        seconds={key.value: spent for key, spent in staged.seconds.items()},
        attempts=budget.spent,
        failed_records=plan.failed_records(),
        warnings=warnings_of(changes, staged),
        differences=_differences(lane, plan, superseded),
    )


def _differences(lane: Lane, plan: Plan, superseded: pa.Array) -> Differences | None:
    """None where the target cannot show single rows."""
    if not isinstance(lane.destination, ReadsRows):
        return None
    there = lane.destination.rows(lane.target, plan.keys())
    return differences(plan, superseded, there, lane.images.redaction.columns)
