"""Makes a stream ready: its epoch, its target table, and all that its batches share."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from rowtrail.checkpoints.states import StreamRecord, StreamState
from rowtrail.connectors.base import (
    Destination,
    ManagesCapture,
    PlansTables,
    ReadState,
    StreamSpec,
    Target,
)
from rowtrail.connectors.errors import ConfigurationError, PositionLostError
from rowtrail.connectors.schema import TableSchema
from rowtrail.pipelines.archive import archiver
from rowtrail.pipelines.breakers import BreakerCount
from rowtrail.pipelines.commit import Lane
from rowtrail.pipelines.contract import NO_TERMS, Terms
from rowtrail.pipelines.definition import Breakers, PipelineDefinition, StreamDefinition
from rowtrail.pipelines.image_keys import ImageKeys
from rowtrail.pipelines.images import Keeping
from rowtrail.pipelines.known import HeldRecords, StreamKnown
from rowtrail.pipelines.opening import OpenPipeline
from rowtrail.pipelines.redaction import Redaction, redaction_of
from rowtrail.pipelines.shapes import drift_words, shape_of
from rowtrail.pipelines.shared_log import acknowledge
from rowtrail.pipelines.stages import stage
from rowtrail.pipelines.validation import validation_of


@dataclass(frozen=True, kw_only=True)
class ReadyStream:
    """A lane, and what its source needs to read or fetch."""

    lane: Lane
    source_schema: TableSchema
    state: ReadState  # with the position that the ledger has now


def make_ready(
    opened: OpenPipeline,
    stream: StreamDefinition,
    run_id: str,
    breakers: Breakers,
    *,
    may_alter: bool = True,
) -> ReadyStream:
    """Describes the source, creates or widens the target table, issues a read number.

    Raises ConfigurationError for a schema that cannot be mapped, PositionLostError for a target
    table that is gone with its rows, and what the connectors raise.
    """
    record = current_record(opened, stream)
    spec = stream.source_spec()
    if record.position is None:
        _refuse_problems(opened, spec)
    source_schema = opened.source.describe(spec)
    shape = shape_of(stream, source_schema, opened.lock)
    for one in shape.drift:
        opened.reporter.note(f"{stream.name}: {drift_words(stream, one)}.")
    schema = shape.target
    redaction = redaction_of(stream, source_schema, schema)
    target = Target(stream=stream.name, table=stream.target, schema=schema, deletes=stream.deletes)
    there = opened.destination.describe(stream.target)
    if there is None and record.position is not None:
        raise PositionLostError(
            f"Table {stream.target}, which stream {stream.name} has filled, is gone from the "
            f"target. Make it again with all its rows: rowtrail run --resnapshot {stream.name}"
        )
    missing = [] if there is None else [n for n in schema.names if n not in there.schema.names]
    if may_alter:
        for statement in opened.destination.alter(target):
            opened.reporter.note(f"{stream.name}: {statement}")
        if missing and record.position is not None:
            opened.reporter.note(_older_rows_lack(stream.name, missing, source_schema))
    else:
        _refuse_changes(opened.destination, target)
    read_number = opened.ledger.streams.next_read(stream.name)
    held = HeldRecords(opened.ledger, stream.name)
    images = keeping_of(opened.definition, stream, redaction)
    stages = partial(
        stage,
        steps=stream.transforms,
        terms=shape.terms,
        redaction=redaction,
        validation=validation_of(stream, source_schema, schema),
        keep_versions=stream.keeps_versions,
    )
    lane = Lane(
        stream=stream,
        ledger=opened.ledger,
        destination=opened.destination,
        target=target,
        run_id=run_id,
        epoch=record.epoch,
        read_number=read_number,
        held=held,
        breakers=BreakerCount(stream.name, breakers, 0 if there is None else there.live_rows),
        acknowledge=partial(acknowledge, opened, stream),
        faults=opened.faults,
        stage=stages,
        stage_chosen=partial(stages, whole=False),
        archive=archiver(opened, stream, run_id, read_number),
        patience=opened.patience,
        code_fingerprint=code_fingerprint(stream, shape.terms),
        images=images,
    )
    state = ReadState(
        epoch=record.epoch,
        position=record.position,
        read_number=read_number,
        known=StreamKnown(opened.destination, opened.ledger, target, held),
        fresh=there is None,
        asked_at=opened.opened_at,
    )
    return ReadyStream(lane=lane, source_schema=source_schema, state=state)


def _refuse_changes(destination: Destination, target: Target) -> None:
    """A dry run tries its rows on the table as it is."""
    plan = destination.plan(target) if isinstance(destination, PlansTables) else []
    if plan:
        raise ConfigurationError(
            f"Table {target.table} has yet to be made or changed, which a dry run does not do: "
            f"{'; '.join(plan)}. Run `rowtrail run {target.stream}` first."
        )


def keeping_of(
    definition: PipelineDefinition, stream: StreamDefinition, redaction: Redaction
) -> Keeping:
    """How the stream's rows are kept when they fail; raises ConfigurationError."""
    return Keeping(
        wanted=stream.capture_images,
        most_bytes=stream.image_bytes,
        redaction=redaction,
        keys=ImageKeys(definition.image_keys) if definition.image_keys else None,
    )


