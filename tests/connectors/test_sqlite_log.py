"""Capture `trigger` on SQLite: what the log holds, and what makes its position void."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.changes import Operation
from rowtrail.connectors.errors import ConfigurationError, PositionLostError, TransientError
from rowtrail.connectors.sources import sqlite_connection
from tests.connectors.follower import Follower, reported, reported_keys
from tests.connectors.sqlite_database import SqliteDatabase

TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE, n INTEGER)"


@pytest.fixture(params=["wal", "delete"])
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SqliteDatabase]:
    with closing(SqliteDatabase(tmp_path / "source.db", journal=request.param)) as database:
        yield database


def stream(**settings: Any) -> StreamSpec:
    chosen: dict[str, Any] = {"name": "t", "table": "t", "capture": Capture.TRIGGER, **settings}
    return StreamSpec(**chosen)


def follow(database: SqliteDatabase, chosen: StreamSpec) -> Follower:
    """A follower that has read the table once."""
    follower = Follower(chosen)
    with database.source() as source:
        source.execute(source.capture_plan([chosen]))
        follower.read(source)
    return follower


def catch_up(database: SqliteDatabase, follower: Follower) -> list[tuple[Operation, Any]]:
    with database.source() as source:
        found = reported(follower.read(source))
    key = source_key(database, follower)
    assert follower.live() == database.rows("t", *key)
    return found


def source_key(database: SqliteDatabase, follower: Follower) -> tuple[str, ...]:
    with database.source() as source:
        return source.describe(follower.stream).key


def log(database: SqliteDatabase) -> list[tuple[Any, ...]]:
    return database.select("SELECT seq, op, k0 FROM _rowtrail_log_t ORDER BY seq")


def test_the_plan_shows_all_that_it_does_and_is_undone_without_a_trace(
    database: SqliteDatabase,
) -> None:
    database.run(TABLE, "CREATE TABLE u (a TEXT, b TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID")
    before = database.select("SELECT type, name, sql FROM sqlite_master ORDER BY name")
    streams = [stream(), stream(name="u", table="U"), stream(name="s", capture=Capture.SNAPSHOT)]
    with database.source() as source:
        plan = source.capture_plan(streams)
        source.execute(plan)
        assert source.capture_plan(streams) == []
        assert source.tables() == ["t", "u"]
        assert source.capture_plan([stream(), stream()]) == []
    made = database.select(
        "SELECT name FROM sqlite_master WHERE name LIKE '\\_rowtrail%' ESCAPE '\\'"
    )
    assert all(any(f'"{name}"' in statement for statement in plan) for (name,) in made)
    with database.source() as source:
        source.execute(source.removal_plan(streams[:1]))
        assert source.capture_plan(streams[1:]) == []
        source.execute(source.removal_plan(streams))
        assert source.removal_plan(streams) == []
    after = database.select(
        "SELECT type, name, sql FROM sqlite_master WHERE name <> 'sqlite_sequence' ORDER BY name"
    )
    assert after == before


def test_removed_triggers_cost_nothing(database: SqliteDatabase) -> None:
    database.run(TABLE)
    follow(database, stream())
    with database.source() as source:
        source.execute(source.removal_plan([stream()]))
    database.run("INSERT INTO t VALUES (1, 'a', 1)", "DELETE FROM t")
    assert database.select("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'") == [(0,)]


def test_a_plan_is_one_transaction(database: SqliteDatabase) -> None:
    database.run(TABLE)
    with database.source() as source:
        with pytest.raises(ConfigurationError, match="nothing"):
            source.execute([*source.capture_plan([stream()]), "DROP TABLE nothing"])
        assert len(source.capture_plan([stream()])) > 1
    assert log_tables(database) == []


def log_tables(database: SqliteDatabase) -> list[tuple[Any, ...]]:
    return database.select("SELECT name FROM sqlite_master WHERE name LIKE '%rowtrail%'")


def test_two_streams_of_one_table_with_different_keys(database: SqliteDatabase) -> None:
    database.run(TABLE)
    with (
        database.source() as source,
        pytest.raises(ConfigurationError, match=r"different keys.*id and code"),
    ):
        source.capture_plan([stream(), stream(name="other", key=("code",))])


def test_a_changed_key_logs_the_new_one_first(database: SqliteDatabase) -> None:
    database.run(TABLE, "INSERT INTO t VALUES (1, 'a', 1)")
    follower = follow(database, stream())
    database.run("UPDATE t SET id = 2", "UPDATE t SET n = 5")
    assert log(database) == [(1, 2, 2), (2, 3, 1), (3, 2, 2)]
    assert [(op, row["id"]) for op, row in catch_up(database, follower)] == [
        (Operation.DELETE, 1),
        (Operation.UPDATE, 2),
    ]


def test_replace_through_the_key_and_through_another_unique_index(
    database: SqliteDatabase,
) -> None:
    """SQLite deletes the row in the way without a DELETE trigger."""
    database.run(TABLE, "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 4)")
    follower = follow(database, stream())
    database.run("INSERT OR REPLACE INTO t VALUES (1, 'a', 10)")
    assert [row for _, row in catch_up(database, follower)] == [{"id": 1, "code": "a", "n": 10}]
    database.run("REPLACE INTO t VALUES (20, 'b', 20)")
    assert {(op, row["id"]) for op, row in catch_up(database, follower)} == {
        (Operation.DELETE, 2),
        (Operation.INSERT, 20),
    }
    database.run("UPDATE OR REPLACE t SET code = 'c' WHERE id = 4")
    assert {(op, row["id"]) for op, row in catch_up(database, follower)} == {
        (Operation.DELETE, 3),
        (Operation.UPDATE, 4),
    }
    database.run(
        "UPDATE OR REPLACE t SET id = 20 WHERE id = 1",
        "INSERT OR IGNORE INTO t VALUES (20, 'x', 0)",
    )
    catch_up(database, follower)
    assert sorted(follower.live()) == [(4,), (20,)]


@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_replace_collides_with_several_rows(database: SqliteDatabase, recursive: str) -> None:
    database.run(
        "CREATE TABLE t (k TEXT PRIMARY KEY, a INTEGER, b INTEGER, c TEXT COLLATE NOCASE UNIQUE, "
        "UNIQUE (a, b)) WITHOUT ROWID",
        "INSERT INTO t VALUES ('one', 1, 1, 'x'), ('two', 2, 2, 'y'), ('three', 3, 3, 'z'), "
        "('four', NULL, 4, NULL), ('five', NULL, 4, NULL)",
    )
    follower = follow(database, stream())
    with closing(sqlite3.connect(database.path)) as connection, connection:
        connection.execute(f"PRAGMA recursive_triggers = {recursive}")
        connection.execute("REPLACE INTO t VALUES ('three', 1, 1, 'Y')")
        connection.execute("REPLACE INTO t VALUES ('six', NULL, 4, NULL)")
    catch_up(database, follower)
    assert sorted(follower.live()) == [("five",), ("four",), ("six",), ("three",)]


def test_replace_where_the_primary_key_is_not_the_streams_key(database: SqliteDatabase) -> None:
    database.run(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE)",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    )
    follower = follow(database, stream(key=("code",)))
    database.run("REPLACE INTO t VALUES (1, 'z')")
    catch_up(database, follower)
    assert sorted(follower.live()) == [("b",), ("z",)]


def test_a_unique_index_on_an_expression_is_named(database: SqliteDatabase) -> None:
    database.run(TABLE, "CREATE UNIQUE INDEX odd_one ON t (lower(code))")
    with database.source() as source:
        source.execute(source.capture_plan([stream()]))
        (problem,) = source.preflight([stream()])
    assert "odd_one" in problem.message
    assert not problem.fatal


def test_a_reused_rowid(database: SqliteDatabase) -> None:
    """Without AUTOINCREMENT SQLite gives the greatest rowid out again."""
    database.run(TABLE, "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)")
    follower = follow(database, stream())
    database.run("DELETE FROM t WHERE id = 2", "INSERT INTO t (code, n) VALUES ('new', 3)")
    assert catch_up(database, follower) == [
        (Operation.INSERT, {"id": 2, "code": "new", "n": 3}),
    ]


def test_cascaded_deletes(database: SqliteDatabase) -> None:
    database.run(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, p REFERENCES parent ON DELETE CASCADE)",
        "INSERT INTO parent VALUES (1), (2)",
        "INSERT INTO t VALUES (10, 1), (20, 2)",
    )
    chosen = stream(types={"p": "text"}, exclude=("p",))
    follower = follow(database, chosen)
    with closing(sqlite3.connect(database.path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM parent WHERE id = 1")
    with database.source() as source:
        follower.read(source)
    assert sorted(follower.live()) == [(20,)]


def test_what_an_application_sees_of_itself_is_as_before(database: SqliteDatabase) -> None:
    """last_insert_rowid() and changes() tell of the application's own table."""
    database.run(TABLE)
    follow(database, stream())
    with closing(sqlite3.connect(database.path)) as connection, connection:
        inserted = connection.execute("INSERT INTO t VALUES (77, 'a', 1)")
        assert inserted.lastrowid == 77
        updated = connection.execute("UPDATE t SET id = 78")
        assert (inserted.rowcount, updated.rowcount) == (1, 1)


