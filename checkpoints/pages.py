"""Pages: what a read of a whole table saw, kept for captures that compare it with the next read.

A page comes with its batch and counts from the close of the batch on. The pages of a read that has
not ended yet are `reading`; when it ends they become `complete` and those of the read before go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, select, update

from rowtrail.checkpoints import tables
from rowtrail.checkpoints.errors import LedgerError
from rowtrail.checkpoints.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

PREPARED, READING, COMPLETE = "prepared", "reading", "complete"

_pages = tables.pages


def to_bytes(page: pa.RecordBatch) -> bytes:
    """One batch as an Arrow IPC stream, compressed."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, page.schema, options=options) as writer:
        writer.write_batch(page)
    return bytes(sink.getvalue())


def prepare(connection: Connection, stream_id: int, batch: int, body: bytes) -> None:
    connection.execute(
        _pages.insert().values(batch=batch, stream_id=stream_id, state=PREPARED, body=body)
    )


def keep(connection: Connection, batch: int) -> None:
    """The batch is closed: its page counts."""
    connection.execute(update(_pages).values(state=READING).where(_pages.c.batch == batch))


def complete_read(connection: Connection, stream_id: int) -> None:
    """The pages that were kept take the place of those of the read before."""
    of_stream = _pages.c.stream_id == stream_id
    connection.execute(delete(_pages).where(of_stream, _pages.c.state == COMPLETE))
    connection.execute(
        update(_pages).values(state=COMPLETE).where(of_stream, _pages.c.state == READING)
    )


def forget(connection: Connection, batch: int) -> None:
    """Drops the page of this batch."""
    connection.execute(delete(_pages).where(_pages.c.batch == batch))


def drop(connection: Connection, stream_id: int) -> None:
    """Drops the pages of closed batches; those of a prepared one go or stay with it."""
    gone = _pages.c.state.in_([READING, COMPLETE])
    connection.execute(delete(_pages).where(_pages.c.stream_id == stream_id, gone))


def complete(store: Store, stream_id: int) -> Iterator[pa.RecordBatch]:
    """The pages of the last complete read. No transaction stays open between two of them."""
    import pyarrow as pa

    query = select(_pages.c.batch).where(
        _pages.c.stream_id == stream_id, _pages.c.state == COMPLETE
    )
    with store.read() as connection:
        numbers = list(connection.scalars(query.order_by(_pages.c.batch)))
    for number in numbers:
        with store.read() as connection:
            body = connection.scalar(select(_pages.c.body).where(_pages.c.batch == number))
        if body is None:
            raise LedgerError(
                "The pages of the last read are gone, since another read was completed while they "
                "were being compared. Run the stream again."
            )
        with pa.ipc.open_stream(body) as reader:
            yield reader.read_next_batch()
