"""How much memory DuckDB may use, and what scattered deletes need of it."""

from __future__ import annotations

from contextlib import suppress

import duckdb
import numpy as np
import numpy.typing as npt

from rowtrail.connectors.destinations.duckdb_sql import run

DEFAULT_LIMIT = 64_000_000
"""Bytes. DuckDB fills what it may with pages of the file, so that without a limit the memory of a
run would grow with the table."""

_COLUMN_BYTES = 1_000_000
"""For each column of the table that is written: appending holds a block or two of 256 KiB for each
(measured on 2.0.0: 600 columns failed with 256 MB and passed with 384 MB)."""
_VECTOR_ROWS = 2048  # DuckDB handles rows in vectors of this many
_PINNED_BYTES = 20_000
"""For each vector that a row was deleted from, until the next checkpoint (measured on 2.0.0: 169.9
MB for 9,000 vectors, which no limit makes DuckDB let go of)."""
_SORTED_BYTES = 1_000
"""For each row of a batch of a history, whose order among the versions that are there is found by
sorting: with less, DuckDB spills to the disk and takes twice as long (measured)."""
_PINNED_BUDGET = 64_000_000  # beyond, a checkpoint follows the commit


class Memory:
    """Raises the limit for wide tables, and for batches whose deletes are scattered.

    By at most 1 MB a column and 20 kB a row of the batch, whatever the size of the table. A limit
    that a person has set is never touched.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, *, automatic: bool) -> None:
        self._connection = connection
        self._automatic = automatic
        self._limit = DEFAULT_LIMIT
        self._base = DEFAULT_LIMIT  # what the widest table needs
        self._pinned = 0  # bytes, by committed deletes since the last checkpoint that is known of
        self._reserved = 0  # bytes, by the open transaction
        self._sorting = 0  # bytes, likewise, but of no more use once it is committed

    def fit(self, columns: int) -> None:
        """Makes room for writing a table of so many columns, from now on."""
        self._base = max(self._base, DEFAULT_LIMIT + columns * _COLUMN_BYTES)
        self._set_limit(max(self._limit, self._base))

    def reserve(self, places: npt.NDArray[np.int64]) -> None:
        """Makes room for deleting the rows with these rowids in the open transaction."""
        self._reserved += len(np.unique(places // _VECTOR_ROWS)) * _PINNED_BYTES
        self._raise_limit()

    def reserve_for_rows(self, rows: int) -> None:
        """Makes room for what a history has to sort of so many rows, in the open transaction."""
        self._sorting += rows * _SORTED_BYTES
        self._raise_limit()

    def committed(self) -> None:
        """Lets go, by a checkpoint if much is pinned."""
        self._pinned += self._reserved
        self._reserved = self._sorting = 0
        if self._pinned > _PINNED_BUDGET:
            # Not while another connection of this process writes; then the next commit tries again.
            with suppress(duckdb.TransactionException):
                run(self._connection, "CHECKPOINT")
                self._pinned = 0
        self._lower_limit()

    def rolled_back(self) -> None:
        self._reserved = self._sorting = 0
        self._lower_limit()

    def _raise_limit(self) -> None:
        needed = self._base + self._pinned + self._reserved + self._sorting
        self._set_limit(max(self._limit, needed))

    def _lower_limit(self) -> None:
        # Refused while more is in use; and after a fatal error nothing is taken any more.
        with suppress(duckdb.Error):
            self._set_limit(self._base + self._pinned)

    def _set_limit(self, limit: int) -> None:
        if self._automatic and limit != self._limit:
            run(self._connection, f"SET memory_limit = '{limit}B'")
            self._limit = limit
