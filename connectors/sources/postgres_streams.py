"""A stream's settings against its PostgreSQL table: columns and their types, key, cursor."""

from __future__ import annotations

from dataclasses import dataclass

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_table import SourceTable, TableColumn, find_table
from rowtrail.connectors.sources.postgres_types import NUMBERS, TIMES, arrow_type, natural_type
from rowtrail.connectors.sources.postgres_values import ValueReader, value_reader
from rowtrail.connectors.sources.stream_columns import chosen_columns, stream_key

_TEXTS = ("text", "varchar", "uuid")


@dataclass(frozen=True, kw_only=True)
class Described:
    """A stream that has been checked against its table."""

    table: SourceTable
    schema: TableSchema
    readers: tuple[ValueReader, ...]  # aligned with the schema's columns
    cursor: TableColumn | None  # with capture `cursor`


def describe_stream(connection: Connection, stream: StreamSpec) -> Described:
    """Raises ConfigurationError for whatever does not fit, naming the table and the column."""
    table = find_table(connection, stream.table)
    if stream.capture is Capture.TRIGGER and table.kind not in ("r", "p"):
        raise ConfigurationError(
            f"{table.name} is a {table.what}, so triggers do not see what changes in it. Use "
            f"capture `snapshot` or `cursor` for stream {stream.name}."
        )
    key = stream_key(stream, table)
    readers = tuple(_reader(stream, table, column) for column in chosen_columns(stream, table, key))
    columns = tuple(
        Column(
            name=reader.name,
            type=reader.type,
            nullable=reader.name not in key and not table.column(reader.name).not_null,
            declared=reader.declared,
            chosen=reader.type != natural_type(table.column(reader.name)),
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
    return value_reader(column, arrow_type(table.name, column, stream.types))


def _cursor(stream: StreamSpec, table: SourceTable) -> TableColumn:
    """Its values are compared at the source alone, so that the stream's `types` do not matter."""
    if stream.cursor is None:
        raise ConfigurationError(
            f"Stream {stream.name} has capture `cursor` but names no column. Set `cursor` to the "
            f"column of {table.name} that rises with each change."
        )
    column = table.column(stream.cursor)
    if not column.is_builtin or column.type_name not in (*NUMBERS, *TIMES, *_TEXTS):
        raise ConfigurationError(
            f"Column {column.name} cannot be the cursor of stream {stream.name}: it is declared "
            f"{column.declared}, which does not rise with each change. Choose a column of times, "
            f"numbers or text, or capture `trigger` or `snapshot`."
        )
    if stream.cursor_lag < 0 or (stream.cursor_lag and column.type_name in _TEXTS):
        raise ConfigurationError(
            f"`cursor_lag` of stream {stream.name} is {stream.cursor_lag:g}, which cannot be taken "
            f"from column {column.name} ({column.declared}). It is a number of seconds or units, 0 "
            f"or more, and 0 for text."
        )
    return column
