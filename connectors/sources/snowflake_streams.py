"""A stream's settings against its Snowflake table: columns and their types, key, cursor."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.connectors.sources.snowflake_connection import Connection
from rowtrail.connectors.sources.snowflake_table import SourceTable, TableColumn, find_table
from rowtrail.connectors.sources.snowflake_types import TIMESTAMPS, arrow_type
from rowtrail.connectors.sources.snowflake_values import ValueReader, value_reader
from rowtrail.connectors.sources.stream_columns import chosen_columns, stream_key

CURSORS = ("NUMBER", "VARCHAR", "DATE", *TIMESTAMPS)


@dataclass(frozen=True, kw_only=True)
class Described:
    """A stream that has been checked against its table."""

    table: SourceTable
    schema: TableSchema
    readers: tuple[ValueReader, ...]  # aligned with the schema's columns
    cursor: TableColumn | None  # with capture `cursor`

    @property
    def keys(self) -> tuple[ValueReader, ...]:
        """Readers of the key's columns, in key order."""
        by_name = {reader.name: reader for reader in self.readers}
        return tuple(by_name[name] for name in self.schema.key)


def describe_stream(connection: Connection, stream: StreamSpec) -> Described:
    """Raises ConfigurationError for whatever does not fit, naming the table and the column."""
    if stream.capture not in (Capture.SNAPSHOT, Capture.CURSOR):
        raise ConfigurationError(
            f"Stream {stream.name} asks for capture `{stream.capture.value}`, which Snowflake has "
            f"not. Use `cursor` or `snapshot`."
        )
    table = find_table(connection, stream.table)
    key = stream_key(stream, table)
    readers = tuple(_reader(stream, table, column) for column in chosen_columns(stream, table, key))
    for reader in readers:
        if reader.name in key and pa.types.is_floating(reader.type):
            raise ConfigurationError(
                f"Key column {table.name}.{reader.name} is a {reader.declared.text}: 0 and -0, or "
                f"two numbers that print alike, are different keys in one database and the same in "
                f"another. Set `key` of stream {stream.name} to other columns, or read a view that "
                f"has it as a NUMBER."
            )
    columns = tuple(
        Column(
            name=reader.name,
            type=reader.type,
            nullable=reader.name not in key and not reader.not_null,
            declared=reader.declared.text,
            chosen=reader.type != reader.declared.natural,
        )
        for reader in readers
    )
    return Described(
        table=table,
        schema=TableSchema(table=table.name, columns=columns, key=key),
        readers=readers,
        cursor=_cursor(stream, table) if stream.capture is Capture.CURSOR else None,
    )


def _reader(stream: StreamSpec, table: SourceTable, column: TableColumn) -> ValueReader:
    return value_reader(
        column.name,
        column.stored,
        column.type,
        arrow_type(table.name, column.name, column.type, stream.types),
        not_null=column.not_null,
    )


def _cursor(stream: StreamSpec, table: SourceTable) -> TableColumn:
    """Its values are compared at the source alone, so that the stream's `types` do not matter."""
    if stream.cursor is None:
        raise ConfigurationError(
            f"Stream {stream.name} has capture `cursor` but names no column. Set `cursor` to the "
            f"column of {table.name} that rises with each change."
        )
    column = table.column(stream.cursor)
    if column.type.kind not in CURSORS:
        raise ConfigurationError(
            f"Column {column.name} cannot be the cursor of stream {stream.name}: it is declared "
            f"{column.type.text}. Choose a column of times, NUMBER or VARCHAR, or capture "
            f"`snapshot`."
        )
    textual = column.type.kind == "VARCHAR"
    if stream.cursor_lag < 0 or (stream.cursor_lag and textual):
        raise ConfigurationError(
            f"`cursor_lag` of stream {stream.name} is {stream.cursor_lag:g}, which cannot be taken "
            f"from column {column.name} ({column.type.text}). It is a number of seconds or units, "
            f"0 or more, and 0 for text."
        )
    return column
