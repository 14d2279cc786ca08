"""Capture `cursor` on SQLite: what a cursor alone would miss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from tests.connectors.follower import Follower, reported_keys
from tests.connectors.sqlite_database import SqliteDatabase


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    with closing(SqliteDatabase(tmp_path / "source.db")) as database:
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


def make(database: SqliteDatabase, declared: str, *cursors: object) -> None:
    """A table with rows 1, 2, … that have these cursors."""
    database.run(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, at {declared})",
        *(
            ("INSERT INTO t VALUES (?, 'old', ?)", (number, value))
            for number, value in enumerate(cursors, start=1)
        ),
    )


def catch_up(database: SqliteDatabase, follower: Follower) -> list[int]:
    """The ids that a read reports, after which follower and table are equal."""
    with database.source() as source:
        keys = reported_keys(follower.read(source))
        types = {column.name: column.type for column in source.describe(follower.stream).columns}
    assert {key: row["v"] for key, row in follower.live().items()} == {
        (row_id,): v for row_id, v in database.select("SELECT id, v FROM t")
    }
    assert set(types) == {"id", "v", "at"}
    return sorted(key[0] for key in keys)


def test_a_late_commit_behind_the_cursor_is_seen_with_a_lag(database: SqliteDatabase) -> None:
    make(database, "INTEGER", 10, 20, 30)
    follower = Follower(stream(cursor_lag=10))
    catch_up(database, follower)
    database.run(
        "UPDATE t SET v = 'late', at = 21 WHERE id = 1", "INSERT INTO t VALUES (4, 'x', 20)"
    )
    assert catch_up(database, follower) == [1, 4]
    assert catch_up(database, follower) == []


def test_a_backdated_insert_is_seen_and_a_backdated_update_is_not(
    database: SqliteDatabase,
) -> None:
    """A row far behind the cursor is unknown to the target; a known one does not show."""
    make(database, "INTEGER", 10, 20, 30)
    follower = Follower(stream())
    catch_up(database, follower)
    database.run("INSERT INTO t VALUES (9, 'imported', 1)")
    assert catch_up(database, follower) == [9]
    database.run("UPDATE t SET v = 'unseen', at = 2 WHERE id = 2")
    with database.source() as source:
        assert reported_keys(follower.read(source)) == []


@pytest.mark.parametrize(
    ("declared", "cursors", "later"),
    [
        ("DATE", ["2024-01-01", "2024-01-02", "2024-01-02"], "2024-01-02"),
        ("DATETIME", ["2024-01-01 10:00:00", "2024-01-01 10:00:01.5"], "2024-01-01 10:00:01"),
        ("DATETIME", ["2024-01-01T10:00:00", "2024-01-01T10:00:01.25"], "2024-01-01T10:00:01.250"),
        ("TEXT", ["a", "B", "é"], "é"),
        ("INTEGER", [-5, 0, 7], 7),
        ("REAL", [0.5, 1.25], 1.25),
    ],
)
def test_a_row_that_comes_later_with_the_same_value(
    database: SqliteDatabase, declared: str, cursors: list[object], later: object
) -> None:
    make(database, declared, *cursors)
    follower = Follower(stream())
    assert catch_up(database, follower) == list(range(1, len(cursors) + 1))
    assert catch_up(database, follower) == []
    database.run(
        ("INSERT INTO t VALUES (50, 'new', ?)", (later,)),
        ("UPDATE t SET v = 'changed', at = ? WHERE id = 1", (later,)),
    )
    assert catch_up(database, follower) == [1, 50]
    database.run("DELETE FROM t WHERE id = 50")
    assert catch_up(database, follower) == [50]


def test_the_lag_of_a_date_and_of_a_time(database: SqliteDatabase) -> None:
    make(database, "DATE", "2024-03-01", "2024-03-02")
    follower = Follower(stream(cursor_lag=86_400.0))
    catch_up(database, follower)
    database.run("UPDATE t SET v = 'x' WHERE id = 1")
    assert catch_up(database, follower) == [1]
    database.run("DROP TABLE t")
    make(database, "DATETIME", "2024-03-01 00:00:00", "2024-03-01 00:01:00")
    follower = Follower(stream(cursor_lag=60))
    catch_up(database, follower)
    database.run("UPDATE t SET v = 'x' WHERE id = 1")
    assert catch_up(database, follower) == [1]


def test_a_time_in_the_future_does_not_hide_the_present(database: SqliteDatabase) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    past, later = now - timedelta(days=1), now + timedelta(days=1)
    make(database, "DATETIME", f"{past}", "9999-12-31 23:59:59")
    follower = Follower(stream())
    catch_up(database, follower)
    assert catch_up(database, follower) == []
    database.run(("UPDATE t SET v = 'soon', at = ? WHERE id = 1", (f"{later}",)))
    assert catch_up(database, follower) == [1]
    database.run("UPDATE t SET v = 'changed' WHERE id = 2")
    assert catch_up(database, follower) == [2]


def test_a_date_in_the_future(database: SqliteDatabase) -> None:
    make(database, "DATE", "2024-01-01", "2999-01-01")
    follower = Follower(stream())
    catch_up(database, follower)
    today = datetime.now(UTC).date().isoformat()
    database.run(("UPDATE t SET v = 'new', at = ? WHERE id = 1", (today,)))
    assert catch_up(database, follower) == [1]


def test_values_that_the_cursor_cannot_place_are_swept(database: SqliteDatabase) -> None:
    """Other storage classes and spellings sort before or after everything else."""
    make(database, "TEXT", "b", b"x", None, "a")
    follower = Follower(stream(exclude=("at",)))
    with database.source() as source:
        follower.read(source)
    for number in (2, 3):
        database.run(("UPDATE t SET v = 'new' WHERE id = ?", (number,)))
        with database.source() as source:
            assert reported_keys(follower.read(source)) == [(number,)]


def test_two_spellings_of_time(database: SqliteDatabase) -> None:
    """A blank sorts before T, so that neither may hide the other."""
    make(
        database,
        "DATETIME",
        "2024-05-01 10:00:00",
        "2024-05-01 11:00:00",
        "2024-05-01T09:00:00",
        "2024-05-01",
    )
    follower = Follower(stream())
    assert catch_up(database, follower) == [1, 2, 3, 4]
    assert catch_up(database, follower) == []
    database.run(
        "UPDATE t SET v = 'new', at = '2024-05-01T12:00:00' WHERE id = 1",
        "INSERT INTO t VALUES (5, 'x', '2024-05-01 12:30:00')",
        "UPDATE t SET v = 'new' WHERE id = 4",
    )
    assert catch_up(database, follower) == [1, 4, 5]
    database.run("UPDATE t SET at = replace(at, ' ', 'T'), v = 'all'")
    catch_up(database, follower)
    assert catch_up(database, follower) == []


def test_a_cursor_that_is_no_time_at_all(database: SqliteDatabase) -> None:
    """Dates that do not exist are held back, and do not stop the others."""
    make(database, "DATETIME", "2024-02-28 10:00:00", "2024-02-30 10:00:00")
    follower = Follower(stream())
    with database.source() as source:
        follower.read(source)
        follower.read(source)
    assert sorted(follower.live()) == [(1,)]
    assert follower.rejected[(2,)].column == "at"
    database.run("UPDATE t SET at = '2024-03-01 10:00:00' WHERE id = 2")
    assert catch_up(database, follower) == [2]


def test_all_rows_gone_and_others_come(database: SqliteDatabase) -> None:
    make(database, "INTEGER", 10, 20, 30)
    follower = Follower(stream())
    catch_up(database, follower)
    database.run("DELETE FROM t")
    assert catch_up(database, follower) == [1, 2, 3]
    database.run("INSERT INTO t VALUES (1, 'again', 5), (2, 'x', NULL)")
    assert catch_up(database, follower) == [1, 2]
    assert catch_up(database, follower) == []


def test_only_the_window_is_remembered(database: SqliteDatabase) -> None:
    """Hashes of a million rows need not be kept when only the last ones are read again."""
    make(database, "INTEGER", *range(1, 31))
    follower = Follower(stream(cursor_lag=4))
    catch_up(database, follower)
    remembered = [key for page in follower.last_pages for key in page.column("id").to_pylist()]
    assert remembered == [26, 27, 28, 29, 30]


@pytest.mark.parametrize(
    ("declared", "settings", "words"),
    [
        ("INTEGER", {"cursor": None}, ["`cursor`", "t"]),
        ("INTEGER", {"cursor": "nothing"}, ["nothing", "at"]),
        ("BLOB", {}, ["at", "binary"]),
        ("TIMESTAMPTZ", {}, ["at", 'types."at" = "text"']),
        ("TEXT", {"cursor_lag": 5}, ["cursor_lag", "at"]),
        ("INTEGER", {"cursor_lag": -1}, ["cursor_lag", "at"]),
    ],
)
def test_cursors_that_cannot_be(
    database: SqliteDatabase, declared: str, settings: dict[str, Any], words: list[str]
) -> None:
    make(database, declared, 1)
    chosen = stream(**settings)
    with database.source() as source:
        with pytest.raises(ConfigurationError) as caught:
            Follower(chosen).read(source)
        (problem,) = source.preflight([chosen])
    assert problem.fatal
    assert all(word in str(caught.value) for word in words)
    assert problem.message == str(caught.value)


def test_a_cursor_without_an_index_is_named(database: SqliteDatabase) -> None:
    make(database, "INTEGER", 1)
    with database.source() as source:
        (problem,) = source.preflight([stream()])
    assert not problem.fatal
    assert "at" in problem.message
    database.run(problem.remedy)
    with database.source() as source:
        assert source.preflight([stream()]) == []
