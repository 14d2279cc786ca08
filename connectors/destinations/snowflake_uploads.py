"""Rows that are brought to the stage before it is their turn, beside the merge of others."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING

from snowflake.connector import errors as driver

from rowtrail.connectors.base import Cost, LoadRows
from rowtrail.connectors.destinations.snowflake_sql import Connected, Meter
from rowtrail.connectors.destinations.snowflake_staging import put, remove
from rowtrail.connectors.destinations.snowflake_types import check_limits
from rowtrail.connectors.errors import RowtrailError
from rowtrail.connectors.snowflake_client import SnowflakeUrl
from rowtrail.connectors.snowflake_errors import translated

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

_MOST = 2
"""Folders: of the load that is being written, and of the one after it."""


class Uploads:
    """Uploads in a session of its own, which the first of them opens.

    `upload` is for one thread, all else for another.
    """

    def __init__(self, url: SnowflakeUrl) -> None:
        self._url = url
        self._connection: SnowflakeConnection | None = None
        self._meter = Meter()
        self._lock = Lock()
        self._waiting: list[tuple[LoadRows, str]] = []  # with the folder that each of them is in
        self._left: list[str] = []  # folders whose rows were not written from there

    @property
    def cost(self) -> Cost:
        return self._meter.cost

    def upload(self, rows: LoadRows, folder: str, tag: str) -> None:
        """Uploads to a folder of the stage that nothing has been in.

        Raises RecordError, TransientError and StopError; there is then nothing to `take`.
        """
        check_limits(rows.target.table, rows.rows)
        try:
            with translated(f"upload rows for table {rows.target.table}", self._url.name):
                work = self._work(tag)
                put(work, folder, rows, datetime.now(UTC))
        except RowtrailError:
            with self._lock:
                self._left.append(folder)
            self._let_go()
            raise
        with self._lock:
            self._waiting.append((rows, folder))
            self._left += [folder for _, folder in self._waiting[:-_MOST]]
            del self._waiting[:-_MOST]
            left, self._left = self._left, []
        for one in left:
            remove(work, one)

    def take(self, rows: LoadRows) -> str | None:
        """The folder that these very rows are in; whoever takes it removes it."""
        with self._lock:
            places = [n for n, (there, _) in enumerate(self._waiting) if there.are_same(rows)]
            if not places:
                return None
            self._left += [folder for _, folder in self._waiting[: places[0]]]
            folder = self._waiting[places[0]][1]
            del self._waiting[: places[0] + 1]
            return folder

    def close(self) -> None:
        """May be called twice."""
        left = [*self._left, *(folder for _, folder in self._waiting)]
        self._left, self._waiting = [], []
        if self._connection is not None and not self._connection.is_closed():
            work = Connected(self._connection, self._url.schema, self._meter)
            for folder in left:
                remove(work, folder)
        self._let_go()

    def _work(self, tag: str) -> Connected:
        if self._connection is None or self._connection.is_closed():
            self._connection = self._url.connect()
        return Connected(self._connection, self._url.schema, self._meter, tag)

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(driver.Error):
                connection.close()
