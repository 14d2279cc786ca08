"""Publication and slot of capture `log`: the SQL that makes them, and that takes them away."""

from __future__ import annotations

from collections.abc import Sequence

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.postgres_client import quote, quote_text
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_slot import PLUGIN, Slot, published, read_slot
from rowtrail.connectors.sources.postgres_table import SourceTable, find_table

_CREATE_SLOT = "SELECT pg_catalog.pg_create_logical_replication_slot("
_DROP_SLOT = "SELECT pg_catalog.pg_drop_replication_slot("


def plan(connection: Connection, streams: Sequence[StreamSpec]) -> list[str]:
    """The statements that are missing for capture `log`, the publication's before the slot's.

    A slot that is older than the publication cannot be read: the publication has to be there at
    each place of the log. So a slot whose publication is gone is made anew, and so is one that has
    lost its log: all streams that read it have to be read anew in any case.
    """
    logged = [stream for stream in streams if stream.capture is Capture.LOG]
    tables = [(stream, find_table(connection, stream.table)) for stream in logged]
    statements: list[str] = []
    for log in dict.fromkeys(stream.log for stream in logged):
        wanted = {table.oid: table for stream, table in tables if stream.log == log}
        there = connection.records(
            "SELECT puballtables FROM pg_catalog.pg_publication WHERE pubname = %s", (log,)
        )
        missing = [
            table.sql for table in wanted.values() if published(connection, log, table) is None
        ]
        if not there:
            statements.append(
                f"CREATE PUBLICATION {quote(log)} FOR TABLE {', '.join(missing)} WITH (publish = "
                f"'insert, update, delete, truncate', publish_via_partition_root = true)"
            )
        elif missing:
            statements.append(f"ALTER PUBLICATION {quote(log)} ADD TABLE {', '.join(missing)}")
        slot = read_slot(connection, log)
        useless = slot is not None and (slot.lost or not there) and _is_ours(connection, slot)
        if useless:
            statements.append(f"{_DROP_SLOT}{quote_text(log)})")
        if slot is None or useless:
            statements.append(f"{_CREATE_SLOT}{quote_text(log)}, {quote_text(PLUGIN)})")
    return statements


def removal(connection: Connection, streams: Sequence[StreamSpec]) -> list[str]:
    """What takes these streams' tables out of their publications; a slot that none uses any more
    first. A table that was dropped has taken itself out."""
    tables = [(stream, _table(connection, stream)) for stream in streams if stream.log]
    statements: list[str] = []
    for log in dict.fromkeys(stream.log for stream, _ in tables):
        rows = connection.records(
            "SELECT r.prrelid::int8 FROM pg_catalog.pg_publication AS p "
            "LEFT JOIN pg_catalog.pg_publication_rel AS r ON r.prpubid = p.oid "
            "WHERE p.pubname = %s",
            (log,),
        )
        entries = {oid for (oid,) in rows if oid is not None}
        leaving = {
            table.oid: table
            for stream, table in tables
            if stream.log == log and table is not None and table.oid in entries
        }
        if entries <= leaving.keys():
            if read_slot(connection, log) is not None:
                statements.append(f"SELECT pg_catalog.pg_drop_replication_slot({quote_text(log)})")
            if rows:
                statements.append(f"DROP PUBLICATION {quote(log)}")
        elif leaving:
            listed = ", ".join(table.sql for table in leaving.values())
            statements.append(f"ALTER PUBLICATION {quote(log)} DROP TABLE {listed}")
    return statements


def _is_ours(connection: Connection, slot: Slot) -> bool:
    """A slot of the same name may be somebody else's: `rowtrail check` tells."""
    ((database,),) = connection.records("SELECT pg_catalog.current_database()")
    return (slot.plugin, slot.database) == (PLUGIN, database)


def is_slot_statement(statement: str) -> bool:
    """Whether it makes or drops a slot, which a transaction that has written may not do."""
    return statement.startswith((_CREATE_SLOT, _DROP_SLOT))


def _table(connection: Connection, stream: StreamSpec) -> SourceTable | None:
    try:
        return find_table(connection, stream.table)
    except ConfigurationError:
        return None
