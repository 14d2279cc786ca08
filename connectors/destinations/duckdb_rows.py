"""Reads single rows from a target in DuckDB."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

from rowtrail.connectors.base import RowsThere, Target
from rowtrail.connectors.destinations.duckdb_layout import (
    key_hash,
    key_is_hashed,
    read_layout,
    spelled,
)
from rowtrail.connectors.destinations.duckdb_merge import FEW
from rowtrail.connectors.destinations.duckdb_sql import KEY_HASH, fetch_arrow, transaction
from rowtrail.connectors.destinations.layout import not_ours
from rowtrail.connectors.destinations.names import ROW, TableName, quote
from rowtrail.connectors.destinations.rows_there import nothing_there, rows_query, rows_there


def read_rows(
    connection: duckdb.DuckDBPyConnection, target: Target, keys: pa.RecordBatch
) -> RowsThere:
    """See `ReadsRows.rows`. One scan of the key's columns, in one transaction."""
    layout = read_layout(connection, TableName.parse(target.table))
    if layout is None:
        return nothing_there(keys)
    if not layout.is_ours:
        raise not_ours(target)
    columns = {
        name: f"t.{quote(there)}"
        for name in target.schema.names
        if (there := spelled(layout, name)) is not None
    }
    hashed = len(keys) <= FEW and key_is_hashed(target.schema) and layout.has(KEY_HASH)
    same_key = " AND ".join(
        f"t.{quote(name)} = s.{quote(name)}"
        for name in (*target.schema.key, *([KEY_HASH] if hashed else []))
    )
    numbers = pa.array(np.arange(len(keys), dtype=np.int64))
    with transaction(connection, keep=False) as work:
        view = work.view("_rowtrail_keys", keys.append_column(ROW, numbers))
        hashes = f", {key_hash(target.schema)} AS {KEY_HASH}" if hashed else ""
        asked = f"SELECT *{hashes} FROM {view}"
        found = work.arrow(rows_query(layout, asked, columns, same_key, target.schema.key))
        empty = fetch_arrow(connection, f"SELECT * FROM {layout.table.sql} LIMIT 0").schema
    types = {name: empty.field(spelled(layout, name) or name).type for name in columns}
    return rows_there(keys, found, pa.schema(list(types.items())))
