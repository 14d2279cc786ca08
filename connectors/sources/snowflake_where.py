"""The rows of a Snowflake table for which a person's own condition is true."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from rowtrail.connectors.capture.pages import one_batch, valid_keys
from rowtrail.connectors.errors import ConfigurationError, RowtrailError
from rowtrail.connectors.snowflake_errors import (
    about_a_value,
    is_missing,
    reason,
    sqlstate,
)
from rowtrail.connectors.sources.snowflake_rows import SnowflakeRows
from rowtrail.connectors.sources.snowflake_select import Query, pieces, read_piece

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
        query = Query(
            tail=f"FROM {self.source} WHERE {where} ORDER BY {', '.join(self.key_order())}",
            doing=f"read table {self.table.name}",
            stream=self.stream.name,
        )
        limit = self.stream.batch_rows
        waiting = self.schema.arrow_key().empty_table()
        with self._told():
            for piece in pieces(self.connection, query, self.keys):
                rows = read_piece(piece, query, self.keys).rows
                keys = rows.filter(pa.array(valid_keys(self.schema, rows)))
                # One at least stays behind, so that its double is met in the next piece.
                waiting = pa.concat_tables([waiting, pa.Table.from_batches([keys])])
                self._refuse(waiting)
                while len(waiting) > limit:
                    yield one_batch(waiting.slice(0, limit))
                    waiting = waiting.slice(limit)
        if len(waiting):
            yield one_batch(waiting)

    def _refuse(self, keys: pa.Table) -> None:
        found = one_batch(keys)
        self.refuse_doubles(found)
        self.refuse_disorder(found)

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
