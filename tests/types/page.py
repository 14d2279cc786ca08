"""The page of docs/ that tells what becomes of each type, from what was seen."""

from __future__ import annotations

from pathlib import Path

from tests.types.matrix import Matrix, Outcome
from tests.types.postgres_types import Case

PAGE = Path(__file__).parents[2] / "docs" / "types-postgres.md"

_HEAD = """# PostgreSQL's types at each destination

Made by the tests (`python -m tests.types`) from what they saw: a table of all types, with the values at
the edge of each, goes through the engine by its snapshot, by the log, by triggers and by a cursor, while
the database and the role prefer other time zones, date styles and the like. Every value that is not
named as held back is equal at the target.

- *Read as*: the column's type at the target. **text** means that the type has none of its own there:
  without `types."column" = "text"` or `types."*" = "text"` the column is refused by name before the run.
  As text each value is what PostgreSQL writes under fixed settings (ISO dates, intervals as ISO 8601,
  UTC, shortest exact floats).
- *Held back*: values that the type at the target has not. Their records fail by name, the others load.
- *Key*: whether PostgreSQL takes the type as a primary key; then it was one, and rows were updated,
  deleted and given other keys by it. Of a float, 0 and -0 are one key to PostgreSQL.

| type | DuckDB | PostgreSQL | held back | key |
| --- | --- | --- | --- | --- |
"""


def render(matrix: Matrix) -> str:
    """The page; a type that only newer servers have is in it when such a server was seen."""
    return _HEAD + "".join(_line(matrix, case) for case in matrix.cases)


def _line(matrix: Matrix, case: Case) -> str:
    duckdb = matrix.outcomes[case.column, "DuckDB"]
    postgres = matrix.outcomes[case.column, "PostgreSQL"]
    held = ", ".join(f"`{value}`" for value in duckdb.held_back)
    if duckdb.held_back != postgres.held_back:
        others = ", ".join(f"`{value}`" for value in postgres.held_back)
        held = f"DuckDB: {held or 'none'}; PostgreSQL: {others or 'none'}"
    name = f"`{case.declared}`" + (f' with `"{case.read_as}"`' if case.read_as else "")
    cells = (name, _type(duckdb), _type(postgres), held, "yes" if duckdb.key else "")
    return "| " + " | ".join(cells).replace("|| ", "| ") + " |\n"


def _type(outcome: Outcome) -> str:
    return f"**text** (`{outcome.type}`)" if outcome.refused else f"`{outcome.type}`"
