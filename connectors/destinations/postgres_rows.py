"""Reads single rows from a target in PostgreSQL."""

from __future__ import annotations

import pyarrow as pa

from rowtrail.connectors.base import Target
from rowtrail.connectors.destinations.names import ROW, quote, quoted
from rowtrail.connectors.destinations.postgres_layout import PostgresLayout
from rowtrail.connectors.destinations.postgres_types import arrow_type, column_type
from rowtrail.connectors.destinations.rows_there import rows_query
from rowtrail.connectors.postgres_client import quote_text


def rows_schema(layout: PostgresLayout, target: Target) -> pa.Schema:
    """The columns of the stream that the table has, as `describe` gives them."""
    return pa.schema(
        [
            (name, arrow_type(layout.types[name]))
            for name in target.schema.names
            if name in layout.types
        ]
    )


def read_rows_query(layout: PostgresLayout, target: Target, keys: pa.RecordBatch) -> str:
    """See `ReadsRows.rows`; each key is looked up in the index of the primary key."""
    key = target.schema.key
    kinds = [column_type(target.table, target.schema.column(name)) for name in key]
    arrays = ", ".join(
        f"CAST({quote_text(_array(keys[name]))} AS {kind}[])"
        for name, kind in zip(key, kinds, strict=True)
    )
    asked = f"SELECT * FROM unnest({arrays}) WITH ORDINALITY AS a({quoted([*key, ROW])})"
    columns = {
        field.name: _column(layout, field)
        for field in rows_schema(layout, target)
        if field.name not in key
    }
    same_key = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in key)
    return rows_query(layout, asked, columns, same_key, key)


def _column(layout: PostgresLayout, field: pa.Field) -> str:
    """What has no Arrow type of its own comes as the text that the server writes for it."""
    column = f"t.{quote(field.name)}"
    other = pa.types.is_string(field.type) and layout.types[field.name] != "text"
    return f"{column}::text" if other else column


def _array(values: pa.Array) -> str:
    """The text of an array: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO"""
    return "{" + ",".join(_element(value) for value in values.to_pylist()) + "}"


def _element(value: object) -> str:
    text = f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
