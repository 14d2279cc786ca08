"""Retry and replay: takes single records up again, without touching any other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.selections import Origin
from rowtrail.checkpoints.states import (
    BatchKind,
    Decision,
    DecisionKind,
    HeldBack,
    StreamState,
)
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.errors import ConfigurationError, TransientError
from rowtrail.pipelines.archive_names import cut_off
from rowtrail.pipelines.commit import commit_batch
from rowtrail.pipelines.definition import Breakers
from rowtrail.pipelines.differences import NO_DIFFERENCES, Differences
from rowtrail.pipelines.fetching import no_such_key
from rowtrail.pipelines.isolation import Budget
from rowtrail.pipelines.lane import ReadyStream, make_ready
from rowtrail.pipelines.opening import OpenPipeline, settle_unfinished
from rowtrail.pipelines.portions import Sorted, Tried, portions, sort_records
from rowtrail.pipelines.preview import preview_batch
from rowtrail.pipelines.results import BatchResult, CheckWarning, Counts, added_up
from rowtrail.pipelines.selection import (
    chosen_words,
    forgotten,
    number_chosen,
    selected_portions,
    sort_chosen,
    without_image,
)
from rowtrail.pipelines.staged import Staged


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What became of the records of one decision."""

    counts: Counts
    text: str  # in plain words, with the image that was used
    chosen: int = 0  # records that were meant
    failed: tuple[str, ...] = ()  # the records that failed again
    differences: Differences | None = None  # of a dry run: what it would change at the target


def carry_out(
    opened: OpenPipeline, decision: Decision, run_id: str, *, dry_run: bool = False
) -> Replayed:
    """Retries or replays the records of a decision, in batches of their own.

    A retry goes on from the stage that failed with the captured image, or from the transform when
    its code has changed since; `from_stage` says otherwise. A replay fetches the row as it is now.
    Of changes that wait behind each other, each is let in by the one before it; one that fails
    again keeps the rest waiting.
    With `dry_run` the stages run and the load is tried and rolled back, for the first change of
    each record; nothing is written.
    Raises ConfigurationError where `must_wait` gives a reason, and for a record that a person named
    whose key does not fit the stream's key.
    """
    if decision.origin is Origin.ARCHIVE:
        raise ConfigurationError(cut_off(decision))
    reason = must_wait(opened, decision.stream)
    if reason is not None:
        raise ConfigurationError(reason)
    stream = opened.definition.stream(decision.stream)
    ready = make_ready(opened, stream, run_id, _breakers(opened, decision), may_alter=not dry_run)
    found, decision = sort_chosen(opened, ready, decision)
    if (chosen := chosen_words(decision, found)) is not None:
        opened.reporter.note(f"{decision.stream}: {chosen}")
    done = _rounds(opened, ready, decision, found, dry_run=dry_run)
    counts = sum((one.result.counts for one in done), Counts())
    return Replayed(
        counts=counts,
        text=_words(decision, counts, [one.origin for one in done], dry_run=dry_run)
        + _behind(found, dry_run=dry_run)
        + _warned(done)
        + without_image(found)
        + forgotten(opened.ledger, decision)
        + _left(ready, found.left),
        chosen=number_chosen(found),
        differences=_together([one.result for one in done]) if dry_run else None,
        failed=(*_failed_again(done), *map(str, found.left)),
    )


@dataclass(frozen=True, kw_only=True)
class _Done:
    """A batch of a decision's records."""

    origin: str  # in plain words: which image was used
    result: BatchResult


def _rounds(
    opened: OpenPipeline, ready: ReadyStream, decision: Decision, found: Sorted, *, dry_run: bool
) -> list[_Done]:
    """Takes up the records, then what waited behind them, as often as something still does."""
    done: list[_Done] = []
    tried = Tried()
    while True:
        these = list(_batches(opened, ready, decision, found, dry_run=dry_run))
        done += these
        if dry_run or not (found.failures and found.waiting):
            return done
        tried = tried.plus(found, _failed_again(these))
        found = sort_records(opened, ready, decision, tried)


def _batches(
    opened: OpenPipeline, ready: ReadyStream, decision: Decision, found: Sorted, *, dry_run: bool
) -> Iterator[_Done]:
    """Takes up the records as they are sorted, one batch at a time."""
    act = preview_batch if dry_run else commit_batch
    for portion in chain(
        portions(opened, ready, found, decision.id),
        selected_portions(opened, ready, found, decision.id),
    ):
        lane = replace(
            ready.lane,
            taken_up=found.failures,
            selected=decision.selection is not None,
            stage=ready.lane.stage_chosen,
        )
        if portion.staged is not None:
            lane = replace(lane, stage=_already(portion.staged))
        result = act(
            lane,
            portion.changes,
            kind=_KINDS[decision.kind],
            decision_id=decision.id,
            position_before=ready.state.position,
        )
        yield _Done(origin=portion.origin, result=result)


