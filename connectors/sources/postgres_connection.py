"""The connections of one PostgreSQL source: psycopg for catalogs, ADBC for rows.

Each is made when it is first needed, and made anew after an error that may pass, since whoever
tries again does so with the same object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa

from rowtrail.connectors.errors import ConfigurationError, RowtrailError, TransientError
from rowtrail.connectors.postgres_client import PostgresUrl, connect, connect_adbc, transaction
from rowtrail.connectors.postgres_errors import translated

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """What does not change while a server runs."""

    version: int  # as in server_version_num: 150004 is 15.4
    encoding: str  # of this database, such as UTF8


class Connection:
    """Autocommit outside of `reading` and `writing`. Not to be used by two threads at once."""

    def __init__(self, url: str) -> None:
        self.url = PostgresUrl(url)
        self._control: psycopg.Connection[tuple[Any, ...]] | None = None
        self._rows: adbc_driver_postgresql.dbapi.Connection | None = None
        self._facts: ServerFacts | None = None
        self.control()

    @property
    def name(self) -> str:
        """Host, port and database, for messages."""
        return self.url.name

    def control(self) -> psycopg.Connection[tuple[Any, ...]]:
        """The psycopg connection, in autocommit."""
        if self._control is None or self._control.closed:
            self._control = connect(self.url)
        return self._control

    def facts(self) -> ServerFacts:
        if self._facts is None:
            ((version, encoding),) = self.records(
                "SELECT current_setting('server_version_num')::int4, "
                "current_setting('server_encoding')"
            )
            self._facts = ServerFacts(version=version, encoding=encoding)
        return self._facts

    def records(
        self, statement: str, parameters: Sequence[object] = (), *, doing: str = "read its catalogs"
    ) -> list[tuple[Any, ...]]:
        """A small result as Python tuples; `%s` stands for each parameter.

        Without parameters a `%` stands for itself. `doing` completes "PostgreSQL could not …".
        """
        with self._dropped_when_transient(), translated(doing, self.name):
            found = self.control().execute(statement, parameters or None)
            return found.fetchall() if found.description is not None else []

    @contextmanager
    def writing(self, doing: str) -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
        """One write transaction; what raises within is rolled back."""
        with (
            self._dropped_when_transient(),
            translated(doing, self.name),
            transaction(self.control()) as cursor,
        ):
            yield cursor

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One transaction of `query`: all within see one state of the database, and nothing else.

        What psycopg reads meanwhile is not part of it.
        """
        with self._dropped_when_transient():
            self.query(_BEGIN)
            try:
                yield
            except BaseException:
                self._roll_back()
                raise
            self.query("COMMIT")

    def query(self, statement: str, *, doing: str = "read rows") -> pa.RecordBatch:
        """All rows of a statement without parameters, as one batch."""
        with translated(doing, self.name), self._adbc().cursor() as cursor:
            cursor.execute(statement)
            table = cursor.fetch_arrow_table()
        return single_batch(table)

    def close(self) -> None:
        rows, control = self._rows, self._control
        self._rows = self._control = None
        for connection in (rows, control):
            if connection is not None:
                # A connection that the server has cut cannot be closed in good form.
                with suppress(Exception):
                    connection.close()

    def _adbc(self) -> adbc_driver_postgresql.dbapi.Connection:
        if self._rows is None:
            self._rows = connect_adbc(self.url)
            if self.facts().encoding == "SQL_ASCII":
                # Such a database takes any bytes; asked for UTF-8, the server would refuse a whole
                # page for the sake of one broken value.
                self.query("SET client_encoding = 'SQL_ASCII'")
        return self._rows

    def _roll_back(self) -> None:
        """A transaction that cannot be ended goes with its connection."""
        if self._rows is None:
            return
        try:
            self.query("ROLLBACK")
        except RowtrailError:
            rows, self._rows = self._rows, None
            with suppress(Exception):
                rows.close()

    @contextmanager
    def _dropped_when_transient(self) -> Iterator[None]:
        try:
            yield
        except TransientError:
            self.close()
            raise


def single_batch(table: pa.Table) -> pa.RecordBatch:
    """The table as one batch. Raises ConfigurationError for more than 2 GB of one column."""
    batches = table.combine_chunks().to_batches()
    if len(batches) > 1:
        raise ConfigurationError(
            "More than 2 GB of one column came in one page of a read. Lower `batch_rows` of the "
            "stream, or leave the column out with `exclude`."
        )
    if batches:
        return batches[0]
    return pa.RecordBatch.from_arrays(
        [pa.array([], type=field.type) for field in table.schema], schema=table.schema
    )