def _older_rows_lack(stream: str, columns: Sequence[str], source: TableSchema) -> str:
    """What fills them: a column that a transform makes has no rows to be chosen by."""
    words = f"{stream}: rows that were loaded before have nothing in the new column"
    commands = [
        f"rowtrail stream backfill {stream} {shlex.quote(name)}"
        if name in source.names
        else f"rowtrail run --resnapshot {stream}"
        for name in columns
    ]
    return (
        f"{words} {', '.join(columns)} until they change. To fill it for all of them: "
        f"{'; '.join(dict.fromkeys(commands))}"
    )


def _refuse_problems(opened: OpenPipeline, spec: StreamSpec) -> None:
    """Before the first read of an epoch: a key that is not unique would lose rows silently."""
    problems = [problem for problem in opened.source.preflight([spec]) if problem.fatal]
    if problems:
        raise ConfigurationError(
            " ".join(f"Stream {spec.name}: {one.message} {one.remedy}" for one in problems)
        )


def current_record(opened: OpenPipeline, stream: StreamDefinition) -> StreamRecord:
    """The stream in the ledger; in a new epoch when it is new, or its capture or target is."""
    record = opened.ledger.streams.get(stream.name)
    now = (stream.capture.value, stream.target)
    if record is not None:
        if (record.capture, record.target) == now:
            return record
        changed = [
            f"{what} changed from {before} to {after}"
            for what, before, after in (
                ("capture", record.capture, stream.capture.value),
                ("target", record.target, stream.target),
            )
            if before != after
        ]
        opened.reporter.note(f"{stream.name}: {', '.join(changed)}; the table is read anew.")
    return opened.ledger.streams.begin_epoch(stream.name, *now)


def code_fingerprint(stream: StreamDefinition, terms: Terms = NO_TERMS) -> str | None:
    """Of the contract's terms, all transforms in their order and all checks; None without any."""
    parts = [
        *([terms.text] if terms else []),
        *(step.fingerprint for step in stream.transforms),
        *(one.fingerprint for one in (*stream.checks, *stream.checks_where_found)),
        *(suite.fingerprint for suite in stream.expectations),
    ]
    if not parts:
        return None
    text = "\0".join(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def skip_reason(record: StreamRecord | None) -> str | None:
    """Why a stream is not to be run now; None when it may."""
    if record is None:
        return None
    if record.state is StreamState.PAUSED:
        return f"paused; `rowtrail stream resume {record.name}` lets it go on"
    if record.state is StreamState.NEEDS_SNAPSHOT:
        return f"needs snapshot: {record.state_reason}"
    return None


def install_capture(opened: OpenPipeline, streams: Sequence[StreamDefinition]) -> None:
    """Makes what captures need at the source when the pipeline allows a run to do so."""
    if not opened.definition.install_capture or not isinstance(opened.source, ManagesCapture):
        return
    specs = [stream.source_spec() for stream in streams]
    plan = opened.source.capture_plan([spec for spec in specs if _can_be_read(opened, spec)])
    for statement in plan:
        opened.reporter.note(f"at the source: {statement}")
    if plan:
        opened.source.execute(plan)


def _can_be_read(opened: OpenPipeline, spec: StreamSpec) -> bool:
    """A stream whose table is gone says so when it is read, and does not stop the others."""
    try:
        opened.source.describe(spec)
    except ConfigurationError:
        return False
    return True
