"""Streams: how far each has been read, and in what state it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, or_, select

from rowtrail.checkpoints import pages, tables
from rowtrail.checkpoints.errors import LedgerError, UnknownError
from rowtrail.checkpoints.states import StreamRecord, StreamState
from rowtrail.checkpoints.store import Store
from rowtrail.checkpoints.tables import failures, streams

if TYPE_CHECKING:
    import pyarrow as pa


class Streams:
    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, name: str) -> StreamRecord | None:
        with self._store.read() as connection:
            row = find(connection, name)
        return None if row is None else _record(row)

    def all(self) -> list[StreamRecord]:
        """All streams by name."""
        with self._store.read() as connection:
            return [_record(row) for row in connection.execute(select(streams).order_by("name"))]

    def begin_epoch(self, name: str, capture: str, target: str) -> StreamRecord:
        """Makes the stream, or raises its epoch by one.

        The position is None afterwards, the state active, and pages of earlier reads are gone.
        """
        with self._store.write() as connection:
            row = find(connection, name)
            if row is None:
                _insert(connection, self._store, name, capture, target, 1)
            else:
                pages.drop(connection, row.id)
                self._update(
                    connection,
                    row.id,
                    capture=capture,
                    target=target,
                    epoch=row.epoch + 1,
                    position=None,
                    watermark=None,
                    state=StreamState.ACTIVE,
                    state_reason=None,
                )
            return _record(require(connection, name))

    def next_read(self, name: str) -> int:
        """Issues the number of the next read: above all issued before."""
        with self._store.write(durable=False) as connection:
            row = require(connection, name)
            number = row.read_number + 1
            self._update(connection, row.id, read_number=number)
        return int(number)

    def set_state(self, name: str, state: StreamState, reason: str | None = None) -> None:
        """Raises UnknownError."""
        with self._store.write() as connection:
            row = require(connection, name)
            self._update(connection, row.id, state=state, state_reason=reason)

    def adopt(
        self,
        name: str,
        *,
        capture: str,
        target: str,
        epoch: int,
        position: str | None,
        read_number: int,
        sequence: int,
        batch_id: str | None,
    ) -> StreamRecord:
        """Takes over what a target's receipt says; the stream is made if it is missing.

        It means that history of this ledger was lost, decisions among it. The target may hold rows
        whose revision is the number of a lost decision, so from now on decisions are numbered
        from the time in milliseconds: above any number that was issued one by one. Images of what
        is held back go: the record may have changed since, and only its row can tell.
        """
        now = self._store.now()
        with self._store.write() as connection:
            row = find(connection, name)
            stream_id = (
                _insert(connection, self._store, name, capture, target, epoch)
                if row is None
                else row.id
            )
            pages.drop(connection, stream_id)
            with_image = and_(
                failures.c.stream_id == stream_id,
                failures.c.ended_at.is_(None),
                or_(failures.c.extracted.is_not(None), failures.c.transformed.is_not(None)),
            )
            connection.execute(
                failures.update()
                .where(with_image)
                .values(
                    extracted=None,
                    transformed=None,
                    image_note="no image: the record may have changed while the ledger was lost",
                )
            )
            self._update(
                connection,
                stream_id,
                capture=capture,
                target=target,
                epoch=epoch,
                position=position,
                read_number=max(read_number, 0 if row is None else row.read_number),
                sequence=sequence,
                last_batch_id=batch_id,
            )
            floor = round(now.timestamp() * 1000)
            issued = tables.ledger.c.last_decision
            connection.execute(
                tables.ledger.update().where(issued < floor).values(last_decision=floor)
            )
            return _record(require(connection, name))

    def retarget(self, name: str, target: str, reason: str) -> StreamRecord:
        """Its rows are to be in another table from now on, at the position that it has.

        It needs a snapshot until that table has them. Raises UnknownError.
        """
        with self._store.write() as connection:
            row = require(connection, name)
            self._update(
                connection,
                row.id,
                target=target,
                state=StreamState.NEEDS_SNAPSHOT,
                state_reason=reason,
            )
            return _record(require(connection, name))

    def pages(self, name: str) -> Iterator[pa.RecordBatch]:
        """The pages of the last complete read, in the order in which they were given."""
        with self._store.read() as connection:
            stream_id = require(connection, name).id
        return pages.complete(self._store, stream_id)

    def rename(self, old: str, new: str) -> None:
        """Everything known of `old` is known of `new` afterwards. Raises LedgerError."""
        with self._store.write() as connection:
            row = require(connection, old)
            if find(connection, new) is not None:
                raise LedgerError(
                    f"The stream {old} cannot be renamed to {new}: there is a stream of that name. "
                    "Drop that one first, or choose another name."
                )
            self._update(connection, row.id, name=new)

    def drop(self, name: str) -> None:
        """Forgets the stream and everything known of its records. Raises UnknownError."""
        with self._store.write() as connection:
            _delete_all(connection, require(connection, name).id)

    def _update(self, connection: Connection, stream_id: int, **values: Any) -> None:
        change(connection, stream_id, updated_at=self._store.now(), **values)


_BY_NAME = select(streams).where(streams.c.name == bindparam("wanted"))
_CHANGE = streams.update().where(streams.c.id == bindparam("stream_id"))


def find(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(_BY_NAME, {"wanted": name}).one_or_none()


def change(connection: Connection, stream_id: int, **values: Any) -> None:
    """Sets columns of a stream's row."""
    connection.execute(_CHANGE, {"stream_id": stream_id, **values})


