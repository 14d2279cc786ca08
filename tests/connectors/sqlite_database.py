"""SQLite databases for tests, changed through the standard module as an application would."""

from __future__ import annotations

import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rowtrail.connectors.sources.sqlite import SqliteSource
from tests.connectors.source_conformance import SourceDatabase

Statement = str | tuple[str, Sequence[object]]

_OTHER_PROCESS = """
import pickle, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
while True:
    try:
        statements = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        for sql, values in statements:
            connection.execute(sql, values)
        answer = None
    except sqlite3.Error as error:
        answer = str(error)
    pickle.dump(answer, sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


class SqliteDatabase(SourceDatabase):
    """While a source is open, changes come from another process: two copies of SQLite in one
    process would undo each other's locks."""

    def __init__(self, path: Path, *, journal: str = "wal") -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self._sources = 0
        self._writer: subprocess.Popen[bytes] | None = None
        self.run(f"PRAGMA journal_mode = {journal}")

    def open(self) -> SqliteSource:
        return SqliteSource(self.url)

    @contextmanager
    def source(self) -> Iterator[SqliteSource]:
        self._sources += 1
        try:
            with closing(self.open()) as source:
                yield source
        finally:
            self._sources -= 1

    def run(self, *statements: Statement) -> None:
        if self._sources:
            self.elsewhere("BEGIN IMMEDIATE", *statements, "COMMIT")
            return
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for sql, values in map(_with_values, statements):
                connection.execute(sql, values)

    def elsewhere(self, *statements: Statement) -> None:
        """Runs the statements one by one in another process, which waits for no lock."""
        if self._writer is None:
            self._writer = subprocess.Popen(
                [sys.executable, "-c", _OTHER_PROCESS, str(self.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        assert self._writer.stdin is not None
        assert self._writer.stdout is not None
        pickle.dump(list(map(_with_values, statements)), self._writer.stdin)
        self._writer.stdin.flush()
        answer = pickle.load(self._writer.stdout)
        assert answer is None, answer

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        assert not self._sources, "look at the database when no source is open"
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(statement).fetchall()

    def columns(self, table: str) -> list[tuple[str, str]]:
        rows = self.select(f"PRAGMA table_xinfo({self.quote(table)})")
        return [(row[1], row[2]) for row in rows]

    def close(self) -> None:
        if self._writer is not None:
            self._writer.communicate()


def _with_values(statement: Statement) -> tuple[str, Sequence[object]]:
    return (statement, ()) if isinstance(statement, str) else statement
