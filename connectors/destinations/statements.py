"""What the parts that all warehouses share need of a connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


class Statements(Protocol):
    """Runs SQL in words that all warehouses here understand; `?` stands for a value.

    Values are of Python's own types. Times come back aware of their zone.
    """

    def own(self, table: str) -> str:
        """The name, for SQL, of a table of Rowtrail's own."""
        ...

    def table_of(self, columns: Mapping[str, Sequence[object]]) -> tuple[str, list[object]]:
        """A table expression with these columns, of texts or of times, and the values for it.

        All have the same length, which is not 0."""
        ...

    def run(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Executes to the end; the rows of a query."""
        ...

    def changed(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Runs an INSERT, UPDATE or DELETE and returns the number of rows it touched."""
        ...


@dataclass(frozen=True, kw_only=True)
class OwnTable:
    """A table of Rowtrail's own: one for all pipelines that share the warehouse."""

    name: str
    columns: str  # in SQL

    def ddl(self, place: str) -> str:
        """The statement that makes it; `place` is its name as `Statements.own` gives it."""
        return f"CREATE TABLE IF NOT EXISTS {place} ({self.columns})"


def unnested(columns: Mapping[str, Sequence[object]]) -> tuple[str, list[object]]:
    """`Statements.table_of` where a value may be an array."""
    kinds = {
        name: "TIMESTAMPTZ" if isinstance(values[0], datetime) else "VARCHAR"
        for name, values in columns.items()
    }
    arrays = ", ".join(f"unnest(CAST(? AS {kind}[])) AS {name}" for name, kind in kinds.items())
    return f"(SELECT {arrays})", [list(values) for values in columns.values()]
