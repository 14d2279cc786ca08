"""Compares the keys of a source with those that the target is known to have, range by range."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from rowtrail.connectors.base import Known
from rowtrail.connectors.capture.pages import (
    KeyedTable,
    delete_changes,
    last_key,
    no_keys,
    one_batch,
)
from rowtrail.connectors.capture.position import Values
from rowtrail.connectors.capture.row_hash import HASH_COLUMN, Hashes
from rowtrail.connectors.changes import Changes, Version
from rowtrail.connectors.schema import TableSchema


class KeyRange(NamedTuple):
    """The keys beyond `after` and up to `upto` inclusively; None is unbounded."""

    after: Values | None
    upto: Values | None


def key_range(keys: pa.RecordBatch, after: Values | None, *, more: bool) -> KeyRange | None:
    """The range of which `keys` are all that the source has, open-ended unless there are `more`.

    None when it spans nothing: a page in the midst of which no key fits.
    """
    if more and not len(keys):
        return None
    return KeyRange(after, last_key(keys) if more else None)


def keys_gone(
    engine: duckdb.DuckDBPyConnection,
    table: KeyedTable,
    known: Known,
    span: KeyRange | None,
    keys: pa.RecordBatch,
) -> Iterator[pa.RecordBatch]:
    """The keys in the range that are known and that the source does not have, in key order.

    In pieces, none of them empty: a table that was emptied may have left any number. Those that
    are absent on purpose too: were they known for ever, a row that comes back under such a key
    would never be new.
    """
    for piece in known_keys(table, known, span):
        gone = _without(engine, piece, keys)
        if len(gone):
            yield gone


def keys_unknown(
    engine: duckdb.DuckDBPyConnection,
    table: KeyedTable,
    known: Known,
    span: KeyRange | None,
    keys: pa.RecordBatch,
) -> pa.RecordBatch:
    """The keys in the range that the source has and of which nothing is known, in key order."""
    if span is None:
        return no_keys(table.schema)
    for piece in known_keys(table, known, span):
        keys = _without(engine, keys, piece)
    return keys


def known_keys(table: KeyedTable, known: Known, span: KeyRange | None) -> Iterator[pa.RecordBatch]:
    """The known keys of the range in the source's types, in key order and in pieces.

    A piece has up to twice `batch_rows`: a range of the source that nothing was deleted from has
    not more than `batch_rows`, and is asked for once.
    """
    wanted = table.schema.arrow_key()
    limit = 2 * table.stream.batch_rows
    while span is not None:
        found = known.keys(*span, limit)
        keys = one_batch(found.select(wanted.names).cast(wanted))
        span = None if len(keys) < limit else span._replace(after=last_key(keys))
        yield keys


def _without(
    engine: duckdb.DuckDBPyConnection, left: pa.RecordBatch, right: pa.RecordBatch
) -> pa.RecordBatch:
    """The rows of `left` that `right` does not have, in the order of `left`."""
    if not len(left) or not len(right):
        return left
    columns = [f"c{number}" for number in range(left.num_columns)]
    numbered = left.rename_columns(columns).append_column("n", pa.array(np.arange(len(left))))
    engine.register("left_keys", pa.Table.from_batches([numbered]))
    engine.register("right_keys", pa.Table.from_batches([right.rename_columns(columns)]))
    try:
        kept = engine.sql(
            f"SELECT n FROM left_keys ANTI JOIN right_keys USING ({', '.join(columns)}) ORDER BY n"
        ).to_arrow_table()
    finally:
        engine.unregister("left_keys")
        engine.unregister("right_keys")
    return left.take(kept.column("n").combine_chunks())


def deletes_beside(
    rows: int,
    gone: Iterator[pa.RecordBatch],
    table: KeyedTable,
    version: Version,
    position: str,
) -> Generator[Changes, None, pa.RecordBatch]:
    """Reports deletes as items of their own; returns those that fit in one beside so many rows."""
    last = no_keys(table.schema)
    for piece in gone:
        yield from delete_changes(table, version, position, last)
        last = piece
    if len(last) + rows <= table.stream.batch_rows:
        return last
    yield from delete_changes(table, version, position, last)
    return no_keys(table.schema)


class KnownHashes:
    """Walks the pages of an earlier read in key order, one page in memory at a time."""

    def __init__(self, pages: Iterator[pa.RecordBatch], schema: TableSchema) -> None:
        self._pages = pages
        self._names = list(schema.key)
        self._expected = schema.arrow_key()
        self._page: pa.RecordBatch | None = None
        self._at = 0

    def within(self, span: KeyRange | None) -> Hashes:
        """The hashes of a range that begins where the last one ended; none for no range."""
        return np.empty(0, dtype=np.uint64) if span is None else self.upto(span.upto)

    def upto(self, key: Values | None) -> Hashes:
        """The hashes from where the last call ended to this key inclusive; None: all the rest."""
        parts = [np.empty(0, dtype=np.uint64)]
        while self._fill():
            assert self._page is not None
            end = len(self._page) if key is None else self._beyond(key)
            parts.append(self._page.column(HASH_COLUMN).slice(self._at, end - self._at).to_numpy())
            self._at = end
            if end < len(self._page):
                break
        return np.concatenate(parts)

    def _fill(self) -> bool:
        """Whether there is a row to look at. A page of another key's type says nothing."""
        while self._page is None or self._at >= len(self._page):
            page = next(self._pages, None)
            if page is None:
                return False
            if page.select(self._names).schema.equals(self._expected):
                self._page, self._at = page, 0
        return True

    def _beyond(self, key: Values) -> int:
        """The first row number whose key is greater, by halving."""
        assert self._page is not None
        columns = self._page.select(self._names).columns
        low, high = self._at, len(self._page)
        while low < high:
            middle = (low + high) // 2
            if tuple(column[middle].as_py() for column in columns) <= key:
                low = middle + 1
            else:
                high = middle
        return low
