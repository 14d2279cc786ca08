"""Many keys of one stream, put aside while they are worked through.

They are in memory while they are few and else in files without a name that only this user could
open, so that what a replay of millions of records holds in memory is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import numpy as np
import pyarrow as pa

from rowtrail.checkpoints.key_layout import Codec, KeyLayout
from rowtrail.checkpoints.places import places
from rowtrail.connectors.errors import StopError

_IN_MEMORY = 16 * 1024 * 1024  # bytes of one spool
_KEYS_IN_A_PART = 1_000_000  # are looked at together, to leave doubles out
_MOST_PARTS = 64  # each is a file


class KeySpool:
    """Keys in the order in which they were written, each batch of them at most `size` long."""

    def __init__(self, schema: pa.Schema, size: int) -> None:
        self.count = 0
        self.schema = schema
        self._size = size
        self._file: IO[bytes] = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._writer: Any = pa.ipc.new_stream(pa.PythonFile(self._file, "w"), schema)

    def write(self, keys: pa.RecordBatch) -> None:
        """Raises StopError when there is no room for them."""
        for start in range(0, len(keys), self._size):
            try:
                self._writer.write_batch(keys.slice(start, self._size))
            except OSError as error:
                raise StopError(
                    f"The keys of the records to replay could not be put aside: {error}. Make room "
                    f"in the folder for temporary files, or name another one in TMPDIR."
                ) from error
        self.count += len(keys)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All keys, in batches that are full but for the last. To be called once, at the end."""
        waiting: list[pa.RecordBatch] = []
        length = 0
        for batch in self._read():
            waiting.append(batch)
            length += len(batch)
            while length >= self._size:
                joined = pa.Table.from_batches(waiting).combine_chunks().to_batches()[0]
                yield joined.slice(0, self._size)
                waiting = [joined.slice(self._size)]
                length -= self._size
        if length:
            yield pa.Table.from_batches(waiting).combine_chunks().to_batches()[0]

    def close(self) -> None:
        self._file.close()

    def _read(self) -> Iterator[pa.RecordBatch]:
        self._writer.close()
        self._file.seek(0)
        yield from pa.ipc.open_stream(pa.PythonFile(self._file, "r"))


def spooled(keys: Iterable[pa.RecordBatch], schema: pa.Schema, size: int) -> KeySpool:
    """The keys, of which each comes once."""
    spool = KeySpool(schema, size)
    for batch in keys:
        spool.write(batch)
    return spool


def distinct(
    keys: Iterable[pa.RecordBatch], schema: pa.Schema, size: int, *, at_most: int
) -> KeySpool:
    """Each of the keys once, of which there are at most so many.

    Takes time that is linear in them: those that have the same place modulo the number of parts
    are in the same part, and only the keys of one part are compared.
    """
    number = min(max(1, -(-at_most // _KEYS_IN_A_PART)), _MOST_PARTS)
    parts = [KeySpool(schema, size) for _ in range(number)]
    try:
        for batch in keys:
            for part, some in zip(parts, _split(batch, number), strict=True):
                part.write(some)
        return spooled((_once(part) for part in parts), schema, size)
    finally:
        for part in parts:
            part.close()


def _split(keys: pa.RecordBatch, number: int) -> list[pa.RecordBatch]:
    if number == 1:
        return [keys]
    # As Arrow whatever they hold: equal keys have the same place in every batch.
    layout = KeyLayout(keys.schema, (Codec.ARROW,) * keys.num_columns)
    chosen = places(layout, layout.columns(keys)).view(np.uint64) % np.uint64(number)
    return [keys.filter(pa.array(chosen == part)) for part in range(number)]


def _once(part: KeySpool) -> pa.RecordBatch:
    """The keys of a part in the order of their first occurrence."""
    table = pa.Table.from_batches(list(part.batches()), part.schema)
    once = table.group_by(table.schema.names, use_threads=False).aggregate([])
    batches = once.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], part.schema)
