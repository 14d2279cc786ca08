"""Compares PROJ's database with the warehouse it was copied to, value by value.

Nothing of the engine is used: what should be at the target follows from the declared types alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from rowtrail.sample_data.differences import Comparison, NamedRow, compare_tables
from tests.duckdb_files import look_into
from tests.realdata.mutate import Table, keyed_tables

# Declared type -> what the target's driver gives for a value that is not NULL.
READERS: Mapping[str, Callable[[Any], object]] = {
    "TEXT": lambda value: value,
    "INTEGER": lambda value: value,
    "SMALLINT": lambda value: value,
    "INTEGER_OR_TEXT": str,  # the stream maps it to text: digits for an integer
    "BOOLEAN": lambda value: {0: False, 1: True}[value],
    "FLOAT": lambda value: value,
    "DOUBLE": lambda value: value,
}


def compare(source: Path, target: Path) -> Comparison:
    """Compares every row of every keyed table at `source` (SQLite) with `target` (DuckDB)."""
    with (
        closing(sqlite3.connect(source)) as proj,
        look_into(target) as house,
    ):
        return compare_tables(
            (
                (table.name, table.key, list(expected_rows(proj, table)))
                for table in keyed_tables(proj)
            ),
            house,
        )


def expected_rows(proj: sqlite3.Connection, table: Table) -> Iterator[NamedRow]:
    """The rows of a table as they should be at the target."""
    columns = ", ".join(f'"{column}"' for column in table.columns)
    for values in proj.execute(f"SELECT {columns} FROM {table.name}"):
        yield {
            name: None if value is None else READERS[declared](value)
            for (name, declared), value in zip(table.columns.items(), values, strict=True)
        }