def test_a_rolled_back_change_is_not_logged(database: SqliteDatabase) -> None:
    database.run(TABLE)
    follower = follow(database, stream())
    with closing(sqlite3.connect(database.path)) as connection:
        connection.execute("INSERT INTO t VALUES (1, 'a', 1)")
        connection.rollback()
    assert catch_up(database, follower) == []


def test_acknowledged_entries_go_and_the_rest_stays(database: SqliteDatabase) -> None:
    database.run(TABLE)
    follower = follow(database, stream())
    database.run("INSERT INTO t VALUES (1, 'a', 1)")
    catch_up(database, follower)
    first = follower.position
    assert first is not None
    database.run("INSERT INTO t VALUES (2, 'b', 1)")
    with database.source() as source:
        source.acknowledge({"t": (follower.stream, first)})
    assert log(database) == [(2, 1, 2)]
    catch_up(database, follower)
    with database.source() as source:
        other = stream(name="slower")
        source.acknowledge(
            {"slower": (other, first), "t": (follower.stream, follower.position or "")}
        )
    assert log(database) == [(2, 1, 2)]
    with database.source() as source:
        source.acknowledge({"t": (follower.stream, follower.position or "")})
        assert source.preflight([follower.stream]) == []
    assert log(database) == []
    database.run("INSERT INTO t VALUES (3, 'c', 1)")
    assert [row["id"] for _, row in catch_up(database, follower)] == [3]
    assert log(database) == [(3, 1, 3)]


