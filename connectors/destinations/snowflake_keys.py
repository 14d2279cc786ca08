"""Reads keys and single rows from a target in Snowflake."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from rowtrail.connectors.base import Target, known_schema
from rowtrail.connectors.destinations.history import last_gone
from rowtrail.connectors.destinations.names import FILTERED, ROW
from rowtrail.connectors.destinations.rows_there import rows_query
from rowtrail.connectors.destinations.snowflake_layout import SnowflakeLayout
from rowtrail.connectors.destinations.snowflake_sql import MOST_ROWS, column, stored
from rowtrail.connectors.destinations.snowflake_types import arrow_type, column_type

Key = tuple[object, ...]
Query = tuple[str, list[object]]
"""A statement and the values for its marks."""


def keys_query(
    layout: SnowflakeLayout, target: Target, after: Key | None, upto: Key | None, limit: int
) -> Query:
    """The first keys in (after, upto] and whether they are present, in binary order."""
    names = [column(name) for name in target.schema.key]
    within, values = _range(target, names, after, upto)
    chosen = ", ".join(f"{name} AS K{place}" for place, name in enumerate(names))
    order = ", ".join(f"K{place}" for place in range(len(names)))
    sql = (
        f"SELECT * FROM (SELECT {chosen}, TRUE AS PRESENT FROM {layout.table.sql} "
        f"WHERE {layout.is_live} AND {within} UNION ALL "
        f"SELECT {chosen}, FALSE AS PRESENT FROM {layout.table.tombstones.sql} AS t "
        f"WHERE {column(FILTERED)} AND {within}{last_gone(layout, target.schema.key, 't')}"
        f") AS found ORDER BY {order} LIMIT {limit:d}"
    )
    return sql, [*values, *values]


def _range(target: Target, names: Sequence[str], after: Key | None, upto: Key | None) -> Query:
    """The condition that a key is in (after, upto], column by column: Snowflake compares no
    tuples."""
    kinds = [_kind(target, name) for name in target.schema.key]
    conditions, values = ["TRUE"], list[object]()
    for bound, sign, last in ((after, ">", "FALSE"), (upto, "<", "TRUE")):
        if bound is None:
            continue
        condition = last
        for name, kind in reversed(list(zip(names, kinds, strict=True))):
            value = f"CAST(? AS {kind})"
            condition = f"({name} {sign} {value} OR ({name} = {value} AND {condition}))"
        conditions.append(condition)
        values += [_bound(part) for part in bound for _ in range(2)]
    return " AND ".join(conditions), values


def read_keys(found: pa.Table, target: Target) -> pa.Table:
    """The answer in the target's own types."""
    schema = known_schema(target.schema)
    arrays = [one.cast(field.type) for one, field in zip(found.columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def rows_schema(layout: SnowflakeLayout, target: Target) -> pa.Schema:
    """The columns of the stream that the table has, as `describe` gives them."""
    return pa.schema(
        [
            (name, arrow_type(layout.types[stored(name)]))
            for name in target.schema.names
            if stored(name) in layout.types
        ]
    )


def read_rows_query(layout: SnowflakeLayout, target: Target, keys: pa.RecordBatch) -> Query:
    """See `ReadsRows.rows`."""
    key = target.schema.key
    chosen = ", ".join(
        f"CAST(COLUMN{place} AS {_kind(target, name)}) AS K{place}"
        for place, name in enumerate(key, start=1)
    )
    chosen += f", COLUMN{len(key) + 1} AS {ROW}"
    marks = "?, " * len(key)
    selects = []
    for at in range(0, max(len(keys), 1), MOST_ROWS):
        stop = min(at + MOST_ROWS, len(keys))
        rows = ", ".join(f"({marks}{number})" for number in range(at, stop))
        selects.append(f"SELECT {chosen} FROM VALUES {rows}")
    columns = {
        field.name: f"t.{column(field.name)}"
        for field in rows_schema(layout, target)
        if field.name not in key
    }
    same_key = " AND ".join(
        f"t.{column(name)} = s.K{place}" for place, name in enumerate(key, start=1)
    )
    values = [keys[name].to_pylist() for name in key]
    asked = " UNION ALL ".join(selects)
    return (
        rows_query(layout, asked, columns, same_key, key, once=""),
        [_bound(part) for row in zip(*values, strict=True) for part in row],
    )


def _kind(target: Target, name: str) -> str:
    return column_type(target.table, target.schema.column(name))


def _bound(value: object) -> object:
    """As it is bound before it is cast: what is no blob by its text, which each type is cast
    from without loss."""
    return value if isinstance(value, bytes) else str(value)
