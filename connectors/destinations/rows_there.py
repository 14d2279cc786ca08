"""What a target has of some keys: the query, and what its answer says."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from rowtrail.connectors.base import RowsThere
from rowtrail.connectors.changes import VERSION_SCHEMA
from rowtrail.connectors.destinations.history import last_gone
from rowtrail.connectors.destinations.layout import Layout
from rowtrail.connectors.destinations.names import (
    DELETED_AT,
    FILTERED,
    IS_CURRENT,
    ROW,
    VERSION_COLUMNS,
    quote,
)
from rowtrail.connectors.schema import RESERVED_PREFIX

DELETED_AT_TYPE = pa.timestamp("us", tz="UTC")

# A table of the user could have any other name.
_ASKED, _LIVE, _GONE = (f"{RESERVED_PREFIX}{name}" for name in ("asked", "live", "gone"))


def rows_query(
    layout: Layout,
    asked: str,
    columns: Mapping[str, str],
    same_key: str,
    key: tuple[str, ...],
    once: str = " MATERIALIZED",
) -> str:
    """One row for each of `asked`, a query of key columns and the key's number as ROW, in order.

    `columns` are expressions over the target's table `t` by name; `same_key` compares the `key` of
    `t`, and likewise of the tombstones, with `s`, a row of `asked`. Of a history, the current row.

    The keys are looked up by inner joins, which use an index or skip row groups; as an outer join
    of all three, DuckDB would read the table into memory. `once` are the words, where the database
    has them, for a query that is computed once.
    """
    versions = ", ".join(f"t.{name}" for name in VERSION_COLUMNS)
    chosen = "".join(f", {sql} AS {quote(name)}" for name, sql in columns.items())
    deleted = f"t.{DELETED_AT}" if layout.has(DELETED_AT) else "CAST(NULL AS TIMESTAMPTZ)"
    current = f" AND t.{IS_CURRENT}" if layout.keeps_history else ""
    newest = ", ".join(
        f"CASE WHEN l.{ROW} IS NULL THEN g.{name} ELSE l.{name} END AS {name}"
        for name in (*VERSION_COLUMNS, DELETED_AT)
    )
    return (
        f"WITH {_ASKED} AS ({asked}), "
        f"{_LIVE} AS{once} (SELECT s.{ROW}, {versions}, {deleted} AS {DELETED_AT}{chosen} "
        f"FROM {_ASKED} AS s JOIN {layout.table.sql} AS t ON {same_key}{current}), "
        f"{_GONE} AS{once} (SELECT s.{ROW}, {versions}, t.{DELETED_AT}, t.{FILTERED} "
        f"FROM {_ASKED} AS s JOIN {layout.table.tombstones.sql} AS t ON {same_key}"
        f"{last_gone(layout, key, 't')}) "
        f"SELECT {newest}, coalesce(g.{FILTERED}, false) AS {FILTERED}"
        f"{''.join(f', l.{quote(name)}' for name in columns)} "
        f"FROM {_ASKED} AS s LEFT JOIN {_LIVE} AS l ON l.{ROW} = s.{ROW} "
        f"LEFT JOIN {_GONE} AS g ON g.{ROW} = s.{ROW} ORDER BY s.{ROW}"
    )


def rows_there(keys: pa.RecordBatch, found: pa.Table, schema: pa.Schema) -> RowsThere:
    """From the answer, with the keys put back; `schema` has the table's columns, keys among them,
    and the types that they are to have."""
    own = len(VERSION_COLUMNS)
    arrays = [_one(column) for column in found.columns]
    versions = [array.cast(pa.int64()) for array in arrays[:own]]
    values = dict(zip(found.schema.names[own + 2 :], arrays[own + 2 :], strict=True))
    columns = [
        keys[field.name] if field.name in keys.schema.names else values[field.name].cast(field.type)
        for field in schema
    ]
    return RowsThere(
        rows=pa.RecordBatch.from_arrays(columns, names=schema.names),
        versions=pa.RecordBatch.from_arrays(versions, schema=VERSION_SCHEMA),
        deleted_at=arrays[own].cast(DELETED_AT_TYPE),
        filtered=arrays[own + 1],
    )


def nothing_there(keys: pa.RecordBatch) -> RowsThere:
    """For a table that is not there."""
    nothing = {field.name: pa.nulls(len(keys), field.type) for field in VERSION_SCHEMA}
    return RowsThere(
        rows=keys,
        versions=pa.RecordBatch.from_pydict(nothing, schema=VERSION_SCHEMA),
        deleted_at=pa.nulls(len(keys), DELETED_AT_TYPE),
        filtered=pa.repeat(pa.scalar(False), len(keys)),
    )


def _one(column: pa.ChunkedArray) -> pa.Array:
    """Its values in one array of a plain type; PostgreSQL's driver wraps those it does not know."""
    chunks = [getattr(chunk, "storage", chunk) for chunk in column.chunks]
    kind = getattr(column.type, "storage_type", column.type)
    return pa.concat_arrays(chunks) if chunks else pa.array([], kind)
