"""Reads the change log of a SQLite table, and keeps it in order: makes, checks and shortens it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.capture.log_pages import LogPage
from rowtrail.connectors.capture.trigger import LogState
from rowtrail.connectors.changes import OPERATION_TYPE, Operation
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import RESERVED_PREFIX
from rowtrail.connectors.sources.sqlite_connection import Connection
from rowtrail.connectors.sources.sqlite_log import (
    LOGS,
    log_objects,
    log_table,
    registration,
    registry,
)
from rowtrail.connectors.sources.sqlite_rows import SqliteRows
from rowtrail.connectors.sources.sqlite_select import Query, in_table, select
from rowtrail.connectors.sources.sqlite_table import SourceTable, quote, quote_text, spelled


@dataclass(frozen=True, kw_only=True)
class SqliteLoggedRows(SqliteRows):
    """Implements `LoggedTable`."""

    def log_state(self, at: int | None) -> LogState | None:
        """Raises ConfigurationError when there is a log that is not as `plan` makes it."""
        with self.connection.reading():
            registered = _registered(self.connection, self.table.name)
            if registered is None:
                return None
            if plan(self.connection, self.table, self.schema.key):
                raise ConfigurationError(
                    f"The change log of stream {self.stream.name} or some of the triggers of "
                    f"{self.table.name} that fill it are missing, do not fit the table any more, "
                    f"or are of an older version. Run: rowtrail init --capture"
                )
            log, acknowledged = registered
            last = self._number(f"SELECT {last_sequence(self.table.name)}")
            return LogState(
                log=log,
                acknowledged=acknowledged,
                last=last or 0,
                token=self._token(last if at is None else at),
            )

    def log_page(self, after: int, upto: int) -> LogPage:
        """The newest entry of each key among the next `batch_rows` entries, with its row."""
        names = self.numbered()
        columns = ", ".join(names.values())
        limit = self.stream.batch_rows
        log = quote(log_table(self.table.name))
        entries = f"SELECT * FROM {log} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        query = Query(
            # With max(), SQLite takes the bare columns from the row that has the maximum.
            tail=f"FROM (SELECT max(seq) AS seq, token, op, {columns} FROM ({entries}) "
            f"GROUP BY {columns}) AS l LEFT JOIN {self.source} ON {self.joined('l')} "
            f"ORDER BY l.seq",
            parameters=(after, upto, limit),
            rows=limit,
            reference=lambda name: f"l.{names[name]}" if name in names else in_table(name),
            extra=("l.seq", "l.token", "l.op", self.found()),
        )
        with self.connection.reading():
            self.refuse_doubles(f"SELECT DISTINCT {columns} FROM ({entries})", (after, upto, limit))
            found = select(self.connection, query, self.readers, self.schema.key)
        sequences, tokens, logged, there = found.extra
        inserted = pc.equal(logged, int(Operation.INSERT))
        operations = pc.if_else(
            there.cast(pa.bool_()),
            pc.if_else(inserted, int(Operation.INSERT), int(Operation.UPDATE)),
            int(Operation.DELETE),
        )
        return LogPage(
            page=self.as_page(found),
            sequences=sequences.cast(pa.int64()),
            operations=operations.cast(OPERATION_TYPE),
            last=sequences[-1].as_py() if len(sequences) else upto,
            token=tokens[-1].as_py() if len(sequences) else None,
        )

    def _token(self, sequence: int | None) -> int | None:
        return self._number(
            f"SELECT token FROM {quote(log_table(self.table.name))} WHERE seq = ?", sequence
        )

    def _number(self, sql: str, *parameters: object) -> int | None:
        rows = self.connection.records(sql, parameters)
        return cast("int", rows[0][0]) if rows else None


def last_sequence(table: str) -> str:
    """SQL for the last sequence that the log has ever given, its entries deleted or not."""
    log = log_table(table)
    return (
        f"max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = {quote_text(log)}), 0), "
        f"coalesce((SELECT max(seq) FROM {quote(log)}), 0))"
    )


def _registered(connection: Connection, table: str) -> tuple[str, int] | None:
    """The log's id and up to where it was acknowledged; None when it or its row is not there."""
    if not {LOGS, log_table(table)} <= set(_existing(connection)):
        return None
    rows = connection.records(
        f"SELECT log_id, acknowledged FROM {quote(LOGS)} WHERE source_table = ?", (table,)
    )
    return cast("tuple[str, int]", rows[0]) if rows else None


