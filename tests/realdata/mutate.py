"""Makes PROJ's database fit to be changed, and changes it by a seeded random script.

`python -m tests.realdata.mutate FILE [SEED]` does both and says what it did. PROJ's database
(`proj.db`, shipped by the package pyproj) has tables with composite keys of mixed types, tables
with and without rowids, views, and triggers of its own that forbid most changes.
"""

from __future__ import annotations

import itertools
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyproj.datadir import get_data_dir

CURSOR = "updated_at"
_TIES = 7  # so many neighbouring rows share one cursor value at first
_WORDS = ("Übersee", "\N{WORLD MAP} grid", "", "NULL", "007", "O'Brien", "two\nlines", " edge ")
_FLOATS = (0.1 + 0.2, 5.0, -0.0, 1e300, 5e-324, float("inf"))

Key = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    name: str
    columns: Mapping[str, str]  # name -> declared type, in order
    required: frozenset[str]  # the columns that are NOT NULL
    key: tuple[str, ...]

    @property
    def values(self) -> tuple[str, ...]:
        """The columns that are neither key nor cursor."""
        return tuple(name for name in self.columns if name not in (*self.key, CURSOR))


@dataclass(frozen=True, kw_only=True)
class Mutations:
    """How many rows of one table were changed, in which way."""

    updated: int
    replaced: int
    deleted: int
    reentered: int
    inserted: int
    rekeyed: int


