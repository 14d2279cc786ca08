"""Statements in Snowflake's SQL, names in it, and the transaction that statements run in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from io import SEEK_END
from time import perf_counter
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import pyarrow as pa
from snowflake.connector import errors as driver

from rowtrail.connectors.base import Cost
from rowtrail.connectors.destinations.names import TOMBSTONES_PREFIX, VERSION_COLUMNS, TableName
from rowtrail.connectors.snowflake_client import fold, quote_exactly, quote_text, unfold
from rowtrail.connectors.snowflake_errors import is_missing

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection
    from snowflake.connector.cursor import SnowflakeCursor

MOST_ROWS = 10_000
"""Of one VALUES: Snowflake takes 16,384 expressions in a list."""


def stored(name: str) -> str:
    """A column's name as Layout has it: as people write what Snowflake stores for it."""
    return unfold(fold(name))


def column(name: str) -> str:
    """A column that Rowtrail makes, for SQL."""
    return quote_exactly(fold(name))


def columns(names: Sequence[str], alias: str = "") -> str:
    """A list of them, each behind the alias and its dot."""
    return ", ".join(alias + column(name) for name in names)


@dataclass(frozen=True)
class SnowflakeName(TableName):
    """A table, always with its schema, both as Snowflake stores them."""

    @classmethod
    def of(cls, text: str, schema: str) -> Self:
        """`schema` is that of the URL, as it is stored, for a name that has none."""
        named = TableName.parse(text)
        return cls(schema if named.schema is None else fold(named.schema), fold(named.name))

    @property
    def place(self) -> tuple[str, str]:
        return (self.schema or "", self.name)

    @property
    def sql(self) -> str:
        return ".".join(quote_exactly(part) for part in self.place)

    @property
    def tombstones(self) -> Self:
        return type(self)(self.schema, fold(f"{TOMBSTONES_PREFIX}{unfold(self.name)}"))


def instant(moment: datetime) -> str:
    """A moment as a literal of SQL."""
    return f"{quote_text(moment.isoformat())}::TIMESTAMP_TZ"


def newer(mine: Sequence[str], theirs: Sequence[str], *, or_same: bool = False) -> str:
    """That one version is newer than another, or with `or_same` the same: four columns of either,
    compared as a tuple, which Snowflake's SQL does not do."""
    condition = "TRUE" if or_same else "FALSE"
    for one, other in reversed(list(zip(mine, theirs, strict=True))):
        condition = f"({one} > {other} OR ({one} = {other} AND {condition}))"
    return condition


def version_of(alias: str) -> list[str]:
    """The version of a row of a target's table."""
    return [f"{alias}.{column(name)}" for name in VERSION_COLUMNS]


_WITHOUT_WAREHOUSE = (
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "CREATE",
    "ALTER",
    "DROP",
    "DESCRIBE",
    "PUT",
    "REMOVE",
)
"""First words of statements that Snowflake's own services carry out; all others need a warehouse.
https://docs.snowflake.com/en/user-guide/cost-understanding-compute"""


class Meter:
    """Counts what the statements of one destination cost."""

    def __init__(self) -> None:
        self.cost = Cost()

    @contextmanager
    def statement(self, sql: str, staged_bytes: int = 0) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            bills = not sql.startswith(_WITHOUT_WAREHOUSE)
            seconds = perf_counter() - started if bills else 0.0
            self.cost += Cost(statements=1, seconds=seconds, staged_bytes=staged_bytes)


class Connected:
    """Statements on a connection; see `statements.Statements`. `tag` goes with each of them."""

    def __init__(
        self, connection: SnowflakeConnection, schema: str, meter: Meter, tag: str = ""
    ) -> None:
        self._connection = connection
        self.schema = schema  # as it is stored
        self._meter = meter
        self._more = {"QUERY_TAG": tag} if tag else None

    def own(self, table: str) -> str:
        return SnowflakeName(self.schema, fold(table)).sql

    def table_of(self, columns: Mapping[str, Sequence[object]]) -> tuple[str, list[object]]:
        kinds = [
            "TIMESTAMP_TZ" if isinstance(values[0], datetime) else "VARCHAR"
            for values in columns.values()
        ]
        chosen = ", ".join(
            f"CAST(COLUMN{place} AS {kind}) AS {name}"
            for place, (name, kind) in enumerate(zip(columns, kinds, strict=True), start=1)
        )
        rows = list(zip(*columns.values(), strict=True))
        marks = f"({', '.join('?' for _ in kinds)})"
        selects = [
            f"SELECT {chosen} FROM VALUES {', '.join([marks] * len(rows[at : at + MOST_ROWS]))}"
            for at in range(0, len(rows), MOST_ROWS)
        ]
        return f"({' UNION ALL '.join(selects)})", [value for row in rows for value in row]

    def run(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._execute(sql, parameters) as cursor:
            return [tuple(row) for row in cursor.fetchall()]

    def changed(self, sql: str, parameters: Sequence[object] = ()) -> int:
        with self._execute(sql, parameters) as cursor:
            return int(cursor.rowcount or 0)

    def arrow(self, sql: str, parameters: Sequence[object] = ()) -> pa.Table:
        """The rows of a query. Timestamps in microseconds: those that Rowtrail writes."""
        with self._execute(sql, parameters) as cursor:
            found: pa.Table = cursor.fetch_arrow_all(
                force_return_table=True, force_microsecond_precision=True
            )
            return found

    def describe(self, table: str) -> list[tuple[Any, ...]] | None:
        """The columns of a table, whose name is for SQL; None where there is none.

        By DESCRIBE, which needs no warehouse: name, type, kind, `Y` where it may be NULL, default.
        """
        try:
            return self.run(f"DESCRIBE TABLE {table}")
        except driver.ProgrammingError as error:
            if is_missing(error):
                return None
            raise

    def put(self, name: str, stage: str, data: BinaryIO) -> None:
        """Uploads a file as it is; `stage` is a place in a stage, for SQL."""
        sql = f"PUT 'file://{name}' {stage} AUTO_COMPRESS=FALSE OVERWRITE=TRUE"
        size = data.seek(0, SEEK_END)
        with self._connection.cursor() as cursor, self._meter.statement(sql, size):
            cursor.execute(sql, file_stream=data, _statement_params=self._more)

    def _execute(self, sql: str, parameters: Sequence[object]) -> SnowflakeCursor:
        cursor = self._connection.cursor()
        values = [_typed(value) for value in parameters]
        with self._meter.statement(sql):
            return cursor.execute(sql, values or None, _statement_params=self._more)


def _typed(value: object) -> object:
    """A value as the connector binds it: a time with its zone would become one without."""
    return ("TIMESTAMP_TZ", value) if isinstance(value, datetime) else value


@contextmanager
def transaction(work: Connected, *, keep: bool = True) -> Iterator[Connected]:
    """All or nothing: commits at the end if `keep`, rolls back otherwise and on any error.

    Each statement sees what others have committed before it; DDL within would commit at once.
    """
    work.run("BEGIN")
    try:
        yield work
    except BaseException:
        with suppress(driver.Error):
            work.run("ROLLBACK")
        raise
    work.run("COMMIT" if keep else "ROLLBACK")
