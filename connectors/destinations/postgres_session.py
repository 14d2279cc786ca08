"""A destination's connections to PostgreSQL: made when they are needed, and again when lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import psycopg

from rowtrail.connectors.destinations.postgres_sql import Connected, Connection
from rowtrail.connectors.postgres_client import PostgresUrl, connect, connect_adbc
from rowtrail.connectors.postgres_errors import translated

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi

_IDLE_SECONDS = 60
"""A transaction whose client has gone silent for so long is ended by the server: it would hold the
owner row, and with it whoever takes over."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A process of the server, told from a later one with the same number."""

    pid: int
    started: datetime


class Session:
    """One connection for statements and one for Arrow data, under one URL."""

    def __init__(self, url: str, *, read_only: bool) -> None:
        self._url = PostgresUrl(url)
        self._read_only = read_only
        self._connection: Connection | None = None
        self._backend: Backend | None = None
        self._arrow: adbc_driver_postgresql.dbapi.Connection | None = None

    @property
    def name(self) -> str:
        """Host, port and database, for messages."""
        return self._url.name

    def connection(self) -> Connection:
        """The connection, in autocommit; a new one if the last was lost.

        Raises TransientError and ConfigurationError.
        """
        if self._connection is None or not _answers(self._connection):
            self._connection = self._connect()
        return self._connection

    @contextmanager
    def arrow(self) -> Iterator[adbc_driver_postgresql.dbapi.Cursor]:
        """A cursor that gives Arrow data. What it sees is committed."""
        if self._arrow is None:
            self._arrow = connect_adbc(self._url)
        try:
            with self._arrow.cursor() as cursor:
                yield cursor
        except BaseException:
            # Nothing hangs on this connection, and the driver does not tell a lost one.
            self._close_arrow()
            raise

    def close(self) -> None:
        """May be called twice; the next use connects again."""
        self._close_arrow()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._backend = None

    def _connect(self) -> Connection:
        connection = connect(self._url)
        # Plans are made for each batch as it is.
        connection.prepare_threshold = None
        with translated("connect", self.name):
            work = Connected(connection)
            work.run(f"SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'")
            # It would compile each statement of a merge, for longer than most of them take.
            work.run("SET jit = off")
            if self._read_only:
                work.run("SET default_transaction_read_only = on")
            self._end_what_was_lost(work)
            ((pid, started),) = work.run(
                "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
            )
        self._backend = Backend(pid=pid, started=started)
        return connection

    def _end_what_was_lost(self, work: Connected) -> None:
        """The server may not know yet that the last connection is gone, and hold its locks."""
        if self._backend is not None:
            with suppress(psycopg.errors.InsufficientPrivilege):
                work.run(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid = ? AND backend_start = ?",
                    [self._backend.pid, self._backend.started],
                )

    def _close_arrow(self) -> None:
        if self._arrow is not None:
            with suppress(Exception):
                self._arrow.close()
            self._arrow = None


def _answers(connection: Connection) -> bool:
    """Whether the server is still there: nothing is lost when that is found out before a call."""
    try:
        connection.execute(b"")
    except psycopg.OperationalError:
        connection.close()
    return not connection.closed
