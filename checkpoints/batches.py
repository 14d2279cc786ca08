"""Batches: opened, prepared with a manifest, closed once the destination has committed.

Only `prepare` has to survive a loss of power: a batch whose opening is lost was never at the
target, and one whose close is lost is closed again from its manifest and the target's receipt.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import Connection, Row, Select, bindparam, select

from rowtrail.checkpoints import failure_merge, pages, streams, tables
from rowtrail.checkpoints.errors import LedgerError, TransitionError, UnknownError
from rowtrail.checkpoints.states import (
    BATCH_TRANSITIONS,
    BatchKind,
    BatchRecord,
    BatchState,
    Manifest,
)
from rowtrail.checkpoints.store import Store
from rowtrail.checkpoints.tables import batches

if TYPE_CHECKING:
    import pyarrow as pa

    from rowtrail.checkpoints.packing import Integers

_UNFINISHED = (BatchState.OPEN, BatchState.PREPARED)


class Batches:
    """A stream has at most one batch that is open or prepared."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def open(self, run_id: str, stream: str, kind: BatchKind, epoch: int) -> BatchRecord:
        """Opens the next batch of a stream.

        Raises UnknownError for a stream that has no epoch yet, and TransitionError while an
        earlier batch of the stream is neither closed nor abandoned.
        """
        with self._store.write(durable=False) as connection:
            row = streams.require(connection, stream)
            _refuse_second(connection, row)
            opened = BatchRecord(
                batch_id=str(uuid4()),
                run_id=run_id,
                stream=stream,
                kind=kind,
                state=BatchState.OPEN,
                sequence=row.sequence + 1,
                epoch=epoch,
                opened_at=self._store.now(),
                closed_at=None,
                position_after=None,
                manifest_digest=None,
                records=0,
            )
            connection.execute(batches.insert(), _columns(opened, row.id))
        return opened

    def prepare(self, manifest: Manifest) -> str:
        """Writes the manifest, durably, in one transaction, and returns its digest.

        A manifest that was prepared before is replaced. Raises TransitionError when the batch is
        closed or abandoned.
        """
        from rowtrail.checkpoints import manifest as manifests

        stored = manifests.encode(manifest)
        with self._store.write() as connection:
            row = _require(connection, manifest.batch_id)
            _check(row, BatchState.PREPARED)
            if row.state == BatchState.PREPARED:
                manifests.remove(connection, row.id)
            manifests.write(connection, row.id, row.stream_id, stored)
            _update(
                connection,
                row.id,
                state=BatchState.PREPARED,
                prepared_at=self._store.now(),
                position_after=manifest.position_after,
                watermark=manifest.watermark,
                read_complete=manifest.read_complete,
                manifest_digest=stored.digest,
                records=stored.records,
                failed=len(stored.failures),
                ended=len(stored.ends),
                has_page=stored.page is not None,
                load_rows=stored.load_rows,
            )
        return stored.digest

    def close(self, batch_id: str, superseded: pa.Array) -> None:
        """The destination has committed: the manifest becomes what happened, in one transaction.

        `superseded` holds the numbers (uint32) of the rows of the load that the target had
        already. Only what `prepare` stored is used, so that any process can close. A batch that is
        closed stays as it is; TransitionError is raised for one that was never prepared.
        """
        from rowtrail.checkpoints import manifest as manifests

        now = self._store.now()
        with self._store.write(durable=False) as connection:
            row = _require(connection, batch_id)
            if row.state == BatchState.CLOSED:
                return
            _check(row, BatchState.CLOSED)
            if len(superseded):
                _mark_superseded(connection, row, superseded)
            if row.ended:
                failure_merge.apply_ends(connection, row, now)
            if row.failed:
                failure_merge.merge_failures(connection, row, now)
            if row.ended or row.failed:
                manifests.remove_prepared(connection, row.id)
            _advance_stream(connection, row, now)
            _update(connection, row.id, state=BatchState.CLOSED, closed_at=now, load_rows=None)

    def abandon(self, batch_id: str) -> None:
        """Nothing of the batch is at the target: its manifest is dropped."""
        from rowtrail.checkpoints import manifest as manifests

        with self._store.write(durable=False) as connection:
            row = _require(connection, batch_id)
            if row.state == BatchState.ABANDONED:
                return
            _check(row, BatchState.ABANDONED)
            manifests.remove(connection, row.id)
            _update(
                connection,
                row.id,
                state=BatchState.ABANDONED,
                closed_at=self._store.now(),
                load_rows=None,
            )

    def get(self, batch_id: str) -> BatchRecord:
        """Raises UnknownError."""
        with self._store.read() as connection:
            return _record(_require(connection, batch_id))

    def unfinished(self) -> list[BatchRecord]:
        """Batches that are open or prepared, in the order in which they were opened."""
        query = _batches().where(batches.c.state.in_(_UNFINISHED)).order_by(batches.c.id)
        return self._records(query)

    def recent(self, stream: str, limit: int = 10) -> list[BatchRecord]:
        """The last batches of a stream, the newest first."""
        query = _batches().where(tables.streams.c.name == stream)
        return self._records(query.order_by(batches.c.id.desc()).limit(limit))

    def closed_as(self, stream: str, sequence: int) -> BatchRecord | None:
        """The batch that was closed under this number; None where the ledger knows none."""
        query = _batches().where(
            tables.streams.c.name == stream,
            batches.c.sequence == sequence,
            batches.c.state == BatchState.CLOSED,
        )
        return next(iter(self._records(query.order_by(batches.c.id.desc()).limit(1))), None)

    def _records(self, query: Select[Any]) -> list[BatchRecord]:
        with self._store.read() as connection:
            return [_record(row) for row in connection.execute(query)]


