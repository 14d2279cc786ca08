"""The rows of a PostgreSQL table for which a person's own condition is true."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from rowtrail.connectors.capture.pages import valid_keys
from rowtrail.connectors.errors import ConfigurationError, RowtrailError
from rowtrail.connectors.postgres_errors import reason, sqlstate
from rowtrail.connectors.sources.postgres_rows import PostgresRows

_VALUES = "22"
_OF_THE_CONDITION = (_VALUES, "42", "0A", "21", "25006", "P0")
"""Errors that its text can cause: values, syntax and rights, what is not supported, a subquery
with several rows, a function that writes, one that raises."""


@dataclass(frozen=True, kw_only=True)
class PostgresChosenRows(PostgresRows):
    """The table less the rows that do not fit.

    The condition stands on lines of its own, so that a comment in it ends with it. It is part of a
    prepared statement, of which the server takes only one at a time, in a transaction that may
    only read.
    """

    condition: str

    @property
    def source(self) -> str:
        return f"(SELECT * FROM {self.table.sql} WHERE (\n{self.condition}\n)) AS t"

    def check(self) -> None:
        """Raises ConfigurationError for what is not one expression over this table.

        It must be one both in parentheses and between CASE WHEN and THEN: what leaves the one is
        a mistake of syntax in the other. No row is read.
        """
        with self._told(), self.connection.reading():
            if not self.condition.strip() or "\0" in self.condition:
                raise ConfigurationError("The condition is empty, or holds a NUL byte.")
            self.connection.query(
                f"SELECT CASE WHEN\n{self.condition}\nTHEN 1 END AS c "
                f"FROM {self.table.sql} LIMIT 0",
                record=True,
            )
            self.connection.query(f"SELECT 1 AS c FROM {self.source} LIMIT 0", record=True)

    def chosen(self) -> Generator[pa.RecordBatch, None, None]:
        """The keys of all rows that fit, in key order, as they are at one moment."""
        self.check()
        readers = tuple(key.reader for key in self.keys)
        with self._told(), self.connection.reading():
            after, full = None, True
            while full:
                found = self._keyed(after, readers, record=True)
                after, full = found.last, len(found.rows) == self.stream.batch_rows
                yield found.rows.filter(pa.array(valid_keys(self.schema, found.rows)))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except RowtrailError as error:
            cause = error.__cause__
            state = None if cause is None else sqlstate(cause)
            if cause is None or not (state or "").startswith(_OF_THE_CONDITION):
                raise
            told = ConfigurationError(
                f"PostgreSQL cannot evaluate the condition `{self.condition}` over table "
                f"{self.table.sql}: {reason(cause)}. Write one SQL expression, as it would stand "
                f"after WHERE."
            )
            # A traceback would quote the value that it trips over.
            raise told from (None if (state or "").startswith(_VALUES) else error)
