"""Makes, checks, shortens and removes the change logs of a PostgreSQL source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.capture.trigger_windows import forgettable, shows_all_of
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.postgres_client import quote, quote_text
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_names import possible_tables
from rowtrail.connectors.sources.postgres_streams import describe_stream
from rowtrail.connectors.sources.postgres_table import SourceTable, find_table
from rowtrail.connectors.sources.postgres_triggers import (
    LOGS,
    PREFIX,
    SCHEMA,
    LogDesign,
    always,
    design,
    functions,
    in_schema,
    log_name,
    registration,
    registry,
)

_ALWAYS, _ORIGIN, _DISABLED = "A", "O", "D"  # pg_trigger.tgenabled


@dataclass(frozen=True, kw_only=True)
class Installed:
    """What there is of a table's log."""

    design: str | None  # fingerprint of the statements that made it; None: it is not registered
    log: bool
    triggers: dict[str, str]  # of Rowtrail on the table: name -> pg_trigger.tgenabled
    calling: tuple[tuple[str, str], ...]  # (trigger, table as SQL) that call the log's functions
    functions: tuple[str, ...]
    user: str
    owner: bool  # this user may alter the table

    def fits(self, wanted: LogDesign) -> bool:
        names = {trigger.name for trigger in wanted.triggers}
        return (
            self.log
            and self.design == wanted.fingerprint
            and self.triggers.keys() == names
            and _DISABLED not in self.triggers.values()
        )


def plan(connection: Connection, streams: Sequence[StreamSpec]) -> list[str]:
    """What is to be run so that the changes of these streams are logged; empty when all is there.

    A log that had to be made or mended gets a new identity, since changes may be missing in it.
    """
    statements: list[str] = []
    keys: dict[int, tuple[str, ...]] = {}
    user = ""
    for stream in streams:
        if stream.capture is not Capture.TRIGGER:
            continue
        found = describe_stream(connection, stream)
        table, key = found.table, found.schema.key
        if table.oid in keys:
            if keys[table.oid] != key:
                raise ConfigurationError(
                    f"Table {table.name} has one change log, but its streams name different keys "
                    f"for it: {', '.join(keys[table.oid])} and {', '.join(key)}. Give them the "
                    f"same key."
                )
            continue
        keys[table.oid] = key
        there = installed(connection, table)
        user = there.user
        statements += _table_plan(table, there, design(table, key))
    return [*registry(user), *statements] if statements else []


def _table_plan(table: SourceTable, there: Installed, wanted: LogDesign) -> list[str]:
    if there.fits(wanted):
        return []
    statements = _drops(table.sql, there, wanted.log)
    statements += [*wanted.statements, wanted.grant(there.user)]
    if there.owner:
        statements.append(always(table, wanted.triggers))
    return [*statements, registration(wanted.log, table, wanted.fingerprint)]


def removal(connection: Connection, tables: Sequence[str]) -> list[str]:
    """What takes the logs of these tables away, and the schema after the last one.

    The tables may be gone.
    """
    if not _has_registry(connection):
        return []
    registered = {str(log) for (log,) in connection.records(f"SELECT log FROM {LOGS}")}
    statements: list[str] = []
    removed: set[str] = set()
    for name in dict.fromkeys(tables):
        for schema, relation in possible_tables(connection, name):
            log = log_name(schema, relation)
            if log not in registered or log in removed:
                continue
            there = _parts(connection, schema, relation)
            statements += _drops(f"{quote(schema)}.{quote(relation)}", there, log)
            statements.append(f"DELETE FROM {LOGS} WHERE log = {quote_text(log)}")
            removed.add(log)
    if removed and removed == registered:
        statements += [f"DROP TABLE {LOGS}", f"DROP SCHEMA {SCHEMA}"]
    return statements


def _drops(table: str, there: Installed, log: str) -> list[str]:
    """Triggers first: a table whose triggers write to a log that is gone takes no writes."""
    triggers = {(name, table) for name in there.triggers} | set(there.calling)
    return [
        *(f"DROP TRIGGER {quote(name)} ON {on}" for name, on in sorted(triggers)),
        *(f"DROP FUNCTION {in_schema(name)}()" for name in there.functions),
        *([f"DROP TABLE {in_schema(log)}"] if there.log else []),
    ]