def acknowledge(connection: Connection, table: str, upto: int) -> None:
    """Deletes the entries up to this sequence and writes down that they may be gone."""
    with connection.writing():
        connection.query(f"DELETE FROM {quote(log_table(table))} WHERE seq <= ?", (upto,))
        connection.query(
            f"UPDATE {quote(LOGS)} SET acknowledged = max(acknowledged, ?) WHERE source_table = ?",
            (upto, table),
        )


def plan(connection: Connection, table: SourceTable, key: tuple[str, ...]) -> list[str]:
    """What is to be run so that the table's changes are logged; empty when all is in place.

    A log that had to be made or mended gets a new identity, since changes may be missing in it; so
    does one of an older version, whose table is made again.
    """
    existing = _existing(connection)
    wanted = {item.name: item for item in log_objects(table, key)}
    log = log_table(table.name)
    stale = [
        name
        for name in _triggers_on(connection, table.name)
        if name not in wanted or existing[name] != wanted[name].sql
    ]
    drops = [f"DROP TRIGGER {quote(name)}" for name in stale]
    kept = {name for name in existing if name not in stale}
    if log in existing and existing[log] != wanted[log].sql:
        drops.append(f"DROP TABLE {quote(log)}")
        kept.discard(log)
    made = [item.sql for name, item in wanted.items() if name not in kept]
    if not made and not drops and _registered(connection, table.name) is not None:
        return []
    return [*drops, *made, registration(table.name)]


def registry_plan(connection: Connection) -> list[str]:
    return [] if LOGS in _existing(connection) else [registry().sql]


def removal(connection: Connection, tables: list[str]) -> list[str]:
    """What takes the logs of these tables away, and the registry after the last one."""
    existing = _existing(connection)
    tables = [spelled(connection, table) for table in tables]
    statements = []
    for table in tables:
        triggers = _triggers_on(connection, table)
        statements += [f"DROP TRIGGER {quote(name)}" for name in triggers]
        if log_table(table) in existing:
            statements.append(f"DROP TABLE {quote(log_table(table))}")
    if LOGS not in existing:
        return statements
    rows = connection.records(f"SELECT source_table FROM {quote(LOGS)} ORDER BY 1")
    registered = [cast("str", name) for (name,) in rows]
    if set(registered) <= set(tables):
        return [*statements, f"DROP TABLE {quote(LOGS)}"]
    return statements + [
        f"DELETE FROM {quote(LOGS)} WHERE source_table = {quote_text(table)}"
        for table in tables
        if table in registered
    ]


def _existing(connection: Connection) -> dict[str, str]:
    """Rowtrail's own tables and triggers, with the statements that made them."""
    rows = connection.records(
        "SELECT name, sql FROM sqlite_schema WHERE type IN ('table', 'trigger') "
        "AND substr(name, 1, ?) = ?",
        (len(RESERVED_PREFIX), RESERVED_PREFIX),
    )
    return dict(cast("list[tuple[str, str]]", rows))


def _triggers_on(connection: Connection, table: str) -> list[str]:
    prefix = log_table("")
    rows = connection.records(
        "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND lower(tbl_name) = lower(?) "
        "AND substr(name, 1, ?) = ? ORDER BY name",
        (table, len(prefix), prefix),
    )
    return [cast("str", name) for (name,) in rows]
