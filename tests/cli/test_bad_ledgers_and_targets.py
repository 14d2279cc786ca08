"""Ledgers and targets that cannot be used: told clearly, left as they are, nothing half done."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pytest

from rowtrail.checkpoints.ledger import open_ledger
from tests.cli.place import FILE, Place

HOLD = """
import sys, duckdb
with duckdb.connect(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
ASKING = (("status",), ("failures",), ("record", "orders", "1"), ("run",), ("retry",))


@pytest.fixture
def loaded(place: Place) -> Place:
    place.put((1, 1, "a"))
    assert place.type("run").code == 0
    return place


def refuses(place: Place, line: tuple[str, ...], code: int, *words: str) -> None:
    answer = place.type(*line)
    told = answer.out + answer.err
    assert answer.code == code, told
    assert "Traceback" not in told and "itself is at fault" not in told
    for word in words:
        assert word in told


@pytest.mark.parametrize("line", ASKING, ids=" ".join)
def test_a_ledger_of_a_newer_version(loaded: Place, line: tuple[str, ...]) -> None:
    with closing(sqlite3.connect(loaded.ledger)) as ledger, ledger:
        (table,) = [
            name
            for (name,) in ledger.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            if "version" in name
        ]
        ledger.execute(
            f"INSERT INTO {table} (version, applied_at) SELECT 99, max(applied_at) FROM {table}"
        )
    refuses(loaded, line, 1, str(loaded.ledger), "version 99", "pip install --upgrade rowtrail")
    assert loaded.loaded() == {1}


@pytest.mark.parametrize("line", ASKING, ids=" ".join)
def test_a_ledger_that_is_no_database(place: Place, line: tuple[str, ...]) -> None:
    place.ledger.parent.mkdir()
    place.ledger.write_text("a shopping list\n" * 100)
    refuses(place, line, 1, str(place.ledger), "damaged or no ledger", "rowtrail ledger rebuild")
    assert place.ledger.read_text().startswith("a shopping list")
    assert not place.target.exists()


@pytest.mark.parametrize("line", ASKING, ids=" ".join)
def test_a_ledger_that_is_another_database(place: Place, line: tuple[str, ...]) -> None:
    place.write(FILE.replace("[defaults]", 'ledger = "source.db"\n\n[defaults]'))
    before = place.source.read_bytes()
    refuses(place, line, 1, str(place.source), "no ledger of Rowtrail", "another path")
    assert place.source.read_bytes() == before


def test_a_ledger_of_another_pipeline(loaded: Place) -> None:
    loaded.write(
        FILE.replace("[defaults]", 'ledger = ".rowtrail/shop.ledger"\n\n[defaults]'), name='"b"'
    )
    refuses(loaded, ("run",), 1, "belongs to the pipeline shop, not to b")


def test_a_damaged_ledger(loaded: Place) -> None:
    with closing(sqlite3.connect(loaded.ledger)) as ledger:
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ledger.execute("PRAGMA journal_mode = DELETE")
    size = loaded.ledger.stat().st_size
    with loaded.ledger.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    refuses(loaded, ("run",), 1, str(loaded.ledger), "damaged")
    loaded.ledger.rename(loaded.folder / "damaged.ledger")
    assert loaded.type("ledger", "rebuild").code == 0
    loaded.put((2, 2, "b"))
    assert loaded.type("run").code == 0
    assert loaded.loaded() == {1, 2}


def test_a_second_run_at_the_same_time(loaded: Place) -> None:
    ledger = open_ledger(loaded.ledger, "shop")
    generation = ledger.leases.acquire("night-host:4711")
    try:
        refuses(loaded, ("run",), 1, "is being run by night-host:4711", "Wait until that run ends")
        refuses(loaded, ("stream", "pause", "orders"), 1, "night-host:4711")
    finally:
        ledger.leases.release(generation)
        ledger.close()
    assert loaded.type("run").code == 0


def test_two_processes_at_the_same_time(place: Place) -> None:
    place.put(*((number, number, "x") for number in range(2_000)))
    place.file.write_text(f"{place.file.read_text()}batch_rows = 50\n")
    command = [sys.executable, "-m", "rowtrail", "run", "--json"]
    both = [
        subprocess.Popen(command, cwd=place.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    told = [process.communicate()[0].decode() for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 0], [0, 1]), told  # one after the other, or one refused
    assert place.type("run").code == 0
    assert place.loaded() == place.expected()


@contextmanager
def held(target: Path) -> Iterator[None]:
    """Another process has the DuckDB file open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    try:
        yield
    finally:
        process.communicate()


def test_a_target_that_another_process_holds(loaded: Place) -> None:
    loaded.put((2, 2, "b"))
    with held(loaded.target):
        refuses(loaded, ("run",), 1, str(loaded.target), "holds the file", "wait for it or stop it")
        assert loaded.type("status").code == 0, "the ledger answers all the same"
    assert loaded.type("run").code == 0
    assert loaded.loaded() == {1, 2}


def test_a_target_that_another_ledger_fills(loaded: Place) -> None:
    shutil.move(loaded.ledger.parent, loaded.folder / "away")
    refuses(loaded, ("run",), 1, str(loaded.target), "Two ledgers must not fill one target")
    assert loaded.loaded() == {1}
    shutil.rmtree(loaded.ledger.parent)
    shutil.move(loaded.folder / "away", loaded.ledger.parent)
    assert loaded.type("run").code == 0


def test_a_lost_ledger_is_rebuilt_as_the_refused_run_says(loaded: Place) -> None:
    shutil.rmtree(loaded.ledger.parent)
    refuses(loaded, ("run",), 1, "rowtrail ledger rebuild")
    answer = loaded.type("ledger", "rebuild")
    assert answer.code == 0, answer.err
    loaded.put((2, 2, "b"))
    assert loaded.type("run").code == 0
    assert loaded.loaded() == {1, 2}


def test_a_target_table_that_others_made(place: Place) -> None:
    with duckdb.connect(str(place.target)) as target:
        target.execute("CREATE TABLE orders (id INTEGER, mine VARCHAR)")
        target.execute("INSERT INTO orders VALUES (1, 'precious')")
    place.put((1, 1, "a"))
    refuses(place, ("run",), 1, "orders", "was not made by Rowtrail")
    with duckdb.connect(str(place.target)) as target:
        assert target.execute("SELECT * FROM orders").fetchall() == [(1, "precious")]
    place.write(FILE + 'target = "shop_orders"\n')
    assert place.type("run").code == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [("a,b\n1,2\n", "is not a DuckDB file"), ("", "empty"), (None, "is a folder")],
    ids=["text", "empty", "folder"],
)
def test_a_target_that_is_no_duckdb_file(place: Place, content: str | None, words: str) -> None:
    if content is None:
        place.target.mkdir()
    else:
        place.target.write_text(content)
    refuses(place, ("run",), 2, str(place.target), words)
    assert content is None or place.target.read_text() == content


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("target.duckdb", "it has no scheme"),
        ("duckdb://target.duckdb", "duckdb:///warehouse.duckdb"),
        ("duckdb:///missing/target.duckdb", "does not exist"),
        ("duckdb:///target.duckdb?color=red", "color"),
        ("bigquery://project/data", "bigquery:// is not a destination"),
    ],
)
def test_a_wrong_url(place: Place, url: str, words: str) -> None:
    place.write(FILE, destination=f'"{url}"')
    refuses(place, ("run",), 2, words)


def test_a_folder_that_may_not_be_written(place: Place) -> None:
    place.write(FILE.replace("[defaults]", 'ledger = "/proc/none/shop.ledger"\n\n[defaults]'))
    refuses(place, ("run",), 1, "/proc/none/shop.ledger", "cannot be opened")
    assert not place.target.exists()
