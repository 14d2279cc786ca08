"""Statements in DuckDB's SQL, and the transaction that they run in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import duckdb
import pyarrow as pa

from rowtrail.connectors.destinations.names import quote
from rowtrail.connectors.destinations.statements import unnested
from rowtrail.connectors.schema import RESERVED_PREFIX

KEY_HASH = f"{RESERVED_PREFIX}key_hash"


def run(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """Executes to the end: a result left unread blocks the connection's next statement."""
    return connection.execute(sql, list(parameters)).fetchall()


def fetch_arrow(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()
) -> pa.Table:
    return connection.sql(sql, params=list(parameters)).to_arrow_table()


class Connected:
    """Statements on a connection; see `statements.Statements`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def own(self, table: str) -> str:
        return table

    def table_of(self, columns: Mapping[str, Sequence[object]]) -> tuple[str, list[object]]:
        return unnested(columns)

    def run(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return run(self._connection, sql, parameters)

    def changed(self, sql: str, parameters: Sequence[object] = ()) -> int:
        return int(self.run(sql, parameters)[0][0])


class Viewing(Connected):
    """Statements, and the Arrow data that they read as views."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        super().__init__(connection)
        self._views: set[str] = set()

    def arrow(self, sql: str, parameters: Sequence[object] = ()) -> pa.Table:
        return fetch_arrow(self._connection, sql, parameters)

    def view(self, name: str, rows: pa.RecordBatch | pa.Table) -> str:
        """Arrow data as a view, without a copy, until it is let go. Returns its name."""
        self._views.add(name)
        self._connection.register(name, rows)
        return quote(name)

    def let_go(self) -> None:
        """Of the Arrow data."""
        for name in self._views:
            with suppress(duckdb.Error):
                self._connection.unregister(name)


class Transaction(Viewing):
    """Statements of one open transaction."""

    def finish(self, statement: str) -> None:
        """COMMIT or ROLLBACK; lets go of the Arrow data in any case."""
        try:
            run(self._connection, statement)
        finally:
            self.let_go()


@contextmanager
def viewing(connection: duckdb.DuckDBPyConnection) -> Iterator[Viewing]:
    """Statements that only read, each by itself: one that fails does not end the others."""
    opened = Viewing(connection)
    try:
        yield opened
    finally:
        opened.let_go()


@contextmanager
def transaction(
    connection: duckdb.DuckDBPyConnection, *, keep: bool = True
) -> Iterator[Transaction]:
    """All or nothing: commits at the end if `keep`, rolls back otherwise and on any error.

    DuckDB knows no savepoint, and any error aborts the transaction (tried on 2.0.0).
    """
    run(connection, "BEGIN")
    opened = Transaction(connection)
    try:
        yield opened
    except BaseException:
        # After a fatal error there is nothing to roll back, and this fails as well.
        with suppress(duckdb.Error):
            opened.finish("ROLLBACK")
        raise
    opened.finish("COMMIT" if keep else "ROLLBACK")
