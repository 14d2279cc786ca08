"""PostgreSQL databases for tests, changed on a connection of their own as an application would."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import psycopg

from rowtrail.connectors.sources.postgres import PostgresSource
from tests.connectors.source_conformance import SourceDatabase

_CREATE = re.compile(r"CREATE TABLE (.+?) \(")
Statement = str | tuple[str, Sequence[object]]


class PostgresDatabase(SourceDatabase):
    """Statements have `?` for their parameters, as the conformance suite writes them."""

    integer = "bigint"
    text = "text"

    def __init__(self, url: str, *, identity: str = "DEFAULT") -> None:
        self.url = url
        self._identity = identity  # the replica identity of each table that is made
        self.connection = psycopg.connect(url, autocommit=True, prepare_threshold=None)

    def open(self) -> PostgresSource:
        return PostgresSource(self.url)

    def run(self, *statements: Statement) -> None:
        with self.connection.transaction():
            for statement in statements:
                sql, values = (statement, ()) if isinstance(statement, str) else statement
                if values:
                    sql = sql.replace("%", "%%").replace("?", "%s")
                self.connection.execute(sql, values or None)
                if (made := _CREATE.match(sql)) and self._identity != "DEFAULT":
                    self.connection.execute(
                        f"ALTER TABLE {made[1]} REPLICA IDENTITY {self._identity}"
                    )

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement).fetchall()

    def columns(self, table: str) -> list[tuple[str, str]]:
        return self.connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            [self.quote(table)],
        ).fetchall()

    def has_extension(self, name: str) -> bool:
        """Whether the server brings it (a build from PyPI does not); it is there afterwards."""
        if not self.select(f"SELECT FROM pg_available_extensions WHERE name = '{name}'"):
            return False
        self.run(f"CREATE EXTENSION IF NOT EXISTS {name}")
        return True

    def has_icu(self) -> bool:
        """Whether the server was built with ICU's collations (a build from PyPI was not)."""
        return bool(self.select("SELECT FROM pg_collation WHERE collname = 'de-x-icu'"))

    def close(self) -> None:
        self.connection.close()
