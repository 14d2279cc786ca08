"""What is particular about reading from Snowflake: names, keys, types, cursors, sessions, cost."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.errors import ConfigurationError, PositionLostError
from rowtrail.connectors.sources import snowflake_connection, snowflake_rows
from tests.connectors.follower import Follower, reported, reported_keys
from tests.connectors.snowflake_database import SnowflakeDatabase


@pytest.fixture
def database(snowflake_url: str) -> Iterator[SnowflakeDatabase]:
    with closing(SnowflakeDatabase(snowflake_url)) as database:
        yield database


def stream(table: str = "items", **settings: Any) -> StreamSpec:
    chosen = {"name": "items", "capture": Capture.SNAPSHOT, "batch_rows": 3, **settings}
    return StreamSpec(table=table, **chosen)


def described(database: SnowflakeDatabase, spec: StreamSpec) -> dict[str, str]:
    with database.source() as source:
        return {column.name: str(column.type) for column in source.describe(spec).columns}


def read(database: SnowflakeDatabase, follower: Follower) -> None:
    with database.source() as source:
        follower.read(source)


def test_names_are_folded_as_snowflake_does_it(database: SnowflakeDatabase) -> None:
    database.run(
        'CREATE TABLE Items (Id NUMBER(9,0) PRIMARY KEY, "order date" DATE, "Note" VARCHAR)',
        "INSERT INTO items VALUES (1, '2024-01-31', 'x')",
    )
    names = {"id": "int64", "order date": "date32[day]", "Note": "string"}
    for table in ("items", "ITEMS", "Items", "public.items", '"ITEMS"', '"PUBLIC".items'):
        assert described(database, stream(table)) == names
    assert list(described(database, stream(columns=("Note",), key=("ID",)))) == ["id", "Note"]
    follower = Follower(stream())
    read(database, follower)
    assert follower.live() == {(1,): {"id": 1, "order date": date(2024, 1, 31), "Note": "x"}}


def test_tables_are_listed_by_names_that_mean_them(database: SnowflakeDatabase) -> None:
    database.run(
        'CREATE TABLE "lower" (a NUMBER(9,0) PRIMARY KEY)',
        'CREATE TABLE "only lower" (b NUMBER(9,0) PRIMARY KEY)',
        "CREATE TABLE orders (c NUMBER(9,0) PRIMARY KEY, d VARCHAR)",
        'CREATE TABLE "A.B" (e NUMBER(9,0) PRIMARY KEY)',
        "CREATE TABLE _rowtrail_owner (f NUMBER(9,0) PRIMARY KEY)",
    )
    with database.source() as source:
        assert source.tables() == ['"A.B"', "orders", '"lower"', "only lower"]
        columns = source.columns()
        assert {name: list(source.describe(stream(name)).names) for name in columns} == columns
        assert columns["orders"] == ["c", "d"]
        with pytest.raises(ConfigurationError, match="belongs to Rowtrail"):
            source.describe(stream("_rowtrail_owner"))


def test_a_table_of_another_schema_and_a_view(database: SnowflakeDatabase) -> None:
    database.run(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.items (id NUMBER(9,0) PRIMARY KEY)",
        "INSERT INTO sales.items VALUES (1), (2)",
        "CREATE VIEW public.doubled AS SELECT id, id * 2 AS twice FROM sales.items",
    )
    follower = Follower(stream("sales.items"))
    read(database, follower)
    assert list(follower.live()) == [(1,), (2,)]
    with database.source() as source:
        assert source.describe(follower.stream).table == "sales.items"
        assert source.tables() == []
    seen = Follower(stream("doubled", key=("id",), types={"*": "text", "twice": "decimal(38,0)"}))
    read(database, seen)
    assert [row["twice"] for row in seen.live().values()] == [2, 4]


TYPES = """CREATE TABLE kinds (
    id NUMBER(18,0) PRIMARY KEY, big NUMBER(38,0), amount NUMBER(12,2), share FLOAT, name VARCHAR,
    data BINARY, flag BOOLEAN, day DATE, hour TIME(6), local TIMESTAMP_NTZ(6),
    fine TIMESTAMP_NTZ(9), moment TIMESTAMP_TZ(6))"""
VALUES = """INSERT INTO kinds SELECT 1, 99999999999999999999999999999999999999, -0.05, 0.1, 'é😀',
    TO_BINARY('00ff', 'HEX'), TRUE, '0001-01-01', '23:59:59.999999', '9999-12-31 23:59:59.999999',
    '2024-01-31 10:00:00.123456', '2024-01-31T12:00:00.5+00:00'"""


def test_every_type_and_null(database: SnowflakeDatabase) -> None:
    database.run(TYPES, VALUES, "INSERT INTO kinds (id) VALUES (2)")
    follower = Follower(stream("kinds"))
    read(database, follower)
    assert follower.rejected == {}
    assert follower.live()[(1,)] == {
        "id": 1,
        "big": Decimal(10**38 - 1),
        "amount": Decimal("-0.05"),
        "share": 0.1,
        "name": "é😀",
        "data": b"\x00\xff",
        "flag": True,
        "day": date(1, 1, 1),
        "hour": time(23, 59, 59, 999_999),
        "local": datetime(9999, 12, 31, 23, 59, 59, 999_999),
        "fine": datetime(2024, 1, 31, 10, 0, 0, 123_456),
        "moment": datetime(2024, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC),
    }
    second = follower.live()[(2,)]
    assert second.pop("id") == 2 and set(second.values()) == {None}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("big", [Decimal(-5), Decimal(10), Decimal(9 * 10**37)]),
        ("amount", [Decimal("-1.50"), Decimal("0.05"), Decimal("100.00")]),
        ("name", ["", "A", "a", "é", "\ue000", "\U0010ffff"]),
        ("data", [b"", b"\x00", b"\x00\xff", b"\xff"]),
        ("flag", [False, True]),
        ("day", [date(1, 1, 1), date(1969, 12, 31), date(2024, 1, 31)]),
        ("hour", [time(0), time(0, 0, 0, 1), time(23, 59, 59, 999_999)]),
        ("local", [datetime(1, 1, 1), datetime(2024, 1, 1, 0, 0, 0, 1), datetime(2024, 1, 2)]),
        (
            "moment",
            [datetime(1969, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC)],
        ),
    ],
)
def test_keys_of_every_type(
    database: SnowflakeDatabase, column: str, values: Sequence[object]
) -> None:
    """Pages of one row each, and look-ups of a key that is there and of one that is not."""
    database.run(TYPES)
    for number, value in enumerate(values):
        with database.connection.cursor() as cursor:
            bound = ("TIMESTAMP_TZ", value) if column == "moment" else value
            bound = str(value) if isinstance(value, Decimal) else bound
            cursor.execute(f"INSERT INTO kinds (id, {column}) VALUES ({number}, ?)", [bound])
    follower = Follower(stream("kinds", key=(column,), columns=("id",), batch_rows=1))
    with database.source() as source:
        assert reported_keys(follower.read(source)) == [(value,) for value in values]
        assert follower.rejected == {}
        schema = source.describe(follower.stream).arrow_key()
        keys = pa.RecordBatch.from_pylist([{column: values[-1]}, {column: values[0]}], schema)
        fetched = source.fetch(follower.stream, keys, follower.state(source))
        assert fetched.rows.column("id").to_pylist() == [len(values) - 1, 0]
        database.run("DELETE FROM kinds WHERE id = 0")
        gone = reported(follower.read(source))
    assert [row[column] for _, row in gone] == [values[0]]


def test_a_float_is_no_key(database: SnowflakeDatabase) -> None:
    database.run(TYPES)
    with database.source() as source, pytest.raises(ConfigurationError, match="share is a FLOAT"):
        source.describe(stream("kinds", key=("share",)))


def test_nanoseconds_hold_their_row_back(database: SnowflakeDatabase) -> None:
    database.run(
        TYPES,
        "INSERT INTO kinds (id, fine) SELECT 1, '2024-01-31 10:00:00.123456789'::TIMESTAMP_NTZ(9)",
        "INSERT INTO kinds (id, fine) SELECT 2, '2024-01-31 10:00:00.123456000'::TIMESTAMP_NTZ(9)",
    )
    follower = Follower(stream("kinds"))
    read(database, follower)
    assert list(follower.live()) == [(2,)]
    rejected = follower.rejected[(1,)]
    assert rejected.column == "fine" and "nanoseconds" in rejected.message
    assert "123456789" not in rejected.message
    assert rejected.image.column("fine").to_pylist() == ["2024-01-31 10:00:00.123456789"]
    database.run("UPDATE kinds SET fine = '2024-01-31 10:00:00.5' WHERE id = 1")
    read(database, follower)
    assert follower.rejected == {}
    assert follower.live()[(1,)]["fine"] == datetime(2024, 1, 31, 10, 0, 0, 500_000)


def test_a_cursor_with_nanoseconds(database: SnowflakeDatabase) -> None:
    """Pages go on at the very value; what comes in the same microsecond is not left out."""
    database.run("CREATE TABLE items (id NUMBER(9,0) PRIMARY KEY, seen TIMESTAMP_NTZ(9))")
    insert = "INSERT INTO items SELECT {0}, '2024-01-31 10:00:00.{1:09}'::TIMESTAMP_NTZ(9)"
    database.run(*(insert.format(number, number * 7) for number in range(10)))
    spec = stream(capture=Capture.CURSOR, cursor="seen", exclude=("seen",), cursor_lag=1e-9)
    follower = Follower(spec)
    read(database, follower)
    database.run(*(insert.format(number, number * 7) for number in range(10, 14)))
    read(database, follower)
    assert sorted(follower.live()) == [(number,) for number in range(14)]
    with database.source() as source:
        assert reported(follower.read(source)) == []


@pytest.mark.parametrize("kind", ["TIMESTAMP_NTZ(6)", "TIMESTAMP_TZ(6)", "DATE"])
def test_a_late_commit_behind_a_cursor_of_times(database: SnowflakeDatabase, kind: str) -> None:
    """An hour of the last read is read again: nobody says which transactions are open."""
    database.run(f"CREATE TABLE items (id NUMBER(9,0) PRIMARY KEY, note VARCHAR, seen {kind})")
    insert = "INSERT INTO items VALUES ({0}, 'old', '2024-01-31 {1}')"
    if kind == "DATE":
        insert = "INSERT INTO items VALUES ({0}, 'old', '2024-01-31')"
    elif "TZ(" in kind and "NTZ" not in kind:
        insert = "INSERT INTO items VALUES ({0}, 'old', '2024-01-31 {1}+00:00')"
    for number, hour in enumerate(("08:00:00", "09:30:00", "10:00:00")):
        database.run(insert.format(number, hour))
    follower = Follower(stream(capture=Capture.CURSOR, cursor="seen"))
    read(database, follower)
    database.run("UPDATE items SET note = 'late' WHERE id = 1")
    with database.source() as source:
        assert reported_keys(follower.read(source)) == [(1,)]
    if kind != "DATE":
        database.run("UPDATE items SET note = 'too late' WHERE id = 0")
        read(database, follower)
        assert follower.live()[(0,)]["note"] == "old"


def test_times_in_the_future_are_read_again(database: SnowflakeDatabase) -> None:
    database.run(
        "CREATE TABLE items (id NUMBER(9,0) PRIMARY KEY, note VARCHAR, seen TIMESTAMP_NTZ(6))",
        "INSERT INTO items SELECT 1, 'old', '9000-01-01 00:00:00'",
        "INSERT INTO items SELECT 2, 'old', '2024-01-31 00:00:00'",
    )
    follower = Follower(stream(capture=Capture.CURSOR, cursor="seen"))
    read(database, follower)
    database.run("UPDATE items SET note = 'new', seen = SYSDATE() WHERE id = 2")
    with database.source() as source:
        assert reported_keys(follower.read(source)) == [(2,)]


def test_another_cursor_than_the_read_began_with(database: SnowflakeDatabase) -> None:
    database.run(
        "CREATE TABLE items (id NUMBER(9,0) PRIMARY KEY, seen NUMBER(9,0), other VARCHAR)",
        *(f"INSERT INTO items VALUES ({number}, {number}, 'x')" for number in range(9)),
    )
    follower = Follower(stream(capture=Capture.CURSOR, cursor="seen"))
    read(database, follower)
    database.run("UPDATE items SET seen = 20")
    with database.source() as source:
        assert follower.read_until(source, 2)
        follower.stream = stream(capture=Capture.CURSOR, cursor="other")
        with pytest.raises(PositionLostError, match=r"cursor seen \(NUMBER\)"):
            follower.read(source)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cursor": None}, "names no column"),
        ({"cursor": "share"}, "cannot be the cursor"),
        ({"cursor": "name", "cursor_lag": 1.0}, "0 for text"),
        ({"cursor": "day", "capture": Capture.TRIGGER}, "which Snowflake has not"),
        ({"cursor": "day", "capture": Capture.LOG}, "which Snowflake has not"),
    ],
)
def test_what_a_stream_cannot_ask(
    database: SnowflakeDatabase, settings: dict[str, Any], words: str
) -> None:
    database.run(TYPES)
    spec = stream("kinds", **{"capture": Capture.CURSOR, **settings})
    with database.source() as source:
        with pytest.raises(ConfigurationError, match=words):
            source.describe(spec)
        (problem,) = source.preflight([spec])
    assert problem.fatal and words in problem.message


def test_preflight_warns_of_late_commits_behind_a_number(database: SnowflakeDatabase) -> None:
    database.run(TYPES)
    number = stream("kinds", capture=Capture.CURSOR, cursor="big")
    timed = stream("kinds", capture=Capture.CURSOR, cursor="local")
    lagging = stream("kinds", capture=Capture.CURSOR, cursor="big", cursor_lag=9.0)
    with database.source() as source:
        (problem,) = source.preflight([number, timed, lagging])
    assert not problem.fatal and "cursor_lag" in problem.remedy


def test_a_primary_key_of_which_there_are_two_rows(database: SnowflakeDatabase) -> None:
    """Snowflake does not hold it, whether or not the rows are on one page."""
    database.run(
        "CREATE TABLE items (id NUMBER(9,0) PRIMARY KEY, name VARCHAR)",
        "INSERT INTO items VALUES (1, 'a'), (2, 'b'), (3, 'c'), (3, 'd'), (4, 'e')",
    )
    follower = Follower(stream())
    with database.source() as source, pytest.raises(ConfigurationError, match="id = 3 and"):
        follower.read(source)
    assert follower.live() == {}


def test_rows_without_a_key_are_named(database: SnowflakeDatabase) -> None:
    database.run(
        "CREATE TABLE items (code VARCHAR, n NUMBER(9,0))",
        *(f"INSERT INTO items VALUES (NULL, {number})" for number in range(4)),
        "INSERT INTO items VALUES ('a', 9)",
    )
    follower = Follower(stream(key=("code",)))
    with database.source() as source:
        items = follower.read(source)
    assert list(follower.live()) == [("a",)]
    rejected = [one for item in items for one in item.rejected]
    assert [one.image.column("n")[0].as_py() for one in rejected] == [0, 1, 2, 3]
    assert {one.key for one in rejected} == {(None,)}
    assert "Key column code is NULL" in rejected[0].message


COLLATED = (
    "CREATE TABLE items (name VARCHAR COLLATE 'en-ci' PRIMARY KEY, seen NUMBER(9,0))",
    *(f"INSERT INTO items VALUES ('{name}', 1)" for name in ("b", "A", "a", "C", "B", "ab")),
)


@pytest.mark.parametrize("capture", [Capture.SNAPSHOT, Capture.CURSOR])
def test_a_key_with_a_collation_goes_by_its_bytes(
    database: SnowflakeDatabase, capture: Capture
) -> None:
    database.run(*COLLATED)
    follower = Follower(stream(capture=capture, cursor="seen", batch_rows=1))
    with database.source() as source:
        keys = reported_keys(follower.read(source))
        assert keys == [("A",), ("B",), ("C",), ("a",), ("ab",), ("b",)]
        asked = pa.record_batch({"name": ["b", "c", "B"]})
        fetched = source.fetch(follower.stream, asked, follower.state(source))
        assert [row["seen"] for _, row in reported([fetched])] == [1, None, 1]
        database.run("DELETE FROM items WHERE COLLATE(name, '') = 'a'")
        database.run("INSERT INTO items VALUES ('c', 1)")
        assert sorted(reported_keys(follower.read(source))) == [("a",), ("c",)]


def test_a_key_that_is_not_sorted_by_its_bytes(
    database: SnowflakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a collation ever go unnoticed, no row is left out in silence."""
    database.run(*COLLATED)
    monkeypatch.setattr(
        snowflake_rows.SnowflakeRows,
        "key_order",
        lambda _, alias="t": [f'{alias}."NAME"'],
    )
    follower = Follower(stream(batch_rows=9))
    with database.source() as source, pytest.raises(ConfigurationError) as caught:
        follower.read(source)
    assert "does not sort the key (name) of table items by the bytes" in str(caught.value)
    assert follower.live() == {}


