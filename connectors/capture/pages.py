"""Pages: rows that a source read in one short transaction, on their way to becoming changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.base import StreamSpec
from rowtrail.connectors.capture.position import Values
from rowtrail.connectors.capture.row_hash import HASH_COLUMN, Hashes, row_hashes
from rowtrail.connectors.changes import (
    OPERATION_TYPE,
    Changes,
    Operation,
    Rejected,
    Version,
    constant_operations,
    constant_versions,
)
from rowtrail.connectors.schema import TableSchema

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """A row that the stream's schema cannot hold; `row` is its number in the page."""

    row: int
    key: Values
    column: str
    message: str
    image: pa.RecordBatch

    def rejected(self, operation: Operation, version: Version) -> Rejected:
        return Rejected(
            key=self.key,
            operation=operation,
            version=version,
            column=self.column,
            message=self.message,
            image=self.image,
        )


@dataclass(frozen=True, kw_only=True)
class Page:
    """`rows` has every row that was read, in order, NULL where a value does not fit.

    `last` is where the next page begins, in the source's own values; None when nothing was read.
    """

    rows: pa.RecordBatch  # of the schema
    last: Values | None
    full: bool  # as many rows as asked for, so that there may be more
    misfits: tuple[Misfit, ...] = ()
    raw: pa.RecordBatch | None = None  # of the misfits, for hashing
    extra: tuple[pa.Array, ...] = ()  # aligned with rows: what the capture asked for beside them
    mark: int = 0  # the change log's last sequence in the page's own transaction

    def fits(self) -> Mask:
        mask = all_rows(self)
        mask[[misfit.row for misfit in self.misfits]] = False
        return mask

    def rejected(
        self, chosen: Mask, operation: Operation, version: Version
    ) -> tuple[Rejected, ...]:
        return tuple(
            misfit.rejected(operation, version) for misfit in self.misfits if chosen[misfit.row]
        )


@dataclass(frozen=True, kw_only=True)
class KeyPage:
    """Keys in key order; those that the schema cannot hold are left out."""

    keys: pa.RecordBatch
    last: Values | None
    full: bool


class KeyedTable(Protocol):
    """What every capture asks of a source's table. Each call is one short transaction."""

    @property
    def stream(self) -> StreamSpec: ...

    @property
    def schema(self) -> TableSchema: ...

    def page(self, after: Values | None) -> Page:
        """The rows after this key, in key order."""
        ...

    def keyless(self, offset: int) -> Page:
        """Rows with a NULL in their key, all of them misfits."""
        ...

    def key_page(self, after: Values | None) -> KeyPage: ...

    def lookup(self, keys: pa.RecordBatch) -> Page:
        """The rows of these keys in their order; `extra` is one array: was the row found?"""
        ...


def all_rows(page: Page) -> Mask:
    return np.ones(len(page.rows), dtype=np.bool_)


def valid_keys(schema: TableSchema, rows: pa.RecordBatch) -> Mask:
    """Where no key column is NULL."""
    mask: Mask = np.ones(len(rows), dtype=np.bool_)
    for name in schema.key:
        column = rows.column(name)
        if column.null_count:
            mask &= column.is_valid().to_numpy(zero_copy_only=False)
    return mask


def whole_keys(schema: TableSchema, rows: pa.RecordBatch) -> pa.RecordBatch:
    """The keys of the rows whose key fits."""
    return rows.select(list(schema.key)).filter(pa.array(valid_keys(schema, rows)))


def no_keys(schema: TableSchema) -> pa.RecordBatch:
    return no_rows(schema.arrow_key())


def last_key(keys: pa.RecordBatch) -> Values | None:
    """The last key as Python values; None when there is none."""
    if not len(keys):
        return None
    return tuple(column[-1].as_py() for column in keys.columns)


def page_hashes(engine: duckdb.DuckDBPyConnection, page: Page) -> Hashes:
    """A hash per row; a misfit's is taken from its raw values, since the fitted ones are NULL."""
    hashes = row_hashes(engine, page.rows)
    if page.raw is not None:
        hashes = hashes.copy()
        hashes[[misfit.row for misfit in page.misfits]] = row_hashes(engine, page.raw)
    return hashes


