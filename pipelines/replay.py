"""Retry and replay: takes single records up again, without touching any other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import (
    OPEN_FAILURES,
    BatchKind,
    Decision,
    DecisionKind,
    Failure,
    Stage,
    StreamState,
)
from rowtrail.connectors.changes import VERSION_SCHEMA, Changes, Operation, operations_array
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.commit import commit_batch
from rowtrail.pipelines.definition import Breakers
from rowtrail.pipelines.images import from_image
from rowtrail.pipelines.isolation import Budget
from rowtrail.pipelines.lane import ReadyStream, make_ready
from rowtrail.pipelines.opening import OpenPipeline
from rowtrail.pipelines.preview import preview_batch
from rowtrail.pipelines.results import BatchResult, Counts
from rowtrail.pipelines.stages import Staged

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What became of the records of one decision."""

    counts: Counts
    text: str  # in plain words, with the image that was used
    failed: tuple[str, ...] = ()  # the records that failed again


@dataclass(frozen=True, kw_only=True)
class _Portion:
    """Records that go on from the same place."""

    changes: Changes
    origin: str  # words for the text: which image was used
    staged: Staged | None = None  # where the transforms need not run again


def carry_out(
    opened: OpenPipeline, decision: Decision, run_id: str, *, dry_run: bool = False
) -> Replayed:
    """Retries or replays the records of a decision, in batches of their own.

    A retry goes on from the stage that failed with the captured image, or from the transform when
    its code has changed since; `from_stage` says otherwise. A replay fetches the row as it is now.
    With `dry_run` the stages run and the load is tried and rolled back; nothing is written.
    Raises ConfigurationError where `must_wait` gives a reason.
    """
    reason = must_wait(opened, decision)
    if reason is not None:
        raise ConfigurationError(reason)
    stream = opened.definition.stream(decision.stream)
    ready = make_ready(opened, stream, run_id, _breakers(opened, decision))
    act = preview_batch if dry_run else commit_batch
    results: list[BatchResult] = []
    origins: list[str] = []
    for portion in _portions(opened, ready, decision):
        lane = ready.lane
        if portion.staged is not None:
            lane = replace(lane, stage=_already(portion.staged))
        result = act(
            lane,
            portion.changes,
            kind=_KINDS[decision.kind],
            decision_id=decision.id,
            position_before=ready.state.position,
        )
        results.append(result)
        origins.append(portion.origin)
    counts = sum((result.counts for result in results), Counts())
    return Replayed(
        counts=counts,
        text=_words(decision, counts, origins, dry_run=dry_run),
        failed=tuple(record for result in results for record in result.failed_records),
    )


def must_wait(opened: OpenPipeline, decision: Decision) -> str | None:
    """Why single records of the stream cannot be taken up before its next run; None if they can.

    A row that is fetched is stamped with the position that the stream has applied. Without one its
    version could be above that of a change which is read later, and hide that change.
    """
    stream = opened.definition.stream(decision.stream)
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


def _portions(opened: OpenPipeline, ready: ReadyStream, decision: Decision) -> Iterator[_Portion]:
    """The records of the decision, by where each goes on, at most a batch at a time."""
    if decision.kind is DecisionKind.REPLAY and decision.from_stage in (None, Stage.EXTRACT):
        yield from _fetched(opened, ready, decision.record_ids, decision.id)
        return
    failures = opened.ledger.failures.list(
        stream=decision.stream,
        states=OPEN_FAILURES,
        record_ids=decision.record_ids or None,
    )
    images = _Images(opened, ready, decision.from_stage)
    to_fetch: list[RecordId] = []
    from_transform: list[tuple[Failure, pa.RecordBatch]] = []
    from_load: list[tuple[Failure, pa.RecordBatch, pa.RecordBatch]] = []
    for failure in failures:
        extracted = images.extracted(failure)
        if extracted is None:
            to_fetch.append(failure.record_id)
            continue
        transformed = images.transformed(failure)
        if transformed is None:
            from_transform.append((failure, extracted))
        else:
            from_load.append((failure, extracted, transformed))
    size = ready.lane.stream.batch_rows
    for some in _chunks(from_transform, size):
        changes = _from_images(ready, [f for f, _ in some], [image for _, image in some])
        yield _Portion(changes=changes, origin="the captured image")
    for part in _chunks(from_load, size):
        changes = _from_images(ready, [f for f, _, _ in part], [image for _, image, _ in part])
        rows = _one_batch([image for _, _, image in part])
        yield _Portion(changes=changes, origin="the transformed image", staged=_staged(rows))
    yield from _fetched(opened, ready, to_fetch, decision.id)


