"""The rows of a Snowflake table for which a person's own condition is true."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from rowtrail.connectors.capture.pages import valid_keys
from rowtrail.connectors.errors import ConfigurationError, RowtrailError
from rowtrail.connectors.snowflake_errors import (
    about_a_value,
    is_missing,
    reason,
    sqlstate,
)
from rowtrail.connectors.sources.snowflake_rows import SnowflakeRows
from rowtrail.connectors.sources.snowflake_select import Result

_OF_THE_CONDITION = ("22", "42", "0A", "21")
"""Errors that its text can cause: values, syntax and names, what is not supported (a second
statement, for one), a subquery with several rows."""


@dataclass(frozen=True, kw_only=True)
class SnowflakeChosenRows(SnowflakeRows):
    """The table less the rows that do not fit.

    The condition stands on lines of its own, so that a comment in it ends with it. The server takes
    one statement at a time, and a SELECT writes nothing.
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
        if not self.condition.strip() or "\0" in self.condition:
            raise ConfigurationError("The condition is empty, or holds a NUL byte.")
        with self._told():
            self.connection.records(
                f"SELECT CASE WHEN\n{self.condition}\nTHEN 1 END AS c "
                f"FROM {self.table.sql} LIMIT 0",
                doing="look at the condition",
                stream=self.stream.name,
            )
            self.connection.records(
                f"SELECT 1 AS c FROM {self.source} LIMIT 0",
                doing="look at the condition",
                stream=self.stream.name,
            )

    def chosen(self) -> Generator[pa.RecordBatch, None, None]:
        """The keys of all rows that fit, in key order, as they are at one moment: they come from
        one statement, whose result the server keeps until it was downloaded."""
        self.check()
        where = " AND ".join(self.whole_key()) or "TRUE"
        tail = f"FROM {self.source} WHERE {where} ORDER BY {', '.join(self.key_order())}"
        limit, full = self.stream.batch_rows, True
        with self._told():
            result = Result(self.connection, self.query(tail), self.keys)
            while full:
                found = result.take(limit, peek=1)
                self.refuse_doubles(found.rows)
                self.refuse_disorder(found.rows)
                full = len(found) > limit
                rows = found.head(limit).rows
                if len(rows):
                    yield rows.filter(pa.array(valid_keys(self.schema, rows)))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except RowtrailError as error:
            cause = error.__cause__
            if cause is None or not _is_of_the_condition(cause):
                raise
            told = ConfigurationError(
                f"Snowflake cannot evaluate the condition `{self.condition}` over table "
                f"{self.table.name}: {reason(cause)}. Write one SQL expression, as it would stand "
                f"after WHERE."
            )
            # A traceback would quote the value that it trips over.
            raise told from (None if about_a_value(cause) else error)


def _is_of_the_condition(error: BaseException) -> bool:
    return is_missing(error) or sqlstate(error).startswith(_OF_THE_CONDITION)
