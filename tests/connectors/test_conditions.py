"""Rows chosen by a condition in a person's own SQL: all that fit, one expression, and no write."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rowtrail.connectors.base import Capture, ChoosesKeys, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from tests.connectors.postgres_database import PostgresDatabase
from tests.connectors.snowflake_database import SnowflakeDatabase
from tests.connectors.source_conformance import SourceDatabase
from tests.connectors.sqlite_database import SqliteDatabase

ITEMS = StreamSpec(name="items", table="items", capture=Capture.SNAPSHOT, batch_rows=5)


def opened(
    kind: str, request: pytest.FixtureRequest, folder: Path
) -> SqliteDatabase | PostgresDatabase | SnowflakeDatabase:
    if kind == "sqlite":
        return SqliteDatabase(folder / "source.db")
    if kind == "postgres":
        return PostgresDatabase(request.getfixturevalue("postgres_url"))
    return SnowflakeDatabase(request.getfixturevalue("snowflake_url"))


@pytest.fixture(params=["sqlite", "postgres", "snowflake"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SourceDatabase]:
    with closing(opened(request.param, request, tmp_path)) as database:
        database.run(
            "CREATE TABLE items (id INTEGER NOT NULL PRIMARY KEY, name TEXT, size INTEGER)",
            *(
                ("INSERT INTO items VALUES (?, ?, ?)", (number, f"item {number}", number % 3))
                for number in range(1, 24)
            ),
            "CREATE TABLE wanted (item INTEGER)",
            "INSERT INTO wanted VALUES (7), (8)",
        )
        yield database


def chosen(database: SourceDatabase, condition: str, stream: StreamSpec = ITEMS) -> list[int]:
    with database.source() as source:
        assert isinstance(source, ChoosesKeys)
        batches = list(source.keys_where(stream, condition))
    assert all(len(batch) <= stream.batch_rows for batch in batches)
    return [key for batch in batches for key in batch.column("id").to_pylist()]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("size = 1", [n for n in range(1, 24) if n % 3 == 1]),
        ("id > 5 AND id <= 15 OR id = 23", [*range(6, 16), 23]),
        ("items.id = 3", [3]),
        ("id IN (SELECT item FROM wanted)", [7, 8]),
        ("name LIKE 'item 1%' -- those of the first ten", [1, *range(10, 20)]),
        ("name = 'a;b)--' OR id = 2 /* ; */", [2]),
        ("name > 'item'", list(range(1, 24))),
        ("id < 0", []),
        ("NULL", []),
    ],
)
def test_all_rows_that_fit_are_chosen(
    database: SourceDatabase, condition: str, expected: list[int]
) -> None:
    assert chosen(database, condition) == expected


def test_a_key_of_several_columns_and_texts(database: SourceDatabase) -> None:
    database.run("CREATE TABLE lines (item INTEGER NOT NULL, tag TEXT NOT NULL, n INTEGER)")
    database.run("CREATE UNIQUE INDEX lines_key ON lines (item, tag)")
    for item in range(1, 5):
        database.run(*(("INSERT INTO lines VALUES (?, ?, 1)", (item, tag)) for tag in "ab,\u00e9"))
    stream = StreamSpec(
        name="lines", table="lines", capture=Capture.SNAPSHOT, key=("item", "tag"), batch_rows=3
    )
    with database.source() as source:
        assert isinstance(source, ChoosesKeys)
        keys = [
            tuple(row.values())
            for batch in source.keys_where(stream, "item > 2")
            for row in batch.to_pylist()
        ]
    assert keys == [(item, tag) for item in (3, 4) for tag in (",", "a", "b", "\u00e9")]


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "id >",
        "id = 1; DELETE FROM wanted",
        "id = 1); DELETE FROM wanted; SELECT (1",
        "true) OR (true",
        "1 = 1 THEN 1 END; DELETE FROM wanted; SELECT CASE WHEN 1 = 1",
        "id = 1) UNION SELECT id, name, size FROM items WHERE (1 = 1",
        "id = 1 ORDER BY id",
        "id = 1, id = 2",
        "id = 1 /*",
        "name = 'open",
        "colour = 'red'",
        "nosuch(id)",
        "DELETE FROM wanted",
    ],
)
def test_what_is_not_one_expression_is_refused_in_the_database_s_words(
    database: SourceDatabase, condition: str
) -> None:
    with database.source() as source:
        assert isinstance(source, ChoosesKeys)
        with pytest.raises(ConfigurationError) as caught:
            source.check_condition(ITEMS, condition)
        if condition:
            assert f"the condition `{condition}`" in str(caught.value)
            assert "Write one SQL expression" in str(caught.value)
        with pytest.raises(ConfigurationError):
            list(source.keys_where(ITEMS, condition))
    assert database.select("SELECT count(*) FROM wanted") == [(2,)]
    assert chosen(database, "id = 1") == [1], "the connection can go on"


def test_a_function_that_writes_is_refused(postgres_url: str) -> None:
    with closing(PostgresDatabase(postgres_url)) as database:
        database.run(
            "CREATE TABLE items (id INTEGER NOT NULL PRIMARY KEY, name TEXT, size INTEGER)",
            "INSERT INTO items VALUES (1, 'x', 1)",
            "CREATE SEQUENCE counter",
        )
        with pytest.raises(ConfigurationError, match="in a read-only transaction"):
            chosen(database, "nextval('counter') > 0")
        assert database.select("SELECT is_called FROM counter") == [(False,)]


def test_a_value_that_a_condition_trips_over_is_not_told(postgres_url: str) -> None:
    """It may be one of a redacted column."""
    with closing(PostgresDatabase(postgres_url)) as database:
        database.run(
            "CREATE TABLE items (id INTEGER NOT NULL PRIMARY KEY, name TEXT, size INTEGER)",
            "INSERT INTO items VALUES (1, 'secret', 1)",
        )
        with pytest.raises(ConfigurationError, match="invalid input syntax") as caught:
            chosen(database, "name::integer > 0")
        assert "secret" not in "".join(traceback.format_exception(caught.value))
