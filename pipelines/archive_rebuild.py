"""The beginning and the end of a replay: what the target lacks, and when it lacks nothing more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from rowtrail.checkpoints.states import OPEN_FAILURES, BatchKind, StreamRecord, StreamState
from rowtrail.connectors.base import Destination, Gap, Load, Target
from rowtrail.connectors.changes import VERSION_SCHEMA, Changes, operations_array
from rowtrail.connectors.errors import ConfigurationError, StopError
from rowtrail.pipelines.archive import Archive
from rowtrail.pipelines.archive_lineage import Lineage, LostBatch, lineage, within
from rowtrail.pipelines.archive_names import ArchivedBatch, ArchivedKind
from rowtrail.pipelines.archive_source import ArchiveSource
from rowtrail.pipelines.commit import commit_batch
from rowtrail.pipelines.definition import StreamDefinition
from rowtrail.pipelines.lane import ReadyStream
from rowtrail.pipelines.opening import OpenPipeline
from rowtrail.pipelines.recovery import OLDER_TARGET
from rowtrail.pipelines.shapes import shape_of

if TYPE_CHECKING:
    from rowtrail.pipelines.archive_format import BatchFacts
    from rowtrail.pipelines.archive_replay import ArchiveRequest

UNFINISHED = "the rebuild of its table from the archive"
"""In the reason of a stream whose target is known to lack rows because of it."""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What is to be replayed, and onto what."""

    batches: tuple[ArchivedBatch, ...]  # that hold changes, the oldest first
    lost: tuple[LostBatch, ...]
    rebuild: bool  # the target lacks rows that the ledger takes for loaded
    stop: str | None  # why the stream needs a snapshot whatever the target has

    def lost_within(self, since: datetime | None, until: datetime | None) -> Iterator[LostBatch]:
        """The holes among the batches of that time; those beyond the last file, if it is open."""
        chosen = within(self.batches, since, until)
        if not chosen:
            return iter(())
        first, last = chosen[0].sequence, chosen[-1].sequence
        return (
            one
            for one in self.lost
            if first < one.sequence and (until is None or one.sequence < last)
        )

    def damaged(self, batch: ArchivedBatch, why: str) -> LostBatch:
        return LostBatch(
            sequence=batch.sequence, why=why, batch_id=batch.batch_id, records=batch.records
        )


def begin(
    opened: OpenPipeline,
    archive: Archive,
    source: ArchiveSource,
    stream: StreamDefinition,
    *,
    dry_run: bool,
    partly: bool,
) -> Begun:
    """Finds out what the target lacks, and notes it before anything is written.

    A stream that the ledger does not know is taken over from its last file: position, epoch and
    number. Raises ConfigurationError where there is nothing to replay, and where a target that
    lacks rows is to get a part of them only.
    """
    record = opened.ledger.streams.get(stream.name)
    if record is not None and not record.sequence and record.position is None:
        record = None  # all that is known of it is its name
    found = lineage(archive, stream.name, opened.ledger, record)
    newest, found = _newest(archive, found, stream, ledger_is_new=record is None)
    source.learn(stream.name, newest[0].schema)
    lacks = record is None or _lacks(opened, stream, record)
    begun = Begun(
        batches=tuple(one for one in found.batches if one.kind is not ArchivedKind.COPY),
        lost=found.lost,
        rebuild=lacks,
        stop=_other_reason(record),
    )
    if not lacks:
        return begun
    if dry_run or partly:
        what = "A dry run shows" if dry_run else "Single records change"
        raise ConfigurationError(
            f"The target lacks rows of stream {stream.name} that the ledger takes for loaded. "
            f"{what} only a target that has its rows: rebuild it first, with rowtrail replay "
            f"{stream.name} --from archive"
        )
    reason = _unfinished(stream.name)
    if record is None:
        _take_over(opened, stream, newest[1])
    elif record.target != stream.target and record.capture == stream.capture.value:
        opened.ledger.streams.retarget(stream.name, stream.target, reason)
    opened.ledger.streams.set_state(stream.name, StreamState.NEEDS_SNAPSHOT, reason)
    if opened.destination.describe(stream.target) is None:
        _make_table(opened, source, stream)
    return begun


def _newest(
    archive: Archive, found: Lineage, stream: StreamDefinition, *, ledger_is_new: bool
) -> tuple[tuple[Changes, BatchFacts], Lineage]:
    """The last file that can be read. A new ledger goes on from it: what is damaged after it is
    read again from the source."""
    for number in range(len(found.batches) - 1, -1, -1):
        try:
            newest = archive.read(found.batches[number])
        except StopError:
            continue
        if ledger_is_new:
            found = replace(found, batches=found.batches[: number + 1])
        return newest, found
    why = " Its files are all damaged." if found.batches else ""
    raise ConfigurationError(
        f"The archive {archive.store.location} holds nothing of stream {stream.name} that can be "
        f"replayed.{why} A batch is kept there when it is read, from the time on at which the "
        f"pipeline has `archive` set. To read the table anew: rowtrail run --resnapshot "
        f"{stream.name}"
    )


