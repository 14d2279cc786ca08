"""The fenced merge: a batch goes into its table where it is newer than what is there."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.base import Deletes, Load
from rowtrail.connectors.changes import Operation, are_distinct
from rowtrail.connectors.destinations.duckdb_apply import Batch, Hits, Mask, Merge, apply
from rowtrail.connectors.destinations.duckdb_layout import key_hash, key_is_hashed
from rowtrail.connectors.destinations.duckdb_memory import Memory
from rowtrail.connectors.destinations.duckdb_sql import KEY_HASH, Transaction
from rowtrail.connectors.destinations.duckdb_types import column_type
from rowtrail.connectors.destinations.layout import Layout
from rowtrail.connectors.destinations.names import ROW, VERSION_COLUMNS, TableName, quote, quoted
from rowtrail.connectors.errors import StopError

FEW = 50
"""Up to so many keys DuckDB compares with each value as it scans, which is where a hash of the key
pays; more are looked up in a hash table anyway (dynamic_or_filter_threshold; measured)."""


_NOWHERE = Hits(
    rows=np.empty(0, np.uint32), places=np.empty(0, np.int64), newer=np.empty(0, np.bool_)
)


def merge(work: Transaction, layout: Layout, load: Load, memory: Memory) -> Mask:
    """Merges the load and returns, per row, whether it was superseded and changed nothing.

    Raises StopError when the load has a key twice.
    """
    superseded = np.zeros(len(load.rows), dtype=np.bool_)
    if not len(superseded):
        return superseded
    batch = Batch.of(load)
    incoming = _incoming(work, batch)
    _check_keys_are_unique(work, load, incoming)
    present = _locate(work, layout.table, batch, incoming)
    buried = _locate(work, layout.table.tombstones, batch, incoming)
    superseded[present.rows[present.newer]] = True
    superseded[buried.rows[buried.newer]] = True
    decided = _decide(load, ~superseded, present, buried)
    for hits in (decided.removed, decided.marked, decided.unburied):
        memory.reserve(hits.places)
    apply(work, layout, batch, decided)
    return superseded


def _decide(load: Load, applied: Mask, present: Hits, buried: Hits) -> Merge:
    """What is to be done, as DESIGN §1 says of soft and hard deletes."""
    deletes = load.operations.to_numpy(zero_copy_only=False) == Operation.DELETE
    filtered = load.filtered.to_numpy(zero_copy_only=False)
    upserts, deleted = applied & ~deletes, applied & deletes
    if load.target.deletes is Deletes.HARD:
        stays = np.zeros(len(applied), dtype=np.bool_)
        bury = deleted
    else:
        stays = deleted
        has_row = np.zeros(len(applied), dtype=np.bool_)
        has_row[present.rows] = True
        # A row that stays says itself that it was deleted, but not that a transform dropped it.
        bury = deleted & (filtered | ~has_row)
    return Merge(
        insert=upserts,
        removed=present.only(applied & ~stays),
        marked=present.only(stays),
        bury=bury,
        unburied=buried.only(applied),
    )


def uses_hash(batch: Batch) -> bool:
    return len(batch.rows) <= FEW and key_is_hashed(batch.schema)


def _incoming(work: Transaction, batch: Batch) -> str:
    """The keys, versions and row numbers as a table expression."""
    columns = [*batch.schema.key, *VERSION_COLUMNS, ROW]
    rows = work.view("_rowtrail_incoming", batch.rows.select(columns))
    if not uses_hash(batch):
        return rows
    return f"(SELECT *, {key_hash(batch.schema)} AS {KEY_HASH} FROM {rows})"


def _check_keys_are_unique(work: Transaction, load: Load, incoming: str) -> None:
    """No index watches over the table, so a key that comes twice would be there twice."""
    if len(load.rows) == 1 or are_distinct(load.rows.select(load.target.schema.key)):
        return
    keys = quoted(load.target.schema.key)
    distinct = work.run(f"SELECT count(*) FROM (SELECT DISTINCT {keys} FROM {incoming})")[0][0]
    if distinct != len(load.rows):
        raise StopError(
            f"Batch {load.receipt.batch_id} of stream {load.target.stream} has "
            f"{len(load.rows) - distinct} rows whose key comes twice, which a merge does not take. "
            f"This is an error of Rowtrail or of a connector, not of the records; report it."
        )


def may_have_some(work: Transaction, table: TableName, batch: Batch) -> bool:
    """Whether the table has a row in the range of the keys: there is none in most first reads, and
    that is told by the bounds of row groups alone."""
    name = batch.schema.key[0]
    keys = batch.rows.column(name)
    if len(keys) <= FEW or not _has_bounds(keys.type):
        return True
    least, most = pc.min_max(keys).values()
    value = f"CAST(? AS {column_type(batch.schema.table, batch.schema.column(name))})"
    return bool(
        work.run(
            f"SELECT 1 FROM {table.sql} WHERE {quote(name)} BETWEEN {value} AND {value} LIMIT 1",
            [least.as_py(), most.as_py()],
        )
    )


def _has_bounds(kind: pa.DataType) -> bool:
    """Whether Arrow and DuckDB order its values alike."""
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_date(kind))


def _locate(work: Transaction, table: TableName, batch: Batch, incoming: str) -> Hits:
    """One scan of the key's columns; row groups outside the keys' range are skipped."""
    if not may_have_some(work, table, batch):
        return _NOWHERE
    names = (*batch.schema.key, KEY_HASH) if uses_hash(batch) else batch.schema.key
    same_key = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in names)
    found: pa.Table = work.arrow(
        f"SELECT s.{ROW} AS n, t.rowid AS place, ({quoted(VERSION_COLUMNS, 't.')}) >= "
        f"({quoted(VERSION_COLUMNS, 's.')}) AS newer "
        f"FROM {incoming} AS s JOIN {table.sql} AS t ON {same_key}"
    )
    return Hits(
        rows=found["n"].to_numpy(),
        places=found["place"].to_numpy(),
        newer=found["newer"].to_numpy(),
    )
