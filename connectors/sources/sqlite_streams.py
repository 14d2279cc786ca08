"""A stream's settings against its SQLite table: columns and their types, key, cursor."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.connectors.sources.sqlite_connection import Connection
from rowtrail.connectors.sources.sqlite_cursor import check_cursor_type
from rowtrail.connectors.sources.sqlite_table import (
    SourceTable,
    TableColumn,
    collation,
    find_table,
)
from rowtrail.connectors.sources.sqlite_types import Affinity, Collation, arrow_type, declared_type
from rowtrail.connectors.sources.sqlite_values import ValueReader, value_reader
from rowtrail.connectors.sources.stream_columns import chosen_columns, stream_key


@dataclass(frozen=True, kw_only=True)
class Described:
    """A stream that has been checked against its table."""

    table: SourceTable
    schema: TableSchema
    readers: tuple[ValueReader, ...]  # aligned with the schema's columns
    cursor: ValueReader | None


def describe_stream(connection: Connection, stream: StreamSpec) -> Described:
    """Raises ConfigurationError for whatever does not fit, naming the table and the column."""
    if stream.capture is Capture.LOG:
        raise ConfigurationError(
            f"Stream {stream.name} asks for capture `log`, which SQLite has not. Use `trigger`, "
            f"`cursor` or `snapshot`."
        )
    table = find_table(connection, stream.table)
    if stream.capture is Capture.TRIGGER and table.kind != "table":
        raise ConfigurationError(
            f"{table.name} is a {table.kind}, so it can have no triggers. Use capture `snapshot` "
            f"or `cursor` for stream {stream.name}."
        )
    key = stream_key(stream, table)
    readers = tuple(
        _reader(connection, stream, table, column, ordered=column.name in key)
        for column in chosen_columns(stream, table, key)
    )
    _check_key(connection, table, [reader for reader in readers if reader.name in key])
    columns = tuple(
        Column(
            name=reader.name,
            type=reader.type,
            nullable=reader.name not in key and not table.column(reader.name).not_null,
            declared=reader.declared,
            chosen=reader.type != declared_type(reader.declared),
        )
        for reader in readers
    )
    return Described(
        table=table,
        schema=TableSchema(table=table.name, columns=columns, key=key),
        readers=readers,
        cursor=_cursor(connection, stream, table) if stream.capture is Capture.CURSOR else None,
    )


def _reader(
    connection: Connection,
    stream: StreamSpec,
    table: SourceTable,
    column: TableColumn,
    *,
    ordered: bool,
) -> ValueReader:
    """`ordered`: the column is of the key or the cursor."""
    data_type = arrow_type(table.name, column.name, column.declared, stream.types, column.held)
    return value_reader(
        column.name,
        column.declared,
        data_type,
        column.affinity,
        key=ordered,
        collation=collation(connection, table, column.name) if ordered else Collation.BINARY,
    )


def _check_key(connection: Connection, table: SourceTable, keys: list[ValueReader]) -> None:
    """The order of keys has to be the same in SQLite, in the ledger and at the target."""
    for key in keys:
        zoned = pa.types.is_timestamp(key.type) and key.type.tz is not None
        textual = table.column(key.name).affinity in (Affinity.TEXT, Affinity.BLOB)
        if zoned or pa.types.is_time(key.type) or (pa.types.is_decimal(key.type) and textual):
            raise ConfigurationError(
                f"Key column {table.name}.{key.name} is read as {key.type}, but SQLite keeps it "
                f'as text, which sorts otherwise. Set types."{key.name}" = "text".'
            )
    if any(pa.types.is_string(key.type) for key in keys):
        encoding = connection.records("PRAGMA encoding")[0][0]
        if encoding != "UTF-8":
            raise ConfigurationError(
                f"{connection.path} keeps text as {encoding}, in which the text key of "
                f"{table.name} does not sort by code points. Copy the database with `PRAGMA "
                f"encoding = 'UTF-8'`, or name a key without text."
            )


def _cursor(connection: Connection, stream: StreamSpec, table: SourceTable) -> ValueReader:
    if stream.cursor is None:
        raise ConfigurationError(
            f"Stream {stream.name} has capture `cursor` but names no column. Set `cursor` to the "
            f"column of {table.name} that rises with each change."
        )
    column = table.column(stream.cursor)
    reader = _reader(connection, stream, table, column, ordered=True)
    data_type = reader.type
    check_cursor_type(stream.name, column.name, data_type)
    if stream.cursor_lag < 0 or (stream.cursor_lag and pa.types.is_string(data_type)):
        raise ConfigurationError(
            f"`cursor_lag` of stream {stream.name} is {stream.cursor_lag:g}, which cannot be taken "
            f"from column {column.name} ({data_type}). It is a number of seconds or units, 0 or "
            f"more, and 0 for text."
        )
    return reader