def require(connection: Connection, name: str) -> Row[Any]:
    """The row of a stream. Raises UnknownError."""
    row = find(connection, name)
    if row is None:
        known = ", ".join(connection.scalars(select(streams.c.name).order_by("name"))) or "none"
        raise UnknownError(
            f"The ledger knows no stream {name}; it knows: {known}. "
            "A stream is known from its first run on: check the name, or run the pipeline."
        )
    return row


def _insert(
    connection: Connection, store: Store, name: str, capture: str, target: str, epoch: int
) -> int:
    result = connection.execute(
        streams.insert().values(
            name=name,
            capture=capture,
            target=target,
            epoch=epoch,
            read_number=0,
            sequence=0,
            state=StreamState.ACTIVE,
            updated_at=store.now(),
        )
    )
    (stream_id,) = result.inserted_primary_key or (None,)
    assert stream_id is not None
    return int(stream_id)


def _delete_all(connection: Connection, stream_id: int) -> None:
    """Children before parents, as the foreign keys ask."""
    batches = select(tables.batches.c.id).where(tables.batches.c.stream_id == stream_id)
    failures = select(tables.failures.c.id).where(tables.failures.c.stream_id == stream_id)
    for table in (tables.outcome_segments, tables.prepared_failures, tables.prepared_ends):
        connection.execute(delete(table).where(table.c.batch.in_(batches)))
    attempts = tables.attempts
    connection.execute(delete(attempts).where(attempts.c.failure_id.in_(failures)))
    for table in (
        tables.outcomes,
        tables.pages,
        tables.pruned,
        tables.failures,
        tables.decision_records,
        tables.decisions,
        tables.batches,
    ):
        connection.execute(delete(table).where(table.c.stream_id == stream_id))
    connection.execute(delete(streams).where(streams.c.id == stream_id))


def _record(row: Row[Any]) -> StreamRecord:
    return StreamRecord(
        name=row.name,
        capture=row.capture,
        target=row.target,
        epoch=row.epoch,
        position=row.position,
        read_number=row.read_number,
        sequence=row.sequence,
        last_batch_id=row.last_batch_id,
        state=StreamState(row.state),
        state_reason=row.state_reason,
        watermark=row.watermark,
        updated_at=row.updated_at,
    )