def test_positions_that_are_lost(database: SqliteDatabase) -> None:
    database.run(TABLE)
    follower = follow(database, stream())
    start = follower.position
    database.run("INSERT INTO t VALUES (1, 'a', 1)")
    catch_up(database, follower)
    with database.source() as source:
        source.acknowledge({"t": (follower.stream, follower.position or "")})
        follower.position, newest = start, follower.position
        with pytest.raises(PositionLostError, match=r"deleted.*--resnapshot t"):
            follower.read(source)
        follower.position = newest
        assert [len(item) for item in follower.read(source)] == [0]
        source.execute(source.removal_plan([stream()]))
        with pytest.raises(PositionLostError, match=r"gone.*--resnapshot t"):
            follower.read(source)
        source.execute(source.capture_plan([stream()]))
        with pytest.raises(PositionLostError, match=r"made again.*--resnapshot t"):
            follower.read(source)


def test_a_source_that_is_older_than_its_position(database: SqliteDatabase) -> None:
    database.run(TABLE)
    follower = follow(database, stream())
    database.run("PRAGMA journal_mode = delete")
    old = database.path.read_bytes()
    database.run("INSERT INTO t VALUES (1, 'a', 1)")
    catch_up(database, follower)
    database.path.write_bytes(old)
    with database.source() as source, pytest.raises(PositionLostError, match="back-up"):
        follower.read(source)


@pytest.mark.parametrize("later", [0, 1, 5])
@pytest.mark.parametrize("acknowledged", [False, True])
def test_a_source_that_was_restored_and_has_gone_on_past_its_position(
    database: SqliteDatabase, acknowledged: bool, later: int
) -> None:
    """The log gives the same sequences again, but for other changes."""
    database.run(TABLE, "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)")
    follower = follow(database, stream())
    database.run("UPDATE t SET n = 5 WHERE id = 1", "PRAGMA journal_mode = delete")
    old = database.path.read_bytes()
    database.run("UPDATE t SET n = 6 WHERE id = 1")
    catch_up(database, follower)
    if acknowledged:
        with database.source() as source:
            source.acknowledge({"t": (follower.stream, follower.position or "")})
    assert catch_up(database, follower) == []
    database.path.write_bytes(old)
    database.run(*["UPDATE t SET n = n + 1 WHERE id = 2"] * (later + 1))
    with (
        database.source() as source,
        pytest.raises(PositionLostError, match="the source is older than its position, perhaps"),
    ):
        follower.read(source)


