"""Capture `trigger` on PostgreSQL: its log, its windows, and what makes a position void."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.capture.trigger_windows import shows_all_of
from rowtrail.connectors.changes import Operation
from rowtrail.connectors.errors import ConfigurationError, PositionLostError, TransientError
from rowtrail.connectors.sources import postgres
from rowtrail.connectors.sources.postgres_triggers import log_name
from tests.connectors.follower import Follower, reported, reported_keys
from tests.connectors.postgres_database import PostgresDatabase
from tests.connectors.postgres_writers import writers
from tests.soak import times

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text)"
OBJECTS = """
SELECT 'class', n.nspname || '.' || relname FROM pg_class JOIN pg_namespace AS n
ON n.oid = relnamespace WHERE n.nspname !~ '^(pg_|information)'
UNION ALL SELECT 'proc', n.nspname || '.' || proname FROM pg_proc JOIN pg_namespace AS n
ON n.oid = pronamespace WHERE n.nspname !~ '^(pg_|information)'
UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname FROM pg_trigger
UNION ALL SELECT 'schema', nspname FROM pg_namespace ORDER BY 1, 2
"""


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresDatabase]:
    with closing(PostgresDatabase(postgres_url)) as database:
        yield database


@pytest.fixture
def other(database: PostgresDatabase) -> Iterator[psycopg.Connection[Any]]:
    """Another writer, in a transaction of its own."""
    with closing(psycopg.connect(database.url)) as connection:
        yield connection


def stream(**settings: Any) -> StreamSpec:
    chosen: dict[str, Any] = {"name": "t", "table": "t", "capture": Capture.TRIGGER, **settings}
    return StreamSpec(**chosen)


def follow(database: PostgresDatabase, chosen: StreamSpec | None = None) -> Follower:
    """A follower that has read the table once."""
    follower = Follower(chosen or stream())
    with database.source() as source:
        source.execute(source.capture_plan([follower.stream]))
        follower.read(source)
    return follower


def catch_up(database: PostgresDatabase, follower: Follower) -> list[tuple[Operation, Any]]:
    """What a read reports, after which follower and table are equal."""
    with database.source() as source:
        found = reported(follower.read(source))
        key = source.describe(follower.stream).key
    table = follower.stream.table.rpartition(".")[2].strip('"')
    assert follower.live() == database.rows(table, *key)
    return found


def log(database: PostgresDatabase) -> list[tuple[Any, ...]]:
    return database.select('SELECT op, k0 FROM _rowtrail."public.t" ORDER BY seq')


def test_the_plan_shows_all_that_it_does_and_is_undone_without_a_trace(
    database: PostgresDatabase,
) -> None:
    database.run(
        TABLE,
        "CREATE SCHEMA shop",
        'CREATE TABLE shop."Größe ""x"" t" (a text, b uuid, PRIMARY KEY (b, a))',
    )
    before = database.select(OBJECTS)
    streams = [
        stream(),
        stream(name="u", table='shop.Größe "x" t'),
        stream(name="s", capture=Capture.SNAPSHOT),
    ]
    with database.source() as source:
        streams[1] = replace(streams[1], table='shop."Größe ""x"" t"')
        assert all(problem.capture for problem in source.preflight(streams))
        plan = source.capture_plan(streams)
        source.execute(plan)
        assert source.capture_plan([*streams, stream(name="again")]) == []
        assert source.preflight(streams) == []
        assert source.tables() == ["t", '"shop"."Größe ""x"" t"']
    assert database.select("SELECT count(*) FROM _rowtrail.logs") == [(2,)]
    with database.source() as source:
        source.execute(source.removal_plan(streams[:1]))
        assert source.capture_plan(streams[1:]) == []
        database.run("DROP TABLE t")
        source.execute(source.removal_plan(streams))
        assert source.removal_plan(streams) == []
    database.run(TABLE)
    assert database.select(OBJECTS) == before


def test_a_plan_is_one_transaction(database: PostgresDatabase) -> None:
    database.run(TABLE)
    with database.source() as source:
        with pytest.raises(ConfigurationError, match="nothing"):
            source.execute([*source.capture_plan([stream()]), "DROP TABLE nothing"])
        assert len(source.capture_plan([stream()])) > 1


def test_a_plan_does_not_keep_writers_waiting_behind_a_long_transaction(
    database: PostgresDatabase, other: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_LOCK_SECONDS", 1)
    database.run(TABLE)
    other.execute("INSERT INTO t VALUES (1, 'x')")
    with database.source() as source, pytest.raises(TransientError, match="lock timeout"):
        source.execute(source.capture_plan([stream()]))
    other.commit()
    assert len(follow(database).live()) == 1


def test_two_streams_of_one_table_with_different_keys(database: PostgresDatabase) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE)")
    with (
        database.source() as source,
        pytest.raises(ConfigurationError, match=r"different keys.*id and code"),
    ):
        source.capture_plan([stream(), stream(name="o", table="public.t", key=("code",))])


def test_a_log_for_another_key_is_made_anew(database: PostgresDatabase) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE NOT NULL)")
    follower = follow(database)
    by_code = stream(key=("code",))
    with database.source() as source:
        assert [problem.capture for problem in source.preflight([by_code])] == [True]
        source.execute(source.capture_plan([by_code]))
        assert source.capture_plan([by_code]) == []
        with pytest.raises(ConfigurationError, match="init --capture"):
            follower.read(source)
        source.execute(source.capture_plan([stream()]))
        with pytest.raises(PositionLostError, match=r"made again.*--resnapshot t"):
            follower.read(source)


def test_a_changed_key_logs_the_new_one_first(database: PostgresDatabase) -> None:
    database.run(TABLE, "INSERT INTO t VALUES (1, 'a')")
    follower = follow(database)
    database.run("UPDATE t SET id = 2", "UPDATE t SET v = 'b'", "DELETE FROM t")
    assert log(database) == [(2, 2), (3, 1), (2, 2), (3, 2)]
    assert [operation for operation, _ in catch_up(database, follower)] == [
        Operation.DELETE,
        Operation.DELETE,
    ]


def test_a_key_that_changes_its_case_alone(database: PostgresDatabase) -> None:
    """citext takes the two for equal; the ledger does not."""
    if not database.has_extension("citext"):
        pytest.skip("the server does not bring citext")
    database.run("CREATE TABLE t (id citext PRIMARY KEY, v int)", "INSERT INTO t VALUES ('Foo', 1)")
    follower = follow(database)
    database.run("UPDATE t SET id = 'foo'")
    assert catch_up(database, follower) == [
        (Operation.UPDATE, {"id": "foo", "v": 1}),
        (Operation.DELETE, {"id": "Foo", "v": None}),
    ]


def test_what_was_rolled_back_is_not_told(
    database: PostgresDatabase, other: psycopg.Connection[Any]
) -> None:
    database.run(TABLE, "INSERT INTO t VALUES (1, 'a')")
    follower = follow(database)
    other.execute("DELETE FROM t")
    other.execute("INSERT INTO t VALUES (2, 'x')")
    assert catch_up(database, follower) == []
    other.rollback()
    with other.transaction():
        other.execute("INSERT INTO t VALUES (3, 'x')")
        with other.transaction(force_rollback=True):
            other.execute("INSERT INTO t VALUES (4, 'x')")
        with other.transaction():
            other.execute("INSERT INTO t VALUES (5, 'x')")
    other.commit()
    assert [row["id"] for _, row in catch_up(database, follower)] == [3, 5]


def test_what_commits_late_is_seen_although_its_sequence_is_lower(
    database: PostgresDatabase, other: psycopg.Connection[Any]
) -> None:
    database.run(TABLE, "INSERT INTO t VALUES (1, 'a')")
    follower = follow(database)
    other.execute("UPDATE t SET v = 'late' WHERE id = 1")
    for number in range(2, 5):
        database.run(f"INSERT INTO t VALUES ({number}, 'x')")
        assert [row["id"] for _, row in catch_up(database, follower)] == [number]
    # A row that was fetched meanwhile is stamped below what is still to come.
    keys = pa.record_batch({"id": pa.array([1], pa.int32())})
    with database.source() as source:
        follower.apply(source.fetch(follower.stream, keys, follower.state(source)))
    assert follower.live()[(1,)]["v"] == "a"
    other.commit()
    assert catch_up(database, follower) == [(Operation.UPDATE, {"id": 1, "v": "late"})]
    assert catch_up(database, follower) == []


def test_a_prepared_transaction(database: PostgresDatabase) -> None:
    database.run(TABLE)
    follower = follow(database)
    with closing(psycopg.connect(database.url)) as other:
        other.execute("INSERT INTO t VALUES (1, 'x')")
        other.execute("PREPARE TRANSACTION 'p2'")
        other.rollback()
    database.run("INSERT INTO t VALUES (2, 'x')")
    assert [row["id"] for _, row in catch_up(database, follower)] == [2]
    database.connection.execute("COMMIT PREPARED 'p2'")
    assert [row["id"] for _, row in catch_up(database, follower)] == [1]


def test_nothing_is_missed_or_told_twice_under_four_writers(database: PostgresDatabase) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz DEFAULT clock_timestamp())"
    )
    follower = follow(database, stream(batch_rows=50))
    newest: dict[Any, Any] = {}
    by_sequence: set[int] = set()
    last = 0

    def write(cursor: psycopg.Cursor[Any], dice: random.Random, serial: int) -> None:
        key = dice.randrange(200)
        action = dice.random()
        if action < 0.5:
            cursor.execute(
                "INSERT INTO t VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
                [key, f"{serial}"],
            )
        elif action < 0.7:
            cursor.execute("DELETE FROM t WHERE id = %s", [key])
        elif action < 0.8:
            cursor.execute(
                "UPDATE t SET id = %s, v = %s WHERE id = %s AND NOT EXISTS "
                "(SELECT FROM t WHERE id = %s)",
                [1000 + serial, f"{serial}", key, 1000 + serial],
            )
        else:
            cursor.execute("UPDATE t SET v = %s WHERE id = %s", [f"{serial}", key])

    with database.source() as source:
        with writers(database.url, write):
            deadline = time.monotonic() + times(3, 6)
            while time.monotonic() < deadline:
                for item in follower.read(source):
                    versions = [tuple(found.values()) for found in item.versions.to_pylist()]
                    for key, version in zip(reported_keys([item]), versions, strict=True):
                        assert version > newest.get(key, (0,)), "changes of a key never go back"
                        newest[key] = version
                for (seq,) in database.select(
                    f'SELECT seq FROM _rowtrail."public.t" WHERE seq > {last} ORDER BY seq'
                ):
                    by_sequence.add(seq)
                    last = seq
        follower.read(source)
        assert reported(follower.read(source)) == []
    assert follower.live() == database.rows("t", "id")
    # Were it not so, a reader of the sequence alone would do as well.
    entries = {seq for (seq,) in database.select('SELECT seq FROM _rowtrail."public.t"')}
    assert entries - by_sequence


def test_a_log_that_is_shortened_while_it_is_written(database: PostgresDatabase) -> None:
    database.run(TABLE, "INSERT INTO t SELECT g, 'x' FROM generate_series(0, 99) AS g")
    follower = follow(database, stream(batch_rows=20))

    def write(cursor: psycopg.Cursor[Any], dice: random.Random, serial: int) -> None:
        cursor.execute("UPDATE t SET v = %s WHERE id = %s", [f"{serial}", dice.randrange(100)])

    with database.source() as source:
        with writers(database.url, write):
            deadline = time.monotonic() + times(2, 4)
            while time.monotonic() < deadline:
                for item in source.read(follower.stream, follower.state(source)):
                    follower.apply(item)
                    source.acknowledge({"t": (follower.stream, item.position)})
        follower.read(source)
        assert follower.position is not None
        source.acknowledge({"t": (follower.stream, follower.position)})
        follower.read(source)
    assert follower.live() == database.rows("t", "id")
    assert log(database) == []


def test_what_all_streams_have_behind_them_is_deleted(
    database: PostgresDatabase, other: psycopg.Connection[Any]
) -> None:
    database.run(TABLE)
    one, two = follow(database), follow(database, stream(name="two", table='"public"."t"'))
    other.execute("INSERT INTO t VALUES (1, 'late')")
    database.run("INSERT INTO t VALUES (2, 'x')")
    catch_up(database, one)
    with database.source() as source:
        for follower in (one, two):
            assert follower.position is not None
        both = {name: (f.stream, f.position) for name, f in (("t", one), ("two", two))}
        source.acknowledge(both)
        assert len(log(database)) == 1
        catch_up(database, two)
        both["two"] = (two.stream, two.position)
        source.acknowledge(both)
        assert log(database) == []
        other.commit()
        source.acknowledge(both)
        assert log(database) == [(1, 1)]
    assert [row["id"] for _, row in catch_up(database, one)] == [1]
    assert [row["id"] for _, row in catch_up(database, two)] == [1]


def test_a_stream_that_lags_behind_what_another_pipeline_forgot(
    database: PostgresDatabase,
) -> None:
    database.run(TABLE)
    one, two = follow(database), follow(database)
    database.run("INSERT INTO t VALUES (2, 'x')")
    catch_up(database, one)
    with database.source() as source:
        assert one.position is not None
        source.acknowledge({"t": (one.stream, one.position)})
        assert catch_up(database, one) == []
        with pytest.raises(PositionLostError, match="another pipeline"):
            two.read(source)


def test_entries_that_go_while_they_are_read(database: PostgresDatabase) -> None:
    database.run(TABLE)
    one, two = follow(database), follow(database, stream(batch_rows=2))
    database.run("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 9) AS g")
    catch_up(database, one)
    with database.source() as source, database.source() as elsewhere:
        reading = source.read(two.stream, two.state(source))
        next(reading)
        assert one.position is not None
        elsewhere.acknowledge({"t": (one.stream, one.position)})
        with pytest.raises(PositionLostError, match="another pipeline"):
            next(reading)


@pytest.mark.parametrize("batch_rows", [2, 100])
def test_a_truncated_table(database: PostgresDatabase, batch_rows: int) -> None:
    database.run(TABLE, "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 9) AS g")
    follower = follow(database, stream(batch_rows=batch_rows))
    database.run("INSERT INTO t VALUES (10, 'before')", "TRUNCATE t")
    deleted = catch_up(database, follower)
    assert {operation for operation, _ in deleted} == {Operation.DELETE}
    assert [row["id"] for _, row in deleted] == list(range(1, 10))
    assert catch_up(database, follower) == []
    # Filled anew in the same transaction: what is there again is not deleted in between.
    database.run("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 9) AS g")
    catch_up(database, follower)
    database.run("TRUNCATE t", "INSERT INTO t SELECT g, 'y' FROM generate_series(3, 12) AS g")
    found = catch_up(database, follower)
    assert [row["id"] for operation, row in found if operation is Operation.DELETE] == [1, 2]
    assert len(found) == 12
    database.run("TRUNCATE t", "INSERT INTO t VALUES (1, 'a')", "TRUNCATE t")
    database.run("INSERT INTO t VALUES (2, 'b')")
    catch_up(database, follower)
    database.run("INSERT INTO t VALUES (3, 'c')", "TRUNCATE t")
    catch_up(database, follower)
    assert follower.live() == {}


@pytest.mark.parametrize("lost", [False, True], ids=["durable", "lost"])
def test_a_truncated_table_and_deaths(database: PostgresDatabase, lost: bool) -> None:
    database.run(TABLE, "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 20) AS g")
    follower = follow(database, stream(batch_rows=3))
    database.run(
        "UPDATE t SET v = 'y' WHERE id < 6",
        "TRUNCATE t",
        "INSERT INTO t SELECT g, 'z' FROM generate_series(5, 9) AS g",
        "DELETE FROM t WHERE id = 6",
    )
    with database.source() as source:
        after = 1
        while follower.read_until(source, after, lost=lost):
            after += lost
    assert follower.live() == database.rows("t", "id")
    assert catch_up(database, follower) == []


def test_a_truncation_while_the_table_is_read_for_the_first_time(
    database: PostgresDatabase,
) -> None:
    database.run(TABLE, "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 9) AS g")
    follower = Follower(stream(batch_rows=3))
    with database.source() as source:
        source.execute(source.capture_plan([follower.stream]))
        for number, item in enumerate(source.read(follower.stream, follower.state(source))):
            follower.apply(item)
            if number == 1:
                database.run("TRUNCATE t", "INSERT INTO t VALUES (2, 'new'), (8, 'new')")
    assert follower.live() == database.rows("t", "id")


def test_the_log_needs_no_rights_and_cannot_be_abused(database: PostgresDatabase) -> None:
    """The application's role writes; the functions run as the log's owner, whatever its path."""
    database.run(TABLE)
    follower = follow(database)
    role = f"app_{database.connection.info.dbname}"
    database.connection.execute(f"CREATE ROLE {role}")
    try:
        database.run(
            f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON t TO {role}",
            f"CREATE SCHEMA evil AUTHORIZATION {role}",
        )
        with database.connection.transaction(), database.connection.cursor() as app:
            app.execute(f"SET LOCAL ROLE {role}")
            app.execute(
                "CREATE TABLE evil.stolen (who text);"
                "CREATE FUNCTION evil.steal(a int4, b int4) RETURNS boolean LANGUAGE plpgsql AS "
                "$$ BEGIN INSERT INTO evil.stolen VALUES (current_user); RETURN true; END $$;"
                "CREATE FUNCTION evil.steal(a text, b text) RETURNS boolean LANGUAGE plpgsql AS "
                "$$ BEGIN INSERT INTO evil.stolen VALUES (current_user); RETURN true; END $$;"
                "CREATE FUNCTION evil.pg_current_xact_id() RETURNS xid8 LANGUAGE plpgsql AS "
                "$$ BEGIN INSERT INTO evil.stolen VALUES (current_user); RETURN '3'; END $$;"
                "CREATE OPERATOR evil.= (LEFTARG = int4, RIGHTARG = int4, FUNCTION = evil.steal);"
                "CREATE OPERATOR evil.<> (LEFTARG = int4, RIGHTARG = int4, FUNCTION = evil.steal);"
                "CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.steal);"
                "GRANT ALL ON evil.stolen TO PUBLIC;"
                "SET LOCAL search_path = evil, public, pg_catalog"
            )
            app.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
            app.execute("UPDATE t SET id = id + 10")
            app.execute("DELETE FROM t WHERE v LIKE 'b'")
            assert app.execute("SELECT * FROM evil.stolen").fetchall() == []
            with (
                pytest.raises(psycopg.errors.InsufficientPrivilege),
                database.connection.transaction(),
            ):
                app.execute('SELECT * FROM _rowtrail."public.t"')
        assert catch_up(database, follower)
        database.run(f"SET LOCAL ROLE {role}", "TRUNCATE t")
        catch_up(database, follower)
    finally:
        database.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_what_logical_replication_brings_is_logged(database: PostgresDatabase) -> None:
    database.run(TABLE)
    follower = follow(database)
    database.run("SET LOCAL session_replication_role = replica", "INSERT INTO t VALUES (1, 'x')")
    assert len(catch_up(database, follower)) == 1


def test_a_disabled_trigger_is_noticed(database: PostgresDatabase) -> None:
    database.run(TABLE)
    follower = follow(database)
    database.run("ALTER TABLE t DISABLE TRIGGER USER")
    with database.source() as source:
        assert [problem.capture for problem in source.preflight([stream()])] == [True]
        with pytest.raises(ConfigurationError, match=r"disabled.*init --capture"):
            follower.read(source)
        source.execute(source.capture_plan([stream()]))
        with pytest.raises(PositionLostError, match="made again"):
            follower.read(source)


def test_a_table_that_is_made_anew(database: PostgresDatabase) -> None:
    database.run(TABLE, "INSERT INTO t VALUES (1, 'a')")
    follower = follow(database)
    database.run("DROP TABLE t", TABLE, "INSERT INTO t VALUES (2, 'b')")
    with database.source() as source:
        with pytest.raises(ConfigurationError, match="init --capture"):
            follower.read(source)
        source.execute(source.capture_plan([stream()]))
        with pytest.raises(PositionLostError):
            follower.read(source)


def test_a_table_that_takes_another_ones_name(database: PostgresDatabase) -> None:
    """The old table's triggers call the functions that the new one is to have."""
    database.run(TABLE)
    follow(database)
    database.run(
        "ALTER TABLE t RENAME TO old", "CREATE TABLE t (LIKE old INCLUDING ALL)",
        "INSERT INTO t VALUES (7, 'new')", "INSERT INTO old VALUES (1, 'x')",
    )  # fmt: skip
    follower = follow(database)
    database.run("INSERT INTO t VALUES (8, 'new')", "INSERT INTO old VALUES (2, 'x')")
    assert [row["id"] for _, row in catch_up(database, follower)] == [8]


