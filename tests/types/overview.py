"""The page of docs/ that tells which type becomes which: `python -m tests.types.overview`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from rowtrail.connectors.registry import capabilities_of
from rowtrail.connectors.sources import postgres_types, snowflake_types, sqlite_types
from rowtrail.connectors.sources.postgres_table import TableColumn
from rowtrail.connectors.type_names import KNOWN, parse_type, type_name
from rowtrail.pipelines.fitting import Kind, conversions

PAGE = Path(__file__).parents[2] / "docs" / "types.md"
DESTINATIONS = {
    "DuckDB": "duckdb:///w.duckdb",
    "PostgreSQL": "postgresql://host/w",
    "Snowflake": "snowflake://account/w/public",
}

_HEAD = """# Which type becomes which

Made from the tables in the connectors (`python -m tests.types.overview`). A type maps without loss, or it
is refused by the column's name before the run. *Read as* is the name that `types` takes; what the target
has already may be wider, as [`rowtrail schema`](cli.md#rowtrail-schema-stream) shows.

`types` of a stream reads a column as another type, by the column's name or by the declared type:
`types = { amount = "decimal(12,2)" }`. Rows whose value does not come back from it unchanged are held back
by name, whatever the pair; a pair none of whose values could is refused before the run, and so is a word
that names no type: `rowtrail check` and `rowtrail schema` say both.
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
_SQLITE_AS = """
### What `types` may ask of a SQLite column

*yes*: what it is read as without `types`; *fits*: rows whose value is not exactly one of that type are held
back; nothing: the stream is refused before the run.

"""
_SQLITE_ALL = """
In a STRICT table a column has values of its declared type only, and what they could not be is refused too;
of a view, of a virtual table and of a column with any other declaration each type may be asked.
"""
_POSTGRES_AS = """
### What `types` may ask of a PostgreSQL column

The same. Each type may be read as `text`, which is then what PostgreSQL writes.

"""
_SNOWFLAKE = """
## From Snowflake

Names are those that DESCRIBE TABLE gives: INTEGER is `NUMBER(38,0)`, TEXT is `VARCHAR`. A time of more than
six digits of a second is read in microseconds, and a row whose value has nanoseconds is held back. No entry
of `types` mends *every other type*: leave the column out, or read a view that turns it into another.
[Snowflake as a source](snowflake.md#as-a-source).

"""
_SNOWFLAKE_AS = """
### What `types` may ask of a Snowflake column

The same. `VARIANT`, `OBJECT` and `ARRAY` as `text` are JSON; times as `text` have all nine digits.

"""
_CONVERSIONS = """
## When a value is converted

A transform that declares `text` and returns numbers, rows that a contract holds to the type that was agreed
on, and images of failed rows from before a change of type: their values are converted. *yes*: each value of
the first type fits the second, whatever their sizes; *fits*: one that the second type would round, cut off
or wrap, so that it would not come back unchanged, is held back with its record; nothing: none fits.

"""
_OTHER = "every other type"
_NAMES = tuple(name.replace("P,S", "38,10") for name in KNOWN)
_REFUSED = "**refused** without `types`"


def render() -> str:
    return "".join(
        (
            _HEAD,
            _SQLITE,
            _table(_sqlite(), "declared as"),
            _SQLITE_AS,
            _matrix("declared as", _NAMES, _sqlite_readable()),
            _SQLITE_ALL,
            _POSTGRES,
            _table(_postgres(), "type"),
            _POSTGRES_AS,
            _matrix("type", _NAMES, _postgres_readable()),
            _SNOWFLAKE,
            _table(_snowflake(), "type"),
            _SNOWFLAKE_AS,
            _matrix("type", _NAMES, _snowflake_readable()),
            _CONVERSIONS,
            _matrix("from, to", [kind.value for kind in Kind], _conversions()),
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


def _snowflake() -> list[tuple[str, pa.DataType | None]]:
    words = [
        (", ".join(f"`{name}`" for name in names), kind)
        for kind, names in _by_type(snowflake_types.NATURAL).items()
    ]
    json = ", ".join(f"`{name}`" for name in snowflake_types.SEMI_STRUCTURED)
    return [
        (f"`NUMBER(P,0)` with up to {snowflake_types.INTEGER_DIGITS} digits", pa.int64()),
        ("`NUMBER(P,S)` otherwise", pa.decimal128(38, 10)),
        *words,
        (json, None),
        (_OTHER, None),
    ]


def _sqlite_readable() -> list[tuple[str, list[str]]]:
    """A row for each set of declarations that may be read as the same types."""
    words = [*sqlite_types.BY_WORD, "DECIMAL(38,10)"]
    answers = {}
    for word in words:
        held = sqlite_types.held_classes(word, strict=False)
        own = sqlite_types.declared_type(word)
        answers[word] = [
            _word(own == kind, sqlite_types.can_be_read(word, held, kind)) for kind in _types()
        ]
    return _grouped(answers)


def _postgres_readable() -> list[tuple[str, list[str]]]:
    answers = {}
    for name in (*postgres_types.NATURAL, "numeric(38,10)", "numeric", _OTHER):
        column = _postgres_column(name)
        own = postgres_types.natural_type(column)
        answers[name] = [
            _word(own == kind, postgres_types.can_be_read(column, kind)) for kind in _types()
        ]
    return _grouped(answers)


def _snowflake_readable() -> list[tuple[str, list[str]]]:
    names = {
        f"NUMBER({snowflake_types.INTEGER_DIGITS},0)": "NUMBER(P,0)",
        "NUMBER(38,10)": "NUMBER(P,S)",
        **{name: name for name in (*snowflake_types.NATURAL, *snowflake_types.SEMI_STRUCTURED)},
        _OTHER: _OTHER,
    }
    answers = {}
    for declared, name in names.items():
        column = snowflake_types.DeclaredType.parse(declared)
        answers[name] = [
            _word(column.natural == kind, column.can_be_read(kind)) for kind in _types()
        ]
    return _grouped(answers)


def _postgres_column(name: str) -> TableColumn:
    return TableColumn(
        name="c",
        number=1,
        declared=name,
        base=name,
        type_oid=0,
        type_schema="pg_catalog",
        type_name=name.partition("(")[0],
        type_kind="b",
        type_modifier=((38 << 16) | 10) + 4 if "(" in name else -1,
        own_oid=0,
        own_modifier=-1,
        casts_to_text=False,
        not_null=False,
        generated=False,
        identity=False,
        collation="",
        deterministic=True,
    )


def _conversions() -> list[tuple[str, list[str]]]:
    found = conversions()
    return [
        (one.value, [_word(found.get((one, to), one is to), (one, to) in found) for to in Kind])
        for one in Kind
    ]


def _types() -> list[pa.DataType]:
    return [parse_type(name) for name in _NAMES]


def _word(whole: bool, some: bool) -> str:
    return "yes" if whole else "fits" if some else ""


def _grouped(answers: dict[str, list[str]]) -> list[tuple[str, list[str]]]:
    found = defaultdict(list)
    for name, answer in answers.items():
        found[tuple(answer)].append(name)
    return [(", ".join(map(_code, names)), list(answer)) for answer, names in found.items()]


def _code(name: str) -> str:
    return name if name == _OTHER else f"`{name.replace('38,10', 'P,S')}`"


def _matrix(first: str, heads: Sequence[str], rows: list[tuple[str, list[str]]]) -> str:
    named = (head.replace("38,10", "P,S") for head in heads)
    lines = [
        f"| {first} | {' | '.join(named)} |",
        f"| --- |{' --- |' * len(heads)}",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows),
    ]
    return "\n".join(line.replace("|  |", "| |").replace("|  |", "| |") for line in lines) + "\n"


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