def prepare(path: Path) -> None:
    """Copies PROJ's database to a new file, takes its triggers away and adds a filled cursor.

    The rows of `usage` get a key: the declared one is NULL in all of them as they are shipped.
    """
    shutil.copyfile(Path(get_data_dir()) / "proj.db", path)
    path.chmod(0o600)
    ticks = itertools.count(_TIES)
    with closing(_connect(path)) as proj, proj:
        triggers = proj.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            proj.execute(f"DROP TRIGGER {name}")
        proj.execute("UPDATE usage SET auth_name = 'PROJ', code = rowid")
        proj.create_function("tick", 0, lambda: next(ticks) // _TIES)
        for table in keyed_tables(proj):
            proj.execute(f"ALTER TABLE {table.name} ADD COLUMN {CURSOR} INTEGER")
            proj.execute(f"UPDATE {table.name} SET {CURSOR} = tick()")
        # The statistics as shipped call the index of a key that was all NULL useless.
        proj.execute("ANALYZE usage")


def keyed_tables(proj: sqlite3.Connection) -> list[Table]:
    """PROJ's tables with a primary key, by name; not those of SQLite or of Rowtrail's triggers."""
    names = proj.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    tables = [
        describe(proj, name)
        for (name,) in names.fetchall()
        if not name.startswith(("sqlite_", "_rowtrail_"))
    ]
    return [table for table in tables if table.key]


def describe(proj: sqlite3.Connection, name: str) -> Table:
    info = proj.execute(f"PRAGMA table_info({name})").fetchall()
    key = sorted((place, column) for _, column, _, _, _, place in info if place)
    return Table(
        name=name,
        columns={column: declared for _, column, declared, *_ in info},
        required=frozenset(column for _, column, _, required, *_ in info if required),
        key=tuple(column for _, column in key),
    )


def mutate(path: Path, seed: int) -> dict[str, Mutations]:
    """Changes every keyed table; each changed row gets a cursor above all that were there."""
    with closing(_connect(path)) as proj, proj:
        tables = keyed_tables(proj)
        last = max(
            proj.execute(f"SELECT coalesce(max({CURSOR}), 0) FROM {table.name}").fetchone()[0]
            for table in tables
        )
        script = _Script(proj, seed, itertools.count((last + 1) * _TIES))
        return {table.name: script.change(table) for table in tables}


def _connect(path: Path) -> sqlite3.Connection:
    proj = sqlite3.connect(path)
    # What counts here is that awkward changes arrive, not that PROJ could still use them.
    proj.execute("PRAGMA foreign_keys = OFF")
    proj.execute("PRAGMA ignore_check_constraints = ON")
    return proj


class _Script:
    """Random changes on an open connection."""

    def __init__(self, proj: sqlite3.Connection, seed: int, ticks: Iterator[int]) -> None:
        self._proj = proj
        self._rng = random.Random(seed)
        self._ticks = ticks
        self._numbers = itertools.count(90_000_000 + seed * 1_000_000)  # so that scripts can follow

    def change(self, table: Table) -> Mutations:
        """Changes some rows of a table, each in one way only."""
        keys = self._proj.execute(
            f"SELECT {_names(table.key)} FROM {table.name} ORDER BY {_names(table.key)}"
        ).fetchall()
        self._rng.shuffle(keys)
        left = iter(keys)

        def each(change: Callable[[Table, Key], None], one_in: int) -> int:
            chosen = list(itertools.islice(left, max(len(keys) // one_in, 1)))
            for key in chosen:
                change(table, key)
            return len(chosen)

        return Mutations(
            updated=each(self._update, 25),
            deleted=each(self._delete, 40),
            rekeyed=each(self._rekey, 60),
            replaced=each(self._replace, 100),
            reentered=each(self._reenter, 100),
            inserted=self._insert_some(table, 2 + len(keys) // 40),
        )

    def _update(self, table: Table, key: Key) -> None:
        columns = self._rng.sample(table.values, min(len(table.values), 3))
        self._set(table, key, {column: self._value(table, column) for column in columns})

    def _rekey(self, table: Table, key: Key) -> None:
        """Changes the whole key, or only its last column."""
        first = self._rng.choice((0, len(table.key) - 1))
        new = (*key[:first], *self._new_key(table)[first:])
        self._set(table, key, dict(zip(table.key, new, strict=True)))

    def _set(self, table: Table, key: Key, values: Mapping[str, object]) -> None:
        values = {**values, CURSOR: self._tick()}
        self._run(
            f"UPDATE {table.name} SET {', '.join(f'{_names([name])} = ?' for name in values)}"
            f" WHERE {_where(table)}",
            (*values.values(), *key),
        )

    def _delete(self, table: Table, key: Key) -> None:
        self._run(f"DELETE FROM {table.name} WHERE {_where(table)}", key)

    def _replace(self, table: Table, key: Key) -> None:
        """SQLite deletes the old row by itself, and fires no trigger for that."""
        self._insert(table, key, "REPLACE")

    def _reenter(self, table: Table, key: Key) -> None:
        self._delete(table, key)
        self._insert(table, key)

    def _insert_some(self, table: Table, number: int) -> int:
        for _ in range(number):
            self._insert(table, self._new_key(table))
        return number

    def _insert(self, table: Table, key: Key, verb: str = "INSERT") -> None:
        row = dict(zip(table.key, key, strict=True))
        row |= {column: self._value(table, column) for column in table.values}
        row[CURSOR] = self._tick()
        marks = ", ".join("?" * len(row))
        self._run(f"{verb} INTO {table.name} ({_names(row)}) VALUES ({marks})", (*row.values(),))

    def _run(self, statement: str, values: Key) -> None:
        if self._proj.execute(statement, values).rowcount != 1:
            raise LookupError(f"{statement} with {values} changed no row")

    def _tick(self) -> int:
        return next(self._ticks) // _TIES

    def _new_key(self, table: Table) -> Key:
        return tuple(self._key_part(table.columns[column]) for column in table.key)

    def _key_part(self, declared: str) -> object:
        number = next(self._numbers)
        text = declared == "TEXT" or (declared == "INTEGER_OR_TEXT" and number % 3 == 0)
        return f"new-{number}" if text else number

    def _value(self, table: Table, column: str) -> object:
        rng = self._rng
        if column not in table.required and rng.random() < 0.2:
            return None
        match table.columns[column]:
            case "TEXT":
                return rng.choice(_WORDS) + rng.choice(("", str(next(self._numbers))))
            case "INTEGER_OR_TEXT":
                return rng.choice((rng.randrange(2**40), f"T-{rng.randrange(2**20)}"))
            case "FLOAT" | "DOUBLE":
                return rng.choice((rng.uniform(-1e6, 1e6), *_FLOATS))
            case "BOOLEAN":
                return rng.randrange(2)
            case "SMALLINT":
                return rng.randrange(-(2**15), 2**15)
            case "INTEGER":
                return rng.randrange(-(2**63), 2**63)
            case declared:
                raise ValueError(
                    f"{table.name}.{column} is declared {declared}, a type unknown here"
                )


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _where(table: Table) -> str:
    return " AND ".join(f'"{column}" = ?' for column in table.key)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
    for table, mutations in mutate(Path(sys.argv[1]), int((sys.argv[2:] or ["1"])[0])).items():
        print(table, mutations)