def test_a_log_that_was_removed_by_hand(database: PostgresDatabase) -> None:
    database.run(TABLE)
    follower = follow(database)
    database.run("DROP SCHEMA _rowtrail CASCADE")
    database.run("INSERT INTO t VALUES (1, 'a')")
    with database.source() as source, pytest.raises(ConfigurationError, match="no change log"):
        follower.read(source)


def altered(follower: Follower, **fields: Any) -> None:
    assert follower.position is not None
    follower.position = json.dumps({**json.loads(follower.position), **fields})


def test_a_source_that_was_restored(database: PostgresDatabase) -> None:
    """A position tells by the server's identity, by its snapshot, and by the last entry it read."""
    database.run(TABLE)
    follower = follow(database)
    database.run("INSERT INTO t VALUES (1, 'a')")
    catch_up(database, follower)
    before = follower.position
    with database.source() as source:
        for fields, words in (
            ({"server": "123/00000001"}, "another server"),
            ({"new": None, "old": "99999999:99999999:"}, "older than its position"),
        ):
            altered(follower, **fields)
            with pytest.raises(PositionLostError, match=words):
                follower.read(source)
            follower.position = before
        # The entry that was read has another time: it is another one.
        database.run("UPDATE _rowtrail.\"public.t\" SET at = at + interval '1 us'")
        with pytest.raises(PositionLostError, match="restored from a back-up"):
            follower.read(source)
        database.run('DELETE FROM _rowtrail."public.t"')
        with pytest.raises(PositionLostError, match="restored from a back-up"):
            follower.read(source)


