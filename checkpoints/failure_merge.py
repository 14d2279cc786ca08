"""What the close of a batch does to failures: its ends are applied, its failures become rows.

At most one failure of a record is open, the newest, and none is lost: a failure of the same version
is another attempt at it, an older one ends `superseded`, and a failure that is older than one held
back is recorded as `superseded` at once. Changes that wait behind a failed one (`waiting`) are
beside that rule: they neither supersede nor make another one outdated.

All of it is SQL on sets, so that a batch of which everything failed closes in linear time.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)

from rowtrail.checkpoints.states import BatchKind, FailureState
from rowtrail.checkpoints.tables import Instant, attempts, failures, prepared_ends
from rowtrail.checkpoints.tables import prepared_failures as prepared

_VERSION = ("epoch", "position", "ordinal", "revision")
_COPIED = (
    "key",
    "key_text",
    *_VERSION,
    "operation",
    "stage",
    "error_class",
    "message",
    "fingerprint",
    "code_fingerprint",
    "waits_for",
    "image_note",
    "happened_at",
    "committed",
    "extracted",
    "transformed",
)
_REPLACED = (
    "operation",
    "stage",
    "error_class",
    "message",
    "fingerprint",
    "code_fingerprint",
    "waits_for",
)


def loaded_ends(connection: Connection, batch: int) -> list[tuple[int, bytes]]:
    """Number and key of each end of the batch that says `loaded`."""
    query = select(prepared_ends.c.number, failures.c.key).where(
        prepared_ends.c.batch == batch,
        prepared_ends.c.state == FailureState.LOADED,
        failures.c.id == prepared_ends.c.failure_id,
    )
    return [(row.number, row.key) for row in connection.execute(query)]


def end_as_superseded(connection: Connection, batch: int, numbers: list[int]) -> None:
    """The target had a newer version of these: that is how they end."""
    if numbers:
        chosen = prepared_ends.c.number == bindparam("chosen")
        connection.execute(
            update(prepared_ends)
            .where(prepared_ends.c.batch == batch, chosen)
            .values(state=FailureState.SUPERSEDED),
            [{"chosen": number} for number in numbers],
        )


def apply_ends(connection: Connection, batch: Row[Any], now: datetime) -> None:
    """Brings open failures to the end that the manifest names; ended ones stay as they are."""
    connection.execute(
        update(failures)
        .values(
            state=prepared_ends.c.state,
            ended_at=now,
            ended_batch=batch.id,
            ended_decision=prepared_ends.c.decision_id,
        )
        .where(
            prepared_ends.c.batch == batch.id,
            failures.c.id == prepared_ends.c.failure_id,
            failures.c.stream_id == batch.stream_id,
            failures.c.ended_at.is_(None),
        )
    )


def merge_failures(connection: Connection, batch: Row[Any], now: datetime) -> None:
    """Makes the failures of the manifest rows, by the rules above."""
    _count_repeated(connection, batch, now)
    _insert_new(connection, batch, now)
    _end_older(connection, batch, now)
    _record_attempts(connection, batch, now)


def _version(table: Any) -> Any:
    return tuple_(*(table.c[name] for name in _VERSION))


def _held_back(batch: Row[Any]) -> ColumnElement[bool]:
    """Rows of `failures` that hold back the record of a prepared failure of this batch."""
    return and_(
        prepared.c.batch == batch.id,
        failures.c.stream_id == batch.stream_id,
        failures.c.key == prepared.c.key,
        failures.c.ended_at.is_(None),
    )


def _same_version() -> ColumnElement[bool]:
    return and_(*(failures.c[name] == prepared.c[name] for name in _VERSION))


def _count_repeated(connection: Connection, batch: Row[Any], now: datetime) -> None:
    waits = failures.c.state == FailureState.WAITING
    connection.execute(
        update(failures)
        .values(
            # What is ignored stays ignored; what has failed does not wait again.
            state=case((waits, prepared.c.state), else_=failures.c.state),
            attempts=failures.c.attempts + 1,
            last_at=now,
            run_id=batch.run_id,
            batch=batch.id,
            # An image that stays goes on as it was.
            image_note=case(
                (
                    prepared.c.extracted.is_(None) & failures.c.extracted.is_not(None),
                    failures.c.image_note,
                ),
                else_=prepared.c.image_note,
            ),
            extracted=func.coalesce(prepared.c.extracted, failures.c.extracted),
            transformed=prepared.c.transformed,
            **{name: prepared.c[name] for name in _REPLACED},
        )
        .where(_held_back(batch), _same_version())
    )


def _outdated(batch: Row[Any]) -> ColumnElement[bool]:
    """Prepared failures of which a newer one is in the same batch or held back."""
    other = prepared.alias("other")
    newer_here = exists().where(
        other.c.batch == batch.id,
        other.c.key == prepared.c.key,
        other.c.state == FailureState.FAILED,
        _version(other) > _version(prepared),
    )
    newer_held = exists().where(
        failures.c.stream_id == batch.stream_id,
        failures.c.key == prepared.c.key,
        failures.c.ended_at.is_(None),
        failures.c.state != FailureState.WAITING,
        _version(failures) > _version(prepared),
    )
    return and_(prepared.c.state == FailureState.FAILED, newer_here | newer_held)


def _insert_new(connection: Connection, batch: Row[Any], now: datetime) -> None:
    outdated = _outdated(batch)
    repeated = exists().where(
        failures.c.stream_id == batch.stream_id,
        failures.c.key == prepared.c.key,
        failures.c.ended_at.is_(None),
        _same_version(),
    )
    at = literal(now, Instant)
    # A record that failed again in a newer version is out of order since it first failed.
    since = _of_older(batch, func.min(failures.c.first_at))
    # The row was fetched for another attempt. A change that was captured is the first of its own.
    fetched = batch.kind != BatchKind.CAPTURE
    before = _of_older(batch, func.max(failures.c.attempts)) if fetched else literal(0)
    values = {
        "stream_id": literal(batch.stream_id),
        "state": case((outdated, FailureState.SUPERSEDED), else_=prepared.c.state),
        "attempts": func.coalesce(before, 0) + 1,
        "first_at": func.coalesce(since, at),
        "last_at": at,
        "run_id": literal(batch.run_id),
        "batch": literal(batch.id),
        "ended_at": case((outdated, at)),
        "ended_batch": case((outdated, literal(batch.id))),
        **{name: prepared.c[name] for name in _COPIED},
    }
    rows = select(*values.values()).where(prepared.c.batch == batch.id, ~repeated)
    connection.execute(insert(failures).from_select(list(values), rows.order_by(prepared.c.number)))


def _of_older(batch: Row[Any], value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Of the older changes of the record that are held back; NULL when there are none."""
    return (
        select(value)
        .where(
            failures.c.stream_id == batch.stream_id,
            failures.c.key == prepared.c.key,
            failures.c.ended_at.is_(None),
            _version(failures) < _version(prepared),
        )
        .correlate(prepared)
        .scalar_subquery()
    )


def _end_older(connection: Connection, batch: Row[Any], now: datetime) -> None:
    connection.execute(
        update(failures)
        .values(state=FailureState.SUPERSEDED, ended_at=now, ended_batch=batch.id)
        .where(
            _held_back(batch),
            prepared.c.state == FailureState.FAILED,
            _version(failures) < _version(prepared),
        )
    )


def _record_attempts(connection: Connection, batch: Row[Any], now: datetime) -> None:
    values = {
        "failure_id": failures.c.id,
        "number": failures.c.attempts,
        "at": literal(now, Instant),
        "run_id": literal(batch.run_id),
        "batch": literal(batch.id),
        **{name: prepared.c[name] for name in ("state", "stage", "error_class", "message")},
    }
    rows = select(*values.values()).where(
        prepared.c.batch == batch.id,
        failures.c.stream_id == batch.stream_id,
        failures.c.key == prepared.c.key,
        failures.c.batch == batch.id,
        _same_version(),
    )
    connection.execute(insert(attempts).from_select(list(values), rows))
