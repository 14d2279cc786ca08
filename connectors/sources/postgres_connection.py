"""The connections of one PostgreSQL source: psycopg for catalogs, ADBC for rows.

Each is made when it is first needed, and made anew after an error that may pass, since whoever
tries again does so with the same object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa

from rowtrail.connectors.capture.pages import no_rows
from rowtrail.connectors.errors import ConfigurationError, RowtrailError, TransientError
from rowtrail.connectors.postgres_client import PostgresUrl, connect, connect_adbc, transaction
from rowtrail.connectors.postgres_errors import translated

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi

OLDEST = 130_000
"""Transaction ids of 64 bits, and snapshots as text, came with PostgreSQL 13."""

_FACTS = """
SELECT current_setting('server_version_num')::int4, current_setting('server_encoding'),
  CASE coalesce(to_jsonb(d) ->> 'datlocprovider', 'c')
    WHEN 'b' THEN true
    WHEN 'c' THEN d.datcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8')
    ELSE false END
FROM pg_catalog.pg_database AS d WHERE d.datname = current_database()
"""
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """What does not change while a server runs."""

    version: int  # as in server_version_num: 150004 is 15.4
    encoding: str  # of this database, such as UTF8
    sorts_by_bytes: bool  # so does the database's default collation


class Connection:
    """Autocommit outside of `reading` and `writing`. Not to be used by two threads at once."""

    def __init__(self, url: str) -> None:
        self._given = url
        self.url = PostgresUrl(url)
        self._control: psycopg.Connection[tuple[Any, ...]] | None = None
        self._rows: adbc_driver_postgresql.dbapi.Connection | None = None
        self._facts: ServerFacts | None = None
        try:
            self.facts()
        except RowtrailError:
            self.close()
            raise

    @property
    def name(self) -> str:
        """Host, port and database, for messages."""
        return self.url.name

    def control(self) -> psycopg.Connection[tuple[Any, ...]]:
        """The psycopg connection, in autocommit."""
        if self._control is None or self._control.closed:
            self._control = connect(self.url)
            # A prepared statement fails once its table has changed, or behind some poolers.
            self._control.prepare_threshold = None
        return self._control

    def facts(self) -> ServerFacts:
        """Raises ConfigurationError for a server that is too old."""
        if self._facts is None:
            ((version, encoding, by_bytes),) = self.records(_FACTS)
            if version < OLDEST:
                raise ConfigurationError(
                    f"PostgreSQL at {self.name} is of version {version // 10_000}. Rowtrail needs "
                    f"{OLDEST // 10_000} or newer."
                )
            self._facts = ServerFacts(version=version, encoding=encoding, sorts_by_bytes=by_bytes)
        return self._facts

    def records(
        self,
        statement: str,
        parameters: Sequence[object] | Mapping[str, object] = (),
        *,
        doing: str = "read its catalogs",
        record: bool = False,
    ) -> list[tuple[Any, ...]]:
        """A small result as Python tuples; `%s` or `%(name)s` stand for parameters.

        Without parameters a `%` stands for itself. `doing` completes "PostgreSQL could not …". With
        `record`, an error that is plainly about a value is a RecordError.
        """
        with (
            self._dropped_when_transient(),
            translated(doing, self.name, record=record),
        ):
            found = self.control().execute(statement, parameters or None)
            return found.fetchall() if found.description is not None else []

    def catalog_entry(self, table: str, statement: str, oid: int) -> tuple[Any, ...]:
        """The one row that the catalogs have for a table; `%s` stands for its oid.

        Raises TransientError when the table was dropped meanwhile: described anew, it is gone.
        """
        found = self.records(statement, (oid,))
        if not found:
            raise TransientError(
                f"Table {table} was dropped at {self.name} while it was looked at. Mend the "
                f"stream's `table`, or try again where it was made again."
            )
        return found[0]

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

    def query(self, statement: str, *, record: bool = False) -> pa.RecordBatch:
        """All rows of a statement without parameters, as one batch.

        With `record`, an error that is plainly about a value is a RecordError.
        """
        with (
            translated("read rows", self.name, record=record),
            self._adbc().cursor() as cursor,
        ):
            cursor.execute(statement)
            table = cursor.fetch_arrow_table()
        return single_batch(table)

    def stream(self, statement: str, *, doing: str) -> Iterator[pa.RecordBatch]:
        """The rows of a statement without parameters as they come, batch by batch."""
        with (
            self._dropped_when_transient(),
            translated(doing, self.name),
            self._adbc().cursor() as cursor,
        ):
            cursor.execute(statement)
            yield from cursor.fetch_record_batch()

    def another(self) -> Connection:
        """A connection of its own to the same database, for another thread."""
        return Connection(self._given)

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
    return no_rows(table.schema)
