"""The commit order of a batch: the one place that decides what is written when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial, wraps
from time import perf_counter
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.checkpoints.errors import LedgerError
from rowtrail.checkpoints.record_id import from_arrow
from rowtrail.checkpoints.states import BatchKind, BatchRecord, FailureState, HeldBack, Stage
from rowtrail.connectors.base import Destination, Receipt, Target
from rowtrail.connectors.changes import Changes, Operation
from rowtrail.connectors.errors import RecordError, RowtrailError
from rowtrail.pipelines.definition import Policy, StreamDefinition
from rowtrail.pipelines.endings import closed_gaps, ends_of, matches, past_ignored
from rowtrail.pipelines.holding import with_waiting
from rowtrail.pipelines.images import Keeping
from rowtrail.pipelines.isolation import Budget
from rowtrail.pipelines.loading import has_refused, without_refused, write
from rowtrail.pipelines.plan import Plan, make_plan
from rowtrail.pipelines.results import BatchResult, CheckWarning, Counts
from rowtrail.pipelines.retrying import Patience
from rowtrail.pipelines.staged import Staged
from rowtrail.pipelines.waiting import blockers, blockers_within

if TYPE_CHECKING:
    from rowtrail.checkpoints.ledger import Ledger
    from rowtrail.pipelines.breakers import BreakerCount
    from rowtrail.pipelines.known import HeldRecords


P = ParamSpec("P")
T = TypeVar("T")


class Point(StrEnum):
    """The places between two steps, where tests let the process die."""

    OPENED = "opened"
    STAGED = "staged"
    PREPARED = "prepared"
    WRITTEN = "written"
    CLOSED = "closed"
    ACKNOWLEDGED = "acknowledged"


Faults = Callable[[Point], None]
"""Called at each point; raises or kills the process to try what recovery makes of it."""


def no_faults(point: Point) -> None:
    """What production uses."""


Archiver = Callable[[Changes, BatchRecord, str | None], None]
"""Keeps the changes of a batch; told the position before it. Raises StopError."""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """What every batch of one stream needs: opened once for the stream, the same for each batch."""

    stream: StreamDefinition
    ledger: Ledger
    destination: Destination
    target: Target
    run_id: str
    epoch: int
    read_number: int
    held: HeldRecords
    breakers: BreakerCount
    acknowledge: Callable[[str], None]  # told the position once it is durable; raises nothing
    faults: Faults
    stage: Callable[[Changes, Budget, Sequence[HeldBack]], Staged]  # last: see `stages.stage`
    stage_chosen: Callable[[Changes, Budget, Sequence[HeldBack]], Staged]
    """Likewise, for records that were chosen: what is about a whole batch is not asked of them."""
    archive: Archiver
    patience: Patience  # with a target that does not answer
    code_fingerprint: str | None
    images: Keeping  # what is kept and told of a row that fails
    taken_up: frozenset[int] = frozenset()  # the failures whose turn it is in a retry or a replay
    selected: bool = False  # the records of a replay were chosen by what they have in common
    replaces: bool = False  # a version that the target has is replaced: see `Load`


def says_no_redacted_value(act: Callable[P, T]) -> Callable[P, T]:
    """Whatever leaves a function of a lane and changes says no redacted value of these."""

    @wraps(act)
    def acting(*args: P.args, **kwargs: P.kwargs) -> T:
        lane, changes = args[:2]
        assert isinstance(lane, Lane) and isinstance(changes, Changes)
        with lane.images.redaction.telling(changes.rows):
            return act(*args, **kwargs)

    return acting


@says_no_redacted_value
def commit_batch(
    lane: Lane,
    changes: Changes,
    *,
    kind: BatchKind = BatchKind.CAPTURE,
    decision_id: int | None = None,
    position_before: str | None = None,
    ahead: Prepared | None = None,
) -> BatchResult:
    """Takes one batch of changes to the target and to the ledger, in this order:

    1. The batch is **opened** in the ledger: UUID, stream, sequence.
    2. The extracted changes go into the **archive**, where there is one: what is loaded is in it.
       Then the **stages** run; what fails is isolated by trying parts. Nothing is at the target.
    3. The **manifest** goes to the ledger as one write: keys, operations, versions and outcomes of
       all records, the failures with their images, the position after the batch.
    4. **One destination transaction**: owner row, fenced merge, tombstones, gaps, watermark and the
       receipt. If a value is at fault it is found by probes that are rolled back, and 3 is done
       again without it: a manifest with no receipt counts for nothing.
    5. The ledger **closes** the batch: outcomes, failures and position in one transaction.
    6. The **source** may forget what lies before the position.

    A crash between 1 and 4 leaves a batch without a receipt: recovery abandons it and it is read
    again. A crash between 4 and 5 leaves a receipt: recovery closes the batch from its manifest. A
    crash after 5 leaves nothing to do. So at most this one batch is ever applied again, and the
    fence of the merge makes that change nothing.

    `ahead` is what was made of these changes while the batch before them was at 4. Under `block` it
    will do as long as nothing is held back that they may have to wait for.

    Raises StopError, ConfigurationError, TransientError (retries are spent) and the ledger's
    errors. The batch is then abandoned, or left for recovery where the write's end is unknown.
    """
    clock = _Clock()
    batch = lane.ledger.batches.open(lane.run_id, lane.stream.name, kind, lane.epoch)  # 1
    lane.faults(Point.OPENED)
    before = _blockers(lane, changes, kind)
    with _abandoning(lane, batch):
        with clock.measure("archive"):
            lane.archive(changes, batch, position_before)  # 2
        if ahead is None or (lane.stream.policy is Policy.BLOCK and lane.held.all()):
            ahead = prepare(lane, changes, before, kind)  # 2
        staged, plan, budget = ahead.staged, ahead.plan, ahead.budget
        plan = _hold(lane, changes, plan, before, kind)
        lane.breakers.add(
            read=len(changes) + len(changes.rejected),
            failed=plan.failed,
            deleted=plan.deletes if kind is BatchKind.CAPTURE else 0,
        )
    lane.faults(Point.STAGED)
    receipt = partial(
        make_receipt,
        lane,
        batch_id=batch.batch_id,
        sequence=batch.sequence,
        position_before=position_before,
        position_after=plan.position_after,
    )
    if has_refused(lane):
        with _abandoning(lane, batch), clock.measure(Stage.LOAD):
            plan = without_refused(lane, changes, plan, receipt(digest=""), budget)
            plan = _hold(lane, changes, plan, before, kind)
    superseded: pa.Array | None = None
    while superseded is None:
        ended = matches(plan, lane.held.all(), lane.taken_up)
        ends = ends_of(ended, _END[kind], decision_id)
        with _abandoning(lane, batch), clock.measure("ledger"):
            digest = lane.ledger.batches.prepare(plan.manifest(batch.batch_id, ends))  # 3
        lane.faults(Point.PREPARED)
        try:
            with clock.measure(Stage.LOAD):
                complete = closed_gaps(ended, lane.held.all())
                superseded = write(lane, plan, receipt(digest=digest), complete)  # 4
        except RecordError as error:
            with _abandoning(lane, batch), clock.measure(Stage.LOAD):
                plan = without_refused(lane, changes, plan, receipt(digest=digest), budget, error)
                plan = _hold(lane, changes, plan, before, kind)
    lane.faults(Point.WRITTEN)
    with clock.measure("ledger"):
        rows = pc.indices_nonzero(superseded).cast(pa.uint32())
        lane.ledger.batches.close(batch.batch_id, rows)  # 5
    if plan.failures or ended:
        lane.held.changed()
    lane.faults(Point.CLOSED)
    if plan.position_after is not None:
        lane.acknowledge(plan.position_after)  # 6
    lane.faults(Point.ACKNOWLEDGED)
    return BatchResult(
        batch_id=batch.batch_id,
        counts=counts_of(plan, superseded),
        filtered_by=staged.dropped_by,
        seconds={**clock.seconds, **{key.value: spent for key, spent in staged.seconds.items()}},
        attempts=budget.spent,
        failed_records=plan.failed_records(),
        warnings=warnings_of(changes, staged),
    )


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the stages and the plan have made of a batch, of which nothing is written yet."""

    staged: Staged
    plan: Plan
    budget: Budget  # as far as it is spent


