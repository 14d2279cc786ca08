"""The one connection to a SQLite source, through ADBC, and what its errors mean.

The file must not be opened by Python's own `sqlite3` module in the same process: closing any
descriptor of a file drops the POSIX locks that the other copy of SQLite holds on it
(https://sqlite.org/howtocorrupt.html, 2.2.1). So everything goes through this connection, DDL too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote as percent_encode

import adbc_driver_manager
import adbc_driver_sqlite.dbapi
import pyarrow as pa

from rowtrail.connectors.capture.pages import no_rows
from rowtrail.connectors.errors import (
    ConfigurationError,
    RowtrailError,
    StopError,
    TransientError,
)

BUSY_MILLISECONDS = 5_000
"""How long a statement waits for another process's lock before it is a TransientError."""

_SMALL = 10_000  # rows of a query that is known to be small
_DRIVER_ERRORS = (adbc_driver_manager.Error, pa.ArrowException, OSError)

Parameters: TypeAlias = Sequence[object] | pa.RecordBatch


def parse_url(url: str) -> Path:
    """The file that `sqlite:///relative.db` or `sqlite:////absolute.db` names."""
    prefix = "sqlite:///"
    name = url[len(prefix) :] if url.lower().startswith(prefix) else ""
    if not name or name == ":memory:" or "?" in name:
        raise ConfigurationError(
            "The source's URL names no database file. Write sqlite:///shop.db for a file in the "
            "current folder or sqlite:////data/shop.db for an absolute path, without options "
            "after it."
        )
    return Path(name)


class Connection:
    """Autocommit unless inside `reading` or `writing`. Not to be shared between threads."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise ConfigurationError(
                f"There is no database at {path}. Check the source's URL; a relative path starts "
                f"at {Path.cwd()}."
            )
        if not path.is_file():
            raise ConfigurationError(
                f"{path} is not a file, so it cannot be a SQLite database. Name the database file "
                f"itself in the source's URL."
            )
        self.path = path
        uri = f"file:{percent_encode(str(path.absolute()))}?mode=rw"
        try:
            self._adbc = adbc_driver_sqlite.dbapi.connect(uri, autocommit=True)
        except _DRIVER_ERRORS as error:
            raise translate(error, path) from error
        try:
            self.query(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
            self.query("PRAGMA query_only = ON")
            self.query("SELECT count(*) FROM sqlite_schema")
        except RowtrailError:
            self._adbc.close()
            raise

    def query(self, sql: str, parameters: Parameters = (), *, rows: int = _SMALL) -> pa.RecordBatch:
        """All rows of the result as one batch, at most `rows` of them.

        A column has the type of its values; one of only NULLs is int64. With a RecordBatch of
        parameters the statement runs once per row of it, and the results follow one another.
        """
        if isinstance(parameters, pa.RecordBatch) and not len(parameters):
            raise ValueError("a batch of parameters must have rows: the driver crashes without")
        try:
            with self._adbc.cursor() as cursor:
                # The driver infers types from the first batch alone, so there must be only one.
                cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(rows)})
                bound = isinstance(parameters, pa.RecordBatch) or len(parameters) > 0
                cursor.execute(sql, parameters if bound else None)
                table = cursor.fetch_arrow_table()
        except _DRIVER_ERRORS as error:
            raise translate(error, self.path) from error
        batches = table.combine_chunks().to_batches()
        if batches:
            return batches[0]
        return no_rows(table.schema)

    def records(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """A small result as Python tuples."""
        batch = self.query(sql, parameters)
        return list(zip(*(column.to_pylist() for column in batch.columns), strict=True))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One read transaction: all queries within see the same state of the database."""
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One write transaction; what raises within is rolled back."""
        self.query("PRAGMA query_only = OFF")
        try:
            with self._transaction("BEGIN IMMEDIATE"):
                yield
        finally:
            self.query("PRAGMA query_only = ON")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self.query(begin)
        try:
            yield
            self.query("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors; then there is nothing to undo.
            with suppress(RowtrailError):
                self.query("ROLLBACK")
            raise

    def close(self) -> None:
        self._adbc.close()


def translate(error: Exception, path: Path) -> RowtrailError:
    """The driver's error in our own families, by SQLite's message (the driver gives no code)."""
    lines = str(error).splitlines() or [type(error).__name__]
    cause = lines[0].removeprefix("INVALID_ARGUMENT: ").removeprefix("[SQLite] ").rstrip(".")
    for family, needles, advice in _FAMILIES:
        if any(needle in cause for needle in needles):
            return family(f"The SQLite database {path} cannot be used: {cause}. {advice}")
    return StopError(
        f"The SQLite database {path} answered with an error that Rowtrail does not know: {cause}. "
        f"Run `PRAGMA integrity_check` on it, and try the same table in the sqlite3 shell."
    )


_FAMILIES: tuple[tuple[type[RowtrailError], tuple[str, ...], str], ...] = (
    (
        TransientError,
        ("is locked", "is busy"),
        "Another process holds its lock: try again when it is done. WAL mode "
        "(`PRAGMA journal_mode=WAL`) lets readers and writers work side by side.",
    ),
    (
        ConfigurationError,
        ("not a database",),
        "The file is no SQLite database, or it is encrypted: check the source's URL.",
    ),
    (
        StopError,
        ("malformed",),
        "The file is corrupt: run `PRAGMA integrity_check`, and restore it from a back-up or "
        "rescue it with the sqlite3 shell's `.recover`. Nothing was changed.",
    ),
    (StopError, ("disk is full",), "Free some space on its disk, then run again."),
    (StopError, ("disk I/O error",), "Look at the disk and the system's log, then run again."),
    (StopError, ("out of memory",), "Lower `batch_rows` of the stream, then run again."),
    (
        ConfigurationError,
        ("readonly",),
        "Capture `trigger` and a WAL database need the right to write the file and its folder.",
    ),
    (
        ConfigurationError,
        ("unable to open",),
        "Check that this user may read the file and write its folder.",
    ),
    (
        ConfigurationError,
        ("no such ", "has no column", "syntax error", "already exists", "ambiguous column"),
        "The schema may have changed while it was read: compare the stream's settings with the "
        "table, then run again.",
    ),
    (
        ConfigurationError,
        ("out of range", "too many", "too big"),
        "Lower `batch_rows` of the stream or leave columns out with `exclude`.",
    ),
)