def _batches() -> Select[Any]:
    stream = tables.streams.c
    return select(batches, stream.name.label("stream"), stream.epoch.label("stream_epoch")).join(
        tables.streams
    )


# Built once: for each batch that would take longer than to run them.
_ONE = _batches().where(batches.c.batch_id == bindparam("wanted"))
_UNFINISHED_OF = select(batches.c.batch_id).where(
    batches.c.stream_id == bindparam("stream_id"), batches.c.state.in_(_UNFINISHED)
)
_CHANGE = batches.update().where(batches.c.id == bindparam("batch"))


def _require(connection: Connection, batch_id: str) -> Row[Any]:
    row = connection.execute(_ONE, {"wanted": batch_id}).one_or_none()
    if row is None:
        raise UnknownError(
            f"The ledger knows no batch {batch_id}. It may have been opened in another ledger: "
            "check that the pipeline's ledger is the one that you mean."
        )
    return row


def _check(row: Row[Any], state: BatchState) -> None:
    if state not in BATCH_TRANSITIONS.get(BatchState(row.state), ()):
        raise TransitionError(
            f"Batch {row.batch_id} of stream {row.stream} is {row.state} and cannot become "
            f"{state}. Open another batch."
        )


def _refuse_second(connection: Connection, stream: Row[Any]) -> None:
    earlier = connection.scalar(_UNFINISHED_OF, {"stream_id": stream.id})
    if earlier is not None:
        raise TransitionError(
            f"Stream {stream.name} cannot have another batch: batch {earlier} is neither closed "
            "nor abandoned. Recover that one first."
        )


def _update(connection: Connection, batch: int, **values: Any) -> None:
    connection.execute(_CHANGE, {"batch": batch, **values})


def _mark_superseded(connection: Connection, row: Row[Any], superseded: pa.Array) -> None:
    from rowtrail.checkpoints import outcomes

    rows = _blob_rows(row, superseded)
    outcomes.mark_superseded(connection, row.id, rows)
    ends = failure_merge.loaded_ends(connection, row.id)
    if ends:
        records = outcomes.records_at(connection, row.id, row.stream, rows)
        keys = {record.key_bytes() for record in records}
        late = [number for number, key in ends if key in keys]
        failure_merge.end_as_superseded(connection, row.id, late)


def _blob_rows(row: Row[Any], superseded: pa.Array) -> Integers:
    """Where in the blob these rows of the load are. Raises LedgerError for one it has not."""
    from rowtrail.checkpoints.packing import unpack_counted

    chosen: Integers = superseded.to_numpy(zero_copy_only=False)
    load_rows = unpack_counted(row.load_rows)
    if chosen.max() >= len(load_rows):
        raise LedgerError(
            f"Batch {row.batch_id} of stream {row.stream} cannot be closed: its receipt says that "
            f"row {chosen.max()} was superseded, and its load has {len(load_rows)} rows. The "
            "receipt is not of this manifest; the batch stays prepared."
        )
    return load_rows[chosen]


def _advance_stream(connection: Connection, row: Row[Any], now: datetime) -> None:
    values: dict[str, Any] = {"sequence": row.sequence, "last_batch_id": row.batch_id}
    # A batch of an earlier epoch says nothing about where the new one stands.
    if row.stream_epoch == row.epoch:
        if row.position_after is not None:
            values["position"] = row.position_after
        if row.watermark is not None:
            values["watermark"] = row.watermark
        if row.has_page:
            pages.keep(connection, row.id)
        if row.read_complete:
            pages.complete_read(connection, row.stream_id)
    elif row.has_page:
        pages.forget(connection, row.id)
    streams.change(connection, row.stream_id, updated_at=now, **values)


def _columns(opened: BatchRecord, stream_id: int) -> dict[str, Any]:
    """The row of a batch that has just been opened."""
    return {
        "batch_id": opened.batch_id,
        "run_id": opened.run_id,
        "stream_id": stream_id,
        "kind": opened.kind,
        "state": opened.state,
        "sequence": opened.sequence,
        "epoch": opened.epoch,
        "opened_at": opened.opened_at,
        "read_complete": False,
        "records": 0,
        "failed": 0,
        "ended": 0,
        "has_page": False,
    }


def _record(row: Row[Any]) -> BatchRecord:
    return BatchRecord(
        batch_id=row.batch_id,
        run_id=row.run_id,
        stream=row.stream,
        kind=BatchKind(row.kind),
        state=BatchState(row.state),
        sequence=row.sequence,
        epoch=row.epoch,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        position_after=row.position_after,
        manifest_digest=row.manifest_digest,
        records=row.records,
    )
