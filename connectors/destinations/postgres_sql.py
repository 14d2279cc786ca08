"""Statements in PostgreSQL's SQL, names in it, and the transaction that statements run in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Self

import psycopg
from psycopg.pq import TransactionStatus

from rowtrail.connectors.destinations.names import TOMBSTONES_PREFIX, TableName, quote
from rowtrail.connectors.destinations.statements import unnested
from rowtrail.connectors.errors import StopError
from rowtrail.connectors.postgres_client import quote_text

SCHEMA = "public"
"""Where Rowtrail's own tables are, and target tables whose name has no schema, whatever the
`search_path` of whoever connects."""
LONGEST_NAME = 63
"""Bytes: what is beyond, PostgreSQL would cut off without a word."""

Connection = psycopg.Connection[tuple[Any, ...]]


class PostgresName(TableName):
    """A table, always with its schema; names mean what they say, capitals too."""

    @classmethod
    def parse(cls, text: str) -> Self:
        named = TableName.parse(text)
        return cls(SCHEMA if named.schema is None else named.schema, named.name)

    @property
    def place(self) -> tuple[str, str]:
        return (self.schema or SCHEMA, self.name)

    @property
    def tombstones(self) -> Self:
        name = f"{TOMBSTONES_PREFIX}{self.name}"
        if len(name.encode()) > LONGEST_NAME:
            name = TOMBSTONES_PREFIX + hashlib.sha256(self.name.encode()).hexdigest()[:32]
        return type(self)(self.schema, name)


def instant(moment: datetime) -> str:
    """A moment as a literal of SQL. In statements that hold names of users there are no marks for
    values: a name may hold any sign."""
    return f"{quote_text(moment.isoformat())}::timestamptz"


class Connected:
    """Statements on a connection; see `statements.Statements`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def own(self, table: str) -> str:
        return f"{quote(SCHEMA)}.{quote(table)}"

    def table_of(self, columns: Mapping[str, Sequence[object]]) -> tuple[str, list[object]]:
        return unnested(columns)

    def run(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Without parameters, `sql` is taken as it is, names with a `?` or `%` included."""
        with self._execute(sql, parameters) as cursor:
            return [] if cursor.description is None else cursor.fetchall()

    def changed(self, sql: str, parameters: Sequence[object] = ()) -> int:
        with self._execute(sql, parameters) as cursor:
            return cursor.rowcount

    def copy(self, sql: str, data: Iterable[bytes]) -> None:
        """COPY … FROM STDIN of all these bytes."""
        with self._connection.cursor() as cursor, cursor.copy(sql.encode()) as copy:
            for portion in data:
                copy.write(portion)

    def _execute(self, sql: str, parameters: Sequence[object]) -> psycopg.Cursor[tuple[Any, ...]]:
        if not parameters:
            return self._connection.execute(sql.encode())
        return self._connection.execute(sql.replace("?", "%s").encode(), parameters)


class Transaction(Connected):
    """Statements of one open transaction."""

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What is done within is undone when it raises, and the transaction can go on."""
        self.run("SAVEPOINT rowtrail")
        try:
            yield
        except psycopg.Error:
            self.run("ROLLBACK TO SAVEPOINT rowtrail")
            raise
        self.run("RELEASE SAVEPOINT rowtrail")


@contextmanager
def transaction(connection: Connection, *, keep: bool = True) -> Iterator[Transaction]:
    """All or nothing: commits at the end if `keep`, rolls back otherwise and on any error.

    Each statement sees what others have committed before it: who waited for the owner row then
    sees what its holder has written.
    """
    opened = Transaction(connection)
    opened.run("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
    try:
        yield opened
    except BaseException:
        with suppress(psycopg.Error):
            opened.run("ROLLBACK")
        if connection.info.transaction_status != TransactionStatus.IDLE:
            connection.close()  # cut off in the middle of an answer: of no more use
        raise
    ended = connection.execute(b"COMMIT" if keep else b"ROLLBACK").statusmessage
    if keep and ended != "COMMIT":
        raise StopError(
            "PostgreSQL rolled a transaction back that was to be committed, so nothing was "
            "written. This is an error of Rowtrail; report it with the server's log."
        )