def test_a_source_that_was_restored_in_the_midst_of_the_first_read(
    database: SqliteDatabase,
) -> None:
    database.run(TABLE, *(f"INSERT INTO t VALUES ({n}, {n}, {n})" for n in range(6)))
    follower = Follower(stream(batch_rows=2))
    with database.source() as source:
        source.execute(source.capture_plan([follower.stream]))
    database.run("PRAGMA journal_mode = delete")
    old = database.path.read_bytes()
    database.run("UPDATE t SET n = 7 WHERE id = 1")
    with database.source() as source:
        assert follower.read_until(source, 1)
    database.path.write_bytes(old)
    database.run("UPDATE t SET n = 8 WHERE id = 5", "UPDATE t SET n = 9 WHERE id = 5")
    with database.source() as source, pytest.raises(PositionLostError, match="back-up"):
        follower.read(source)


def test_a_position_whose_entry_was_gone_before_it_was_made(database: SqliteDatabase) -> None:
    """A log that was mended has forgotten that its first entries were acknowledged."""
    database.run(TABLE)
    follower = follow(database, stream())
    database.run("INSERT INTO t VALUES (1, 'a', 1)")
    catch_up(database, follower)
    with database.source() as source:
        source.acknowledge({"t": (follower.stream, follower.position or "")})
    database.run("DROP TRIGGER _rowtrail_log_t_delete")
    follower = follow(database, stream())
    assert catch_up(database, follower) == []
    database.run("INSERT INTO t VALUES (2, 'b', 1)")
    assert [row["id"] for _, row in catch_up(database, follower)] == [2]


def test_a_log_of_an_older_version_is_made_again(database: SqliteDatabase) -> None:
    """Its entries have no token, so that nothing can be read on from them."""
    database.run(TABLE)
    follower = follow(database, stream())
    database.run(
        "DROP TABLE _rowtrail_log_t",
        'CREATE TABLE "_rowtrail_log_t" (seq INTEGER PRIMARY KEY AUTOINCREMENT, '
        "op INTEGER NOT NULL, k0)",
        "INSERT INTO t VALUES (1, 'a', 1)",
    )
    with database.source() as source:
        assert [problem.fatal for problem in source.preflight([stream()])] == [True]
        with pytest.raises(ConfigurationError, match=r"older version.*rowtrail init --capture"):
            follower.read(source)
        source.execute(source.capture_plan([stream()]))
        assert source.capture_plan([stream()]) == []
        with pytest.raises(PositionLostError, match="made again"):
            follower.read(source)
    follower = follow(database, stream())
    database.run("INSERT INTO t VALUES (2, 'b', 1)")
    assert [row["id"] for _, row in catch_up(database, follower)] == [2]


def test_a_lost_position_in_the_midst_of_the_first_read(database: SqliteDatabase) -> None:
    database.run(TABLE, *(f"INSERT INTO t VALUES ({n}, {n}, {n})" for n in range(6)))
    follower = Follower(stream(batch_rows=2))
    with database.source() as source:
        source.execute(source.capture_plan([follower.stream]))
        assert follower.read_until(source, 1)
        source.execute(source.removal_plan([follower.stream]))
        source.execute(source.capture_plan([follower.stream]))
        with pytest.raises(PositionLostError, match="made again"):
            follower.read(source)


def test_without_a_log_there_is_no_read(database: SqliteDatabase) -> None:
    database.run(TABLE)
    follower = Follower(stream())
    with database.source() as source:
        (problem,) = source.preflight([stream()])
        assert problem.fatal
        assert "rowtrail init --capture" in problem.remedy
        with pytest.raises(ConfigurationError, match="rowtrail init --capture"):
            follower.read(source)


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TRIGGER _rowtrail_log_t_delete",
        "CREATE UNIQUE INDEX later ON t (n)",
        "DROP TRIGGER _rowtrail_log_t_insert_sqlite_autoindex_t_1",
    ],
)
def test_triggers_that_are_missing_or_too_few(database: SqliteDatabase, damage: str) -> None:
    """Mended by the plan; but what happened meanwhile may not be in the log."""
    database.run(TABLE, "INSERT INTO t VALUES (1, 'a', 1)")
    follower = follow(database, stream())
    database.run(damage)
    with database.source() as source:
        assert [problem.fatal for problem in source.preflight([stream()])] == [True]
        with pytest.raises(ConfigurationError, match="rowtrail init --capture"):
            follower.read(source)
        source.execute(source.capture_plan([stream()]))
        assert source.capture_plan([stream()]) == []
        with pytest.raises(PositionLostError):
            follower.read(source)


def test_a_table_that_was_made_again(database: SqliteDatabase) -> None:
    database.run(TABLE, "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 1)")
    follower = follow(database, stream())
    database.run("DROP TABLE t", TABLE, "INSERT INTO t VALUES (2, 'b', 5)")
    with database.source() as source:
        with pytest.raises(ConfigurationError, match="rowtrail init --capture"):
            follower.read(source)
        source.execute(source.capture_plan([stream()]))
    follower.position, follower.epoch = None, 2
    catch_up(database, follower)


