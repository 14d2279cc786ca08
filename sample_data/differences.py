"""Finds every difference between rows as they should be and rows as a target has them.

It trusts nothing that Rowtrail does: plain Python values, compared one by one with their types.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

NamedRow = Mapping[str, Any]
Key = tuple[Any, ...]

_OWN = "_rowtrail_"  # columns of Rowtrail's own in a target table
_DELETED = "_rowtrail_deleted_at"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that is not equal; `key` is empty where it is the whole table."""

    table: str
    key: Key
    what: str

    def __str__(self) -> str:
        row = f" {', '.join(map(repr, self.key))}" if self.key else ""
        return f"{self.table}{row}: {self.what}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison found; `rows` and `values` count what should be at the target."""

    rows: int
    values: int
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        return not self.differences


def compare_tables(
    expected: Iterable[tuple[str, Sequence[str], Sequence[NamedRow]]],
    target: duckdb.DuckDBPyConnection,
) -> Comparison:
    """Compares tables, given as (name, key columns, rows as they should be), with the target's."""
    rows = values = 0
    found: list[Difference] = []
    for table, key, wanted in expected:
        rows += len(wanted)
        values += sum(map(len, wanted))
        found += find_differences(table, key, wanted, live_rows(target, table))
    return Comparison(rows=rows, values=values, differences=tuple(found))


def live_rows(target: duckdb.DuckDBPyConnection, table: str) -> list[NamedRow]:
    """The rows of a target table that are not deleted, without Rowtrail's own columns.

    A table that is not there has no rows.
    """
    try:
        columns = target.execute(f'DESCRIBE "{table}"').fetchall()
    except duckdb.CatalogException:
        return []
    own = {column for column, *_ in columns if column.startswith(_OWN)}
    names = [column for column, *_ in columns if column not in own]
    chosen = ", ".join(f'"{name}"' for name in names)
    live = f"{_DELETED} IS NULL" if _DELETED in own else "true"
    rows = target.execute(f'SELECT {chosen} FROM "{table}" WHERE {live}').fetchall()
    return [dict(zip(names, values, strict=True)) for values in rows]


def find_differences(
    table: str, key: Sequence[str], expected: Sequence[NamedRow], actual: Sequence[NamedRow]
) -> Iterator[Difference]:
    """Every row that is missing, too much or there twice, and every value that is another one."""
    wanted = {_key(row, key): row for row in expected}
    seen: set[Key] = set()
    for row in actual:
        name = _key(row, key)
        if name in seen:
            yield Difference(table=table, key=name, what="is at the target more than once")
        elif name not in wanted:
            yield Difference(table=table, key=name, what="is at the target and should not be")
        else:
            yield from _unequal_values(table, name, wanted[name], row)
        seen.add(name)
    for name in wanted.keys() - seen:
        yield Difference(table=table, key=name, what="is not at the target")


def _key(row: NamedRow, key: Sequence[str]) -> Key:
    return tuple(row[column] for column in key)


def _unequal_values(
    table: str, key: Key, expected: NamedRow, actual: NamedRow
) -> Iterator[Difference]:
    if set(expected) != set(actual):
        what = f"has the columns {sorted(actual)}, not {sorted(expected)}"
        yield Difference(table=table, key=key, what=what)
    for column in expected.keys() & actual.keys():
        if not same(expected[column], actual[column]):
            what = f"{column} is {actual[column]!r}, not {expected[column]!r}"
            yield Difference(table=table, key=key, what=what)


def same(one: object, other: object) -> bool:
    """Equal in type and value; floats to the last bit, so that NaN is NaN and -0.0 is not 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and isinstance(other, float):
        return one.hex() == other.hex()
    return one == other
