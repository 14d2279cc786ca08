"""PostgreSQL's types: what every value of them is read as, and what is held back or refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.changes import Rejected
from rowtrail.connectors.errors import ConfigurationError
from tests.connectors.follower import Follower
from tests.connectors.postgres_database import PostgresDatabase
from tests.postgres_server import GivenServer, PostgresServer


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer | GivenServer) -> Iterator[PostgresDatabase]:
    """One for all tests of this module: each makes table t anew."""
    with postgres_server.database() as url, closing(PostgresDatabase(url)) as database:
        database.run(
            "CREATE TYPE mood AS ENUM ('sad', 'ok', 'very ''happy''')",
            "CREATE TYPE pair AS (a int, b text)",
            "CREATE DOMAIN price AS numeric(10, 2) CHECK (VALUE >= 0)",
            "CREATE DOMAIN net_price AS price NOT NULL",
        )
        yield database


def stream(**settings: Any) -> StreamSpec:
    chosen: dict[str, Any] = {"name": "t", "table": "t", "capture": Capture.SNAPSHOT, **settings}
    return StreamSpec(**chosen)


def make(database: PostgresDatabase, declared: str, literals: list[str]) -> None:
    if declared in ("citext", "hstore") and not database.has_extension(declared):
        pytest.skip(f"the server does not bring {declared}")
    if declared == "xml":
        try:
            database.select("SELECT xml '<a/>'")
        except psycopg.errors.FeatureNotSupported:
            pytest.skip("the server was built without xml")
    database.run(
        "DROP TABLE IF EXISTS t",
        f"CREATE TABLE t (id int PRIMARY KEY, v {declared})",
        *(f"INSERT INTO t VALUES ({n}, {literal})" for n, literal in enumerate(literals)),
    )


def values_of(
    database: PostgresDatabase, declared: str, literals: list[str], **settings: Any
) -> tuple[pa.DataType, list[Any], dict[int, Rejected]]:
    """The type of a column declared so, its values that fit, and the rows that do not, by row."""
    make(database, declared, literals)
    follower = Follower(stream(**settings))
    with database.source() as source:
        follower.read(source)
        data_type = source.describe(follower.stream).column("v").type
        alone = Follower(stream(**settings))
        alone.position = follower.position
        for number in range(len(literals)):  # a row that is fetched alone comes by another way
            keys = pa.record_batch({"id": pa.array([number], pa.int32())})
            alone.apply(source.fetch(alone.stream, keys, alone.state(source)))
    assert repr(alone.live()) == repr(follower.live())
    assert seen(alone.rejected) == seen(follower.rejected)
    fitting = [row["v"] for row in follower.live().values()]
    return data_type, fitting, {key[0]: rejected for key, rejected in follower.rejected.items()}


def seen(rejected: dict[Any, Rejected]) -> dict[Any, tuple[str, str, Any]]:
    return {key: (one.column, one.message, one.image.to_pylist()) for key, one in rejected.items()}


TOP = 2**63 - 1
ZONED = pa.timestamp("us", tz="UTC")
CASES: list[tuple[str, str | None, pa.DataType, dict[str, Any], list[str]]] = [
    # declared, as type, Arrow type, literals that fit with their values, literals that do not
    ("boolean", None, pa.bool_(), {"true": True, "false": False, "NULL": None}, []),
    ("smallint", None, pa.int16(), {"-32768": -32768, "32767": 32767, "NULL": None}, []),
    ("integer", None, pa.int32(), {"-2147483648": -(2**31), "2147483647": 2**31 - 1}, []),
    ("bigint", None, pa.int64(), {f"{TOP}": TOP, f"{-TOP - 1}": -TOP - 1, "NULL": None}, []),
    ("oid", None, pa.int64(), {"0": 0, "4294967295": 2**32 - 1}, []),
    ("real", None, pa.float32(), {"1.5": 1.5, "'inf'": float("inf")}, []),
    ("double precision", None, pa.float64(), {"0.1": 0.1, "'-inf'": -float("inf")}, []),
    (
        "numeric(12, 2)",
        None,
        pa.decimal128(12, 2),
        {"-9999999999.99": Decimal("-9999999999.99"), "1": Decimal("1.00"), "NULL": None},
        ["'NaN'"],
    ),
    ("numeric(38)", None, pa.decimal128(38, 0), {"9" * 38: Decimal("9" * 38)}, ["'NaN'"]),
    (
        "text",
        None,
        pa.string(),
        {"''": "", "'é😀 '": "é😀 ", "'NULL'": "NULL", "NULL": None, "E'\\\\N'": "\\N"},
        [],
    ),
    ("varchar(3)", None, pa.string(), {"'ab '": "ab "}, []),
    ("char(4)", None, pa.string(), {"'ab'": "ab  ", "''": "    "}, []),
    ("bpchar", None, pa.string(), {"'ab '": "ab ", "'ab'": "ab"}, []),
    ("name", None, pa.string(), {"'ab'": "ab"}, []),
    ('"char"', None, pa.string(), {"'a'": "a", "''": ""}, []),
    ("citext", None, pa.string(), {"'Foo'": "Foo", "'foo'": "foo"}, []),
    ("mood", None, pa.string(), {"'sad'": "sad", "'very ''happy'''": "very 'happy'"}, []),
    ("json", None, pa.string(), {'\'{"b": 1,  "a":2}\'': '{"b": 1,  "a":2}'}, []),
    ("jsonb", None, pa.string(), {'\'{"b":1,"a":2}\'': '{"a": 2, "b": 1}'}, []),
    (
        "xml",
        None,
        pa.string(),
        {"'<a/>'": "<a/>", '\'<?xml version="1.0" encoding="UTF-8"?><b/>\'': "<b/>"},
        [],
    ),
    (
        "uuid",
        None,
        pa.string(),
        {"'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
        [],
    ),
    ("inet", None, pa.string(), {"'10.0.0.1'": "10.0.0.1", "'10.0.0.1/8'": "10.0.0.1/8"}, []),
    ("cidr", None, pa.string(), {"'10.0.0.0/8'": "10.0.0.0/8", "'::1'": "::1/128"}, []),
    ("macaddr", None, pa.string(), {"'08-00-2B-01-02-03'": "08:00:2b:01:02:03"}, []),
    ("bit(3)", None, pa.string(), {"B'101'": "101"}, []),
    ("varbit", None, pa.string(), {"B'10'": "10", "B''": ""}, []),
    ("bytea", None, pa.binary(), {"'\\x00ff'": b"\x00\xff", "''": b"", "NULL": None}, []),
    (
        "date",
        None,
        pa.date32(),
        {"'2024-02-29'": date(2024, 2, 29), "'0001-01-01'": date.min, "'9999-12-31'": date.max},
        ["'infinity'", "'-infinity'", "'10000-01-01'", "'0001-12-31 BC'", "'5874897-12-31'"],
    ),
    (
        "time",
        None,
        pa.time64("us"),
        {"'00:00'": time(0), "'23:59:59.999999'": time(23, 59, 59, 999_999), "NULL": None},
        ["'24:00'"],
    ),
    (
        "timestamp",
        None,
        pa.timestamp("us"),
        {
            "'2024-01-31 10:00:00.5'": datetime(2024, 1, 31, 10, 0, 0, 500_000),
            "'0001-01-01'": datetime.min,
            "'9999-12-31 23:59:59.999999'": datetime.max,
        },
        ["'infinity'", "'-infinity'", "'10000-01-01'", "'0044-03-15 BC'", "'294276-12-31'"],
    ),
    (
        "timestamptz",
        None,
        ZONED,
        {
            "'2024-01-31 10:00:00+02'": datetime(2024, 1, 31, 8, tzinfo=UTC),
            "'0001-01-01 00:00:00+00'": datetime(1, 1, 1, tzinfo=UTC),
        },
        ["'infinity'", "'-infinity'", "'9999-12-31 23:00:00-12'", "'294276-12-31'"],
    ),
    ("net_price", None, pa.decimal128(10, 2), {"7": Decimal("7.00")}, ["'NaN'"]),
    # Read as something else.
    (
        "numeric",
        "decimal(38,10)",
        pa.decimal128(38, 10),
        {"1.5": Decimal("1.5000000000"), "NULL": None, "1e27": Decimal("1e27")},
        ["1e30", "0.12345678901", "'NaN'", *(["'NaN'"] * 300)],
    ),
    ("numeric", "int64", pa.int64(), {"5.00": 5, f"{TOP}": TOP}, ["5.5", f"{TOP + 1}", "'NaN'"]),
    ("bigint", "int32", pa.int32(), {"5": 5, "NULL": None}, [f"{2**31}"]),
    ("bigint", "decimal(3,1)", pa.decimal128(3, 1), {"99": Decimal("99.0")}, ["100"]),
    ("double precision", "float32", pa.float32(), {"0.5": 0.5}, ["0.1", "1e300"]),
    ("real", "float64", pa.float64(), {"0.5": 0.5}, []),
    ("numeric", "text", pa.string(), {"1.50": "1.50", "'NaN'": "NaN"}, []),
    ("timestamptz", "text", pa.string(), {"'infinity'": "infinity"}, []),
    ("interval", "text", pa.string(), {"'1 month 2 days'": "P1M2D"}, []),
    ("int[]", "text", pa.string(), {"'{1,NULL,3}'": "{1,NULL,3}"}, []),
    ("boolean", "text", pa.string(), {"true": "t"}, []),
    ("pair", "text", pa.string(), {"(1, 'x y')": '(1,"x y")'}, []),
    ("hstore", "text", pa.string(), {"'a=>1'": '"a"=>"1"'}, []),
    ("int4range", "text", pa.string(), {"'[1,5]'": "[1,6)"}, []),
]


@pytest.mark.parametrize(
    ("declared", "as_type", "expected", "fits", "misfits"),
    CASES,
    ids=[f"{declared} {as_type or ''}".strip() for declared, as_type, *_ in CASES],
)
def test_values(
    database: PostgresDatabase,
    declared: str,
    as_type: str | None,
    expected: pa.DataType,
    fits: dict[str, Any],
    misfits: list[str],
) -> None:
    literals = [*fits, *misfits]
    types = {"v": as_type} if as_type else {}
    data_type, fitting, rejected = values_of(database, declared, literals, types=types)
    assert data_type == expected
    assert fitting == list(fits.values())
    assert sorted(rejected) == list(range(len(fits), len(literals)))
    texts = dict(database.select("SELECT id, v::text FROM t"))
    for row, one in rejected.items():
        assert (one.key, one.column) == ((row,), "v")
        assert one.image.to_pylist() == [{"id": row, "v": texts[row]}]
        assert "Column v" in one.message
        assert 'types."v" = "text"' in one.message


def test_a_float_that_is_no_number_is_a_float(database: PostgresDatabase) -> None:
    _, (value,), rejected = values_of(database, "float8", ["'NaN'"])
    assert value != value
    assert rejected == {}


def test_the_scale_of_a_numeric_may_be_negative_or_beyond_its_precision(
    database: PostgresDatabase,
) -> None:
    if database.connection.info.server_version < 150_000:
        pytest.skip("since PostgreSQL 15")
    small = values_of(database, "numeric(2,5)", ["0.00012"])
    assert small == (pa.decimal128(5, 5), [Decimal("0.00012")], {})
    large = values_of(database, "numeric(5,-2)", ["9999900"])
    assert large == (pa.decimal128(7, 0), [Decimal(9_999_900)], {})
    with pytest.raises(ConfigurationError, match="more digits than the 38"):
        values_of(database, "numeric(38,-2)", [])


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("numeric", ['types."v"', "decimal(38,10)", '"text"', "exclude"]),
        ("numeric(50, 2)", ['types."v"', "38", '"text"']),
        ("interval", ["interval", 'types."v" = "text"', "exclude"]),
        ("int[]", ["integer[]", 'types."v" = "text"', 'types."*" = "text"']),
        ("timetz", ["time with time zone", 'types."v" = "text"']),
        ("money", ["money", 'types."v" = "text"']),
        ("hstore", ["hstore", 'types."v" = "text"']),
        ("pair", ["pair", 'types."v" = "text"']),
        ("int4range", ["int4range", 'types."v" = "text"']),
        ("tsvector", ["tsvector", 'types."v" = "text"']),
        ("pg_lsn", ["pg_lsn", 'types."v" = "text"']),
        ("point", ["point", 'types."v" = "text"']),
    ],
)
def test_types_that_have_none_at_the_target_are_refused_by_name(
    database: PostgresDatabase, declared: str, words: list[str]
) -> None:
    make(database, declared, [])
    with database.source() as source:
        with pytest.raises(ConfigurationError) as caught:
            source.describe(stream())
        (problem,) = source.preflight([stream()])
        assert problem.fatal
        assert problem.message == str(caught.value)
        assert source.describe(stream(types={"*": "text"})).column("v").type == pa.string()
        assert source.describe(stream(exclude=("v",))).names == ("id",)
    assert "t.v" in str(caught.value)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("declared", "types", "expected"),
    [
        ("numeric(9, 3)", {"NUMERIC": "text"}, pa.string()),
        ("numeric(9, 3)", {"numeric(9,3)": "text", "numeric": "int64"}, pa.string()),
        ("numeric(9, 3)", {"V": "int64", "numeric(9,3)": "text"}, pa.int64()),
        ("timestamp(3) with time zone", {"timestamp with time zone": "text"}, pa.string()),
        ("price", {"price": "text", "numeric": "int64"}, pa.string()),
        ("price", {"numeric(10,2)": "decimal(20,4)"}, pa.decimal128(20, 4)),
        ("int", {"*": "text"}, pa.int32()),
        ("int", {"int": "text"}, pa.int32()),
        ("int", {"integer": "int64"}, pa.int64()),
    ],
)
def test_what_an_entry_of_types_may_name(
    database: PostgresDatabase, declared: str, types: dict[str, str], expected: pa.DataType
) -> None:
    make(database, declared, [])
    with database.source() as source:
        assert source.describe(stream(types=types)).column("v").type == expected


@pytest.mark.parametrize(
    ("declared", "as_type"),
    [
        ("timestamptz", "timestamp"),
        ("timestamp", "timestamptz"),
        ("timestamp", "date"),
        ("text", "int64"),
        ("int", "boolean"),
        ("numeric", "float64"),
        ("bigint", "float64"),
        ("float8", "decimal(10,2)"),
        ("uuid", "blob"),
        ("bytea", "decimal(3,1)"),
        ("bytea", "timestamp"),
        ("interval", "int64"),
    ],
)
def test_what_would_change_the_meaning_is_refused(
    database: PostgresDatabase, declared: str, as_type: str
) -> None:
    make(database, declared, [])
    with database.source() as source, pytest.raises(ConfigurationError) as caught:
        source.describe(stream(types={"v": as_type}))
    assert f"read as {as_type} without a change of meaning" in str(caught.value)


@pytest.mark.parametrize("word", ["string", "decimal(99,2)", "decimal(2,3)", "int"])
def test_an_entry_that_is_no_type(database: PostgresDatabase, word: str) -> None:
    make(database, "interval", [])
    with (
        database.source() as source,
        pytest.raises(
            ConfigurationError, match=rf"t\.v cannot be used: '{re.escape(word)}'.*known are"
        ),
    ):
        source.describe(stream(types={"*": word}))


def test_the_roles_own_settings_change_no_text(database: PostgresDatabase) -> None:
    ((user, name),) = database.select("SELECT current_user, current_database()")
    settings = {
        "DateStyle": "'SQL, DMY'",
        "IntervalStyle": "'sql_standard'",
        "TimeZone": "'Asia/Tokyo'",
        "bytea_output": "'escape'",
        "extra_float_digits": "-5",
        "client_encoding": "'LATIN1'",
    }
    where = f'ALTER ROLE {database.quote(user)} IN DATABASE "{name}"'
    database.run(*(f"{where} SET {key} = {value}" for key, value in settings.items()))
    try:
        make(
            database,
            "text, z timestamptz, i interval, b bytea, f float8",
            [
                "'é', '2024-01-31 10:00+00', '1 day 2 hours', '\\xff', 0.1",
                "'x', NULL, NULL, NULL, NULL",
            ],
        )
        types = dict.fromkeys(("z", "i", "b", "f"), "text")
        follower = Follower(stream(types=types))
        with database.source() as source:
            follower.read(source)
    finally:
        database.run(f"{where} RESET ALL")
    assert follower.live()[(0,)] == {
        "id": 0,
        "v": "é",
        "z": "2024-01-31 10:00:00+00",
        "i": "P1DT2H",
        "b": "\\xff",
        "f": "0.1",
    }


def test_one_bad_value_holds_back_one_row(database: PostgresDatabase) -> None:
    make(database, "numeric(5,1), d date", [f"{n}, '2024-01-01'" for n in range(50)])
    database.run("UPDATE t SET v = 'NaN' WHERE id = 7", "UPDATE t SET d = 'infinity' WHERE id = 9")
    follower = Follower(stream(batch_rows=5))
    with database.source() as source:
        follower.read(source)
        assert len(follower.live()) == 48
        assert {key: one.column for key, one in follower.rejected.items()} == {
            (7,): "v",
            (9,): "d",
        }
        assert follower.rejected[(9,)].image.to_pylist() == [
            {"id": 9, "v": Decimal("9.0"), "d": "infinity"}
        ]
        keys = pa.record_batch({"id": pa.array([9, 3], pa.int32())})
        fetched = source.fetch(follower.stream, keys, follower.state(source))
        assert [one.key for one in fetched.rejected] == [(9,)]
        assert fetched.rows.column("id").to_pylist() == [3]
        assert follower.read(source)[-1].rejected == ()
    database.run("UPDATE t SET v = 1 WHERE id = 7", "UPDATE t SET d = '2024-01-01'")
    with database.source() as source:
        follower.read(source)
    assert follower.rejected == {}
    assert len(follower.live()) == 50


def test_text_that_is_not_utf_8(postgres_server: PostgresServer | GivenServer) -> None:
    """A database in SQL_ASCII takes any bytes as text."""
    with postgres_server.database() as url, closing(PostgresDatabase(url)) as database:
        database.run("SELECT 1")
        name = f"{database.connection.info.dbname}_ascii"
        database.connection.execute(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
        )
        other = url.replace(database.connection.info.dbname, name)
        try:
            with closing(PostgresDatabase(other)) as broken:
                broken.run(
                    "CREATE TABLE t (id text PRIMARY KEY, v text)",
                    r"INSERT INTO t VALUES ('a', 'b'), ('c', E'\xff'), (E'x\xe9', 'y'), "
                    r"('z', E'\xc3\xa9')",
                )
                follower = Follower(stream(batch_rows=1))
                with broken.source() as source:
                    follower.read(source)
                    assert follower.live().keys() == {("a",), ("z",)}
                    assert follower.live()[("z",)]["v"] == "é"
                    assert {key: one.column for key, one in follower.rejected.items()} == {
                        ("c",): "v",
                        (b"x\xe9",): "id",
                    }
                    assert "not valid UTF-8" in follower.rejected[("c",)].message
        finally:
            database.connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