def installed(connection: Connection, table: SourceTable) -> Installed:
    return _parts(connection, table.schema, table.relation)


def _parts(connection: Connection, schema: str, relation: str) -> Installed:
    log, names = log_name(schema, relation), list(functions(schema, relation))
    triggers = connection.records(
        "SELECT t.tgname, t.tgenabled::text FROM pg_catalog.pg_trigger AS t "
        "JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid "
        "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND NOT t.tgisinternal AND t.tgparentid = 0 "
        "AND pg_catalog.starts_with(t.tgname, %s) ORDER BY t.tgname",
        (schema, relation, PREFIX),
    )
    calling = connection.records(
        "SELECT t.tgname, pg_catalog.format('%%I.%%I', n.nspname, c.relname) "
        "FROM pg_catalog.pg_trigger AS t "
        "JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid "
        "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
        "JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid "
        "JOIN pg_catalog.pg_namespace AS s ON s.oid = p.pronamespace "
        "WHERE s.nspname = %s AND p.proname = ANY (%s) AND t.tgparentid = 0 "
        "AND NOT (n.nspname = %s AND c.relname = %s)",
        (SCHEMA, names, schema, relation),
    )
    ((log_there, existing, user, owner),) = connection.records(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS c "
        "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND c.relkind = 'r'), "
        "ARRAY(SELECT p.proname::text FROM pg_catalog.pg_proc AS p "
        "JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace "
        "WHERE n.nspname = %s AND p.proname = ANY (%s) ORDER BY 1), current_user::text, "
        "coalesce((SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') "
        "FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s), false)",
        (SCHEMA, log, SCHEMA, names, schema, relation),
    )
    rows = (
        connection.records(f"SELECT design FROM {LOGS} WHERE log = %s", (log,))
        if _has_registry(connection)
        else []
    )
    return Installed(
        design=rows[0][0] if rows else None,
        log=log_there,
        triggers=dict(triggers),
        calling=tuple(calling),
        functions=tuple(existing),
        user=user,
        owner=owner,
    )


def _has_registry(connection: Connection) -> bool:
    ((there,),) = connection.records("SELECT pg_catalog.to_regclass(%s) IS NOT NULL", (LOGS,))
    return bool(there)


def acknowledge(connection: Connection, streams: Sequence[tuple[StreamSpec, str]]) -> None:
    """Deletes the entries that every stream of their table has behind it.

    What is deleted is written down, so that whoever would still need it is told.
    """
    behind: dict[str, list[str]] = {}
    for stream, position in streams:
        table = find_table(connection, stream.table)
        snapshot = forgettable(stream.name, position)
        behind.setdefault(log_name(table.schema, table.relation), []).append(snapshot)
    for log, snapshots in behind.items():
        least = next(
            (one for one in snapshots if all(shows_all_of(other, one) for other in snapshots)), None
        )
        if least is not None:
            _forget(connection, log, least)


def _forget(connection: Connection, log: str, snapshot: str) -> None:
    rows = connection.records(f"SELECT acknowledged FROM {LOGS} WHERE log = %s", (log,))
    if not rows or (rows[0][0] is not None and shows_all_of(rows[0][0], snapshot)):
        return
    with connection.writing("shorten a change log") as cursor:
        cursor.execute(
            f"UPDATE {LOGS} SET acknowledged = %s WHERE log = %s AND acknowledged IS NOT DISTINCT "
            f"FROM %s",
            (snapshot, log, rows[0][0]),
        )
        if cursor.rowcount == 1:
            cursor.execute(
                f"DELETE FROM {in_schema(log)} "
                f"WHERE xid < pg_snapshot_xmax('{snapshot}'::pg_snapshot) "
                f"AND pg_visible_in_snapshot(xid, '{snapshot}'::pg_snapshot)"
            )
