"""The rules that a table has for its rows, and the query for those rows of a batch that break one.

A database that refuses a statement does not say which of its rows it refuses. Its rules are in its
catalogue as SQL, and a batch is held against each of them in one query.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rowtrail.connectors.destinations.names import ROW, quote, quoted


@dataclass(frozen=True, kw_only=True)
class UniqueRule:
    """No two rows to which the condition applies have all of these values alike."""

    expressions: tuple[str, ...]
    condition: str = "true"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """All as SQL over the table's columns by their bare names."""

    required: tuple[str, ...]  # columns that may not be NULL, as they are spelled
    checks: tuple[str, ...]  # conditions that are true or NULL of each row
    unique: tuple[UniqueRule, ...]


def breaking(
    rules: Rules, *, fresh: str, keys: str, table: str, key: Sequence[str]
) -> Iterator[str]:
    """One query for each rule, which gives the numbers of rows that break it as ROW.

    `fresh`: the rows that are to be in the table, with ROW, as a table expression; `keys`: the keys
    of all rows of the batch, deleted ones too; `table`: what is there. What the batch itself
    replaces or deletes stands in nobody's way, and rows of the batch are not compared among
    themselves: which of the two is at fault, only a person can say.
    """
    for name in rules.required:
        yield f"SELECT {ROW} FROM {fresh} AS f WHERE {quote(name)} IS NULL"
    for check in rules.checks:
        yield f"SELECT {ROW} FROM {fresh} AS f WHERE NOT CAST(({check}) AS boolean)"
    for unique in rules.unique:
        values = [f"_rowtrail_value_{number}" for number in range(len(unique.expressions))]
        named = ", ".join(
            f"({expression}) AS {value}"
            for expression, value in zip(unique.expressions, values, strict=True)
        )
        alike = " AND ".join(f"f.{value} = t.{value}" for value in values)
        replaced = " AND ".join(f"k.{quote(name)} = t.{quote(name)}" for name in key)
        yield (
            f"SELECT DISTINCT f.{ROW} "
            f"FROM (SELECT {ROW}, {named} FROM {fresh} AS r WHERE {unique.condition}) AS f "
            f"JOIN (SELECT {quoted(key)}, {named} FROM {table} AS r WHERE {unique.condition}) AS t "
            f"ON {alike} WHERE NOT EXISTS (SELECT 1 FROM {keys} AS k WHERE {replaced})"
        )
