"""Capture `cursor` on PostgreSQL: what a cursor alone would miss."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.errors import ConfigurationError, PositionLostError
from rowtrail.connectors.sources import postgres_cursor, postgres_horizon
from rowtrail.connectors.sources.postgres import PostgresSource
from tests.connectors.follower import Follower, reported_keys
from tests.connectors.postgres_database import PostgresDatabase
from tests.connectors.postgres_writers import writers
from tests.soak import times


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresDatabase]:
    with closing(PostgresDatabase(postgres_url)) as database:
        yield database


def stream(**settings: Any) -> StreamSpec:
    chosen: dict[str, Any] = {
        "name": "t",
        "table": "t",
        "capture": Capture.CURSOR,
        "cursor": "at",
        "batch_rows": 3,
        **settings,
    }
    return StreamSpec(**chosen)


def make(database: PostgresDatabase, declared: str, *cursors: str) -> None:
    """A table with rows 1, 2, … that have these cursors, written as SQL."""
    database.run(
        f"CREATE TABLE t (id int PRIMARY KEY, v text, at {declared})",
        "CREATE INDEX t_at ON t (at)",
        *(f"INSERT INTO t VALUES ({n}, 'old', {one})" for n, one in enumerate(cursors, start=1)),
    )


def catch_up(database: PostgresDatabase, follower: Follower) -> list[int]:
    """The ids that a read reports, after which follower and table are equal."""
    with database.source() as source:
        keys = reported_keys(follower.read(source))
    assert {key: row["v"] for key, row in follower.live().items()} == {
        (row_id,): v for row_id, v in database.select("SELECT id, v FROM t")
    }
    return sorted(key[0] for key in keys)


@pytest.fixture
def other(database: PostgresDatabase) -> Iterator[psycopg.Connection[Any]]:
    """Another writer, in a transaction of its own."""
    with closing(psycopg.connect(database.url)) as connection:
        yield connection


DRAWN = {
    # An expression for the cursor's value that an application would use.
    "timestamptz": "now()",
    "timestamp": "now()",
    "date": "now()",
    "timestamp(0)": "clock_timestamp()",
    "bigint": "nextval('numbers')",
    "numeric(12,1)": "nextval('numbers') / 10.0",
    "text": "to_char(nextval('numbers'), '0000000')",
    "float8": "extract(epoch FROM clock_timestamp())",
}


@pytest.mark.parametrize("declared", DRAWN)
def test_what_commits_late_behind_the_cursor_is_seen(
    database: PostgresDatabase, other: psycopg.Connection[Any], declared: str
) -> None:
    """The other's value is drawn first and committed last, reads later."""
    database.run("CREATE SEQUENCE numbers")
    make(database, declared, DRAWN[declared], DRAWN[declared])
    follower = Follower(stream())
    catch_up(database, follower)
    other.execute(f"INSERT INTO t VALUES (50, 'late', {DRAWN[declared]})")
    other.execute("UPDATE t SET v = 'late', at = (SELECT at FROM t WHERE id = 50) WHERE id = 1")
    for number in range(3, 6):
        database.run(f"INSERT INTO t VALUES ({number}, 'x', {DRAWN[declared]})")
        assert catch_up(database, follower) == [number]
        assert catch_up(database, follower) == []
    other.commit()
    assert catch_up(database, follower) == [1, 50]
    assert catch_up(database, follower) == []


