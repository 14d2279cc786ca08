"""Failures: changes that are held back, or were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, bindparam, func, or_, select

from rowtrail.checkpoints import failure_groups, streams, tables
from rowtrail.checkpoints.errors import UnknownError
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import (
    HELD_BACK,
    OPEN_FAILURES,
    Failure,
    FailureGroup,
    FailureState,
    HeldBack,
    NewFailure,
    Stage,
)
from rowtrail.checkpoints.store import Store
from rowtrail.checkpoints.tables import failures

# `Failures.list` hides the built-in name inside the class.
FailureList = list[Failure]
GroupList = list[FailureGroup]
HeldBackList = list[HeldBack]
RecordIdList = list[RecordId]

_KEYS_AT_ONCE = 500
_IMAGES = (failures.c.extracted, failures.c.transformed)


class Failures:
    def __init__(self, store: Store) -> None:
        self._store = store

    def list(
        self,
        stream: str | None = None,
        states: Sequence[FailureState] = HELD_BACK,
        record_ids: Sequence[RecordId] | None = None,
        limit: int | None = None,
    ) -> FailureList:
        """Failures in these states, the oldest first; of these records only, if given."""
        query = _failures().where(failures.c.state.in_(states)).order_by(failures.c.id)
        if stream is not None:
            query = query.where(tables.streams.c.name == stream)
        with self._store.read() as connection:
            found = [
                _record(row)
                for part in _of_records(query, record_ids)
                for row in connection.execute(part.limit(limit))
            ]
        if record_ids is not None:
            found.sort(key=lambda failure: failure.id)
        return found[:limit]

    def get(self, failure_id: int) -> Failure:
        """Raises UnknownError."""
        with self._store.read() as connection:
            query = _failures().where(failures.c.id == failure_id)
            return _record(_known(connection.execute(query).one_or_none(), failure_id))

    def image(self, failure_id: int) -> tuple[bytes | None, bytes | None]:
        """The extracted and the transformed row, as they were kept. Raises UnknownError."""
        with self._store.read() as connection:
            query: Select[Any] = select(*_IMAGES).where(failures.c.id == failure_id)
            row = _known(connection.execute(query).one_or_none(), failure_id)
        return row.extracted, row.transformed

    def held_back(self, stream: str) -> HeldBackList:
        """All records of a stream that are held back."""
        with self._store.read() as connection:
            return [
                HeldBack(
                    failure_id=row.id,
                    record_id=RecordId.of_key_text(stream, row.key_text),
                    version=(row.epoch, row.position, row.ordinal, row.revision),
                    state=FailureState(row.state),
                    waits_for=_waits_for(stream, row.waits_for),
                    batch=row.batch,
                    stage=Stage(row.stage),
                )
                for row in connection.execute(_HELD_BACK, {"stream": stream})
            ]

    def counts(self, stream: str) -> dict[FailureState, int]:
        """How many are failed, waiting and ignored now; all three are there."""
        query = (
            select(failures.c.state, func.count())
            .join(tables.streams)
            .where(tables.streams.c.name == stream, failures.c.ended_at.is_(None))
            .group_by(failures.c.state)
        )
        counts = dict.fromkeys(HELD_BACK, 0)
        with self._store.read() as connection:
            counts.update({FailureState(row[0]): row[1] for row in connection.execute(query)})
        return counts

    def records(self, stream: str) -> int:
        """How many records have a change that is failed or waits."""
        query = (
            select(func.count(failures.c.key.distinct()))
            .join(tables.streams)
            .where(tables.streams.c.name == stream, failures.c.ended_at.is_(None))
            .where(failures.c.state.in_(OPEN_FAILURES))
        )
        with self._store.read() as connection:
            return int(connection.scalar(query) or 0)

    def due(
        self, stream: str, waits: Sequence[timedelta], code_fingerprint: str | None, limit: int
    ) -> RecordIdList:
        """Records to be tried again without anybody asking, the longest untried first.

        After its n-th attempt a failed change is due when `waits[n - 1]` has passed; after more
        attempts than that only a person asks for it. It is due at once when the transforms have
        another `code_fingerprint` than those that it failed with. Without `waits` nothing of that
        is due.
        """
        if not waits:
            return []
        now = self._store.now()
        passed = [
            and_(failures.c.attempts == number, failures.c.last_at <= now - wait)
            for number, wait in enumerate(waits, 1)
        ]
        mended = and_(
            failures.c.stage != Stage.EXTRACT,
            failures.c.code_fingerprint.is_distinct_from(code_fingerprint),
        )
        query = (
            select(failures.c.key_text)
            .join(tables.streams)
            .where(
                tables.streams.c.name == stream,
                failures.c.ended_at.is_(None),
                failures.c.state == FailureState.FAILED,
                or_(mended, *passed),
            )
            .group_by(failures.c.key_text)
            .order_by(func.min(failures.c.last_at), func.min(failures.c.id))
            .limit(limit)
        )
        with self._store.read() as connection:
            return [RecordId.of_key_text(stream, text) for text in connection.scalars(query)]

    def groups(
        self, stream: str | None = None, states: Sequence[FailureState] = OPEN_FAILURES
    ) -> GroupList:
        """Failures by cause (stream and fingerprint), the most frequent first."""
        with self._store.read() as connection:
            return failure_groups.groups(connection, stream, states)

    def group(
        self,
        group: str,
        stream: str | None = None,
        states: Sequence[FailureState] = OPEN_FAILURES,
    ) -> FailureGroup:
        """The group whose fingerprint begins so; raises what `failure_groups.find` raises."""
        with self._store.read() as connection:
            found = failure_groups.find(connection, group, stream, states)
            (only,) = failure_groups.groups(connection, found.stream, states, found.fingerprint)
        return only

    def group_of(self, failure: Failure) -> FailureGroup | None:
        """The group of the change's own cause; None where nothing is held back for that cause.

        A change that waits is counted in the group of what it waits for.
        """
        stream = failure.record_id.stream
        with self._store.read() as connection:
            found = failure_groups.groups(connection, stream, HELD_BACK, failure.fingerprint)
        return found[0] if found else None

    def of_group(
        self,
        group: FailureGroup,
        states: Sequence[FailureState] = OPEN_FAILURES,
        limit: int | None = None,
    ) -> FailureList:
        """The changes of a group, the oldest first."""
        members = failure_groups.members(states)
        chosen = select(members.c.id).where(members.c.fingerprint == group.fingerprint)
        query = (
            _failures()
            .where(tables.streams.c.name == group.stream, failures.c.id.in_(chosen))
            .order_by(failures.c.id)
            .limit(limit)
        )
        with self._store.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def oldest(self, stream: str) -> datetime | None:
        """Since when the record is held back that is failed or waits the longest; None: none is."""
        query = (
            select(func.min(failures.c.first_at))
            .join(tables.streams)
            .where(tables.streams.c.name == stream, failures.c.ended_at.is_(None))
            .where(failures.c.state.in_(OPEN_FAILURES))
        )
        with self._store.read() as connection:
            since: datetime | None = connection.scalar(query)
        return since

    def restore(self, failed: Sequence[NewFailure], run_id: str) -> int:
        """Holds back what a target's gaps name, in a ledger that was rebuilt; returns how many.

        Records that are held back already stay as they are. Raises UnknownError for a stream.
        """
        from rowtrail.checkpoints.manifest import failure_values

        now = self._store.now()
        restored = 0
        with self._store.write() as connection:
            for failure in failed:
                stream = streams.require(connection, failure.record_id.stream)
                values = failure_values(failure)
                known = select(failures.c.id).where(
                    failures.c.stream_id == stream.id,
                    failures.c.key == values["key"],
                    failures.c.ended_at.is_(None),
                )
                if connection.scalar(known) is None:
                    _insert_restored(connection, stream.id, failure, values, run_id, now)
                    restored += 1
        return restored


_VERSION = (failures.c.epoch, failures.c.position, failures.c.ordinal, failures.c.revision)
_HELD_BACK = (
    select(
        failures.c.id,
        failures.c.key_text,
        *_VERSION,
        failures.c.state,
        failures.c.waits_for,
        failures.c.batch,
        failures.c.stage,
    )
    .join(tables.streams)
    .where(tables.streams.c.name == bindparam("stream"), failures.c.ended_at.is_(None))
    .order_by(failures.c.id)
)


def _failures() -> Select[Any]:
    columns = [column for column in failures.c if column not in set(_IMAGES)]
    return (
        select(
            *columns,
            failures.c.extracted.is_not(None).label("has_image"),
            tables.streams.c.name.label("stream"),
            tables.batches.c.batch_id,
        )
        .join(tables.streams, failures.c.stream_id == tables.streams.c.id)
        .outerjoin(tables.batches, failures.c.batch == tables.batches.c.id)
    )


def _of_records(query: Select[Any], record_ids: Sequence[RecordId] | None) -> Iterator[Select[Any]]:
    """The query for these records, in parts that hold no more values than databases take."""
    if record_ids is None:
        yield query
        return
    by_stream: dict[str, list[bytes]] = {}
    for record in record_ids:
        by_stream.setdefault(record.stream, []).append(record.key_bytes())
    for stream, keys in by_stream.items():
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = failures.c.key.in_(keys[start : start + _KEYS_AT_ONCE])
            yield query.where(tables.streams.c.name == stream, some)


def _known(row: Row[Any] | None, failure_id: int) -> Row[Any]:
    if row is None:
        raise UnknownError(
            f"The ledger knows no failure {failure_id}. `rowtrail failures` lists what it knows."
        )
    return row


def _insert_restored(
    connection: Connection,
    stream_id: int,
    failure: NewFailure,
    values: dict[str, Any],
    run_id: str,
    now: Any,
) -> None:
    result = connection.execute(
        failures.insert().values(
            stream_id=stream_id,
            attempts=1,
            first_at=failure.since or now,
            last_at=now,
            run_id=run_id,
            **values,
        )
    )
    (failure_id,) = result.inserted_primary_key or (None,)
    said = {name: values[name] for name in ("state", "stage", "error_class", "message")}
    connection.execute(
        tables.attempts.insert().values(
            failure_id=failure_id, number=1, at=failure.since or now, run_id=run_id, **said
        )
    )


def _waits_for(stream: str, key_text: str | None) -> RecordId | None:
    return None if key_text is None else RecordId.of_key_text(stream, key_text)


def _record(row: Row[Any]) -> Failure:
    return Failure(
        id=row.id,
        record_id=RecordId.of_key_text(row.stream, row.key_text),
        operation=row.operation,
        version=(row.epoch, row.position, row.ordinal, row.revision),
        state=FailureState(row.state),
        stage=Stage(row.stage),
        error_class=row.error_class,
        message=row.message,
        fingerprint=row.fingerprint,
        code_fingerprint=row.code_fingerprint,
        waits_for=_waits_for(row.stream, row.waits_for),
        attempts=row.attempts,
        first_at=row.first_at,
        last_at=row.last_at,
        run_id=row.run_id,
        batch_id=row.batch_id,
        has_image=bool(row.has_image),
        image_note=row.image_note,
        happened_at=row.happened_at,
        committed=bool(row.committed),
    )
