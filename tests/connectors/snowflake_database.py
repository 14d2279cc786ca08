"""What stands in for Snowflake as a source of tests, changed by statements of its own session."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from rowtrail.connectors.snowflake_client import SnowflakeUrl, fold, quote_exactly, unfold
from rowtrail.connectors.sources.snowflake import SnowflakeSource
from tests.connectors.source_conformance import SourceDatabase

_VALUES = re.compile(r"(INSERT INTO .* VALUES )(\([?, ]+\))")
Statement = str | tuple[str, Sequence[object]]


class SnowflakeDatabase(SourceDatabase):
    """Names in its statements are folded by Snowflake where they are not in quotes.

    Keys are no constraints there, but in DuckDB underneath: a test of keys that are not unique
    names other columns. An index is left out, since Snowflake has none.
    """

    integer = "NUMBER(18,0)"
    text = "VARCHAR"
    timestamp = "TIMESTAMP_NTZ(6)"

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = SnowflakeUrl(url).connect()

    def open(self) -> SnowflakeSource:
        return SnowflakeSource(self.url)

    def run(self, *statements: Statement) -> None:
        given = [(one, ()) if isinstance(one, str) else one for one in statements]
        for sql, some in groupby(given, key=itemgetter(0)):
            rows = [values for _, values in some]
            if sql.startswith(("CREATE INDEX", "CREATE UNIQUE INDEX")):
                continue
            if len(rows) > 1 and (insert := _VALUES.fullmatch(sql)):
                # One statement for all rows: each takes 5 ms.
                every = ", ".join([insert[2]] * len(rows))
                self._run(insert[1] + every, [value for values in rows for value in values])
                continue
            for values in rows:
                self._run(sql, values)

    def _run(self, sql: str, values: Sequence[object]) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, list(values) or None)

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            return [tuple(row) for row in cursor.execute(statement).fetchall()]

    def rows(self, table: str, *key: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        names = [name for name, _ in self.columns(table)]
        found = self.select(f"SELECT * FROM {quote_exactly(fold(table))}")
        rows = [dict(zip(names, row, strict=True)) for row in found]
        return {tuple(row[name] for name in key): row for row in rows}

    def columns(self, table: str) -> list[tuple[str, str]]:
        found = self.select(f"DESCRIBE TABLE {quote_exactly(fold(table))}")
        return [(unfold(row[0]), row[1]) for row in found]

    def close(self) -> None:
        self.connection.close()
