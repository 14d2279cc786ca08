"""Keys of PostgreSQL tables: their order, pages, look-ups, and the indexes that serve them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from typing import Any

import pyarrow as pa
import pytest

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.capture.position import BrokenText
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.sources.postgres import PostgresSource
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_keys import array_literal
from rowtrail.connectors.sources.postgres_rows import PostgresRows, open_rows
from rowtrail.connectors.sources.postgres_streams import describe_stream
from tests.connectors.follower import Follower
from tests.connectors.postgres_database import PostgresDatabase
from tests.postgres_server import GivenServer, PostgresServer


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer | GivenServer) -> Iterator[PostgresDatabase]:
    """One for all tests of this module: each makes table t anew."""
    with postgres_server.database() as url, closing(PostgresDatabase(url)) as database:
        database.run("CREATE TYPE mood AS ENUM ('sad', 'ok', 'Glad')")
        if database.has_icu():
            database.run(
                "CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', "
                "deterministic = false)",
                "CREATE COLLATION german (provider = icu, locale = 'de')",
            )
        yield database


@pytest.fixture
def rows_of(database: PostgresDatabase) -> Iterator[Any]:
    """Opens the table as captures see it."""
    with closing(Connection(database.url)) as connection:

        def opened(**settings: Any) -> PostgresRows:
            chosen = stream(**settings)
            return open_rows(connection, chosen, describe_stream(connection, chosen))

        yield opened


def stream(**settings: Any) -> StreamSpec:
    chosen: dict[str, Any] = {"name": "t", "table": "t", "capture": Capture.SNAPSHOT, **settings}
    return StreamSpec(**chosen)


def make(database: PostgresDatabase, *declared: str, rows: list[str]) -> None:
    """Table t with a primary key of columns k0, k1, … declared so."""
    if "citext" in declared and not database.has_extension("citext"):
        pytest.skip("the server does not bring citext")
    if "COLLATE" in "".join(declared) and not database.has_icu():
        pytest.skip("the server was built without ICU")
    columns = ", ".join(f"k{number} {one}" for number, one in enumerate(declared))
    names = ", ".join(f"k{number}" for number in range(len(declared)))
    database.run(
        "DROP TABLE IF EXISTS t",
        f"CREATE TABLE t ({columns}, v int, PRIMARY KEY ({names}))",
        *(f"INSERT INTO t VALUES ({row}, {number})" for number, row in enumerate(rows)),
    )


CASES: dict[str, tuple[list[str], list[str]]] = {
    "int8": (["bigint"], ["5", "-1", "9223372036854775807", "0", "-9223372036854775808"]),
    "int2": (["smallint"], ["5", "-1", "32767"]),
    "oid": (["oid"], ["5", "4000000000", "0"]),
    "numeric": (["numeric(30,4)"], ["1.5", "-0.0001", "99999999999999999999999999"]),
    "text": (["text"], ["'Z'", "'a'", "'é'", "''", "'{'", "'\"'", "'NULL'", "'a,b'", "E'\\\\'"]),
    "german": (["text COLLATE german"], ["'Z'", "'a'", "'ä'", "'o''clock'", "'B'"]),
    "caseless": (["text COLLATE caseless"], ["'Z'", "'a'", "'Ä'", "'B'"]),
    "citext": (["citext"], ["'Z'", "'a'", "'Ä'", "'B'"]),
    "varchar": (["varchar(9)"], ["'b '", "'b'", "'ab'"]),
    "char": (["char(5)"], ["'b'", "E'b\\t'", "'B'", "''"]),
    "bpchar": (["bpchar"], ["'b'", "'c '", "'ab'"]),
    '"char"': (['"char"'], ["'b'", "'B'"]),
    "name": (["name"], ["'b'", "'B'"]),
    "uuid": (["uuid"], ["gen_random_uuid()"] * 9),
    "enum": (["mood"], ["'sad'", "'ok'", "'Glad'"]),
    "inet": (["inet"], ["'10.0.0.1'", "'9.0.0.1'", "'10.0.0.0/8'", "'::1'"]),
    "macaddr": (["macaddr"], ["'08:00:2b:01:02:03'", "'07:ff:2b:01:02:03'"]),
    "varbit": (["varbit"], ["B'1'", "B'10'", "B'01'", "B''"]),
    "jsonb": (["jsonb"], ["'1'", "'\"a\"'", "'{\"a\": 2}'", "'[1]'", "'10'"]),
    "bytea": (["bytea"], ["'\\xff'", "'\\x00'", "''", "'\\x00ff'"]),
    "boolean": (["boolean"], ["true", "false"]),
    "date": (["date"], ["'2024-02-29'", "'0001-01-01'", "'9999-12-31'"]),
    "time": (["time"], ["'10:00'", "'09:59:59.999999'"]),
    "timestamp": (["timestamp"], ["'2024-01-01'", "'2024-01-01 00:00:00.000001'"]),
    "timestamptz": (["timestamptz"], ["'2024-01-01'", "'2023-12-31 23:00-05'"]),
    "float8": (["float8"], ["0.1", "-5e-324", "'inf'", "'-inf'", "1e300"]),
    "two": (["text", "bigint"], [f"'{a}', {b}" for a in ("a", "B", "é") for b in (10, 9, 100)]),
    "interval": (["interval"], ["'1 day'", "'25 hours'", "'1 month'"]),
    "three": (["date", "uuid", "mood"], ["'2024-01-01', gen_random_uuid(), 'ok'"] * 7),
}


@pytest.mark.parametrize("case", CASES)
def test_pages_are_in_the_order_of_the_values_and_each_key_is_found(
    database: PostgresDatabase, rows_of: Any, case: str
) -> None:
    """Ledger and target order keys as Arrow values; PostgreSQL has its own mind."""
    declared, literals = CASES[case]
    make(database, *declared, rows=literals)
    rows = rows_of(batch_rows=2, types={"interval": "text"})
    found: list[tuple[Any, ...]] = []
    after = None
    while True:
        page = rows.page(after)
        assert page.misfits == ()
        found += [tuple(row.values()) for row in page.rows.to_pylist()]
        after = page.last
        if not page.full:
            break
    keys = [row[:-1] for row in found]
    assert keys == sorted(keys)
    assert sorted(row[-1] for row in found) == list(range(len(literals)))
    # The same page by page, keys alone; and each key by its own value, in any order.
    assert [tuple(key.values()) for key in rows.key_page(None).keys.to_pylist()] == keys[:2]
    order = random.Random(5).sample(range(len(found)), len(found))
    schema = rows.schema.arrow_key()
    asked = pa.Table.from_pylist(
        [dict(zip(schema.names, keys[place], strict=True)) for place in order], schema=schema
    ).combine_chunks()
    looked_up = rows.lookup(asked.to_batches()[0])
    assert looked_up.extra[0].to_pylist() == [True] * len(found)
    assert [tuple(row.values()) for row in looked_up.rows.to_pylist()] == [
        found[place] for place in order
    ]


@pytest.mark.parametrize("case", ["int8", "text", "uuid", "citext", "two", "date", "char"])
def test_the_snapshot_follows_such_keys(database: PostgresDatabase, case: str) -> None:
    declared, literals = CASES[case]
    make(database, *declared, rows=literals)
    follower = Follower(stream(batch_rows=2))
    with database.source() as source:
        follower.read(source)
        assert len(follower.live()) == len(literals)
        database.run("DELETE FROM t WHERE v % 2 = 0", "UPDATE t SET v = v + 100 WHERE v = 1")
        follower.read(source)
    values = {row["v"] for row in follower.live().values()}
    assert values == {v for (v,) in database.select("SELECT v FROM t")}


@pytest.mark.parametrize(
    ("declared", "literals", "asked"),
    [
        ("uuid", ["gen_random_uuid()"], ["no uuid", "", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
        ("mood", ["'ok'"], ["unheard of", "OK"]),
        ("inet", ["'10.0.0.1'"], ["10.0.0.1/32", "10.0.0", "'; --"]),
        ("citext", ["'Foo'"], ["foo", "FOO"]),
        ("text COLLATE caseless", ["'Foo'"], ["foo", "FOO"]),
        ("char(5)", ["'a'"], ["a", " a   "]),
        ("jsonb", ["'{\"a\": 1}'"], ['{"a":1}', "{"]),
        ("varbit", ["B'1'"], ["01", "2"]),
        ("text", ["'NULL'"], ["null", "", "\\N"]),
    ],
)
def test_a_key_that_no_row_can_have_is_not_found(
    database: PostgresDatabase, declared: str, literals: list[str], asked: list[str]
) -> None:
    make(database, declared, rows=literals)
    follower = Follower(stream())
    with database.source() as source:
        follower.read(source)
        (there,) = follower.live()
        keys = pa.record_batch({"k0": pa.array([*asked, *there], pa.string())})
        fetched = source.fetch(follower.stream, keys, follower.state(source))
    assert fetched.rows.column("k0").to_pylist() == [*asked, *there]
    assert fetched.operations.to_pylist() == [3] * len(asked) + [2]


def test_a_number_beyond_the_columns_type_is_not_found(database: PostgresDatabase) -> None:
    make(database, "smallint", rows=["7"])
    follower = Follower(stream(types={"k0": "int64"}))
    with database.source() as source:
        follower.read(source)
        keys = pa.record_batch({"k0": pa.array([2**40, 7], pa.int64())})
        fetched = source.fetch(follower.stream, keys, follower.state(source))
    assert fetched.operations.to_pylist() == [3, 2]


def test_a_key_read_as_text_is_in_the_order_of_the_text(database: PostgresDatabase) -> None:
    make(database, "int", rows=["2", "10", "1"])
    follower = Follower(stream(types={"k0": "text"}, batch_rows=1))
    with database.source() as source:
        follower.read(source)
        assert [key for (key,) in follower.live()] == ["1", "10", "2"]
        keys = pa.record_batch({"k0": pa.array(["10", "x"])})
        fetched = source.fetch(follower.stream, keys, follower.state(source))
    assert fetched.operations.to_pylist() == [2, 3]


def test_keys_that_do_not_fit_stand_at_the_end_of_a_page(database: PostgresDatabase) -> None:
    """What is held back is also where the next page begins."""
    make(
        database,
        "date",
        rows=["'infinity'", "'-infinity'", "'2024-01-01'", "'0002-01-01 BC'", "'12000-01-01'"],
    )
    follower = Follower(stream(batch_rows=1))
    with database.source() as source:
        follower.read(source)
        assert len(follower.live()) == 1
        assert sorted(str(key) for (key,) in follower.rejected) == [
            "-infinity",
            "0002-01-01 BC",
            "12000-01-01",
            "infinity",
        ]


def test_a_key_with_nulls(database: PostgresDatabase) -> None:
    database.run(
        "DROP TABLE IF EXISTS t",
        "CREATE TABLE t (a int, b text, v int, UNIQUE (a, b))",
        "INSERT INTO t VALUES (1, 'x', 1), (1, NULL, 2), (NULL, 'x', 3), (NULL, NULL, 4)",
        "INSERT INTO t SELECT NULL, 'y', 5 FROM generate_series(1, 3)",
    )
    chosen = stream(key=("a", "b"), batch_rows=2)
    follower = Follower(chosen)
    with database.source() as source:
        (problem,) = source.preflight([chosen])
        assert not problem.fatal
        assert "6 rows of t have a NULL in the key (a, b)" in problem.message
        items = follower.read(source)
        assert list(follower.live()) == [(1, "x")]
        rejected = [one for item in items for one in item.rejected]
        assert len(rejected) == 6
        assert all("is NULL" in one.message for one in rejected)


def test_a_key_that_is_not_unique_is_found_by_preflight(database: PostgresDatabase) -> None:
    database.run(
        "DROP TABLE IF EXISTS t",
        "CREATE TABLE t (a int, v int)",
        "INSERT INTO t VALUES (1, 1), (1, 2), (2, 3)",
    )
    with database.source() as source:
        (problem,) = source.preflight([stream(key=("a",))])
    assert problem.fatal
    assert "1 keys have several rows" in problem.message


def test_a_unique_index_of_some_rows_or_of_an_expression_guards_nothing(
    database: PostgresDatabase,
) -> None:
    database.run(
        "DROP TABLE IF EXISTS t",
        "CREATE TABLE t (a int NOT NULL, v int)",
        "CREATE UNIQUE INDEX ON t (a) WHERE v > 1",
        "CREATE UNIQUE INDEX ON t ((a + v))",
        "CREATE UNIQUE INDEX ON t (a, v) INCLUDE (v)",
        "INSERT INTO t VALUES (1, 1), (1, 0)",
    )
    with database.source() as source:
        with pytest.raises(ConfigurationError, match="not unique"):
            Follower(stream(key=("a",))).read(source)
        Follower(stream(key=("a", "v"))).read(source)


def test_an_inherited_table_guards_nothing_of_its_heirs(database: PostgresDatabase) -> None:
    make(database, "int", rows=["1"])
    database.run("CREATE TABLE heir () INHERITS (t)", "INSERT INTO heir VALUES (1, 5)")
    try:
        with database.source() as source, pytest.raises(ConfigurationError, match="not unique"):
            Follower(stream()).read(source)
    finally:
        database.run("DROP TABLE heir")


def test_a_primary_key_in_another_order_than_its_columns(database: PostgresDatabase) -> None:
    database.run(
        "DROP TABLE IF EXISTS t",
        "CREATE TABLE t (a int, b int, c int, PRIMARY KEY (c, a)) PARTITION BY LIST (c)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1)",
    )
    with database.source() as source:
        assert source.describe(stream()).key == ("c", "a")


def plans(database: PostgresDatabase, rows: PostgresRows, monkeypatch: Any, run: Any) -> str:
    """The plans of the queries that `run` makes, planned for a large table."""
    statements: list[str] = []
    query, records = Connection.query, Connection.records

    def noting(self: Connection, statement: str, **options: Any) -> pa.RecordBatch:
        statements.append(statement)
        return query(self, statement, **options)

    def noting_few(self: Connection, statement: str, *given: Any, **options: Any) -> list[Any]:
        if not given:
            statements.append(statement)
        return records(self, statement, *given, **options)

    monkeypatch.setattr(Connection, "query", noting)
    monkeypatch.setattr(Connection, "records", noting_few)
    run(rows)
    monkeypatch.undo()
    found = []
    for statement in statements:
        if statement.startswith("SELECT"):
            found += [line for (line,) in database.select(f"EXPLAIN {statement}")]
    return "\n".join(found)


@pytest.mark.parametrize(
    ("declared", "key"),
    [
        (("bigint",), "g"),
        (("text",), "g::text"),
        (("uuid",), "md5(g::text)::uuid"),
        (("citext",), "g::text::citext"),
        (("text COLLATE caseless",), "g::text"),
        (("numeric(12,2)",), "g"),
        (("bigint", "text"), "g % 100, g::text"),
        (("date", "uuid"), "'2024-01-01'::date + g % 100, md5(g::text)::uuid"),
        (("inet",), "'10.0.0.0'::inet + g"),
    ],
)
def test_look_ups_use_the_index(
    database: PostgresDatabase,
    rows_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    declared: tuple[str, ...],
    key: str,
) -> None:
    make(database, *declared, rows=[])
    database.run(f"INSERT INTO t SELECT {key}, g FROM generate_series(1, 20000) AS g")
    database.connection.execute("ANALYZE t")
    rows = rows_of(batch_rows=5)
    names = ", ".join(f"{column.reader.as_text(f't.{column.name}')}" for column in rows.keys)
    some = database.select(f"SELECT {names} FROM t WHERE v % 4000 = 7")
    schema = rows.schema.arrow_key()
    arrays = [
        pa.array([row[number] for row in some]).cast(field.type)
        for number, field in enumerate(schema)
    ]
    keys = pa.RecordBatch.from_arrays(arrays, schema=schema)
    for asked, few in product((keys.slice(0, 1), keys), (0, 10)):
        monkeypatch.setattr("rowtrail.connectors.sources.postgres_rows._FEW", few)
        plan = plans(database, rows, monkeypatch, lambda rows, asked=asked: rows.lookup(asked))
        assert "Seq Scan" not in plan, plan
        assert "Index" in plan, plan


@pytest.mark.parametrize(
    ("declared", "order"),
    [
        (("text COLLATE german",), 'k0 COLLATE "C"'),
        (("char(8)",), '(rpad(k0::text, 8) COLLATE "C")'),
        (("mood", "bigint"), None),
    ],
)
def test_preflight_names_the_index_that_pages_need(
    database: PostgresDatabase,
    rows_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    declared: tuple[str, ...],
    order: str | None,
) -> None:
    keys = ", ".join(
        "(enum_range(NULL::mood))[g % 3 + 1]"
        if one == "mood"
        else "g::text::bigint"
        if one == "bigint"
        else "g::text"
        for one in declared
    )
    make(database, *declared, rows=[])
    database.run(f"INSERT INTO t SELECT {keys}, g FROM generate_series(1, 20000) AS g")
    database.connection.execute("ANALYZE t")
    with database.source() as source:
        assert source.preflight([stream(batch_rows=50_000)]) == []
        (problem,) = source.preflight([stream(batch_rows=100)])
        assert not problem.fatal
        assert "sorts the whole table" in problem.message
        if order is None:
            return
        database.connection.execute(problem.remedy)
        assert source.preflight([stream(batch_rows=100)]) == []
    assert order in problem.remedy.replace('"k', "k").replace('0"', "0").replace('1"', "1")
    rows = rows_of(batch_rows=100)
    last = rows.page(None).last
    plan = plans(database, rows, monkeypatch, lambda rows: rows.page(last))
    assert "Sort" not in plan, plan


def test_an_index_serves_pages_where_it_can(
    database: PostgresDatabase, rows_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(database, 'text COLLATE "C"', "bigint", rows=[])
    database.run("INSERT INTO t SELECT (g % 50)::text, g, g FROM generate_series(1, 20000) AS g")
    database.connection.execute("ANALYZE t")
    rows = rows_of(batch_rows=100)
    with database.source() as source:
        assert source.preflight([rows.stream]) == []
    plan = plans(database, rows, monkeypatch, lambda rows: rows.page(("3", "103")))
    assert "Sort" not in plan, plan
    assert "Index Cond: (ROW(k0, k1) > ROW('3'::text, '103'::bigint))" in plan, plan


def test_arrays_as_literals(database: PostgresDatabase) -> None:
    texts = ["", "NULL", None, '"', "\\", "{a,b}", "'", "a\\'b", "é\n"]
    literal = array_literal(pa.array(texts), "pg_catalog.text")
    assert database.select(f"SELECT unnest({literal})") == [(text,) for text in texts]
    blobs = [b"", b"\x00\xff'\"\\", None]
    literal = array_literal(pa.array(blobs), "pg_catalog.bytea")
    assert database.select(f"SELECT unnest({literal})") == [(blob,) for blob in blobs]


def test_text_that_is_not_utf_8_as_a_literal(database: PostgresDatabase, rows_of: Any) -> None:
    make(database, "text", rows=["'a'"])
    (key,) = rows_of().keys
    assert key.literal(BrokenText(b"a\xff'")) == "E'\\x61\\xff\\x27'::pg_catalog.text"


def test_a_database_in_another_encoding(database: PostgresDatabase) -> None:
    """The bytes of LATIN9 do not sort as those of UTF-8 do."""
    name = f"{database.connection.info.dbname}_latin"
    database.connection.execute(
        f"CREATE DATABASE {name} ENCODING 'LATIN9' LOCALE 'C' TEMPLATE template0"
    )
    try:
        url = database.url.replace(database.connection.info.dbname, name)
        with closing(PostgresDatabase(url)) as other:
            make(other, "text", rows=["'é'", "'Ž'", "'€'", "'a'", "'ÿ'"])
            follower = Follower(stream(batch_rows=2))
            with other.source() as source:
                follower.read(source)
                assert [key for (key,) in follower.live()] == ["a", "é", "ÿ", "Ž", "€"]
                keys = pa.record_batch({"k0": pa.array(["€", "é", "x"])})
                fetched = source.fetch(follower.stream, keys, follower.state(source))
                assert fetched.rows.column("v").to_pylist() == [2, 0, None]
                other.run("DELETE FROM t WHERE v = 2")
                follower.read(source)
                assert len(follower.live()) == 4
    finally:
        database.connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_thousands_of_keys_in_one_statement(database: PostgresDatabase) -> None:
    make(database, "text", rows=[])
    database.run("INSERT INTO t SELECT 'key ' || g, g FROM generate_series(1, 30000) AS g")
    chosen = stream()
    asked = [f"key {number}" for number in range(30_000, 0, -2)] + ["none"]
    with closing(PostgresSource(database.url)) as source:
        state = Follower(chosen).state(source)
        fetched = source.fetch(chosen, pa.record_batch({"k0": pa.array(asked)}), state)
    assert fetched.rows.column("v").to_pylist() == [*range(30_000, 0, -2), None]
    assert fetched.operations.to_pylist() == [2] * 15_000 + [3]