def prepare(
    lane: Lane, changes: Changes, before: Sequence[HeldBack], kind: BatchKind = BatchKind.CAPTURE
) -> Prepared:
    """Runs the stages and plans the load. Raises as `stages.stage` does."""
    budget = _budget_of(lane, kind)
    staged = lane.stage(changes, budget, before)
    plan = make_plan(
        changes,
        staged,
        lane.target,
        code_fingerprint=lane.code_fingerprint,
        images=lane.images,
        moves_position=kind is BatchKind.CAPTURE,
        each_version=lane.stream.policy is Policy.BLOCK,
    )
    return Prepared(staged=staged, plan=plan, budget=budget)


def _blockers(lane: Lane, changes: Changes, kind: BatchKind) -> tuple[HeldBack, ...]:
    """What the changes of this batch may have to wait for; a retry or replay is in its turn."""
    if kind is not BatchKind.CAPTURE:
        return ()
    policy = lane.stream.policy
    return (*blockers(policy, lane.held.all()), *blockers_within(policy, changes))


def _waiting(lane: Lane) -> int:
    """How many changes of the stream wait already."""
    return sum(one.state is FailureState.WAITING for one in lane.held.all())


def _hold(
    lane: Lane, changes: Changes, plan: Plan, before: Sequence[HeldBack], kind: BatchKind
) -> Plan:
    """Holds back what has to wait for a change that failed."""
    if kind is not BatchKind.CAPTURE:
        return plan
    if plan.failures:
        plan = with_waiting(plan, changes, lane.stream, before, lane.code_fingerprint, lane.images)
        lane.breakers.check_waiting(_waiting(lane) + plan.waiting if plan.waiting else 0)
    return plan.as_events(past_ignored(plan, lane.held.all()))


