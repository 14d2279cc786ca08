"""The rows of a SQLite table for which a person's own condition is true."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from rowtrail.connectors.capture.pages import valid_keys
from rowtrail.connectors.errors import ConfigurationError, RowtrailError, TransientError
from rowtrail.connectors.sources.sqlite_rows import SqliteRows
from rowtrail.connectors.sources.sqlite_table import quote

_OF_THE_FILE = ("malformed", "disk", "not a database", "unable to open", "out of memory")
"""Errors that no condition causes."""


@dataclass(frozen=True, kw_only=True)
class SqliteChosenRows(SqliteRows):
    """The table less the rows that do not fit.

    The condition stands on lines of its own, so that a comment in it ends with it, and the
    connection takes no write statement.
    """

    condition: str

    @property
    def source(self) -> str:
        return f"(SELECT * FROM {quote(self.table.name)} WHERE (\n{self.condition}\n)) AS t"

    def check(self) -> None:
        """Raises ConfigurationError for what is not one expression over this table.

        It must be one both in parentheses and between CASE WHEN and THEN: what leaves the one is
        a mistake of syntax in the other. No row is read.
        """
        table = quote(self.table.name)
        with self._told():
            if not self.condition.strip() or "\0" in self.condition:
                raise ConfigurationError("The condition is empty, or holds a NUL byte.")
            self.connection.query(
                f"SELECT CASE WHEN\n{self.condition}\nTHEN 1 END FROM {table} LIMIT 0"
            )
            self.connection.query(f"SELECT 1 FROM {self.source} LIMIT 0")

    def chosen(self) -> Generator[pa.RecordBatch, None, None]:
        """The keys of all rows that fit, in key order, as they are at one moment."""
        self.check()
        with self._told(), self.connection.reading():
            after, full = None, True
            while full:
                found = self._keyed(after, self.keys)
                after, full = found.last, len(found.rows) == self.stream.batch_rows
                yield found.rows.filter(pa.array(valid_keys(self.schema, found.rows)))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except TransientError:
            raise
        except RowtrailError as error:
            cause = (str(error.__cause__ or error).splitlines() or [""])[0]
            if any(words in cause for words in _OF_THE_FILE):
                raise
            raise ConfigurationError(
                f"SQLite cannot evaluate the condition `{self.condition}` over table "
                f"{self.table.name}: {cause.rpartition('[SQLite] ')[2].rstrip('.')}. Write one "
                f"SQL expression, as it would stand after WHERE."
            ) from error
