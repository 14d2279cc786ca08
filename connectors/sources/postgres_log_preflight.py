"""What would stop or endanger a run with capture `log`, found without changing anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rowtrail.connectors.base import Capture, Problem, StreamSpec
from rowtrail.connectors.postgres_client import quote
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_slot import (
    PLUGIN,
    published,
    read_slot,
    untold,
)
from rowtrail.connectors.sources.postgres_streams import Described
from rowtrail.connectors.sources.postgres_table import SourceTable

_GENERATED = "Each changed row is read from the table as well; `exclude` them to save that."


def server_problems(connection: Connection, streams: Sequence[StreamSpec]) -> Iterator[Problem]:
    """What concerns all streams with capture `log`: settings, rights, slots."""
    logged = [stream for stream in streams if stream.capture is Capture.LOG]
    if not logged:
        return
    ((level, slots, keep, recovering, database),) = connection.records(
        "SELECT current_setting('wal_level'), current_setting('max_replication_slots')::int4, "
        "current_setting('max_slot_wal_keep_size'), pg_catalog.pg_is_in_recovery(), "
        "pg_catalog.current_database()"
    )
    if recovering:
        yield Problem(
            stream=None,
            message=f"PostgreSQL at {connection.name} is a standby, from which capture `log` does "
            f"not read.",
            remedy="Name the primary in the source's URL.",
        )
        return
    if level != "logical":
        yield Problem(
            stream=None,
            message=f"wal_level of the server is {level}, so that its log does not tell rows.",
            remedy="At the server: ALTER SYSTEM SET wal_level = logical; then restart it.",
        )
    yield from _right_problems(connection)
    names = list(dict.fromkeys(stream.log for stream in logged))
    missing = [name for name in names if read_slot(connection, name) is None]
    ((used,),) = connection.records("SELECT count(*) FROM pg_catalog.pg_replication_slots")
    if missing and used >= slots:
        yield Problem(
            stream=None,
            message=f"All {slots} replication slots of the server are taken, and "
            f"{', '.join(missing)} has yet to be made.",
            remedy="Drop one that nobody needs (pg_replication_slots lists them), or raise "
            "max_replication_slots and restart the server.",
        )
    for name in names:
        yield from _slot_problems(connection, name, database, keep)


def _right_problems(connection: Connection) -> Iterator[Problem]:
    ((user, may),) = connection.records(
        "SELECT current_user, rolsuper OR rolreplication FROM pg_catalog.pg_roles "
        "WHERE rolname = current_user"
    )
    if not may:
        yield Problem(
            stream=None,
            message=f"User {user} may not read the server's log.",
            remedy=f'At the server, as a superuser: ALTER ROLE "{user}" REPLICATION',
        )


def _slot_problems(
    connection: Connection, name: str, database: str, keep: str
) -> Iterator[Problem]:
    slot = read_slot(connection, name)
    if slot is None:
        yield Problem(
            stream=None,
            message=f"There is no replication slot {name} yet.",
            remedy="Run: rowtrail init --capture",
            capture=True,
        )
        return
    if slot.plugin != PLUGIN or slot.database != database:
        yield Problem(
            stream=None,
            message=f"Replication slot {name} is another one: it has plugin {slot.plugin} and "
            f"belongs to database {slot.database or '(none)'}.",
            remedy="Set `slot` of the pipeline to another name, then run: rowtrail init --capture",
        )
    elif slot.lost:
        yield Problem(
            stream=None,
            message=f"Replication slot {name} has lost log that it needs: the server keeps no more "
            f"than max_slot_wal_keep_size ({keep}).",
            remedy="Run `rowtrail init --capture`, which makes it anew, then read the streams "
            "anew: rowtrail run --resnapshot STREAM",
            capture=True,
        )
    elif slot.active_pid is not None:
        yield Problem(
            stream=None,
            message=f"Replication slot {name} is being read by process {slot.active_pid} of the "
            f"server.",
            remedy="A run waits for it, or fails. If it is `rowtrail run --follow`, that is as it "
            "should be.",
            fatal=False,
        )


def stream_problems(
    connection: Connection, stream: StreamSpec, described: Described
) -> Iterator[Problem]:
    """What concerns one stream with capture `log`."""
    table = described.table
    if (why := _unpublishable(connection, table)) is not None:
        yield Problem(
            stream=stream.name,
            message=f"{table.name} {why}, so that the log does not tell all its changes.",
            remedy="Use capture `cursor` or `snapshot` for it, or leave it out.",
        )
        return
    yield from _identity_problems(stream, described)
    if published(connection, stream.log, table) is None:
        yield Problem(
            stream=stream.name,
            message=f"Table {table.name} is not in publication {stream.log} yet.",
            remedy="Run: rowtrail init --capture",
            capture=True,
        )
    elif (hidden := untold(connection, stream.log, table)) is not None:
        yield Problem(
            stream=stream.name,
            message=f"The log does not tell all changes of {table.name}: {hidden}.",
            remedy=f"Set `slot` of the pipeline to a name of its own, or mend the publication: "
            f"ALTER PUBLICATION {quote(stream.log)} …",
        )
    generated = [column.name for column in table.columns if column.generated]
    if generated := [name for name in generated if name in described.schema.names]:
        yield Problem(
            stream=stream.name,
            message=f"The log does not tell the generated columns of {table.name} "
            f"({', '.join(generated)}).",
            remedy=_GENERATED,
            fatal=False,
        )
    if table.kind == "p":
        yield Problem(
            stream=stream.name,
            message=f"The log of the partitioned table {table.name} does not tell when a single "
            f"partition is truncated, detached, or attached with rows in it.",
            remedy=f"After such a change run: rowtrail run --resnapshot {stream.name}",
            fatal=False,
        )


def _unpublishable(connection: Connection, table: SourceTable) -> str | None:
    if table.kind not in ("r", "p"):
        return f"is a {table.what}"
    if table.has_heirs:
        return "has tables that inherit from it, whose rows are read with its own"
    (persistence,) = connection.catalog_entry(
        table.name,
        "SELECT relpersistence::text FROM pg_catalog.pg_class WHERE oid = %s::int8::oid",
        table.oid,
    )
    return {"u": "is UNLOGGED", "t": "is temporary"}.get(persistence)


def _identity_problems(stream: StreamSpec, described: Described) -> Iterator[Problem]:
    """The log has to name deleted rows by the stream's key; and publishing a table whose rows it
    cannot name makes the application's own UPDATE and DELETE fail."""
    table, key = described.table, described.schema.key
    lacks = [name for name in key if name not in table.identity_columns]
    if not table.identity_columns:
        message = (
            f"The log would not say which rows of {table.name} are updated or deleted (it has no "
            f"primary key, or one that is DEFERRABLE, or REPLICA IDENTITY NOTHING): once it is "
            f"published, UPDATE and DELETE on it fail at the source."
        )
    elif lacks:
        message = (
            f"The log names deleted rows of {table.name} by {', '.join(table.identity_columns)}, "
            f"and not by {', '.join(lacks)} of the stream's key."
        )
    else:
        return
    yield Problem(
        stream=stream.name,
        message=message,
        remedy=f"ALTER TABLE {table.sql} REPLICA IDENTITY FULL (or USING INDEX with a unique index "
        f"of the key), or set another `key` or capture.",
    )
