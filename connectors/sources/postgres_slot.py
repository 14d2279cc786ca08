"""The replication slot and the publication that the streams of a pipeline share.

The slot makes the server keep its log until it was read; the publication says for which tables.
Both have the same name. The log is read by peeking, which changes nothing at the server, and the
slot is moved on once all that was read is durable (`pg_logical_slot_get_binary_changes` would
forget what it gave out, durable or not).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from rowtrail.connectors.capture.pgoutput_wire import lsn_text
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.postgres_client import quote, quote_text
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_table import SourceTable

PLUGIN = "pgoutput"


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A logical slot as it is now. Places in the log are integers."""

    name: str
    confirmed: int  # what ends up to here was acknowledged, and is not told any more
    restart: int  # the server keeps its log from here on
    lost: bool  # the server has removed log that the slot needs
    plugin: str
    database: str
    active_pid: int | None  # of the session that reads from it now


@dataclass(frozen=True, kw_only=True)
class ServerLog:
    """The server's log as it is now."""

    system: str  # identifier of the server's data and its timeline, which a new primary raises
    flushed: int  # where it ends, as far as it is safe on the disk
    snapshot: str  # what is visible at this moment
    now: datetime  # by the server's clock (UTC)


def read_slot(connection: Connection, name: str) -> Slot | None:
    """The slot of that name; None when there is none."""
    rows = connection.records(
        "SELECT coalesce(confirmed_flush_lsn, '0/0') - '0/0'::pg_lsn, "
        "coalesce(restart_lsn, '0/0') - '0/0'::pg_lsn, coalesce(wal_status = 'lost', false), "
        "coalesce(plugin, ''), coalesce(database, ''), active_pid "
        "FROM pg_catalog.pg_replication_slots WHERE slot_name = %s",
        (name,),
    )
    if not rows:
        return None
    confirmed, restart, lost, plugin, database, active_pid = rows[0]
    return Slot(
        name=name,
        confirmed=int(confirmed),
        restart=int(restart),
        lost=lost,
        plugin=plugin,
        database=database,
        active_pid=active_pid,
    )


def read_log_end(connection: Connection) -> ServerLog:
    """Where the log ends now. Raises ConfigurationError on a standby, whose log is another's."""
    ((recovering,),) = connection.records("SELECT pg_catalog.pg_is_in_recovery()")
    if recovering:
        raise ConfigurationError(
            f"PostgreSQL at {connection.name} is a standby, from which capture `log` does not "
            f"read. Name the primary in the source's URL."
        )
    ((system, flushed, snapshot, now),) = connection.records(
        "SELECT system_identifier || '/' || "
        "left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8), "
        "pg_catalog.pg_current_wal_flush_lsn() - '0/0'::pg_lsn, "
        "pg_catalog.pg_current_snapshot()::text, pg_catalog.clock_timestamp() "
        "FROM pg_catalog.pg_control_system()"
    )
    return ServerLog(
        system=system, flushed=int(flushed), snapshot=snapshot, now=now.astimezone(UTC)
    )


def published(connection: Connection, name: str, table: SourceTable) -> str | None:
    """What identifies the table's place in the publication; None when it is not in it.

    It is another one after the publication, or the table in it, was dropped and made again.
    """
    rows = connection.records(
        "SELECT p.oid::text, r.oid::text FROM pg_catalog.pg_publication AS p "
        "LEFT JOIN pg_catalog.pg_publication_rel AS r ON r.prpubid = p.oid AND r.prrelid = %s::oid "
        "WHERE p.pubname = %s AND (r.oid IS NOT NULL OR p.puballtables)",
        (table.oid, name),
    )
    if not rows:
        return None
    publication, entry = rows[0]
    return f"{publication}/{entry or f'all {table.oid}'}"


def untold(connection: Connection, name: str, table: SourceTable) -> str | None:
    """What the publication does not tell of a table that is in it, for a message; None: nothing.

    One that Rowtrail made tells all; somebody may have made it otherwise, or changed it.
    """
    rows = connection.records(
        "SELECT p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, p.pubviaroot, "
        "EXISTS (SELECT FROM pg_catalog.pg_publication_rel AS r WHERE r.prpubid = p.oid "
        "AND r.prrelid = %(oid)s::oid AND to_jsonb(r) ->> 'prqual' IS NOT NULL), "
        "(SELECT min(a.relid::text) FROM pg_catalog.pg_partition_ancestors(%(oid)s::oid::regclass) "
        "AS a WHERE a.relid <> %(oid)s::oid AND (p.puballtables OR EXISTS (SELECT "
        "FROM pg_catalog.pg_publication_rel AS r WHERE r.prpubid = p.oid AND r.prrelid = a.relid)))"
        " FROM pg_catalog.pg_publication AS p WHERE p.pubname = %(name)s",
        {"name": name, "oid": table.oid},
    )
    for everything, via_root, filtered, ancestor in rows:
        if not everything:
            return f"publication {name} does not publish all of insert, update, delete, truncate"
        if table.kind == "p" and not via_root:
            return f"publication {name} has no publish_via_partition_root = true"
        if ancestor is not None and via_root:
            return (
                f"publication {name} has {ancestor} too, whose partition it is, and tells its "
                f"changes as those of that table"
            )
        if filtered:
            return f"publication {name} has a WHERE for it, and hides some of its rows"
    return None


def peek_query(slot: str, upto: int) -> str:
    """SQL for the messages of all transactions that end up to there, not acknowledged yet."""
    return (
        f"SELECT data FROM pg_catalog.pg_logical_slot_peek_binary_changes({quote_text(slot)}, "
        f"'{lsn_text(upto)}'::pg_lsn, NULL, 'proto_version', '1', 'publication_names', "
        f"{quote_text(quote(slot))})"
    )


def advance(connection: Connection, slot: str, upto: int) -> None:
    """The server may forget what ends up to there."""
    connection.records(
        "SELECT pg_catalog.pg_replication_slot_advance(%s, %s::pg_lsn)",
        (slot, lsn_text(upto)),
        doing=f"move slot {slot} on",
    )
