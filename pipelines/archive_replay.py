"""Rebuilds targets from the archive alone: no query reaches the source.

Where the target has the stream's rows, the batches of the archive are replayed: each of their rows
goes through today's transforms and the fenced merge, and wins over itself, never over a newer one.
Where it lacks them (a new or an older target, another table, a new ledger) it is rebuilt: until
that has come to its end the stream needs a snapshot and no receipt tells a position, so that
whatever ends it half-way, no run takes the target for complete. The last batch of a rebuild is
empty: it has the position, and the records that are held back as gaps. From there the next run
goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa

from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.selections import Origin
from rowtrail.checkpoints.states import (
    BatchKind,
    Decision,
    DecisionKind,
    DecisionState,
    FailureState,
    RunKind,
    RunState,
)
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.errors import (
    OwnershipError,
    RowtrailError,
    StopError,
)
from rowtrail.pipelines.archive import Archive, BatchArchiver, open_archive
from rowtrail.pipelines.archive_format import restamped
from rowtrail.pipelines.archive_lineage import is_whole, within
from rowtrail.pipelines.archive_names import (
    ArchivedBatch,
    ArchivedKind,
    cut_off,
)
from rowtrail.pipelines.archive_rebuild import Begun, begin, finish
from rowtrail.pipelines.archive_source import ArchiveSource, in_shape, only_records, rows_of
from rowtrail.pipelines.archive_spare import spare_outdated
from rowtrail.pipelines.commit import Faults, commit_batch, no_faults
from rowtrail.pipelines.definition import PipelineDefinition, StreamDefinition
from rowtrail.pipelines.lane import ReadyStream, make_ready
from rowtrail.pipelines.opening import (
    OpenPipeline,
    existing_ledger,
    open_pipeline,
    opened_already,
    recover_streams,
    settle_unfinished,
)
from rowtrail.pipelines.patterns import known_targets, resolve_known
from rowtrail.pipelines.preview import preview_batch
from rowtrail.pipelines.progress import Reporter, Silent
from rowtrail.pipelines.requests import actor
from rowtrail.pipelines.results import BatchResult, Counts


@dataclass(frozen=True, kw_only=True)
class ArchiveRequest:
    """What is to be replayed. Times (UTC, aware) are those at which batches were read."""

    streams: tuple[str, ...] = ()  # none: all that the pipeline has
    record_ids: tuple[RecordId, ...] = ()  # none: all records; else those of the one stream
    since: datetime | None = None
    until: datetime | None = None  # exclusively
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class ArchiveReplayed:
    """What became of one stream."""

    stream: str
    decision_id: int | None  # None for a dry run: nothing was noted
    text: str
    counts: Counts
    begins_at: datetime  # the oldest batch in the archive; before it nothing can be rebuilt
    rebuilt: bool  # the target lacked the stream's rows, and is being filled anew
    lost: tuple[str, ...] = ()  # files that are missing or damaged, with their batch and records
    failed: tuple[str, ...] = ()  # records that failed (again), and no later batch brought them
    needs_snapshot: str | None = None  # why the target is not complete after a rebuild

    @property
    def complete(self) -> bool:
        return not (self.lost or self.failed or self.needs_snapshot)


def replay_archive(
    definition: PipelineDefinition,
    request: ArchiveRequest,
    *,
    dry_run: bool = False,
    reporter: Reporter | None = None,
    faults: Faults = no_faults,
) -> list[ArchiveReplayed]:
    """Replays streams from the archive, one after another.

    Needs the lease itself: LeaseHeldError is raised while a run is under way. A ledger that is lost
    is made anew, if the target is new too. Raises ConfigurationError where the pipeline has no
    archive or the archive nothing of a stream; the other streams are replayed all the same.
    """
    archive = open_archive(definition)
    ledger = _ledger(definition, archive, dry_run=dry_run)
    with closing(ledger):
        known = resolve_known(
            definition, {**_archived(definition, archive), **known_targets(ledger)}
        )
        known = replace(known, patterns=())
        chosen = tuple(map(known.stream, dict.fromkeys(request.streams))) or known.streams
        source = ArchiveSource()
        with open_pipeline(
            known,
            reporter or Silent(),
            faults,
            opened_already(ledger),
            source_opener=lambda url: source,
        ) as opened:
            for note in opened.patience.retry(partial(recover_streams, opened)):
                opened.reporter.note(note)
            _give_up_cut_off(ledger)
            return _replay_all(opened, archive, source, chosen, request, dry_run=dry_run)


def _ledger(definition: PipelineDefinition, archive: Archive, *, dry_run: bool) -> Ledger:
    """The pipeline's; a new one in the place of one that is lost only where there is something to
    fill it with."""
    if dry_run or not archive.all():
        return existing_ledger(definition)
    return open_ledger(definition.ledger, definition.name)


def _archived(definition: PipelineDefinition, archive: Archive) -> dict[str, str]:
    """The streams of patterns that the archive knows, with their targets: of a lost ledger."""
    found = {}
    for batches in archive.all().values() if definition.patterns else ():
        for batch in sorted(batches, key=lambda one: one.opened_at, reverse=True):
            try:
                facts = archive.read(batch)[1]
            except RowtrailError:
                continue
            found[facts.stream] = facts.target
            break
    return found


def _give_up_cut_off(ledger: Ledger) -> None:
    """A replay whose process died is asked for anew, not taken up by itself."""
    for decision in ledger.decisions.pending():
        if decision.origin is Origin.ARCHIVE:
            ledger.decisions.finish(decision.id, DecisionState.FAILED, cut_off(decision))


def _replay_all(
    opened: OpenPipeline,
    archive: Archive,
    source: ArchiveSource,
    streams: Sequence[StreamDefinition],
    request: ArchiveRequest,
    *,
    dry_run: bool,
) -> list[ArchiveReplayed]:
    run_id = "dry run" if dry_run else opened.ledger.runs.start(RunKind.REQUEST)
    results: list[ArchiveReplayed] = []
    errors: list[RowtrailError] = []
    for stream in streams:
        work = _Work(opened, archive, source, stream, request, run_id, dry_run)
        try:
            results.append(work.run())
        except OwnershipError:
            raise
        except RowtrailError as error:
            work.failed(error)
            errors.append(error)
    if dry_run:
        if errors:
            raise errors[0]
        return results
    if errors:
        opened.ledger.runs.finish(run_id, RunState.FAILED, str(errors[0]))
        raise errors[0]
    whole = all(one.complete for one in results)
    opened.ledger.runs.finish(run_id, RunState.COMPLETE if whole else RunState.COMPLETE_EXCEPT)
    return results


class _Work:
    """The replay of one stream."""

    def __init__(
        self,
        opened: OpenPipeline,
        archive: Archive,
        source: ArchiveSource,
        stream: StreamDefinition,
        request: ArchiveRequest,
        run_id: str,
        dry_run: bool,
    ) -> None:
        self._opened = opened
        self._archive = archive
        self._source = source
        self._stream = stream
        self._request = request
        self._run_id = run_id
        self._dry_run = dry_run
        self._decision: Decision | None = None
        self._fetched = 0

    def run(self) -> ArchiveReplayed:
        """Raises what the stages and the target raise, and ConfigurationError."""
        opened, stream, request = self._opened, self._stream, self._request
        begun = begin(
            opened,
            self._archive,
            self._source,
            stream,
            dry_run=self._dry_run,
            partly=bool(request.record_ids),
        )
        breakers = opened.definition.breakers
        ready = make_ready(opened, stream, self._run_id, breakers, may_alter=not self._dry_run)
        revision = self._note()
        ready = replace(ready, lane=replace(ready.lane, replaces=stream.keeps_versions))
        ready = self._spared(ready, begun)
        chosen = self._chosen(begun)
        position = None if begun.rebuild else ready.state.position
        results: list[BatchResult] = []
        lost = list(begun.lost_within(request.since, request.until))
        act = preview_batch if self._dry_run else commit_batch
        for batch in chosen:
            opened.lease.check()
            try:
                changes, _ = self._archive.read(batch)
                changes = self._prepared(in_shape(changes, ready.source_schema), begun, ready)
            except StopError as error:
                lost.append(begun.damaged(batch, str(error)))
                continue
            if not len(changes) and not changes.rejected:
                continue
            result = act(
                ready.lane,
                self._restamped(changes, revision),
                kind=BatchKind.REPLAY,
                decision_id=revision,
                position_before=position,
            )
            results.append(result)
            opened.reporter.batch_done(stream.name, result)
        whole = request.until is None and is_whole(chosen, [one.sequence for one in lost])
        missing = None
        if begun.rebuild:
            missing = finish(opened, ready, begun, revision, chosen if whole else None, request)
        failed = self._still_failed(results, ready)
        return self._told(begun, chosen, results, failed, [str(one) for one in lost], missing)

    def _still_failed(self, results: Sequence[BatchResult], ready: ReadyStream) -> tuple[str, ...]:
        """The records that failed, without those that a later batch brought after all."""
        failed = dict.fromkeys(record for one in results for record in one.failed_records)
        if self._dry_run:
            return tuple(failed)
        held = {
            str(one.record_id) for one in ready.lane.held.all() if one.state is FailureState.FAILED
        }
        return tuple(record for record in failed if record in held)

    def failed(self, error: RowtrailError) -> None:
        """Lets the ledger know that the replay did not come to its end."""
        settle_unfinished(self._opened)
        if self._decision is not None and not self._dry_run:
            self._opened.ledger.decisions.finish(
                self._decision.id, DecisionState.FAILED, str(error)
            )

    def _note(self) -> int:
        """The number that the replayed rows get as their revision."""
        if self._dry_run:
            self._fetched = 2**62 + 1
            return 2**62
        self._decision = self._opened.ledger.decisions.request(
            DecisionKind.REPLAY,
            self._stream.name,
            self._request.record_ids,
            origin=Origin.ARCHIVE,
            actor=actor(),
            reason=self._request.reason,
        )
        return self._decision.id

    def _spared(self, ready: ReadyStream, begun: Begun) -> ReadyStream:
        """Its batches are marked as copies in the archive, and old failures open no gaps."""
        # Among the batches are some of a few records that were retried.
        lane = replace(ready.lane, stage=ready.lane.stage_chosen)
        lane = replace(lane, stage=spare_outdated(lane))
        if isinstance(lane.archive, BatchArchiver):
            position = ready.state.position
            keeper = replace(lane.archive, kind=ArchivedKind.COPY)
            lane = replace(
                lane, archive=lambda changes, batch, _: keeper(_nothing(changes), batch, position)
            )
        return replace(ready, lane=lane)

    def _chosen(self, begun: Begun) -> list[ArchivedBatch]:
        """The files to replay. Of a target that has its rows, what was fetched after `until` too:
        else the row that was captured before would win over it."""
        request = self._request
        chosen = within(begun.batches, request.since, request.until)
        if not begun.rebuild and request.until is not None:
            later = within(begun.batches, request.until, None)
            chosen += [
                one for one in later if one.kind in (ArchivedKind.RETRY, ArchivedKind.REPLAY)
            ]
        if request.record_ids:
            chosen = self._with_records(chosen)
        return chosen

    def _with_records(self, batches: Sequence[ArchivedBatch]) -> list[ArchivedBatch]:
        """Those that may hold the records: the ledger knows of which batches they are."""
        ledger = self._opened.ledger
        theirs = {entry.batch_id for one in self._request.record_ids for entry in ledger.trail(one)}
        known = {one.batch_id for one in ledger.batches.recent(self._stream.name, limit=2**31)}
        return [one for one in batches if one.batch_id in theirs or one.batch_id not in known]

    def _prepared(self, changes: Changes, begun: Begun, ready: ReadyStream) -> Changes:
        """Without the records that are not meant, and those that a person ignores."""
        if changes.stream != self._stream.name:
            raise StopError(f"It holds changes of stream {changes.stream}.")
        if self._request.record_ids:
            changes = only_records(changes, self._request.record_ids)
        if not begun.rebuild:
            # What could not be represented then is known as failed, and cannot be now.
            changes = replace(changes, rejected=())
        return _without_ignored(changes, ready)

    def _restamped(self, changes: Changes, revision: int) -> Changes:
        """What was fetched gets a number of its own, above that of what was captured. In a history
        each version keeps its own, and is replaced."""
        if self._stream.keeps_versions:
            return changes
        if pa.compute.any(pa.compute.greater(changes.versions.column(3), 0)).as_py():
            if not self._dry_run:
                self._fetched = self._opened.ledger.decisions.number()
            return restamped(changes, revision, self._fetched)
        return restamped(changes, revision, revision)

    def _told(
        self,
        begun: Begun,
        chosen: Sequence[ArchivedBatch],
        results: Sequence[BatchResult],
        failed: tuple[str, ...],
        lost: list[str],
        missing: str | None,
    ) -> ArchiveReplayed:
        counts = sum((one.counts for one in results), Counts())
        text = _words(begun, chosen, counts, len(failed), dry_run=self._dry_run)
        if self._decision is not None:
            self._opened.ledger.decisions.finish(
                self._decision.id,
                DecisionState.DONE,
                " ".join([text, *lost, missing or ""]).strip(),
            )
        return ArchiveReplayed(
            stream=self._stream.name,
            decision_id=None if self._decision is None else self._decision.id,
            text=text,
            counts=counts,
            begins_at=begun.batches[0].opened_at,
            rebuilt=begun.rebuild,
            lost=tuple(lost),
            failed=failed,
            needs_snapshot=missing,
        )


def _nothing(changes: Changes) -> Changes:
    return replace(changes.take(pa.array([], pa.int64())), rejected=())


def _without_ignored(changes: Changes, ready: ReadyStream) -> Changes:
    """A decision of a person is not undone by a replay of everything."""
    ignored = {
        one.record_id: tuple(one.version[:3])
        for one in ready.lane.held.all()
        if one.state is FailureState.IGNORED
    }
    if not ignored:
        return changes
    rejected = tuple(
        one
        for one in changes.rejected
        if ignored.get(RecordId(changes.stream, one.key)) != one.version[:3]  # type: ignore[arg-type]
    )
    places = [changes.versions.column(part) for part in range(3)]
    out = {
        row
        for row, record in rows_of(changes, list(ignored)).items()
        if tuple(place[row].as_py() for place in places) == ignored[record]
    }
    if out:
        stays = [row for row in range(len(changes)) if row not in out]
        changes = changes.take(pa.array(stays, pa.int64()))
    return replace(changes, rejected=rejected)


def _words(
    begun: Begun, chosen: Sequence[ArchivedBatch], counts: Counts, failed: int, *, dry_run: bool
) -> str:
    failing = (
        "failed" if failed >= counts.failed else f"failed on the way, {failed:,} of them still"
    )
    parts = [
        f"{count:,} {word}"
        for word, count in (
            ("loaded", counts.loaded),
            ("deleted", counts.deleted),
            ("filtered", counts.filtered),
            ("folded", counts.folded),
            ("superseded", counts.superseded),
            (failing, counts.failed),
        )
        if count
    ]
    what = "rebuilt" if begun.rebuild else "replay"
    would = "would be: " if dry_run else ""
    span = f"of {len(chosen):,} batches"
    if chosen:
        span += f", read from {_time(chosen[0].opened_at)} to {_time(chosen[-1].opened_at)}"
    return (
        f"{what} from the archive: {would}{', '.join(parts) or 'no change'}; {span}. The archive "
        f"begins at {_time(begun.batches[0].opened_at)}; before that nothing can be rebuilt."
    )


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
