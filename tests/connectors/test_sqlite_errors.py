"""A SQLite source that cannot be opened or read: the family of the error, and what it says."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from rowtrail.connectors.base import Capture, Catalog, ManagesCapture, StreamSpec
from rowtrail.connectors.errors import ConfigurationError, StopError, TransientError
from rowtrail.connectors.registry import open_source
from rowtrail.connectors.sources import sqlite_connection
from rowtrail.connectors.sources.sqlite import SqliteSource
from tests.connectors.follower import Follower
from tests.connectors.sqlite_database import SqliteDatabase

STREAM = StreamSpec(name="t", table="t", capture=Capture.SNAPSHOT)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    with closing(SqliteDatabase(tmp_path / "source.db", journal="delete")) as database:
        database.run(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)",
            *(f"INSERT INTO t VALUES ({n}, '{'x' * 500}')" for n in range(100)),
        )
        yield database


def test_opened_by_its_url(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(database.path.parent)
    for url in (database.url, "sqlite:///source.db"):
        with closing(open_source(url)) as source:
            assert isinstance(source, ManagesCapture)
            assert isinstance(source, Catalog)
            assert source.tables() == ["t"]


def test_a_path_with_awkward_characters(tmp_path: Path) -> None:
    path = tmp_path / "a b%20#ü.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    with closing(SqliteSource(f"sqlite:///{path}")) as source:
        assert source.tables() == ["t"]
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://x.db", "sqlite:///x.db?a=b"]
)
def test_a_wrong_url(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:////data/shop\.db"):
        SqliteSource(url)


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "missing.db"
    with pytest.raises(ConfigurationError, match=r"missing\.db"):
        SqliteSource(f"sqlite:///{path}")
    assert not path.exists()


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a file"):
        SqliteSource(f"sqlite:///{tmp_path}")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are no rows at all. " * 100)
    with pytest.raises(ConfigurationError, match=r"notes\.txt.*not a database"):
        SqliteSource(f"sqlite:///{path}")


def test_an_empty_file_is_a_database_without_tables(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    with closing(SqliteSource(f"sqlite:///{path}")) as source:
        assert source.tables() == []
        with pytest.raises(ConfigurationError, match="no tables"):
            source.describe(STREAM)


def test_a_corrupt_file(database: SqliteDatabase) -> None:
    data = bytearray(database.path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    database.path.write_bytes(data)
    with database.source() as source, pytest.raises(StopError, match=r"malformed.*integrity_check"):
        Follower(STREAM).read(source)


def test_a_locked_file(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connection, "BUSY_MILLISECONDS", 0)
    database.elsewhere("BEGIN EXCLUSIVE", "UPDATE t SET v = 'new'")
    with pytest.raises(TransientError, match=r"source\.db.*locked"), database.source():
        pass
    database.elsewhere("ROLLBACK")
    with database.source() as source:
        reading = source.read(STREAM, Follower(STREAM).state(source))
        database.elsewhere("BEGIN EXCLUSIVE")
        with pytest.raises(TransientError, match="locked"):
            next(reading)
        database.elsewhere("ROLLBACK")
        follower = Follower(STREAM)
        follower.read(source)
        assert len(follower.live()) == 100


def test_only_execute_and_acknowledge_may_write(database: SqliteDatabase) -> None:
    with database.source() as source, pytest.raises(ConfigurationError, match="readonly"):
        source._connection.query("DELETE FROM t")
    assert database.select("SELECT count(*) FROM t") == [(100,)]


def test_a_column_dropped_in_the_midst_of_a_read(database: SqliteDatabase) -> None:
    """Quoted alone, a missing column would be read as its own name."""
    stream = StreamSpec(name="t", table="t", capture=Capture.SNAPSHOT, batch_rows=10)
    follower = Follower(stream)
    with database.source() as source:
        reading = source.read(stream, follower.state(source))
        follower.apply(next(reading))
        database.run("ALTER TABLE t DROP COLUMN v")
        with pytest.raises(ConfigurationError, match="no such column"):
            next(reading)
        follower.read(source)
    assert follower.live()[(99,)] == {"id": 99}


def test_capture_log_is_not_there(database: SqliteDatabase) -> None:
    with database.source() as source, pytest.raises(ConfigurationError, match="snapshot"):
        source.describe(StreamSpec(name="t", table="t", capture=Capture.LOG))


def test_rowtrails_own_tables_are_no_streams(database: SqliteDatabase) -> None:
    stream = StreamSpec(name="t", table="t", capture=Capture.TRIGGER)
    with database.source() as source:
        source.execute(source.capture_plan([stream]))
        assert source.tables() == ["t"]
        with pytest.raises(ConfigurationError, match="belongs to Rowtrail"):
            source.describe(StreamSpec(name="l", table="_rowtrail_logs", capture=Capture.SNAPSHOT))


def test_a_key_that_is_not_unique(database: SqliteDatabase) -> None:
    stream = StreamSpec(name="t", table="t", capture=Capture.SNAPSHOT, key=("v",))
    with database.source() as source:
        (problem,) = source.preflight([stream])
    assert "not unique" in problem.message
    assert problem.fatal
    database.run("UPDATE t SET v = id")
    with database.source() as source:
        assert source.preflight([stream]) == []


def test_names_in_another_case(database: SqliteDatabase) -> None:
    """SQLite does not tell them apart; what it spells is what is used."""
    stream = StreamSpec(name="t", table="T", capture=Capture.CURSOR, key=("ID",), cursor="V")
    with database.source() as source:
        schema = source.describe(stream)
    assert (schema.table, schema.key, schema.names) == ("t", ("id",), ("id", "v"))


def test_a_collation_that_only_the_application_has(database: SqliteDatabase) -> None:
    with closing(sqlite3.connect(database.path)) as connection, connection:
        connection.create_collation("mine", lambda a, b: (a < b) - (a > b))
        connection.execute("CREATE TABLE u (k TEXT COLLATE mine PRIMARY KEY, v TEXT)")
        connection.executemany("INSERT INTO u VALUES (?, 'x')", [("b",), ("a",), ("c",)])
    stream = StreamSpec(name="u", table="u", capture=Capture.SNAPSHOT, batch_rows=1)
    follower = Follower(stream)
    with database.source() as source:
        follower.read(source)
        keys = pa.record_batch({"k": ["c", "none"]})
        fetched = source.fetch(stream, keys, follower.state(source))
    assert fetched.rows.to_pylist() == [{"k": "c", "v": "x"}, {"k": "none", "v": None}]
    assert sorted(follower.live()) == [("a",), ("b",), ("c",)]