def _budget_of(lane: Lane, kind: BatchKind) -> Budget:
    """Where a person named the records, each of them gets an answer, however many fail."""
    limited = kind is BatchKind.CAPTURE or lane.selected
    return Budget(lane.breakers.limits.attempts if limited else None)


_END = {
    BatchKind.CAPTURE: FailureState.SUPERSEDED,  # a later change took the failed one's place
    BatchKind.RETRY: FailureState.LOADED,
    BatchKind.REPLAY: FailureState.LOADED,
}


class _Clock:
    """Adds up wall seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - started


@contextmanager
def _abandoning(lane: Lane, batch: BatchRecord) -> Iterator[None]:
    """Abandons the batch when nothing of it can be at the target.

    Not around the write: when its outcome is unknown only recovery may decide, from the receipt.
    """
    try:
        yield
    except (RowtrailError, LedgerError):
        lane.ledger.batches.abandon(batch.batch_id)
        raise


def make_receipt(
    lane: Lane,
    *,
    batch_id: str,
    sequence: int,
    digest: str,
    position_before: str | None,
    position_after: str | None,
) -> Receipt:
    """What the destination writes beside the rows of a batch."""
    return Receipt(
        pipeline=lane.ledger.pipeline,
        batch_id=batch_id,
        stream=lane.stream.name,
        target=lane.target.table,
        ledger_id=lane.ledger.id,
        sequence=sequence,
        run_id=lane.run_id,
        epoch=lane.epoch,
        capture=lane.stream.capture.value,
        read_number=lane.read_number,
        position_before=position_before,
        # A retry leaves the position where it was; the newest receipt must still tell it.
        position_after=position_after if position_after is not None else position_before,
        manifest_digest=digest,
        written_at=datetime.now(UTC),
    )


def warnings_of(changes: Changes, staged: Staged) -> tuple[CheckWarning, ...]:
    """What was warned of, each with one of its records."""
    keys = changes.keys()
    return tuple(
        CheckWarning(
            check=one.check,
            rows=len(one.rows),
            record=str(from_arrow(changes.stream, keys.take(one.rows.slice(0, 1)))[0])
            if len(one.rows)
            else None,
            observed=one.observed,
        )
        for one in staged.warned
    )


def counts_of(plan: Plan, superseded: pa.Array) -> Counts:
    late = superseded.to_numpy(zero_copy_only=False)
    dropped = plan.filtered.to_numpy(zero_copy_only=False)
    deletes = plan.operations.to_numpy() == int(Operation.DELETE)
    return Counts(
        loaded=int(np.count_nonzero(~late & ~deletes)),
        deleted=int(np.count_nonzero(~late & deletes & ~dropped)),
        filtered=int(np.count_nonzero(~late & dropped)),
        folded=len(plan.folded_operations),
        superseded=int(np.count_nonzero(late)),
        failed=plan.failed,
        waiting=plan.waiting,
    )