def _lacks(opened: OpenPipeline, stream: StreamDefinition, record: StreamRecord) -> bool:
    """Whether the target lacks rows that the ledger takes for loaded there."""
    if opened.destination.describe(stream.target) is None or record.target != stream.target:
        return True
    if record.state is StreamState.NEEDS_SNAPSHOT and _is_about_target(record.state_reason or ""):
        return True
    receipts = {one.stream: one for one in opened.destination.receipts()}
    newest = receipts.get(stream.name)
    return newest is None or newest.batch_id != record.last_batch_id


def _is_about_target(reason: str) -> bool:
    return OLDER_TARGET in reason or UNFINISHED in reason or "is gone from the target" in reason


def _other_reason(record: StreamRecord | None) -> str | None:
    """Why the stream needs a snapshot, where that is not what a rebuild mends."""
    if record is None or record.state is not StreamState.NEEDS_SNAPSHOT:
        return None
    reason = record.state_reason or ""
    return None if _is_about_target(reason) else reason


def _take_over(opened: OpenPipeline, stream: StreamDefinition, facts: BatchFacts) -> None:
    opened.ledger.streams.adopt(
        stream.name,
        capture=facts.capture,
        target=stream.target,
        epoch=facts.epoch,
        position=facts.position_after or facts.position_before,
        read_number=facts.read_number,
        sequence=facts.sequence,
        batch_id=facts.batch_id,
    )
    opened.reporter.note(
        f"{stream.name}: the ledger knows nothing of it; it goes on from batch {facts.sequence} of "
        f"the archive. The trail of the batches before is not known."
    )


def _make_table(opened: OpenPipeline, source: ArchiveSource, stream: StreamDefinition) -> None:
    schema = shape_of(stream, source.describe(stream.source_spec()), opened.lock).target
    target = Target(stream=stream.name, table=stream.target, schema=schema, deletes=stream.deletes)
    for statement in opened.destination.alter(target):
        opened.reporter.note(f"{stream.name}: {statement}")


def _unfinished(stream: str) -> str:
    return (
        f"{UNFINISHED} has not come to its end. Run `rowtrail replay {stream} --from archive` "
        f"again, or `rowtrail run --resnapshot {stream}` to read it from the source."
    )


def finish(
    opened: OpenPipeline,
    ready: ReadyStream,
    begun: Begun,
    revision: int,
    whole: Sequence[ArchivedBatch] | None,
    request: ArchiveRequest,
) -> str | None:
    """Ends a rebuild. Returns why the target is still not complete; None where it is.

    Where it is, its newest receipt has the stream's position again, and the next run goes on.
    """
    stream = ready.lane.stream
    if whole is None:
        reason = (
            f"{UNFINISHED} could not be complete: {_why_not(begun, request)}. What could be "
            f"rebuilt is there. `rowtrail run --resnapshot {stream.name}` reads the table anew."
        )
        opened.ledger.streams.set_state(stream.name, StreamState.NEEDS_SNAPSHOT, reason)
        return f"Stream {stream.name} needs a snapshot: {reason}"
    _close(opened, ready, revision)
    if begun.stop is None:
        opened.ledger.streams.set_state(stream.name, StreamState.ACTIVE)
        return None
    opened.ledger.streams.set_state(stream.name, StreamState.NEEDS_SNAPSHOT, begun.stop)
    return f"Stream {stream.name} still needs a snapshot: {begun.stop}"


def _why_not(begun: Begun, request: ArchiveRequest) -> str:
    if request.until is not None:
        return f"it ends at {request.until:%Y-%m-%d %H:%M:%S} UTC, as --until says"
    chosen = within(begun.batches, request.since, None)
    if not any(one.kind is ArchivedKind.START for one in chosen):
        begins = chosen[0].opened_at if chosen else begun.batches[-1].opened_at
        return (
            f"what was replayed begins at {begins:%Y-%m-%d %H:%M:%S} UTC, after the table was "
            f"first read"
        )
    return "files of the archive are missing or damaged"


def _close(opened: OpenPipeline, ready: ReadyStream, revision: int) -> None:
    """The last batch: no rows, the position, and a gap for each record that is held back."""
    gaps = tuple(
        Gap(
            record=str(one.record_id),
            stage=one.stage.value,
            reason=one.message,
            since=one.first_at,
        )
        for one in opened.ledger.failures.list(ready.lane.stream.name, OPEN_FAILURES)
    )
    lane = replace(
        ready.lane, destination=cast("Destination", _WithGaps(ready.lane.destination, gaps))
    )
    empty = ready.source_schema.arrow().empty_table()
    nothing = Changes(
        stream=ready.lane.stream.name,
        schema=ready.source_schema,
        rows=pa.RecordBatch.from_arrays(
            [pa.array([], field.type) for field in empty.schema], schema=empty.schema
        ),
        operations=operations_array(()),
        versions=pa.RecordBatch.from_arrays(
            [pa.array([], pa.int64()) for _ in VERSION_SCHEMA], schema=VERSION_SCHEMA
        ),
        position=ready.state.position or "",
    )
    commit_batch(
        lane,
        nothing,
        kind=BatchKind.REPLAY,
        decision_id=revision,
        position_before=ready.state.position,
    )


class _WithGaps:
    """A destination that tells of records which were held back before it was there."""

    def __init__(self, destination: Destination, gaps: tuple[Gap, ...]) -> None:
        self._destination = destination
        self._gaps = gaps

    def write(self, load: Load, *, probe: bool = False) -> pa.Array:
        return self._destination.write(replace(load, gaps_opened=self._gaps), probe=probe)
