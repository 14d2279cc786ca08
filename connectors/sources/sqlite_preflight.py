"""What would stop or endanger a run over a SQLite source, found without changing anything."""

from __future__ import annotations

from collections.abc import Iterator

from rowtrail.connectors.base import Capture, Problem, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.sources.sqlite_connection import Connection
from rowtrail.connectors.sources.sqlite_log import expression_indexes
from rowtrail.connectors.sources.sqlite_log_rows import plan
from rowtrail.connectors.sources.sqlite_streams import Described, describe_stream
from rowtrail.connectors.sources.sqlite_table import quote


def find_problems(connection: Connection, stream: StreamSpec) -> Iterator[Problem]:
    try:
        described = describe_stream(connection, stream)
    except ConfigurationError as error:
        yield Problem(
            stream=stream.name,
            message=str(error),
            remedy="",
        )
        return
    yield from _key_problems(connection, stream, described)
    if stream.capture is Capture.TRIGGER:
        yield from _log_problems(connection, stream, described)
    if described.cursor is not None:
        yield from _cursor_problems(connection, stream, described, described.cursor.name)


def _key_problems(
    connection: Connection, stream: StreamSpec, described: Described
) -> Iterator[Problem]:
    key = described.schema.key
    table = quote(described.table.name)
    names = ", ".join(f"t.{quote(name)} COLLATE BINARY" for name in key)
    if not described.table.is_unique(key):
        rows = connection.records(
            f"SELECT count(*) FROM (SELECT 1 FROM {table} AS t GROUP BY {names} "
            f"HAVING count(*) > 1)"
        )
        if rows[0][0]:
            yield Problem(
                stream=stream.name,
                message=f"The key ({', '.join(key)}) of {described.table.name} is not unique: "
                f"{rows[0][0]} keys have several rows, which would take each other's place.",
                remedy="Set `key` of the stream to columns that are unique together.",
            )
    nullable = [name for name in key if not described.table.column(name).not_null]
    if nullable and described.table.primary_key != key[:1]:
        missing = " OR ".join(f"t.{quote(name)} IS NULL" for name in nullable)
        rows = connection.records(f"SELECT count(*) FROM {table} AS t WHERE {missing}")
        if rows[0][0]:
            yield Problem(
                stream=stream.name,
                message=f"{rows[0][0]} rows of {described.table.name} have a NULL in the key "
                f"({', '.join(key)}). Each is held back as a failure.",
                remedy="Give these rows a key at the source, or set another `key`.",
                fatal=False,
            )


def _log_problems(
    connection: Connection, stream: StreamSpec, described: Described
) -> Iterator[Problem]:
    if plan(connection, described.table, described.schema.key):
        yield Problem(
            stream=stream.name,
            message=f"The change log of {described.table.name} or some of its triggers are "
            f"missing, or do not fit the table any more.",
            remedy="Run: rowtrail init --capture",
            capture=True,
        )
    for index in expression_indexes(described.table):
        yield Problem(
            stream=stream.name,
            message=f"Unique index {index} of {described.table.name} is on an expression: a row "
            f"that a REPLACE deletes through it is not logged as deleted.",
            remedy="Avoid REPLACE on that table, or use capture `snapshot`.",
            fatal=False,
        )


def _cursor_problems(
    connection: Connection, stream: StreamSpec, described: Described, cursor: str
) -> Iterator[Problem]:
    rows = connection.records(
        "SELECT count(*) FROM pragma_index_list(?) AS i JOIN pragma_index_info(i.name) AS x "
        "WHERE x.seqno = 0 AND x.name = ?",
        (described.table.name, cursor),
    )
    if not rows[0][0] and described.table.primary_key != (cursor,):
        yield Problem(
            stream=stream.name,
            message=f"Column {cursor} of {described.table.name} has no index, so that each page "
            f"of a read goes over the whole table.",
            remedy=f"CREATE INDEX {quote(f'{described.table.name}_{cursor}')} ON "
            f"{quote(described.table.name)} ({quote(cursor)})",
            fatal=False,
        )
