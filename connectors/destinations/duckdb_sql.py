"""Names and statements in DuckDB's SQL: the one place that quotes identifiers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from rowtrail.connectors.changes import Version
from rowtrail.connectors.schema import RESERVED_PREFIX

VERSION_COLUMNS = tuple(f"{RESERVED_PREFIX}{part}" for part in Version._fields)
DELETED_AT = f"{RESERVED_PREFIX}deleted_at"
FILTERED = f"{RESERVED_PREFIX}filtered"
KEY_HASH = f"{RESERVED_PREFIX}key_hash"
ROW = f"{RESERVED_PREFIX}row"


def quote(name: str) -> str:
    """`name` as an identifier that means exactly this name, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def quoted(names: Iterable[str], prefix: str = "") -> str:
    """A list of columns, each behind `prefix` (an alias with its dot)."""
    return ", ".join(prefix + quote(name) for name in names)


def fold(name: str) -> str:
    """What DuckDB compares of a name: it takes ASCII letters of either case for the same."""
    return name.encode().lower().decode()


def is_reserved(name: str) -> bool:
    return fold(name).startswith(RESERVED_PREFIX)


@dataclass(frozen=True)
class TableName:
    """A table, as `schema.table` or `table` names it."""

    schema: str | None
    name: str

    @classmethod
    def parse(cls, text: str) -> TableName:
        schema, dot, name = text.partition(".")
        return cls(schema, name) if dot else cls(None, text)

    @property
    def sql(self) -> str:
        return ".".join(quote(part) for part in (self.schema, self.name) if part is not None)

    @property
    def tombstones(self) -> TableName:
        """The table beside it that remembers the keys it no longer has."""
        return TableName(self.schema, f"{RESERVED_PREFIX}tombstones_{self.name}")


def run(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """Executes to the end: a result left unread blocks the connection's next statement."""
    return connection.execute(sql, list(parameters)).fetchall()


def fetch_arrow(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()
) -> pa.Table:
    return connection.sql(sql, params=list(parameters)).to_arrow_table()


class Transaction:
    """Statements of one open transaction, and the Arrow data that they read as views."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._views: set[str] = set()

    def run(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return run(self._connection, sql, parameters)

    def arrow(self, sql: str, parameters: Sequence[object] = ()) -> pa.Table:
        return fetch_arrow(self._connection, sql, parameters)

    def view(self, name: str, rows: pa.RecordBatch | pa.Table) -> str:
        """Arrow data as a view, without a copy, until the transaction ends. Returns its name."""
        self._views.add(name)
        self._connection.register(name, rows)
        return quote(name)

    def insert_rows(self, table: str, rows: pa.RecordBatch | pa.Table) -> None:
        """Inserts Arrow rows by the names of their columns; `table` is quoted already."""
        columns = quoted(rows.schema.names)
        source = self.view(f"{RESERVED_PREFIX}inserted", rows)
        self.run(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {source}")

    def changed(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Runs an INSERT, UPDATE or DELETE and returns the number of rows it touched."""
        return int(self.run(sql, parameters)[0][0])

    def finish(self, statement: str) -> None:
        """COMMIT or ROLLBACK; lets go of the Arrow data in any case."""
        try:
            run(self._connection, statement)
        finally:
            for name in self._views:
                with suppress(duckdb.Error):
                    self._connection.unregister(name)


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