def hashed_keys(
    schema: TableSchema, page: Page, hashes: Hashes, chosen: Mask | None = None
) -> pa.RecordBatch:
    """The form in which the ledger keeps what a read has seen (`Changes.page`)."""
    names = list(schema.key)
    columns = [*page.rows.select(names).columns, pa.array(hashes, type=pa.uint64())]
    kept = valid_keys(schema, page.rows)
    return pa.RecordBatch.from_arrays(columns, names=[*names, HASH_COLUMN]).filter(
        pa.array(kept if chosen is None else kept & chosen)
    )


def page_changes(
    table: KeyedTable,
    version: Version,
    position: str,
    *,
    page: Page | None = None,
    chosen: Mask | None = None,
    operation: Operation = Operation.UPDATE,
    deletes: pa.RecordBatch | None = None,
    hashed: pa.RecordBatch | None = None,
    complete: datetime | None = None,
) -> Changes:
    """The chosen rows of a page (None: all), misfits as rejected ones, and deletes of these keys.

    `complete` is the watermark of the read that these changes complete.
    """
    schema = table.schema
    batches: list[pa.RecordBatch] = []
    operations: list[pa.Array] = [constant_operations(operation, 0)]
    rejected: tuple[Rejected, ...] = ()
    if page is not None:
        wanted = all_rows(page) if chosen is None else chosen
        rejected = page.rejected(wanted, operation, version)
        kept = wanted & page.fits()
        batches.append(page.rows if kept.all() else page.rows.filter(pa.array(kept)))
        operations.append(constant_operations(operation, len(batches[-1])))
    if deletes is not None:
        batches.append(delete_rows(schema, deletes))
        operations.append(constant_operations(Operation.DELETE, len(deletes)))
    rows = one_batch(pa.Table.from_batches(batches, schema=schema.arrow()))
    return Changes(
        stream=table.stream.name,
        schema=schema,
        rows=rows,
        operations=pa.concat_arrays(operations),
        versions=constant_versions(version, len(rows)),
        position=position,
        rejected=rejected,
        watermark=complete,
        page=hashed,
        read_complete=complete is not None,
    )


def fetched_changes(
    stream: str, schema: TableSchema, page: Page, version: Version, position: str
) -> Changes:
    """Rows that were looked up by key: as they are now, or deletes where there is none."""
    fits = pa.array(page.fits())
    rows = page.rows.filter(fits)
    operations = pc.if_else(page.extra[0], int(Operation.UPDATE), int(Operation.DELETE))
    return Changes(
        stream=stream,
        schema=schema,
        rows=rows,
        operations=operations.cast(OPERATION_TYPE).filter(fits),
        versions=constant_versions(version, len(rows)),
        position=position,
        rejected=tuple(misfit.rejected(Operation.UPDATE, version) for misfit in page.misfits),
    )


def delete_changes(
    table: KeyedTable, version: Version, position: str, keys: pa.RecordBatch
) -> Iterator[Changes]:
    """Deletes alone, in items of at most `batch_rows`."""
    limit = table.stream.batch_rows
    for start in range(0, len(keys), limit):
        yield page_changes(table, version, position, deletes=keys.slice(start, limit))


def keyless_changes(table: KeyedTable, version: Version, position: str) -> Iterator[Changes]:
    """The rows without a whole key, each rejected by name; reported anew by each full read."""
    offset = 0
    while len((page := table.keyless(offset)).rows):
        yield page_changes(table, version, position, page=page)
        offset += len(page.rows)
        if not page.full:
            return


def delete_rows(schema: TableSchema, keys: pa.RecordBatch) -> pa.RecordBatch:
    """Rows with their key alone."""
    return pa.RecordBatch.from_arrays(
        [
            keys.column(column.name)
            if column.name in schema.key
            else pa.nulls(len(keys), column.type)
            for column in schema.columns
        ],
        schema=schema.arrow(),
    )


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """The table as a single batch, also when it is empty."""
    batches = table.combine_chunks().to_batches()
    if batches:
        return batches[0]
    return no_rows(table.schema)


def no_rows(schema: pa.Schema) -> pa.RecordBatch:
    """Without `pyarrow.array`, whose first call imports pandas: 0.3 s before the first row."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