def test_json_as_text(database: SnowflakeDatabase) -> None:
    database.run(
        "CREATE TABLE items (id NUMBER(9,0) PRIMARY KEY, data VARIANT)",
        "INSERT INTO items SELECT 1, PARSE_JSON('{\"a\": [1, 2.5]}')",
    )
    with database.source() as source, pytest.raises(ConfigurationError, match="VARIANT"):
        source.describe(stream())
    follower = Follower(stream(types={"data": "text"}))
    read(database, follower)
    assert follower.live()[(1,)]["data"].replace(" ", "") == '{"a":[1,2.5]}'


def test_a_session_that_is_gone_is_opened_anew(database: SnowflakeDatabase) -> None:
    database.run(
        "CREATE TABLE items (id NUMBER(9,0) PRIMARY KEY)",
        *(f"INSERT INTO items VALUES ({number})" for number in range(7)),
    )
    follower = Follower(stream())
    with database.source() as source:
        assert follower.read_until(source, 1)
        session = source._connection._session
        assert session is not None
        session.close()
        follower.read(source)
        assert source._connection._session is not session
    assert len(follower.live()) == 7


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is said to Snowflake from now on, with its tags."""
    statements: list[tuple[str, str]] = []
    execute = snowflake_connection.Connection._execute

    def listening(self: Any, sql: str, parameters: Sequence[str | None], stream: str) -> Any:
        cursor = execute(self, sql, parameters, stream)
        statements.append((sql, stream))
        return cursor

    monkeypatch.setattr(snowflake_connection.Connection, "_execute", listening)
    return statements


def test_a_look_up_of_more_keys_than_one_statement_takes(
    database: SnowflakeDatabase, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr(snowflake_rows, "_MOST_KEYS", 2)
    database.run(TYPES, *(f"INSERT INTO kinds (id) VALUES ({number})" for number in range(5)))
    database.run(
        "UPDATE kinds SET fine = '2024-01-31 10:00:00.000000001'::TIMESTAMP_NTZ(9) WHERE id = 3"
    )
    follower = Follower(stream("kinds", columns=("fine",)))
    with database.source() as source:
        keys = pa.record_batch({"id": pa.array([4, 9, 3, 0, 1])})
        fetched = source.fetch(follower.stream, keys, follower.state(source))
    assert reported_keys([fetched]) == [(4,), (9,), (0,), (1,)]
    assert [one.key for one in fetched.rejected] == [(3,)]
    assert len([sql for sql, _ in said if "FROM VALUES" in sql]) == 3


def test_many_pages_of_one_statement(
    database: SnowflakeDatabase, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, str]]
) -> None:
    """Each statement in key order is paid for by reading all that is behind its beginning."""
    database.run(
        "CREATE TABLE items (id NUMBER(9,0) PRIMARY KEY, seen NUMBER(9,0))",
        *(f"INSERT INTO items VALUES ({number}, {number})" for number in range(20)),
    )
    for capture in (Capture.SNAPSHOT, Capture.CURSOR):
        for pages, expected in ((64, 1), (2, 4), (1, 7)):
            monkeypatch.setattr(snowflake_rows, "PAGES", pages)
            said.clear()
            follower = Follower(stream(capture=capture, cursor="seen"))
            read(database, follower)
            assert len(follower.live()) == 20
            pages_of = [sql for sql, _ in said if "ORDER BY" in sql]
            assert len(pages_of) == expected
            assert pages_of[0].endswith(f"LIMIT {pages * 3 + 1}")
            assert {tag for sql, tag in said if sql in pages_of} == {"items"}


def test_what_comes_meanwhile_is_for_the_next_read(database: SnowflakeDatabase) -> None:
    database.run(
        "CREATE TABLE items (id NUMBER(9,0) PRIMARY KEY, note VARCHAR)",
        *(f"INSERT INTO items VALUES ({number}, 'old')" for number in range(9)),
    )
    follower = Follower(stream())
    with database.source() as source:
        for item in source.read(follower.stream, follower.state(source)):
            follower.apply(item)
            database.run("UPDATE items SET note = 'new'")
        assert {row["note"] for row in follower.live().values()} == {"old"}
        assert len(reported(follower.read(source))) == 9
    assert {row["note"] for row in follower.live().values()} == {"new"}


def test_a_value_that_a_condition_trips_over_is_not_told(database: SnowflakeDatabase) -> None:
    """It may be one of a redacted column."""
    database.run(
        "CREATE TABLE items (id NUMBER(9,0) PRIMARY KEY, name VARCHAR)",
        "INSERT INTO items VALUES (1, 'secret')",
    )
    with database.source() as source, pytest.raises(ConfigurationError) as caught:
        list(source.keys_where(stream(), "name::NUMBER > 0"))
    assert "the condition `name::NUMBER > 0`" in str(caught.value)
    assert "secret" not in "".join(traceback.format_exception(caught.value))
