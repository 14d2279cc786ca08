"""The trail of a record: all that the ledger knows of it, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, select

from rowtrail.checkpoints import failure_groups, outcomes, streams
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import (
    BatchState,
    DecisionKind,
    DecisionState,
    FailureState,
    Outcome,
    TrailEntry,
    VersionTuple,
)
from rowtrail.checkpoints.tables import (
    attempts,
    batches,
    decision_records,
    decisions,
    failures,
    prepared_failures,
)

IN_FLIGHT = "in flight"
FAILURE_ENDED = "failure ended"

_CHANGE = (
    failures.c.epoch,
    failures.c.position,
    failures.c.ordinal,
    failures.c.revision,
    failures.c.operation,
)

_BATCH = (batches.c.batch_id, batches.c.opened_at, batches.c.prepared_at)
_IMAGE = (
    failures.c.attempts,
    failures.c.image_note,
    failures.c.extracted.is_(None).label("no_image"),
)

_DETAILS = {
    Outcome.LOADED: "loaded into the target",
    Outcome.FILTERED: "dropped by a transform",
    Outcome.FOLDED: "a later change of the record in the same batch took its place",
    Outcome.SUPERSEDED: "the target already had this version or a newer one; nothing was changed",
}
_ASKED = {
    DecisionKind.RETRY: "retry asked",
    DecisionKind.REPLAY: "replay asked",
    DecisionKind.IGNORE: "ignored",
    DecisionKind.UNIGNORE: "ignore undone",
}
_ENDS = {
    FailureState.LOADED: "the failure ended: the change was loaded",
    FailureState.SUPERSEDED: "the failure ended: a newer change of the record took its place",
}


def trail(connection: Connection, record: RecordId) -> list[TrailEntry]:
    """All entries of a record; of those at the same time, the cause before the effect.

    Raises UnknownError for a stream that the ledger does not know.
    """
    stream_id = streams.require(connection, record.stream).id
    happened = [
        *_outcomes(connection, stream_id, record),
        *_failures(connection, stream_id, record),
    ]
    replays = {entry.version[3] for entry in happened if entry.version and entry.version[3]}
    entries = [*_decisions(connection, stream_id, record, replays), *happened]
    return sorted(entries, key=lambda entry: entry.at)


def _outcomes(connection: Connection, stream_id: int, record: RecordId) -> Iterator[TrailEntry]:
    hits = sorted(
        outcomes.search(connection, stream_id, record),
        key=lambda hit: (hit.batch, hit.found.version),
    )
    numbers = {hit.batch for hit in hits}
    query = select(batches).where(batches.c.id.in_(numbers))
    known = {row.id: row for row in connection.execute(query)} if numbers else {}
    for hit in hits:
        yield _outcome_entry(hit, known[hit.batch])


def _outcome_entry(hit: outcomes.Hit, batch: Row[Any]) -> TrailEntry:
    outcome = Outcome.SUPERSEDED if hit.superseded else hit.found.outcome
    event, detail, at = outcome.name.lower(), _DETAILS[outcome], batch.closed_at
    if batch.state != BatchState.CLOSED:
        event, at = IN_FLIGHT, batch.prepared_at
        detail = f"prepared to be {outcome.name.lower()}; the batch is not closed yet"
    return TrailEntry(
        at=at,
        event=event,
        detail=detail,
        version=hit.found.version,
        operation=hit.found.operation,
        batch_id=batch.batch_id,
        run_id=batch.run_id,
        read_at=batch.opened_at,
        staged_at=batch.prepared_at,
    )


def _failures(connection: Connection, stream_id: int, record: RecordId) -> Iterator[TrailEntry]:
    of_record = (failures.c.stream_id == stream_id, failures.c.key == record.key_bytes())
    tried = (
        select(attempts, *_CHANGE, *_IMAGE, *_BATCH)
        .join(failures, attempts.c.failure_id == failures.c.id)
        .outerjoin(batches, attempts.c.batch == batches.c.id)
        .where(*of_record)
        .order_by(attempts.c.at, attempts.c.failure_id, attempts.c.number)
    )
    yield from map(_attempt_entry, connection.execute(tried))
    ended = (
        select(
            failures,
            batches.c.batch_id.label("ended_batch_id"),
            batches.c.run_id.label("ended_run_id"),
        )
        .join(batches, failures.c.ended_batch == batches.c.id)
        .where(*of_record)
        .order_by(failures.c.id)
    )
    yield from map(_end_entry, connection.execute(ended))
    in_flight = (
        select(prepared_failures, *_BATCH, batches.c.run_id)
        .join(batches, prepared_failures.c.batch == batches.c.id)
        .where(batches.c.stream_id == stream_id, prepared_failures.c.key == record.key_bytes())
        .order_by(prepared_failures.c.number)
    )
    yield from map(_in_flight_entry, connection.execute(in_flight))


def _version(row: Row[Any]) -> VersionTuple:
    return row.epoch, row.position, row.ordinal, row.revision


def _said(row: Row[Any]) -> str:
    named = row.message.startswith(f"{row.error_class}: ")
    why = row.message if named else f"{row.error_class}: {row.message}"
    return f"at stage {row.stage}: {why}"


def _attempt_entry(row: Row[Any]) -> TrailEntry:
    again = f" (attempt {row.number})" if row.number > 1 else ""
    last = row.number == row.attempts
    note = f"; {row.image_note}" if last and row.image_note and row.no_image else ""
    return TrailEntry(
        at=row.at,
        event=row.state,
        detail=f"{row.state} {_said(row)}{again}{note}",
        version=_version(row),
        operation=row.operation,
        batch_id=row.batch_id,
        run_id=row.run_id,
        failure_id=row.failure_id,
        read_at=row.opened_at,
        staged_at=row.prepared_at,
    )


def _end_entry(row: Row[Any]) -> TrailEntry:
    return TrailEntry(
        at=row.ended_at,
        event=FAILURE_ENDED,
        detail=_ENDS[FailureState(row.state)],
        version=_version(row),
        operation=row.operation,
        batch_id=row.ended_batch_id,
        run_id=row.ended_run_id,
        decision_id=row.ended_decision,
        failure_id=row.id,
    )


def _in_flight_entry(row: Row[Any]) -> TrailEntry:
    return TrailEntry(
        at=row.prepared_at,
        event=IN_FLIGHT,
        detail=f"{row.state} {_said(row)}; the batch is not closed yet",
        version=_version(row),
        operation=row.operation,
        batch_id=row.batch_id,
        run_id=row.run_id,
        read_at=row.opened_at,
        staged_at=row.prepared_at,
    )


def _decisions(
    connection: Connection, stream_id: int, record: RecordId, replays: set[int]
) -> Iterator[TrailEntry]:
    """Those that name the record, and those of replays that took it up without naming it."""
    named = select(decision_records.c.decision_id).where(
        decision_records.c.stream_id == stream_id,
        decision_records.c.key == record.key_bytes(),
    )
    of_record = decisions.c.id.in_(named) | decisions.c.id.in_(replays)
    for row in connection.execute(select(decisions).where(of_record).order_by(decisions.c.id)):
        yield from _decision_entries(row)


def _decision_entries(row: Row[Any]) -> Iterator[TrailEntry]:
    kind = DecisionKind(row.kind)
    stage = f", from stage {row.from_stage}" if row.from_stage else ""
    group = f", with group {row.failure_group[: failure_groups.SHOWN]}" if row.failure_group else ""
    if row.origin is not None:
        stage = f", from the {row.origin}"
    reason = f": {row.reason}" if row.reason else ""
    yield TrailEntry(
        at=row.created_at,
        event=_ASKED[kind],
        detail=f"by {row.actor}{group}{stage}{reason}",
        decision_id=row.id,
    )
    if kind in (DecisionKind.RETRY, DecisionKind.REPLAY) and row.finished_at is not None:
        failed = row.state == DecisionState.FAILED
        yield TrailEntry(
            at=row.finished_at,
            event=f"{kind} {'failed' if failed else 'done'}",
            detail=row.result or "",
            decision_id=row.id,
        )
