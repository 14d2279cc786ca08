"""The page of docs/ that tells which type becomes which: `python -m tests.types.overview`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pyarrow as pa

from rowtrail.connectors.registry import capabilities_of
from rowtrail.connectors.sources import postgres_types, sqlite_types
from rowtrail.connectors.type_names import type_name

PAGE = Path(__file__).parents[2] / "docs" / "types.md"
DESTINATIONS = {"DuckDB": "duckdb:///w.duckdb", "PostgreSQL": "postgresql://host/w"}

_HEAD = """# Which type becomes which

Made from the tables in the connectors (`python -m tests.types.overview`). A type maps without loss, or it
is refused by the column's name before the run. *Read as* is the name that `types` takes; what the target
has already may be wider, as [`rowtrail schema`](cli.md#rowtrail-schema-stream) shows.

`types` of a stream reads a column as another type, by the column's name or by the declared type:
`types = { amount = "decimal(12,2)" }`. Rows whose value does not come back from it unchanged are held back
by name, whatever the pair; a pair none of whose values could is refused before the run.
"""
_SQLITE = """
## From SQLite

A declared type promises little there: any column may hold any value. Each value is held against the type
that its column is read as, and a row that has another one is held back.

"""
_POSTGRES = """
## From PostgreSQL

A domain counts as the type that it is made of, and an enum as text. What each type's edge values become,
and which of them are held back, is [a page of its own](types-postgres.md).

"""
_REFUSED = "**refused** without `types`"


def render() -> str:
    return "".join(
        (
            _HEAD,
            _SQLITE,
            _table(_sqlite(), "declared as"),
            _POSTGRES,
            _table(_postgres(), "type"),
        )
    )


def _sqlite() -> list[tuple[str, pa.DataType | None]]:
    words = [
        (", ".join(f"`{word}`" for word in names), kind)
        for kind, names in _by_type(sqlite_types.BY_WORD).items()
    ]
    sized = ", ".join(f"`{word}(P,S)`" for word in sqlite_types.DECIMALS)
    return [
        *words,
        (f"{sized} with 1 to 38 digits", pa.decimal128(38, 10)),
        ("anything else, or nothing", None),
    ]


def _postgres() -> list[tuple[str, pa.DataType | None]]:
    words = [
        (", ".join(f"`{name}`" for name in names), kind)
        for kind, names in _by_type(postgres_types.NATURAL).items()
    ]
    return [
        *words,
        ("`numeric(P,S)` with 1 to 38 digits", pa.decimal128(38, 10)),
        ("`numeric` of any number of digits, and every other type", None),
    ]


def _by_type(types: dict[str, pa.DataType]) -> dict[pa.DataType, list[str]]:
    found = defaultdict(list)
    for name, kind in types.items():
        found[kind].append(name)
    return dict(found)


def _table(rows: list[tuple[str, pa.DataType | None]], first: str) -> str:
    lines = [
        f"| {first} | read as | {' | '.join(DESTINATIONS)} |",
        f"| --- | --- |{' --- |' * len(DESTINATIONS)}",
        *(_row(name, kind) for name, kind in rows),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, kind: pa.DataType | None) -> str:
    if kind is None:
        cells = [_REFUSED, *("" for _ in DESTINATIONS)]
    else:
        homes = (capabilities_of(url).type_of(kind) for url in DESTINATIONS.values())
        told = [type_name(kind), *(home or "none" for home in homes)]
        cells = [f"`{cell.replace('38,10', 'P,S')}`" for cell in told]
    return f"| {name} | {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