def _failed_again(done: Sequence[_Done]) -> list[str]:
    return [record for one in done for record in one.result.failed_records]


def _together(results: Sequence[BatchResult]) -> Differences | None:
    """None where the target cannot show its rows."""
    found = [result.differences for result in results if result.differences is not None]
    if len(found) < len(results):
        return None
    return reduce(Differences.plus, found, NO_DIFFERENCES)


def carry_out_patiently(opened: OpenPipeline, decision: Decision, run_id: str) -> Replayed:
    """As `carry_out`, and again when a database did not answer: that changes nothing, once it is
    known whether the batch that was cut off is at the target."""

    def attempt() -> Replayed:
        try:
            return carry_out(opened, decision, run_id)
        except TransientError:
            settle_unfinished(opened)
            raise

    return opened.patience.retry(attempt)


def must_wait(opened: OpenPipeline, name: str) -> str | None:
    """Why single records of the stream cannot be taken up before its next run; None if they can.

    A row that is fetched is stamped with the position that the stream has applied. Without one its
    version could be above that of a change which is read later, and hide that change.
    """
    stream = opened.definition.stream(name)
    record = opened.ledger.streams.get(stream.name)
    if record is not None and record.state is StreamState.NEEDS_SNAPSHOT:
        return f"Stream {stream.name} needs a snapshot: {record.state_reason}"
    now = (stream.capture.value, stream.target)
    if record is None or record.position is None or (record.capture, record.target) != now:
        return (
            f"Stream {stream.name} is to be read from the start, so no single record of it can be "
            f"taken up yet. Run `rowtrail run {stream.name}` first."
        )
    return None


def _breakers(opened: OpenPipeline, decision: Decision) -> Breakers:
    """A person chose the records of a retry, all failed: that many fail again is no alarm."""
    limits = opened.definition.breakers
    if decision.kind is not DecisionKind.RETRY:
        return limits
    return replace(limits, failed_records=sys.maxsize, failed_share=1.0)


_KINDS = {DecisionKind.RETRY: BatchKind.RETRY, DecisionKind.REPLAY: BatchKind.REPLAY}


def _already(staged: Staged) -> Callable[[Changes, Budget, Sequence[HeldBack]], Staged]:
    """A stage step for rows that went through the transforms when they failed to load."""

    def stage(changes: Changes, budget: Budget, before: Sequence[HeldBack]) -> Staged:
        return staged

    return stage


def _words(decision: Decision, counts: Counts, origins: Sequence[str], *, dry_run: bool) -> str:
    if not origins and decision.selection is not None and decision.origin is not Origin.IMAGE:
        return f"nothing to replay: there are no records {decision.selection}"
    if not origins:
        which = ", ".join(map(str, decision.record_ids[:5])) or f"stream {decision.stream}"
        return f"nothing to {decision.kind}: no record of {which} is failed"
    parts = [
        f"{count:,} {word}"
        for word, count in (
            ("loaded", counts.loaded),
            ("deleted", counts.deleted),
            ("filtered", counts.filtered),
            ("superseded", counts.superseded),
            ("failed again", counts.failed),
        )
        if count
    ]
    used = " and ".join(dict.fromkeys(origins))
    would = "would be: " if dry_run else ""
    return f"{decision.kind} from {used}: {would}{', '.join(parts) or 'no change'}"


def _behind(found: Sorted, *, dry_run: bool) -> str:
    waiting = found.waiting if dry_run else 0
    which = "1 change waits" if waiting == 1 else f"{waiting:,} changes wait"
    return f"; {which} behind and would follow in order" if waiting else ""


def _warned(done: Sequence[_Done]) -> str:
    """What the records break that lets them through."""
    nothing: tuple[CheckWarning, ...] = ()
    warned = reduce(added_up, (one.result.warnings for one in done), nothing)
    told = [f"{one.check}, by {one.rows:,}" for one in warned]
    return f"; broken, with a warning alone: {'; '.join(told)}" if told else ""


def _left(ready: ReadyStream, left: Sequence[RecordId]) -> str:
    return f". {no_such_key(ready, left)}" if left else ""