def test_an_added_column_needs_no_new_trigger(database: SqliteDatabase) -> None:
    database.run(TABLE, "INSERT INTO t VALUES (1, 'a', 1)")
    follower = follow(database, stream())
    database.run("ALTER TABLE t ADD COLUMN extra TEXT", "UPDATE t SET extra = 'x'")
    with database.source() as source:
        assert source.capture_plan([stream()]) == []
    assert catch_up(database, follower) == [
        (Operation.UPDATE, {"id": 1, "code": "a", "n": 1, "extra": "x"})
    ]


def test_many_changes_of_few_keys_are_one_change_each(database: SqliteDatabase) -> None:
    database.run(TABLE, "INSERT INTO t VALUES (1, 'a', 0), (2, 'b', 0)")
    follower = follow(database, stream(batch_rows=50))
    database.run(*("UPDATE t SET n = n + 1" for _ in range(20)))
    assert len(log(database)) == 40
    with database.source() as source:
        items = follower.read(source)
    assert sorted(reported_keys(items)) == [(1,), (2,)]
    assert items[-1].versions.column("position").to_pylist() == [39, 40]
    assert follower.live() == database.rows("t", "id")


def test_a_row_that_no_longer_fits_and_one_that_is_gone(database: SqliteDatabase) -> None:
    database.run(TABLE, "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)")
    follower = follow(database, stream())
    database.run("UPDATE t SET n = 'bad' WHERE id = 1", "DELETE FROM t WHERE id = 2")
    with database.source() as source:
        (item,) = follower.read(source)
    assert reported([item]) == [(Operation.DELETE, {"id": 2, "code": None, "n": None})]
    (rejected,) = item.rejected
    assert (rejected.key, rejected.column, rejected.operation) == ((1,), "n", Operation.UPDATE)
    assert rejected.version == (1, 1, 0, 0)
    assert rejected.image.to_pylist() == [{"id": 1, "code": "a", "n": "bad"}]


def test_a_writer_that_is_busy(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer in the midst of its transaction does not stop a read, but an acknowledgement."""
    monkeypatch.setattr(sqlite_connection, "BUSY_MILLISECONDS", 0)
    database.run(TABLE, "INSERT INTO t VALUES (1, 'a', 1)")
    follower = follow(database, stream())
    with database.source() as source:
        database.elsewhere("BEGIN IMMEDIATE", "UPDATE t SET n = 2")
        assert [len(item) for item in follower.read(source)] == [0]
        acknowledged = {"t": (follower.stream, follower.position or "")}
        with pytest.raises(TransientError, match="locked"):
            source.acknowledge(acknowledged)
        database.elsewhere("COMMIT")
        source.acknowledge(acknowledged)
        assert reported(follower.read(source)) == [
            (Operation.UPDATE, {"id": 1, "code": "a", "n": 2})
        ]


def test_no_transaction_is_open_between_items(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two items another process may take the whole database for itself."""
    monkeypatch.setattr(sqlite_connection, "BUSY_MILLISECONDS", 0)
    database.run(TABLE, *(f"INSERT INTO t VALUES ({n}, {n}, {n})" for n in range(9)))
    for capture in (Capture.TRIGGER, Capture.SNAPSHOT, Capture.CURSOR):
        follower = Follower(stream(capture=capture, cursor="n", batch_rows=2))
        with database.source() as source:
            source.execute(source.capture_plan([follower.stream]))
            for item in source.read(follower.stream, follower.state(source)):
                database.elsewhere("BEGIN EXCLUSIVE", "UPDATE t SET n = n", "COMMIT")
                follower.apply(item)
            fetched = source.fetch(
                follower.stream, pa.record_batch({"id": [1]}), follower.state(source)
            )
            assert len(fetched) == 1
            database.elsewhere("BEGIN EXCLUSIVE", "COMMIT")


def test_a_log_that_no_stream_uses_any_more_can_be_removed(database: SqliteDatabase) -> None:
    database.run(TABLE)
    with database.source() as source:
        source.execute(source.capture_plan([stream()]))
        by_cursor = replace(stream(), capture=Capture.SNAPSHOT)
        source.execute(source.removal_plan([by_cursor]))
        assert source.removal_plan([stream()]) == []
    with closing(sqlite3.connect(database.path)) as connection:
        left = connection.execute("SELECT name FROM sqlite_schema WHERE name LIKE '%rowtrail%'")
        assert left.fetchall() == []
