"""Keys of SQLite tables that no constraint guards, and what guards a key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.sources.sqlite_connection import Connection
from tests.connectors.follower import Follower
from tests.connectors.sqlite_database import SqliteDatabase

CAPTURES = pytest.mark.parametrize(
    "capture", [Capture.SNAPSHOT, Capture.CURSOR, Capture.TRIGGER], ids=str
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    with closing(SqliteDatabase(tmp_path / "source.db")) as database:
        yield database


def stream(capture: Capture, *key: str) -> StreamSpec:
    return StreamSpec(name="t", table="t", capture=capture, key=key, cursor="n", batch_rows=3)


def read(database: SqliteDatabase, follower: Follower) -> None:
    with database.source() as source:
        source.execute(source.capture_plan([follower.stream]))
        follower.read(source)


@CAPTURES
def test_keys_compare_byte_for_byte(database: SqliteDatabase, capture: Capture) -> None:
    """Whatever the column's collation: `a` and `A` are two records, `a` twice is one too many."""
    texts = ["a", "A", "b", "B", "B ", "c"]
    database.run(
        "CREATE TABLE t (k0 TEXT COLLATE NOCASE, k1 INTEGER, n INTEGER)",
        *(("INSERT INTO t VALUES (?, 1, ?)", (text, n)) for n, text in enumerate(texts)),
    )
    follower = Follower(stream(capture, "k1", "k0"))
    read(database, follower)
    assert sorted(follower.live()) == sorted((1, text) for text in texts)
    database.run("INSERT INTO t VALUES ('B ', 2, 9), ('B', 1, 9)")
    with pytest.raises(ConfigurationError, match="several rows have k1 = 1, k0 = 'B' and"):
        read(database, follower)


@CAPTURES
@pytest.mark.parametrize(
    ("index", "guards"),
    [
        ("CREATE UNIQUE INDEX one ON t (k)", True),
        ("CREATE UNIQUE INDEX one ON t (k COLLATE NOCASE)", True),
        ("CREATE UNIQUE INDEX one ON t (k, n)", False),
        ("CREATE UNIQUE INDEX one ON t (k) WHERE n > 5", False),
        ("CREATE UNIQUE INDEX one ON t (lower(k))", False),
        ("CREATE INDEX one ON t (k)", False),
    ],
)
def test_what_guards_a_key_costs_nothing(
    database: SqliteDatabase,
    monkeypatch: pytest.MonkeyPatch,
    capture: Capture,
    index: str,
    guards: bool,
) -> None:
    database.run(
        "CREATE TABLE t (k TEXT NOT NULL, n INTEGER)", index, "INSERT INTO t VALUES ('a', 1)"
    )
    follower = Follower(stream(capture, "k"))
    asked: list[str] = []
    query = Connection.query

    def listening(self: Connection, sql: str, *arguments: Any, **named: Any) -> pa.RecordBatch:
        asked.append(sql)
        return query(self, sql, *arguments, **named)

    monkeypatch.setattr(Connection, "query", listening)
    read(database, follower)
    assert guards != any("HAVING count(*) > 1" in sql for sql in asked)


def test_an_index_on_some_rows_does_not_guard_the_others(database: SqliteDatabase) -> None:
    database.run(
        "CREATE TABLE t (k TEXT NOT NULL, n INTEGER)",
        "CREATE UNIQUE INDEX one ON t (k) WHERE n > 5",
        "INSERT INTO t VALUES ('a', 1), ('a', 2), ('b', 6)",
    )
    with database.source() as source:
        (problem,) = source.preflight([stream(Capture.SNAPSHOT, "k")])
    assert problem.fatal
    assert "not unique" in problem.message