def test_an_entry_that_was_acknowledged_may_be_gone(database: PostgresDatabase) -> None:
    database.run(TABLE)
    follower = follow(database)
    for number in range(3):
        database.run(f"INSERT INTO t VALUES ({number}, 'a')")
        catch_up(database, follower)
        assert catch_up(database, follower) == []
        with database.source() as source:
            assert follower.position is not None
            source.acknowledge({"t": (follower.stream, follower.position)})
        assert log(database) == []
        assert catch_up(database, follower) == []


def test_a_partitioned_table(database: PostgresDatabase) -> None:
    database.run(
        "CREATE TABLE t (id int, region text, v text, PRIMARY KEY (id, region)) "
        "PARTITION BY LIST (region)",
        "CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu')",
        "CREATE TABLE t_rest PARTITION OF t DEFAULT PARTITION BY RANGE (id)",
        "CREATE TABLE t_rest_1 PARTITION OF t_rest FOR VALUES FROM (0) TO (100)",
        "INSERT INTO t SELECT g, (ARRAY['eu', 'us'])[g % 2 + 1], 'x' FROM generate_series(1, 9) g",
    )
    with database.source() as source:
        assert source.tables() == ["t"]
    follower = follow(database, stream(batch_rows=4))
    with database.source() as source:
        (problem,) = source.preflight([stream()])
        assert not problem.fatal
        assert "--resnapshot t" in problem.remedy
    assert len(follower.live()) == 9
    database.run(
        "UPDATE t SET region = 'us' WHERE id = 2",
        "INSERT INTO t_eu VALUES (50, 'eu', 'straight')",
        "DELETE FROM t WHERE id = 3",
        "UPDATE t_rest SET v = 'y' WHERE id = 5",
        "CREATE TABLE t_asia PARTITION OF t FOR VALUES IN ('asia')",
        "INSERT INTO t VALUES (60, 'asia', 'new')",
    )
    assert len(catch_up(database, follower)) == 6
    database.run("TRUNCATE t", "INSERT INTO t VALUES (1, 'eu', 'again')")
    catch_up(database, follower)