@pytest.mark.parametrize("declared", ["timestamptz", "timestamp", "bigint"])
def test_nothing_is_missed_under_four_writers(database: PostgresDatabase, declared: str) -> None:
    """A plain `at > last` misses a third of the rows of such writers: see the last lines."""
    database.run("CREATE SEQUENCE numbers")
    make(database, declared)
    drawn = DRAWN[declared]

    def write(cursor: psycopg.Cursor[Any], dice: random.Random, serial: int) -> None:
        if dice.random() < 0.5:
            cursor.execute(f"INSERT INTO t VALUES (%s, 'new', {drawn})", [serial])
        else:
            cursor.execute(
                f"UPDATE t SET v = %s, at = {drawn} WHERE id = %s",
                [f"{serial}", dice.randrange(serial + 1) // 4 * 4 + serial % 4],
            )

    follower = Follower(stream(batch_rows=200))
    naive: dict[int, str] = {}
    last: Any = None
    with database.source() as source:
        with writers(database.url, write):
            began = time.monotonic()
            while (spent := time.monotonic() - began) < times(2, 4) or (
                spent < 60 and len(naive) < 150  # a busy machine lets them write less
            ):
                follower.read(source)
                where = "" if last is None else f"WHERE at > '{last}'"
                for row_id, v, at in database.select(f"SELECT id, v, at FROM t {where}"):
                    naive[row_id] = v
                    last = at if last is None else max(at, last)
        follower.read(source)
    assert catch_up(database, follower) == []
    there = dict(database.select("SELECT id, v FROM t"))
    assert len(there) > 100
    # Were this not so, the test would prove nothing.
    assert any(naive.get(row_id) != v for row_id, v in there.items())


def test_the_next_read_begins_where_the_oldest_transaction_does(
    database: PostgresDatabase, other: psycopg.Connection[Any]
) -> None:
    """A window that reaches back no further than needed."""
    make(database, "timestamptz", *(f"now() - interval '{n} h'" for n in range(1, 30)))
    follower = Follower(stream(batch_rows=100))
    catch_up(database, follower)
    remembered = [key for page in follower.last_pages for key in page.column("id").to_pylist()]
    assert remembered == [1]
    other.execute("SELECT 1")
    database.run("INSERT INTO t VALUES (100, 'x', now())")
    catch_up(database, follower)
    catch_up(database, follower)
    remembered = [key for page in follower.last_pages for key in page.column("id").to_pylist()]
    assert remembered == [100]


def test_a_number_settles_once_all_have_ended_that_were_open(
    database: PostgresDatabase, other: psycopg.Connection[Any]
) -> None:
    make(database, "bigint", *map(str, range(1, 31)))
    follower = Follower(stream(batch_rows=100))
    other.execute("SELECT 1")  # it may have drawn a number already
    catch_up(database, follower)
    assert sum(map(len, follower.last_pages)) == 30
    other.rollback()
    assert catch_up(database, follower) == []
    assert sum(map(len, follower.last_pages)) == 1
    other.execute("SELECT 1")
    database.run("INSERT INTO t VALUES (31, 'x', 31)")
    assert catch_up(database, follower) == [31]
    other.execute("INSERT INTO t VALUES (100, 'late', 30)")
    other.commit()
    assert catch_up(database, follower) == [100]


def test_a_prepared_transaction_is_waited_for(database: PostgresDatabase) -> None:
    make(database, "timestamptz", "now()")
    follower = Follower(stream())
    catch_up(database, follower)
    with closing(psycopg.connect(database.url)) as other:
        other.execute("INSERT INTO t VALUES (50, 'late', now())")
        other.execute("PREPARE TRANSACTION 'p1'")
        other.rollback()
    database.run("INSERT INTO t VALUES (2, 'x', now())")
    assert catch_up(database, follower) == [2]
    database.connection.execute("COMMIT PREPARED 'p1'")
    assert catch_up(database, follower) == [50]


def test_the_naive_rule_would_miss_it(
    database: PostgresDatabase, other: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above fails when open transactions are not looked at."""
    make(database, "bigint", "1", "2")
    follower = Follower(stream())
    catch_up(database, follower)
    other.execute("UPDATE t SET v = 'late', at = 3 WHERE id = 1")
    database.run("INSERT INTO t VALUES (4, 'x', 4)")
    blind = postgres_horizon.Horizon(now=datetime.now(UTC), oldest=None, blind=None)
    with monkeypatch.context() as patched:
        patched.setattr(postgres_cursor, "horizon", lambda connection: blind)
        catch_up(database, follower)
    other.commit()
    with database.source() as source:
        assert reported_keys(follower.read(source)) == []


@pytest.mark.parametrize(
    ("declared", "cursors", "later"),
    [
        ("date", ["'2024-01-01'", "'2024-01-02'", "'2024-01-02'"], "'2024-01-02'"),
        ("timestamptz", ["'2024-01-01 10:00+02'", "'2024-01-01 10:00Z'"], "'2024-01-01 10:00Z'"),
        ("timestamp", ["'2024-01-01 10:00:00.000001'", "'2024-01-01'"], "'2024-01-01 10:00'"),
        ("text", ["'a'", "'B'", "'é'"], "'é'"),
        ("varchar(9)", ["'a'", "'B'"], "'a'"),
        ("uuid", ["'00000000-0000-7000-8000-000000000001'"] * 2, "'f0000000-0000-7000-8000-00'"),
        ("int2", ["-5", "0", "7"], "7"),
        ("oid", ["0", "4000000000"], "4000000000"),
        ("float4", ["0.5", "1.25"], "1.25"),
        ("numeric(6,2)", ["0.5", "1.25"], "1.25"),
        ("numeric", ["0.5", "1.25"], "1.25"),
    ],
)
def test_a_row_that_comes_later_with_the_same_value(
    database: PostgresDatabase, declared: str, cursors: list[str], later: str
) -> None:
    if declared == "timestamp":
        later = cursors[0]
    if declared == "uuid":
        later = cursors[0]
    make(database, declared, *cursors)
    follower = Follower(stream(exclude=("at",)))
    assert catch_up(database, follower) == list(range(1, len(cursors) + 1))
    assert catch_up(database, follower) == []
    database.run(
        f"INSERT INTO t VALUES (50, 'new', {later})",
        f"UPDATE t SET v = 'changed', at = {later} WHERE id = 1",
    )
    assert catch_up(database, follower) == [1, 50]
    database.run("DELETE FROM t WHERE id = 50")
    assert catch_up(database, follower) == [50]


def test_the_lag_of_dates_times_and_numbers(database: PostgresDatabase) -> None:
    for declared, lag, cursors in (
        ("date", 86_400.0, ("'2024-03-01'", "'2024-03-03'")),
        ("timestamptz", 60.00000001, ("'2024-03-01 00:00'", "'2024-03-01 00:01'")),
        ("timestamp", 60.0, ("'2024-03-01 00:00'", "'2024-03-01 00:01'")),
        ("int8", 10.0, ("20", "30")),
        ("float8", 0.5, ("1", "1.5")),
        ("numeric(9,1)", 0.5, ("1", "1.5")),
    ):
        make(database, declared, *cursors)
        follower = Follower(stream(cursor_lag=lag))
        catch_up(database, follower)
        database.run("UPDATE t SET v = 'x' WHERE id = 1")
        assert catch_up(database, follower) == [1], declared
        database.run("DROP TABLE t")


def test_a_lag_beyond_the_least_number(database: PostgresDatabase) -> None:
    for declared, least in (("int2", -32_768), ("int8", -(2**63)), ("oid", 0)):
        make(database, declared, f"'{least}'", f"'{least + 5}'")
        follower = Follower(stream(cursor_lag=10))
        assert catch_up(database, follower) == [1, 2]
        assert catch_up(database, follower) == []
        database.run("DROP TABLE t")


@pytest.mark.parametrize("declared", ["timestamptz", "timestamp", "date"])
def test_a_time_in_the_future_does_not_hide_the_present(
    database: PostgresDatabase, declared: str
) -> None:
    make(database, declared, "now() - interval '3 days'", "'9999-12-31 23:59:59'", "'20000-01-01'")
    follower = Follower(stream(exclude=("at",)))
    catch_up(database, follower)
    assert catch_up(database, follower) == []
    database.run("UPDATE t SET v = 'now', at = now() WHERE id = 1")
    assert catch_up(database, follower) == [1]
    database.run("UPDATE t SET v = 'soon', at = now() + interval '1 day' WHERE id = 1")
    assert catch_up(database, follower) == [1]
    database.run("UPDATE t SET v = 'changed' WHERE id > 1")
    assert catch_up(database, follower) == [2, 3]


@pytest.mark.parametrize(
    ("declared", "cursors"),
    [
        ("timestamptz", ["now()", "'infinity'", "'-infinity'", "NULL"]),
        ("timestamp", ["now()", "'infinity'", "'-infinity'", "NULL"]),
        ("date", ["now()", "'infinity'", "'-infinity'", "NULL"]),
        ("float8", ["5", "'infinity'", "'-infinity'", "'NaN'", "NULL"]),
        ("numeric", ["5", "'NaN'", "NULL"]),
        ("text", ["'a'", "NULL"]),
    ],
)
def test_values_that_the_cursor_cannot_place_are_swept(
    database: PostgresDatabase, declared: str, cursors: list[str]
) -> None:
    make(database, declared, *cursors)
    follower = Follower(stream(exclude=("at",)))
    assert catch_up(database, follower) == list(range(1, len(cursors) + 1))
    assert catch_up(database, follower) == []
    for number in range(2, len(cursors) + 1):
        database.run(f"UPDATE t SET v = 'new' WHERE id = {number}")
        assert catch_up(database, follower) == [number]
    database.run(f"UPDATE t SET v = 'placed', at = {cursors[0]} WHERE id = 2")
    assert catch_up(database, follower) == [2]


def test_a_backdated_insert_is_seen_and_a_backdated_update_is_not(
    database: PostgresDatabase,
) -> None:
    make(database, "int", "10", "20", "30")
    follower = Follower(stream())
    catch_up(database, follower)
    database.run("INSERT INTO t VALUES (9, 'imported', 1)")
    assert catch_up(database, follower) == [9]
    database.run("UPDATE t SET v = 'unseen', at = 2 WHERE id = 2")
    with database.source() as source:
        assert reported_keys(follower.read(source)) == []


def test_all_rows_gone_and_others_come(database: PostgresDatabase) -> None:
    make(database, "timestamptz", "now()", "now()")
    follower = Follower(stream())
    catch_up(database, follower)
    database.run("TRUNCATE t")
    assert catch_up(database, follower) == [1, 2]
    database.run("INSERT INTO t VALUES (1, 'again', '2001-01-01'), (2, 'x', NULL)")
    assert catch_up(database, follower) == [1, 2]
    assert catch_up(database, follower) == []


@pytest.mark.parametrize("other", ["bigint", "timestamptz", "text"])
@pytest.mark.parametrize("declared", ["timestamptz", "int"])
def test_another_cursor_than_before(database: PostgresDatabase, declared: str, other: str) -> None:
    """Its values mean nothing beside those of the last one, so all rows are read once more."""
    make(database, declared, *(["now()"] * 5 if "time" in declared else map(str, range(5))))
    value = {"bigint": "id", "timestamptz": "'2024-01-01'", "text": "id::text"}[other]
    database.run(f"ALTER TABLE t ADD COLUMN more {other}", f"UPDATE t SET more = {value}")
    follower = Follower(stream())
    catch_up(database, follower)
    follower.stream = stream(cursor="more")
    database.run("UPDATE t SET v = 'new' WHERE id = 2", "DELETE FROM t WHERE id = 3")
    catch_up(database, follower)
    assert catch_up(database, follower) == []
    # In the midst of a read, it cannot go on.
    database.run(f"UPDATE t SET v = 'newer', more = {value}, at = at")
    with database.source() as source:
        assert follower.read_until(source, 1)
        follower.stream = stream()
        with pytest.raises(PositionLostError, match="--resnapshot t"):
            follower.read(source)


def test_the_type_of_a_cursor_changes(database: PostgresDatabase) -> None:
    make(database, "int", "1", "2")
    follower = Follower(stream())
    catch_up(database, follower)
    database.run("ALTER TABLE t ALTER COLUMN at TYPE bigint", f"UPDATE t SET at = {2**40}, v = 'x'")
    assert catch_up(database, follower) == [1, 2]
    assert catch_up(database, follower) == []


@pytest.mark.parametrize(
    ("declared", "settings", "words"),
    [
        ("int", {"cursor": None}, ["`cursor`", "t"]),
        ("int", {"cursor": "nothing"}, ["nothing", "at"]),
        ("bytea", {}, ["at", "bytea"]),
        ("boolean", {}, ["at", "boolean"]),
        ("interval", {"types": {"at": "text"}}, ["at", "interval"]),
        ("text", {"cursor_lag": 5}, ["cursor_lag", "at"]),
        ("int", {"cursor_lag": -1}, ["cursor_lag", "at"]),
    ],
)
def test_cursors_that_cannot_be(
    database: PostgresDatabase, declared: str, settings: dict[str, Any], words: list[str]
) -> None:
    make(database, declared)
    chosen = stream(**settings)
    with database.source() as source:
        with pytest.raises(ConfigurationError) as caught:
            Follower(chosen).read(source)
        (problem,) = source.preflight([chosen])
    assert problem.fatal
    assert all(word in str(caught.value) for word in words)
    assert problem.message == str(caught.value)


@pytest.mark.parametrize("declared", ["timestamptz", 'text COLLATE "en-x-icu"'])
def test_a_cursor_without_an_index_is_named(database: PostgresDatabase, declared: str) -> None:
    if "icu" in declared and not database.has_icu():
        pytest.skip("the server was built without ICU")
    make(database, declared)
    database.run("DROP INDEX t_at")
    with database.source() as source:
        (problem,) = source.preflight([stream()])
        assert not problem.fatal
        assert "at of t has no index" in problem.message
        database.run(problem.remedy)
        assert source.preflight([stream()]) == []


@pytest.mark.parametrize("declared", ["timestamptz", "bigint"])
def test_pages_along_the_cursor_use_its_index(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch, declared: str
) -> None:
    make(database, declared)
    value = "'2024-01-01'::timestamptz + g * interval '1 s'" if "time" in declared else "g"
    database.run(f"INSERT INTO t SELECT g, 'x', {value} FROM generate_series(1, 20000) AS g")
    database.connection.execute("ANALYZE t")
    follower = Follower(stream(batch_rows=7, cursor_lag=10))
    catch_up_all = Follower(stream(batch_rows=30_000, cursor_lag=10))
    statements: list[str] = []
    with database.source() as source:
        catch_up_all.read(source)
        follower.position = catch_up_all.position
        query = type(source._connection).query

        def noting(self: Any, statement: str, **options: Any) -> Any:
            statements.append(statement)
            return query(self, statement, **options)

        monkeypatch.setattr(type(source._connection), "query", noting)
        reading = source.read(follower.stream, follower.state(source))
        next(reading)
        next(reading)
    pages = [one for one in statements if 'ORDER BY t."at"' in one]
    assert len(pages) == 2
    for page in pages:
        plan = "\n".join(line for (line,) in database.select(f"EXPLAIN {page}"))
        assert "Index Scan using t_at" in plan, plan


@pytest.fixture
def low(database: PostgresDatabase) -> Iterator[str]:
    """The URL of a user who may read table t and look at nobody else."""
    name = f"low_{database.connection.info.dbname}"
    database.connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'low'")
    try:
        yield psycopg.conninfo.make_conninfo(database.url, user=name, password="low")
    finally:
        database.connection.execute(f"DROP OWNED BY {name}")
        database.connection.execute(f"DROP ROLE {name}")


def url_of(conninfo: str) -> str:
    """A connection string as a URL."""
    found = psycopg.conninfo.conninfo_to_dict(conninfo)
    who = f"{found['user']}:{found['password']}"
    database = found.pop("dbname")
    options = "&".join(
        f"{name}={str(found[name]).replace('/', '%2F')}"
        for name in ("host", "port")
        if name in found
    )
    return f"postgresql://{who}@/{database}?{options}"


def test_who_cannot_see_open_transactions_needs_a_lag(database: PostgresDatabase, low: str) -> None:
    make(database, "timestamptz", "now()")
    name = f"low_{database.connection.info.dbname}"
    database.connection.execute(f"GRANT SELECT ON t TO {name}")
    with closing(PostgresSource(url_of(low))) as source:
        (problem,) = source.preflight([stream()])
        assert problem.fatal
        for words in ("pg_read_all_stats", "cursor_lag", "open transactions"):
            assert words in problem.message
        with pytest.raises(ConfigurationError, match="pg_read_all_stats"):
            Follower(stream()).read(source)
        lagging = stream(cursor_lag=300)
        assert source.preflight([lagging]) == []
        follower = Follower(lagging)
        follower.read(source)
        assert len(follower.live()) == 1
        database.connection.execute(f"GRANT pg_read_all_stats TO {name}")
        assert source.preflight([stream()]) == []


def test_a_clock_that_is_behind_needs_a_lag(database: PostgresDatabase) -> None:
    """An application's own clock, and not the server's."""
    make(database, "timestamptz", "now()")
    exact, lagging = Follower(stream()), Follower(stream(cursor_lag=120))
    catch_up(database, exact)
    catch_up(database, lagging)
    past = datetime.now(UTC) - timedelta(seconds=60)
    database.run(("UPDATE t SET v = 'behind', at = ? WHERE id = 1", (past,)))
    with database.source() as source:
        assert reported_keys(lagging.read(source)) == [(1,)]
        assert reported_keys(exact.read(source)) == []
