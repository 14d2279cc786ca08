"""Targets of the matrix, each read by its own client: types of columns, values as text."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from tests.duckdb_files import look_into
from tests.types.postgres_side import PostgresSide, quote

Rows = Mapping[str, tuple[Any, ...]]
"""Values of some columns by the text of the first."""


class Target(Protocol):
    name: str
    url: str

    def types(self, table: str) -> Mapping[str, str]:
        """Columns and their types; none where there is no such table."""

    def rows(self, table: str, columns: Sequence[str]) -> Rows:
        """The live rows, comparable with `expected`."""

    def expected(self, text: str | None, declared: str) -> Any:
        """What a value that PostgreSQL writes so is in a column of that type here."""


class DuckdbTarget:
    name = "DuckDB"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.url = f"duckdb:///{path}"

    def types(self, table: str) -> Mapping[str, str]:
        found = self._select(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = ?",
            [table],
        )
        return dict(found)

    def rows(self, table: str, columns: Sequence[str]) -> Rows:
        found = self._select(
            f"SELECT {', '.join(map(quote, columns))} FROM {quote(table)} "
            f"WHERE _rowtrail_deleted_at IS NULL"
        )
        types = self.types(table)
        return {
            str(_plain(row[0], types[columns[0]])): tuple(
                _plain(value, types[name]) for value, name in zip(row, columns, strict=True)
            )
            for row in found
        }

    def expected(self, text: str | None, declared: str) -> Any:
        if text is not None and declared in _BITS:
            return _BITS[declared](float(text))
        return text

    def _select(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with look_into(self._path) as connection:
            return connection.execute(query, values).fetchall()


class PostgresTarget:
    name = "PostgreSQL"

    def __init__(self, side: PostgresSide) -> None:
        self.side = side
        self.url = side.url

    def types(self, table: str) -> Mapping[str, str]:
        found = self.side.texts(
            f"SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            f"WHERE attrelid = to_regclass('public.{quote(table)}') AND attnum > 0"
        )
        return {str(name): str(declared) for name, declared in found}

    def rows(self, table: str, columns: Sequence[str]) -> Rows:
        found = self.side.texts(
            f"SELECT {', '.join(map(quote, columns))} FROM public.{quote(table)} "
            f"WHERE _rowtrail_deleted_at IS NULL"
        )
        return {str(row[0]): row for row in found}

    def expected(self, text: str | None, declared: str) -> Any:
        """The same text: it is the same server's."""
        return text


_BITS: Mapping[str, Callable[[float], bytes]] = {
    "FLOAT": lambda value: struct.pack("<f", value),
    "DOUBLE": lambda value: struct.pack("<d", value),
}
"""So that -0 is not 0; any NaN is NaN."""


def _plain(value: Any, declared: str) -> Any:
    """A value of DuckDB's client as PostgreSQL writes it under fixed settings; floats by bits."""
    if declared in _BITS and value is not None:
        return _BITS[declared](float("nan") if value != value else value)
    return _TEXTS.get(type(value), lambda other: other)(value)


def _clock(text: str) -> str:
    return text.rstrip("0") if "." in text else text


_TEXTS: Mapping[type, Callable[[Any], Any]] = {
    bool: lambda value: "t" if value else "f",
    int: str,
    Decimal: lambda value: f"{value:f}",
    bytes: lambda value: "\\x" + value.hex(),
    date: lambda value: value.isoformat(),
    time: lambda value: _clock(value.isoformat()),
    datetime: lambda value: (
        _clock(value.replace(tzinfo=None).isoformat(sep=" ")) + ("+00" if value.tzinfo else "")
    ),
}