class _Images:
    """Finds the images that may be used: of today's shape, and as the decision wants them."""

    def __init__(self, opened: OpenPipeline, ready: ReadyStream, from_stage: str | None) -> None:
        self._ledger = opened.ledger
        self._source = ready.source_schema.arrow()
        self._target = ready.lane.target.schema.arrow()
        self._code = ready.lane.code_fingerprint
        self._from_stage = from_stage

    def extracted(self, failure: Failure) -> pa.RecordBatch | None:
        """None where the row must be fetched instead."""
        if self._from_stage == Stage.EXTRACT or failure.stage is Stage.EXTRACT:
            return None
        image = self._ledger.failures.image(failure.id)[0]
        row = None if image is None else from_image(image)
        # An image of an older shape would bring NULL where the source has a value.
        return row if row is not None and row.schema.equals(self._source) else None

    def transformed(self, failure: Failure) -> pa.RecordBatch | None:
        """None where the transforms must run (again)."""
        unchanged = failure.code_fingerprint == self._code
        if failure.stage is not Stage.LOAD or self._from_stage is not None or not unchanged:
            return None
        image = self._ledger.failures.image(failure.id)[1]
        row = None if image is None else from_image(image)
        return row if row is not None and row.schema.equals(self._target) else None


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _one_batch(rows: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(rows).combine_chunks().to_batches()[0]


def _from_images(
    ready: ReadyStream, failures: Sequence[Failure], images: Sequence[pa.RecordBatch]
) -> Changes:
    columns = zip(*(failure.version for failure in failures), strict=True)
    return Changes(
        stream=ready.lane.stream.name,
        schema=ready.source_schema,
        rows=_one_batch(images),
        operations=operations_array(Operation(failure.operation) for failure in failures),
        versions=pa.RecordBatch.from_arrays(
            [pa.array(column, pa.int64()) for column in columns], schema=VERSION_SCHEMA
        ),
        position=ready.state.position or "",
    )


def _staged(rows: pa.RecordBatch) -> Staged:
    none = pa.array([], pa.int64())
    return Staged(
        rows=rows,
        kept=pa.array(np.arange(len(rows), dtype=np.int64)),
        dropped=none,
        dropped_by=(),
        deleted=none,
        folded=none,
        failed=(),
    )


def _already(staged: Staged) -> Callable[[Changes, Budget], Staged]:
    """A stage step for rows that went through the transforms when they failed to load."""

    def stage(changes: Changes, budget: Budget) -> Staged:
        return staged

    return stage


def _fetched(
    opened: OpenPipeline, ready: ReadyStream, ids: Sequence[RecordId], revision: int
) -> Iterator[_Portion]:
    """The rows as they are at the source now; the decision's number makes them win over today's."""
    spec = ready.lane.stream.source_spec()
    for some in _chunks(ids, spec.batch_rows):
        keys = _key_batch(ready, some)
        changes = opened.source.fetch(spec, keys, ready.state)
        yield _Portion(changes=changes.with_revision(revision), origin="the row at the source")


def _key_batch(ready: ReadyStream, ids: Sequence[RecordId]) -> pa.RecordBatch:
    fields = ready.source_schema.arrow_key()
    try:
        columns = [
            pa.array([record_id.key[index] for record_id in ids], field.type)
            for index, field in enumerate(fields)
        ]
    except (pa.ArrowException, IndexError, TypeError, ValueError, OverflowError) as error:
        names = ", ".join(f"{field.name} ({field.type})" for field in fields)
        raise ConfigurationError(
            f"A record id of {ready.lane.stream.name} does not fit its key {names}: {error}. "
            f"Such a row can only be mended at the source; its change is then read as usual."
        ) from error
    return pa.RecordBatch.from_arrays(columns, schema=fields)


def _words(decision: Decision, counts: Counts, origins: Sequence[str], *, dry_run: bool) -> str:
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
