"""Writes what a batch is to load, and finds the rows that the target refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId, from_arrow
from rowtrail.checkpoints.states import Stage
from rowtrail.connectors.base import Receipt, TellsRefused
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.errors import RecordError
from rowtrail.pipelines.isolation import Budget, Judge, isolate
from rowtrail.pipelines.plan import Plan, new_failure
from rowtrail.pipelines.staged import FailedRow

if TYPE_CHECKING:
    from rowtrail.pipelines.commit import Lane


def write(
    lane: Lane,
    plan: Plan,
    receipt: Receipt,
    complete: Sequence[RecordId] = (),
    *,
    probe: bool = False,
) -> pa.Array:
    """`Destination.write`, as often as the target has to be waited for."""
    return lane.patience.retry(partial(_write, lane, plan, receipt, complete, probe=probe))


def _write(
    lane: Lane,
    plan: Plan,
    receipt: Receipt,
    complete: Sequence[RecordId],
    *,
    probe: bool,
) -> pa.Array:
    # Here already, since patience tells what it waits for.
    with lane.images.redaction.telling(plan.rows, records=False):
        return lane.destination.write(
            plan.load(receipt, complete, replaces=lane.replaces), probe=probe
        )


def has_refused(lane: Lane) -> bool:
    """Whether the target has refused records of this stream: then it may refuse more of them."""
    return any(one.stage is Stage.LOAD for one in lane.held.all())


def without_refused(
    lane: Lane,
    changes: Changes,
    plan: Plan,
    receipt: Receipt,
    budget: Budget,
    refused: RecordError | None = None,
) -> Plan:
    """Moves load rows that the target refuses to the failures.

    A target that knows its rules is asked for the rows that break one, and each of them is tried.
    Where that finds none although all of them together have been `refused`, they are found by
    trying parts. The next write tells whether these were all.
    """
    redaction = lane.images.redaction
    judge = Judge(
        stream=lane.stream.name,
        name=f"table {lane.target.table}",
        remedy="Mend the rule at the target that they break, or the transform, then run again.",
        remedy_together="Change one of them at the source, or the rule at the target that forbids "
        "both.",
        record_ids=lambda rows: from_arrow(lane.stream.name, plan.keys().take(pa.array(rows))),
    )

    def probe(start: int, stop: int) -> None:
        write(lane, plan.part(start, stop), receipt, probe=True)

    with judge.telling(), redaction.telling(plan.rows):
        failed = _each(lane, _suspects(lane, plan, receipt), probe, budget)
        if not failed and refused is not None:
            failed = isolate(len(plan), probe, RecordError, budget, refused).failed
            lane.breakers.add(read=0, failed=len(failed), deleted=0)
    failures = [
        new_failure(
            changes,
            FailedRow(
                row=plan.numbers[row].as_py(),
                stage=Stage.LOAD,
                error_class=type(error.__cause__ or error).__name__,
                message=redaction.masked(str(error), plan.rows.slice(row, 1), quoted=True),
                transformed=plan.rows.slice(row, 1),
            ),
            lane.code_fingerprint,
            lane.images,
        )
        for row, error in failed
    ]
    return plan.without([row for row, _ in failed], failures)


def _suspects(lane: Lane, plan: Plan, receipt: Receipt) -> Sequence[int]:
    """None where they are most of the rows: whether then all fail is soon told by a few of them."""
    if not isinstance(lane.destination, TellsRefused):
        return ()
    rows = lane.patience.retry(partial(lane.destination.refused, plan.load(receipt)))
    return rows if 2 * len(rows) <= len(plan) else ()


def _each(
    lane: Lane, rows: Sequence[int], probe: Callable[[int, int], None], budget: Budget
) -> list[tuple[int, Exception]]:
    """Those of the rows that are refused when they are tried alone; of too many, the first ones are
    enough for the breaker."""
    failed: list[tuple[int, Exception]] = []
    for row in rows:
        budget.spend()
        try:
            probe(row, row + 1)
        except RecordError as error:
            failed.append((row, error))
            lane.breakers.add(read=0, failed=1, deleted=0)
    return failed