def test_what_triggers_cannot_see_is_refused(database: PostgresDatabase) -> None:
    database.run(
        TABLE,
        "CREATE VIEW seen AS SELECT * FROM t",
        "CREATE MATERIALIZED VIEW kept AS SELECT * FROM t",
        "CREATE TABLE heir () INHERITS (t)",
    )
    with database.source() as source:
        for table, what in (("seen", "a view"), ("kept", "a materialized view")):
            chosen = stream(table=table, key=("id",))
            (problem,) = source.preflight([chosen])
            assert problem.fatal
            assert what in problem.message
            with pytest.raises(ConfigurationError, match=what):
                source.capture_plan([chosen])
        problems = source.preflight([stream()])
        assert any("inherit" in problem.message and problem.fatal for problem in problems)
        # Read whole, they are tables like others.
        follower = Follower(stream(table="seen", key=("id",), capture=Capture.SNAPSHOT))
        database.run("INSERT INTO t VALUES (1, 'x')")
        follower.read(source)
        assert len(follower.live()) == 1


def test_rows_whose_key_does_not_fit(database: PostgresDatabase) -> None:
    database.run("CREATE TABLE t (id date PRIMARY KEY, v numeric(5,1))")
    follower = follow(database)
    database.run("INSERT INTO t VALUES ('infinity', 1), ('2024-01-01', 'NaN'), ('2024-01-02', 2)")
    with database.source() as source:
        follower.read(source)
    assert {one.column for one in follower.rejected.values()} == {"id", "v"}
    assert len(follower.live()) == 1
    database.run("DELETE FROM t WHERE id <> '2024-01-02'")
    with database.source() as source:
        follower.read(source)
    assert len(follower.rejected) == 1, "the one whose key is no date stays until it is ignored"


