"""One row as bytes, so that a failed record can be kept and taken up again."""

from __future__ import annotations

import pyarrow as pa


def to_image(row: pa.RecordBatch) -> bytes:
    """An Arrow IPC stream of one row, its schema included."""
    sink = pa.BufferOutputStream()
    # A slice would otherwise drag the dictionary and buffers of its whole batch along.
    compact = row.take(pa.array([0]))
    with pa.ipc.new_stream(sink, compact.schema) as writer:
        writer.write_batch(compact)
    return bytes(sink.getvalue())


def from_image(image: bytes) -> pa.RecordBatch:
    """The one row; its schema is that of the time when it was kept."""
    with pa.ipc.open_stream(image) as reader:
        batch: pa.RecordBatch = reader.read_next_batch()
    return batch
