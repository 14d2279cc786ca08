"""The table of all types at the source, its keys' tables, and what happens to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psycopg

from tests.types.postgres_side import PostgresSide, quote
from tests.types.postgres_types import CASES, EXTENSIONS, SETUP, Case, Value

TABLE = "all_types"
_COLUMN_TYPES = """
SELECT typname FROM pg_type AS t
WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'd', 'e', 'r', 'm')
  AND NOT EXISTS (SELECT FROM pg_type AS e WHERE e.typarray = t.oid)
"""


class TypesSource:
    """Row `n` of the table has one value in one column, and NULL in all others.

    So that a value that is held back holds back no other. Each value is there three times: in the
    snapshot (`n`), as an update (`n` + `stride`) and as an insert (`n` + 2 · `stride`), both of
    them in the log.
    """

    def __init__(self, side: PostgresSide) -> None:
        self.side = side
        there = set()
        for name in EXTENSIONS:
            with suppress(psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported):
                side.run(f"CREATE EXTENSION {name}")
                there.add(name)
        side.run(*SETUP)
        self.cases = tuple(
            case
            for case in CASES
            if case.since <= side.version and (case.extension is None or case.extension in there)
        )
        self.values: list[tuple[Case, Value]] = [
            (case, value) for case in self.cases for value in case.of(side.version)
        ]
        self.stride = 10 ** len(str(len(self.values)))
        columns = ", ".join(f"{quote(case.column)} {case.declared}" for case in self.cases)
        side.run(
            f"CREATE TABLE {TABLE} (n integer PRIMARY KEY, touched integer DEFAULT 0, "
            f"seen timestamptz DEFAULT clock_timestamp(), {columns})"
        )
        self.keys = tuple(case for case in self.cases if case.values and self._make_keys(case))

    def missing(self) -> set[str]:
        """The server's own types that no column of the table has, nor one of an array's items."""
        every = {str(name) for (name,) in self.side.texts(_COLUMN_TYPES)}
        used = self.side.texts(
            f"SELECT typname FROM pg_attribute JOIN pg_type AS t ON t.oid = atttypid "
            f"WHERE attrelid = '{TABLE}'::regclass AND attnum > 0"
        )
        return every - {str(name) for (name,) in used}

    def fill(self) -> None:
        """What the first run finds."""
        self.side.run(
            *self._inserts(0),
            f"INSERT INTO {TABLE} (n) SELECT n + {self.stride} FROM {TABLE}",
            *(statement for case in self.keys for statement in self._filled_keys(case)),
        )

    def change(self) -> None:
        """Updates and inserts of the same values, large ones left as they are; and keys that are
        updated, deleted, changed to an equal one, deleted and inserted again."""
        self.side.run(
            *(
                f"UPDATE {TABLE} SET seen = clock_timestamp(), "
                f"{quote(case.column)} = {value.sql} WHERE n = {n + self.stride}"
                for n, (case, value) in enumerate(self.values)
            ),
            *self._inserts(2 * self.stride),
            f"UPDATE {TABLE} SET touched = 1, seen = clock_timestamp() WHERE n < {self.stride}",
        )
        again: list[str] = []
        for case in self.keys:
            table = key_table(case)
            self.side.run(
                f"UPDATE {table} SET n = n + 1000 WHERE n % 3 = 1",
                f"CREATE TEMP TABLE again ON COMMIT DROP AS SELECT * FROM {table} WHERE n % 3 = 0",
                f"DELETE FROM {table} WHERE n < 500 AND n % 3 <> 1",
                f"INSERT INTO {table} SELECT * FROM again",
                *([f"UPDATE {table} SET k = {case.twins[1]} WHERE n = 500"] if case.twins else []),
            )
        self.side.run(*again)

    def _inserts(self, offset: int) -> Iterator[str]:
        for n, (case, value) in enumerate(self.values):
            yield (
                f"INSERT INTO {TABLE} (n, {quote(case.column)}) VALUES ({n + offset}, {value.sql})"
            )

    def _make_keys(self, case: Case) -> bool:
        """Whether PostgreSQL takes the type as a primary key."""
        try:
            self.side.run(
                f"CREATE TABLE {key_table(case)} (k {case.declared} PRIMARY KEY, n integer)"
            )
        except (psycopg.errors.UndefinedObject, psycopg.errors.FeatureNotSupported):
            return False
        return True

    def _filled_keys(self, case: Case) -> Iterator[str]:
        """The twin first: of equal values only one can be a key."""
        values = {500: Value(sql=case.twins[0], shown="")} if case.twins else {}
        values |= dict(enumerate(case.of(self.side.version)[:-1]))
        for n, value in values.items():
            if not value.shown.startswith(_LONG):
                yield (
                    f"INSERT INTO {key_table(case)} VALUES ({value.sql}, {n}) "
                    f"ON CONFLICT DO NOTHING"
                )


_LONG = ("131,072", "16,383", "700,000", "1,000,000", "random", "500 digits")
"""More than a page of an index holds."""


def key_table(case: Case) -> str:
    return quote(f"key_{case.column}")