def test_the_log_is_read_by_its_indexes(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log of which most is acknowledged or new costs no more than what is read of it."""
    database.run(TABLE, "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 20000) AS g")
    follower = follow(database, stream(batch_rows=50_000))
    database.run("UPDATE t SET v = 'y'")
    catch_up(database, follower)
    database.connection.execute('ANALYZE t, _rowtrail."public.t"')
    database.run("UPDATE t SET v = 'z' WHERE id % 2000 = 0")
    statements: list[str] = []
    with database.source() as source:
        kind = type(source._connection)
        query, records = kind.query, kind.records

        def noting_query(self: Any, statement: str, **options: Any) -> Any:
            statements.append(statement)
            return query(self, statement, **options)

        def noting_records(self: Any, statement: str, *rest: Any, **options: Any) -> Any:
            if "max(e.seq)" in statement:
                statements.append(statement)
            return records(self, statement, *rest, **options)

        monkeypatch.setattr(kind, "query", noting_query)
        monkeypatch.setattr(kind, "records", noting_records)
        follower.read(source)
    reads = [one for one in statements if "pg_visible_in_snapshot" in one]
    assert len(reads) == 2
    for statement in reads:
        plan = "\n".join(line for (line,) in database.select(f"EXPLAIN {statement}"))
        assert "Seq Scan" not in plan, plan


def test_names_of_logs() -> None:
    assert log_name("shop", "orders") == "shop.orders"
    long = log_name("shop", "ö" * 31)
    assert len(long.encode()) <= 63
    assert long != log_name("shop", "ö" * 30 + "x")
    assert log_name("shop", "ö" * 31, " truncate").endswith(" truncate")
    assert len(log_name("shop", "ö" * 31, " truncate").encode()) <= 63


def test_names_that_mean_something_to_the_drivers(database: PostgresDatabase) -> None:
    name, key = '100% "{c}" %s', "{c} %(x)s ?"
    quoted = database.quote(name)
    database.run(f"CREATE TABLE {quoted} ({database.quote(key)} text PRIMARY KEY, seen int)")
    for capture in (Capture.TRIGGER, Capture.CURSOR, Capture.SNAPSHOT):
        chosen = stream(table=name, capture=capture, cursor="seen")
        follower = follow(database, chosen)
        with database.source() as source:
            source.preflight([chosen])
            database.connection.execute(f"INSERT INTO {quoted} VALUES ('%s {{c}}', 1)".encode())
            follower.read(source)
            assert follower.live().keys() == {("%s {c}",)}
            keys = pa.record_batch({key: ["%s {c}"]})
            assert source.fetch(chosen, keys, follower.state(source)).operations[0].as_py() == 2
            assert follower.position is not None
            source.acknowledge({"t": (chosen, follower.position)})
        database.run(f"TRUNCATE {quoted}")
    assert database.select("SELECT count(*) FROM _rowtrail.logs") == [(1,)]


def test_an_unlogged_table_may_be_emptied_unseen(database: PostgresDatabase) -> None:
    database.run("CREATE UNLOGGED TABLE t (id int PRIMARY KEY)")
    follow(database)
    with database.source() as source:
        (problem,) = source.preflight([stream()])
    assert not problem.fatal
    assert "UNLOGGED" in problem.message


def test_the_type_of_a_logged_key_cannot_be_changed_unseen(database: PostgresDatabase) -> None:
    """Else the log could not take the new values, and the application's writes would fail."""
    database.run(TABLE)
    follow(database)
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="used in a trigger"):
        database.run("ALTER TABLE t ALTER COLUMN id TYPE bigint")
    with database.source() as source:
        source.execute(source.removal_plan([stream()]))
        database.run("ALTER TABLE t ALTER COLUMN id TYPE bigint")
        source.execute(source.capture_plan([stream()]))
    database.run(f"INSERT INTO t VALUES ({2**40}, 'x')")


