"""Reads the change log of a PostgreSQL table, window by window."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.compute as pc

from rowtrail.connectors.base import StreamSpec
from rowtrail.connectors.capture.log_pages import LogPage, log_missing
from rowtrail.connectors.capture.trigger_windows import Extent, LogNow, Window
from rowtrail.connectors.changes import OPERATION_TYPE, Operation
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_rows import PostgresRows, key_columns
from rowtrail.connectors.sources.postgres_select import Query, in_table, select
from rowtrail.connectors.sources.postgres_streams import Described
from rowtrail.connectors.sources.postgres_trigger_plan import installed
from rowtrail.connectors.sources.postgres_triggers import (
    LOGS,
    TRUNCATE,
    design,
    in_schema,
    log_name,
)

_NOW = """
SELECT l.log_id::text, l.acknowledged, pg_current_snapshot()::text,
  (SELECT system_identifier FROM pg_control_system()) || '/'
    || left(pg_walfile_name(pg_current_wal_lsn()), 8),
  %(entry)s::text IS NULL
    OR EXISTS (SELECT FROM {log} AS e WHERE e.seq = %(seq)s AND e.at = %(at)s::timestamptz)
    OR (pg_visible_in_snapshot(%(xid)s::xid8, l.acknowledged::pg_snapshot) IS TRUE
      AND NOT EXISTS (SELECT FROM {log} AS e WHERE e.seq = %(seq)s))
FROM {logs} AS l WHERE l.log = %(name)s
"""


@dataclass(frozen=True, kw_only=True)
class PostgresLoggedRows(PostgresRows):
    """Implements `WindowedTable`. The token of an entry is `sequence transaction time`."""

    @property
    def log(self) -> str:
        return in_schema(log_name(self.table.schema, self.table.relation))

    def require_log(self) -> None:
        """Raises ConfigurationError when there is no log, or it is not as `plan` makes it."""
        ((standby,),) = self.connection.records("SELECT pg_is_in_recovery()")
        if standby:
            raise ConfigurationError(
                f"PostgreSQL at {self.connection.name} is a standby, from which capture `trigger` "
                f"does not read. Name the primary in the source's URL."
            )
        there = installed(self.connection, self.table)
        if there.design is None:
            raise log_missing(self.stream.name)
        if not there.fits(design(self.table, self.schema.key)):
            raise ConfigurationError(
                f"The change log of stream {self.stream.name} or some of the triggers of "
                f"{self.table.name} that fill it are missing or disabled, do not fit the table any "
                f"more, or are of an older version. Run: rowtrail init --capture"
            )

    def log_now(self, entry: str | None) -> LogNow | None:
        seq, xid, at = entry.split(" ", 2) if entry is not None else (None, None, None)
        rows = self.connection.records(
            _NOW.format(log=self.log.replace("%", "%%"), logs=LOGS),
            {
                "entry": entry,
                "seq": seq,
                "xid": xid,
                "at": at,
                "name": log_name(self.table.schema, self.table.relation),
            },
            doing=f"look at the change log of {self.table.name}",
        )
        if not rows:
            return None
        log, acknowledged, snapshot, server, holds_entry = rows[0]
        return LogNow(
            log=log,
            server=server,
            acknowledged=acknowledged,
            snapshot=snapshot,
            holds_entry=holds_entry,
        )

    def extent(self, window: Window) -> Extent:
        ((last, emptied),) = self.connection.records(
            f"SELECT coalesce(max(e.seq), 0), "
            f"coalesce(max(e.seq) FILTER (WHERE e.op = {TRUNCATE}), 0) "
            f"FROM {self.log} AS e WHERE {_within(window)}",
            doing=f"read the change log of {self.table.name}",
        )
        return Extent(last=last, emptied=emptied)

    def window_page(self, window: Window, after: int, upto: int) -> LogPage:
        """The newest entry of each key among the next `batch_rows` entries, with its row."""
        names = self.numbered()
        columns = ", ".join(names.values())
        alike = ", ".join(
            key.ordered(f"e.{alias}") for key, alias in zip(self.keys, names.values(), strict=True)
        )
        entries = (
            f"SELECT * FROM {self.log} AS e WHERE e.seq > {after} AND e.seq <= {upto} "
            f"AND e.op <> {TRUNCATE} AND {_within(window)} ORDER BY e.seq "
            f"LIMIT {self.stream.batch_rows}"
        )
        newest = (
            f"SELECT DISTINCT ON ({alike}) e.* FROM ({entries}) AS e ORDER BY {alike}, e.seq DESC"
        )
        query = Query(
            tail=f"FROM ({newest}) AS l LEFT JOIN {self.source} ON {self.joined('l')} "
            f"ORDER BY l.seq",
            reference=lambda name: f"l.{names[name]}" if name in names else in_table(name),
            extra=("l.seq", "l.op", self.found(), "l.seq || ' ' || l.xid || ' ' || l.at"),
        )
        with self.connection.reading():
            self.refuse_doubles(f"SELECT {columns} FROM ({newest}) AS e")
            found = select(self.connection, query, self.readers, self.schema.key)
        sequences, logged, there, tokens = found.extra
        inserted = pc.equal(logged, int(Operation.INSERT))
        operations = pc.if_else(
            there,
            pc.if_else(inserted, int(Operation.INSERT), int(Operation.UPDATE)),
            int(Operation.DELETE),
        )
        return LogPage(
            page=self.as_page(found),
            sequences=sequences,
            operations=operations.cast(OPERATION_TYPE),
            last=sequences[-1].as_py() if len(sequences) else upto,
            token=tokens[-1].as_py() if len(sequences) else None,
        )


def _within(window: Window) -> str:
    """SQL: the window has the entry. The first condition says less, and an index serves it."""
    old, new = f"'{window.old}'::pg_snapshot", f"'{window.new}'::pg_snapshot"
    return (
        f"e.xid >= pg_snapshot_xmin({old}) AND NOT pg_visible_in_snapshot(e.xid, {old}) "
        f"AND pg_visible_in_snapshot(e.xid, {new})"
    )


def open_logged_rows(
    connection: Connection, stream: StreamSpec, described: Described
) -> PostgresLoggedRows:
    return PostgresLoggedRows(
        connection=connection,
        stream=stream,
        table=described.table,
        schema=described.schema,
        readers=described.readers,
        keys=key_columns(connection, described),
    )
