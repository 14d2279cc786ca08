"""Statements on a Snowflake account that is read from: rows for the catalog, Arrow for data."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from snowflake.connector import errors as driver

from rowtrail.connectors.errors import TransientError
from rowtrail.connectors.snowflake_client import SnowflakeUrl
from rowtrail.connectors.snowflake_errors import is_missing, translated

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection
    from snowflake.connector.cursor import SnowflakeCursor

_LONGEST_TAG = 2_000


class Connection:
    """A session in autocommit: each statement sees one state of all tables, its own.

    One that was lost is opened anew by the next statement. Raises as `translated` says.
    """

    def __init__(self, url: str) -> None:
        self._url = SnowflakeUrl(url)
        self._session: SnowflakeConnection | None = None
        self._opening = Lock()
        self._opened()

    @property
    def name(self) -> str:
        """Account, database and schema, for messages."""
        return self._url.name

    @property
    def schema(self) -> str:
        """The schema of the URL, as it is stored."""
        return self._url.schema

    def records(
        self, sql: str, parameters: Sequence[str | None] = (), *, doing: str, stream: str = ""
    ) -> list[tuple[Any, ...]]:
        """The rows of a statement. `doing` completes "Snowflake could not …"."""
        with self._telling(doing):
            return [tuple(row) for row in self._execute(sql, parameters, stream).fetchall()]

    def named(self, sql: str, *, doing: str, stream: str = "") -> list[dict[str, Any]] | None:
        """Rows by the names of their columns, which some statements get more of with the years.

        None where the table is missing, or hidden from this role.
        """
        with self._telling(doing):
            try:
                cursor = self._execute(sql, (), stream)
            except driver.ProgrammingError as error:
                if is_missing(error):
                    return None
                raise
            names = [str(column[0]) for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def tables(
        self, sql: str, parameters: Sequence[str | None] = (), *, doing: str, stream: str = ""
    ) -> Generator[pa.Table, None, None]:
        """The result in pieces, as it is downloaded: there may be none. It is that of one moment,
        however long it takes to ask for the last piece. Times in microseconds, cut off."""
        with self._telling(doing):
            cursor = self._execute(sql, parameters, stream)
            yield from cursor.fetch_arrow_batches(force_microsecond_precision=True)

    def close(self) -> None:
        """May be called twice."""
        self._let_go()

    def _execute(self, sql: str, parameters: Sequence[str | None], stream: str) -> SnowflakeCursor:
        tag = f"rowtrail;stream={stream}" if stream else "rowtrail"
        cursor = self._opened().cursor()
        return cursor.execute(
            sql, list(parameters) or None, _statement_params={"QUERY_TAG": tag[:_LONGEST_TAG]}
        )

    def _opened(self) -> SnowflakeConnection:
        with self._opening:
            if self._session is None or self._session.is_closed():
                self._session = self._url.connect()
            return self._session

    def _let_go(self) -> None:
        with self._opening:
            session, self._session = self._session, None
        if session is not None:
            with suppress(driver.Error):
                session.close()

    @contextmanager
    def _telling(self, doing: str) -> Iterator[None]:
        try:
            with translated(doing, self.name):
                yield
        except TransientError:
            self._let_go()  # what may have been lost
            raise