def test_a_table_with_the_longest_name(database: PostgresDatabase) -> None:
    name = "ö" * 31
    database.run(f'CREATE TABLE "{name}" (id int PRIMARY KEY)')
    follower = follow(database, stream(table=name))
    database.run(f'INSERT INTO "{name}" VALUES (1)')
    assert len(catch_up(database, follower)) == 1


@pytest.mark.parametrize(
    ("later", "earlier", "expected"),
    [
        ("10:10:", "10:10:", True),
        ("10:12:", "10:10:", True),
        ("10:10:", "10:12:", False),
        ("10:12:11", "10:11:", True),
        ("10:12:10", "10:11:", False),
        ("10:12:10", "10:11:10", True),
        ("10:12:", "10:12:10,11", True),
        ("10:14:12", "10:14:13", False),
        ("10:20:15", "10:14:12", True),
    ],
)
def test_snapshots_in_order(later: str, earlier: str, expected: bool) -> None:
    assert shows_all_of(later, earlier) is expected


def test_the_first_read_while_others_write(database: PostgresDatabase) -> None:
    database.run(TABLE, "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 200) AS g")
    stop = threading.Event()

    def write(cursor: psycopg.Cursor[Any], dice: random.Random, serial: int) -> None:
        cursor.execute(
            "INSERT INTO t VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
            [dice.randrange(300), f"{serial}"],
        )
        cursor.execute("DELETE FROM t WHERE id = %s", [dice.randrange(300)])

    with writers(database.url, write):
        follower = follow(database, stream(batch_rows=10))
        stop.wait(0.5)
    catch_up(database, follower)
