"""What would stop or endanger a run over a PostgreSQL source, found without changing anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rowtrail.connectors.base import Capture, Problem, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.postgres_client import quote
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_cursor import blind_cursor, open_cursor_rows
from rowtrail.connectors.sources.postgres_horizon import horizon
from rowtrail.connectors.sources.postgres_log_preflight import stream_problems
from rowtrail.connectors.sources.postgres_rows import PostgresRows, open_rows
from rowtrail.connectors.sources.postgres_streams import Described, describe_stream
from rowtrail.connectors.sources.postgres_trigger_plan import installed
from rowtrail.connectors.sources.postgres_triggers import design


def find_problems(connection: Connection, stream: StreamSpec) -> Iterator[Problem]:
    """Of one stream; see `postgres_log_preflight` for what all with capture `log` share."""
    try:
        described = describe_stream(connection, stream)
    except ConfigurationError as error:
        yield Problem(stream=stream.name, message=str(error), remedy="")
        return
    unreadable = list(_right_problems(connection, stream, described))
    yield from unreadable
    if unreadable:
        return
    rows = open_rows(connection, stream, described)
    yield from _key_problems(connection, rows)
    if stream.capture is Capture.LOG:
        yield from stream_problems(connection, stream, described)
    else:
        yield from _order_problems(connection, rows)
    if stream.capture is Capture.TRIGGER:
        yield from _log_problems(connection, stream, described)
    if stream.capture is Capture.CURSOR:
        yield from _cursor_problems(connection, stream, described)


def _right_problems(
    connection: Connection, stream: StreamSpec, described: Described
) -> Iterator[Problem]:
    table = described.table
    ((user, schema_open, filtered),) = connection.records(
        "SELECT current_user::text, has_schema_privilege(%s, 'USAGE'), row_security_active(%s)",
        (table.schema, table.oid),
    )
    if not schema_open:
        yield Problem(
            stream=stream.name,
            message=f"User {user} may not use schema {table.schema}.",
            remedy=f"GRANT USAGE ON SCHEMA {quote(table.schema)} TO {quote(user)}",
        )
    numbers = [table.column(name).number for name in described.schema.names]
    denied = connection.records(
        "SELECT a.attname FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = %s "
        "AND a.attnum = ANY (%s) AND NOT has_column_privilege(a.attrelid, a.attnum, 'SELECT') "
        "ORDER BY a.attnum",
        (table.oid, numbers),
    )
    if denied:
        names = [name for (name,) in denied]
        what = "" if len(names) == len(numbers) else f"column {', '.join(names)} of "
        listed = "" if not what else f" ({', '.join(map(quote, names))})"
        yield Problem(
            stream=stream.name,
            message=f"User {user} may not read {what}{table.name}.",
            remedy=f"GRANT SELECT{listed} ON {table.sql} TO {quote(user)}",
        )
    if filtered:
        yield Problem(
            stream=stream.name,
            message=f"Row-level security hides rows of {table.name} from user {user}: they would "
            f"seem not to be there.",
            remedy=f"As a superuser: ALTER ROLE {quote(user)} BYPASSRLS, or read as the table's "
            f"owner, or make a view of the rows that are meant and name it as `table`.",
        )


def _key_problems(connection: Connection, rows: PostgresRows) -> Iterator[Problem]:
    table, key, stream = rows.table, rows.schema.key, rows.stream.name
    listed = ", ".join(key)
    if not table.is_unique(key):
        alike = ", ".join(rows.key_order())
        whole = " AND ".join(rows.whole_key()) or "true"
        ((doubled,),) = connection.records(
            f"SELECT count(*) FROM (SELECT FROM {rows.source} WHERE {whole} GROUP BY {alike} "
            f"HAVING count(*) > 1) AS d",
            doing=f"read {table.name}",
        )
        if doubled:
            yield Problem(
                stream=stream,
                message=f"The key ({listed}) of {table.name} is not unique: {doubled} keys have "
                f"several rows, which would take each other's place.",
                remedy="Set `key` of the stream to columns that are unique together.",
            )
    nullable = [quote(name) for name in key if not table.column(name).not_null]
    if nullable and set(key) != set(table.primary_key):
        missing = " OR ".join(f"t.{name} IS NULL" for name in nullable)
        ((keyless,),) = connection.records(
            f"SELECT count(*) FROM {rows.source} WHERE {missing}", doing=f"read {table.name}"
        )
        if keyless:
            yield Problem(
                stream=stream,
                message=f"{keyless} rows of {table.name} have a NULL in the key ({listed}). Each "
                f"is held back as a failure.",
                remedy="Give these rows a key at the source, or set another `key`.",
                fatal=False,
            )


def _order_problems(connection: Connection, rows: PostgresRows) -> Iterator[Problem]:
    """A full read goes page by page in key order; without an index each page sorts the table."""
    statement = f"SELECT FROM {rows.source} ORDER BY {', '.join(rows.key_order())} LIMIT 1"
    estimate = _plan(connection, f"SELECT FROM {rows.source}")["Plan Rows"]
    if estimate <= rows.stream.batch_rows or not _sorts(connection, statement):
        return
    order = ", ".join(
        f"({key.ordered(quote(key.name))})" if "(" in key.order else key.ordered(quote(key.name))
        for key in rows.keys
    )
    yield Problem(
        stream=rows.stream.name,
        message=f"No index of {rows.table.name} is in the order of its key by bytes, so that each "
        f"page of a full read sorts the whole {rows.table.what}.",
        remedy=f"CREATE INDEX CONCURRENTLY ON {rows.table.sql} ({order})"
        if rows.table.kind in ("r", "m")
        else f"CREATE INDEX ON {rows.table.sql} ({order})",
        fatal=False,
    )


def _cursor_problems(
    connection: Connection, stream: StreamSpec, described: Described
) -> Iterator[Problem]:
    blind = horizon(connection).blind
    if blind is not None and not stream.cursor_lag:
        yield Problem(stream=stream.name, message=blind_cursor(stream, blind), remedy="")
    rows = open_cursor_rows(connection, stream, described)
    order = rows.cursor.ordered(quote(rows.cursor.name))
    statement = f"SELECT FROM {rows.source} ORDER BY {rows.ordered} LIMIT 1"
    if described.table.kind in ("r", "p", "m") and _sorts(connection, statement):
        yield Problem(
            stream=stream.name,
            message=f"Column {rows.cursor.name} of {described.table.name} has no index that is in "
            f"its order, so that each page of a read goes over the whole table.",
            remedy=f"CREATE INDEX ON {described.table.sql} ({order})",
            fatal=False,
        )


def _log_problems(
    connection: Connection, stream: StreamSpec, described: Described
) -> Iterator[Problem]:
    table = described.table
    ((standby,),) = connection.records("SELECT pg_is_in_recovery()")
    if standby:
        yield Problem(
            stream=stream.name,
            message=f"PostgreSQL at {connection.name} is a standby, from which capture `trigger` "
            f"does not read.",
            remedy="Name the primary in the source's URL.",
        )
        return
    if table.has_heirs:
        yield Problem(
            stream=stream.name,
            message=f"Other tables inherit from {table.name}: their rows are read with it, but its "
            f"triggers do not see them change.",
            remedy="Use capture `snapshot` or `cursor` for it.",
        )
    there = installed(connection, table)
    if not there.fits(design(table, described.schema.key)):
        yield Problem(
            stream=stream.name,
            message=f"The change log of {table.name} or some of its triggers are missing or "
            f"disabled, or do not fit the table any more.",
            remedy="Run: rowtrail init --capture",
            capture=True,
        )
    elif "O" in there.triggers.values():
        yield Problem(
            stream=stream.name,
            message=f"The triggers of {table.name} do not fire for what logical replication "
            f"brings, nor for sessions with session_replication_role = replica. Only the owner of "
            f"{table.name} may change that.",
            remedy=f"ALTER TABLE {table.sql} "
            + ", ".join(f"ENABLE ALWAYS TRIGGER {quote(name)}" for name in there.triggers),
            fatal=False,
        )
    (unlogged,) = connection.catalog_entry(
        table.name,
        "SELECT c.relpersistence = 'u' FROM pg_catalog.pg_class AS c WHERE c.oid = %s",
        table.oid,
    )
    if unlogged:
        yield Problem(
            stream=stream.name,
            message=f"{table.name} is UNLOGGED: when the server crashes it is emptied, and no "
            f"trigger sees that.",
            remedy=f"After a crash run: rowtrail run --resnapshot {stream.name}",
            fatal=False,
        )
    if table.kind == "p":
        yield Problem(
            stream=stream.name,
            message=f"No trigger sees when a single partition of {table.name} is truncated, "
            f"detached, dropped, or attached with rows in it.",
            remedy=f"After such a change run: rowtrail run --resnapshot {stream.name}",
            fatal=False,
        )


def _sorts(connection: Connection, statement: str) -> bool:
    """Whether the server has no index that gives the rows in this order.

    Asked of its own planner: it knows collations, expressions and partitions.
    """
    plans = [_plan(connection, statement)]
    while plans:
        plan = plans.pop()
        if plan["Node Type"] == "Sort":
            return True
        plans += plan.get("Plans", [])
    return False


def _plan(connection: Connection, statement: str) -> dict[str, Any]:
    with connection.writing("plan a statement") as cursor:
        for setting in ("enable_sort", "enable_seqscan", "enable_bitmapscan"):
            cursor.execute(f"SET LOCAL {setting} = off")
        found = cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}").fetchone()
    return dict(found[0][0]["Plan"]) if found else {}
