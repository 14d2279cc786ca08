"""Whole runs out of Snowflake, or what stands in for it: into DuckDB, and from one to another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rowtrail import Pipeline, Stream
from rowtrail.cli.app import execute
from tests.connectors.snowflake_database import SnowflakeDatabase
from tests.duckdb_files import look_into
from tests.snowflake_server import SnowflakeServer

ORDERS = (
    "CREATE TABLE orders (id NUMBER(18,0) PRIMARY KEY, amount NUMBER(10,2), note VARCHAR, "
    "seen TIMESTAMP_NTZ(9))"
)


@pytest.fixture
def database(snowflake_url: str) -> Iterator[SnowflakeDatabase]:
    with closing(SnowflakeDatabase(snowflake_url)) as database:
        database.run(ORDERS)
        yield database


def put(database: SnowflakeDatabase, *rows: tuple[int, str], seen: str = "SYSDATE()") -> None:
    for number, note in rows:
        database.run(f"INSERT INTO orders SELECT {number}, {number}, '{note}', {seen}")


def pipeline(folder: Path, database: SnowflakeDatabase, name: str, **settings: Any) -> Pipeline:
    chosen = {"capture": "snapshot", "batch_rows": 3, "retries": 0, **settings}
    return Pipeline(
        name="marts",
        source=database.url,
        destination=f"duckdb:///{folder / 'target.duckdb'}",
        ledger=folder / "ledger.db",
        streams=[Stream(name, **chosen)],
    )


def loaded(folder: Path, table: str = "orders") -> dict[int, str]:
    with look_into(folder / "target.duckdb") as connection:
        return dict(
            connection.execute(
                f"SELECT id, note FROM {table} WHERE _rowtrail_deleted_at IS NULL"
            ).fetchall()
        )


@pytest.mark.parametrize("capture", ["snapshot", "cursor"])
def test_rows_changes_and_deletes(
    tmp_path: Path, database: SnowflakeDatabase, capture: str
) -> None:
    put(database, *((number, "old") for number in range(8)))
    moved = pipeline(tmp_path, database, "orders", capture=capture, cursor="seen")
    assert moved.run().complete
    assert loaded(tmp_path) == dict.fromkeys(range(8), "old")
    database.run(
        "DELETE FROM orders WHERE id = 3",
        "UPDATE orders SET note = 'new', seen = SYSDATE() WHERE id = 5",
    )
    put(database, (20, "more"))
    assert moved.run().complete
    expected = {**dict.fromkeys(range(8), "old"), 5: "new", 20: "more"}
    del expected[3]
    assert loaded(tmp_path) == expected


def test_a_record_with_nanoseconds_is_held_back_and_mended(
    tmp_path: Path, database: SnowflakeDatabase
) -> None:
    put(database, (1, "good"))
    put(database, (2, "bad"), seen="'2024-01-31 10:00:00.123456789'::TIMESTAMP_NTZ(9)")
    moved = pipeline(tmp_path, database, "orders")
    (failed,) = moved.run().failed_records
    assert (failed.record, failed.stage) == ("orders:2", "extract")
    assert "nanoseconds" in failed.message
    assert loaded(tmp_path) == {1: "good"}
    database.run("UPDATE orders SET note = 'mended', seen = '2024-01-31' WHERE id = 2")
    moved.retry("orders", 2)
    assert loaded(tmp_path) == {1: "good", 2: "mended"}


def test_all_tables_that_a_pattern_means(tmp_path: Path, database: SnowflakeDatabase) -> None:
    database.run('CREATE TABLE "Order Lines" (id NUMBER(9,0) PRIMARY KEY, note VARCHAR)')
    database.run("INSERT INTO \"Order Lines\" VALUES (1, 'x')")
    put(database, (1, "good"))
    result = pipeline(tmp_path, database, "*").run()
    assert result.complete and len(result.streams) == 2
    assert loaded(tmp_path) == {1: "good"}


def test_from_one_account_to_another(
    tmp_path: Path, database: SnowflakeDatabase, snowflake_server: SnowflakeServer
) -> None:
    """What Rowtrail has written there can be read from there."""
    put(database, (1, "good"), (2, "good"))
    url = snowflake_server.url()
    first = Pipeline(
        name="over",
        source=database.url,
        destination=url,
        ledger=tmp_path / "over.db",
        streams=[Stream("orders", capture="snapshot")],
    )
    assert first.run().complete
    with closing(SnowflakeDatabase(url)) as copy:
        back = pipeline(tmp_path, copy, "orders", key=("id",), columns=("id", "amount", "note"))
        assert back.run().complete
    assert loaded(tmp_path) == {1: "good", 2: "good"}


def test_init_writes_a_file_that_can_be_run(
    tmp_path: Path,
    database: SnowflakeDatabase,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(database, (1, "good"))
    database.run("CREATE TABLE keyless (a VARCHAR)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    assert execute(["init", database.url, "duckdb:///target.duckdb"]) == 0
    told = capsys.readouterr().out
    assert "1 stream: orders" in told and "keyless has no primary key" in told
    assert "Next: `rowtrail check`, then `rowtrail run`." in told
    written = (tmp_path / "rowtrail.toml").read_text()
    assert 'capture = "snapshot" # or cursor' in written and "somebody:secret@" not in written
    (name,) = re.findall(r"somebody:\$\{(\w+)\}@", written)
    monkeypatch.setenv(name, "secret")
    assert execute(["check"]) == 0 and execute(["run"]) == 0
    assert loaded(tmp_path) == {1: "good"}
