"""Compares the sample shop with the warehouse that the sample pipeline filled, value by value.

Nothing of the engine is used: what should be at the target is worked out here once more, from the
declared types and in plain Python.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import duckdb

from rowtrail.sample_data.differences import Comparison, NamedRow, compare_tables

_TABLES = ("customers", "products", "orders", "order_lines", "payments")
_CENT = Decimal("0.01")
_EUROS = {
    "EUR": Decimal("1"),
    "USD": Decimal("0.921659"),
    "GBP": Decimal("1.16523"),
    "CHF": Decimal("1.044714"),
    "SEK": Decimal("0.087351"),
    "JPY": Decimal("0.006107"),
    "XAU": Decimal("2310.55"),
}
# Declared type, without its length -> what the target's driver gives for it.
_READERS: Mapping[str, Callable[[Any], object]] = {
    "INTEGER": lambda value: value,
    "TEXT": lambda value: value,
    "VARCHAR": lambda value: value,
    "BLOB": lambda value: value,
    "REAL": lambda value: value,
    "BOOLEAN": lambda value: {0: False, 1: True}[value],
    "DECIMAL": lambda value: Decimal(str(value)).quantize(_CENT),
    "DATE": date.fromisoformat,
    "TIMESTAMP": datetime.fromisoformat,
}


def compare(source: str | Path, target: str | Path) -> Comparison:
    """Compares every row of the shop at `source` (SQLite) with `target` (DuckDB).

    A record that is held back shows as a difference under its own key. Both files are only read;
    no other process may have the target open.
    """
    with closing(_read_only(source)) as shop, duckdb.connect(str(target), read_only=True) as house:
        return compare_tables(
            ((table, _key(shop, table), list(_expected(shop, table))) for table in _TABLES), house
        )


def _read_only(path: str | Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)


def _key(shop: sqlite3.Connection, table: str) -> Sequence[str]:
    query = "SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk"
    return [name for (name,) in shop.execute(query, [table])]


def _expected(shop: sqlite3.Connection, table: str) -> Iterator[NamedRow]:
    columns = shop.execute("SELECT name, type FROM pragma_table_info(?)", [table]).fetchall()
    readers = [(name, _READERS[re.sub(r"\(.*", "", declared)]) for name, declared in columns]
    for values in shop.execute(f"SELECT * FROM {table}"):
        row = {
            name: None if value is None else read(value)
            for (name, read), value in zip(readers, values, strict=True)
        }
        if table != "orders":
            yield row
        elif row["status"] != "test":
            yield {**row, "total_eur": _in_euros(row)}


def _in_euros(order: NamedRow) -> Decimal | None:
    rate = _EUROS.get(order["currency"])
    return rate and (order["total"] * rate).quantize(_CENT, ROUND_HALF_EVEN)
