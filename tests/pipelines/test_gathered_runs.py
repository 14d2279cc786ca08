"""Runs whose batches are gathered, as Snowflake has them, into DuckDB: they mean the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest

from rowtrail import Pipeline, Stream
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.destinations.duckdb import DuckdbDestination
from rowtrail.connectors.sources.postgres import PostgresSource
from rowtrail.pipelines import run_stream
from rowtrail.pipelines.gathering import Gatherer
from tests.duckdb_files import look_into
from tests.postgres_server import PostgresServer

from .gathered_changes import ids, upto
from .world import World


@pytest.fixture
def gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an end, whatever `batch_rows` says, which is how much is read at a time."""
    can = replace(DuckdbDestination.capabilities, gathering=upto())
    monkeypatch.setattr(DuckdbDestination, "capabilities", can)
    monkeypatch.setattr(run_stream, "gathering_of", lambda can, stream: can.gathering)


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    with postgres_server.database() as url:
        yield url


@pytest.fixture
def source(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric)")
        connection.execute("INSERT INTO orders VALUES (-1, 1)")
        yield connection


def logged(url: str, folder: Path, **stream: Any) -> Pipeline:
    return Pipeline(
        name="test",
        source=url,
        destination=f"duckdb:///{folder / 'target.duckdb'}",
        ledger=folder / "ledger.db",
        streams=[
            Stream("orders", capture="log", retries=0, types={"amount": "decimal(10,2)"}, **stream)
        ],
        install_capture=True,
    )


def live(folder: Path) -> list[int]:
    with look_into(folder / "target.duckdb") as target:
        found = target.sql("SELECT id FROM orders WHERE _rowtrail_deleted_at IS NULL ORDER BY id")
        return [key for (key,) in found.fetchall()]


@pytest.mark.usefixtures("gathering")
@pytest.mark.parametrize("truncated", [False, True])
def test_what_is_followed_is_one_batch_in_the_end(
    url: str,
    source: psycopg.Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    truncated: bool,
) -> None:
    """But for a truncation, which asks what there is: what came before it is loaded first."""
    pipeline = logged(url, tmp_path)
    assert pipeline.run().complete
    read: list[int] = []
    follow, add = PostgresSource.follow, Gatherer.add

    def following(*args: Any) -> Any:
        """The run itself is over; each change comes in a window of its own."""
        items = follow(*args)
        for number in range(3):
            source.execute("INSERT INTO orders VALUES (%s)", [number])
            yield from until(items, number)
        if truncated:
            source.execute("TRUNCATE orders")
        source.execute("INSERT INTO orders VALUES (100)")
        yield from until(items, 100)
        yield from items

    def until(items: Any, number: int) -> Iterator[Any]:
        while number not in read:
            yield next(items)

    def adding(gatherer: Gatherer, changes: Changes) -> None:
        add(gatherer, changes)
        read.extend(ids(changes))

    monkeypatch.setattr(PostgresSource, "follow", following)
    monkeypatch.setattr(Gatherer, "add", adding)
    result = pipeline.run(follow=lambda: 100 in read, allow_deletes=1.0)
    assert result.complete
    assert live(tmp_path) == ([100] if truncated else [-1, 0, 1, 2, 100])
    assert result.streams["orders"].batches == (3 if truncated else 2)  # one is the run's own
    assert pipeline.run().streams["orders"].counts.loaded == 0


@pytest.mark.usefixtures("gathering")
@pytest.mark.parametrize("policy", ["latest", "block"])
def test_a_delete_beside_a_failed_row_is_no_change_of_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    world = World(tmp_path)
    world.put((i, i, "fine") for i in range(1, 31))

    def picky(rows: pd.DataFrame) -> pd.DataFrame:
        if (rows["note"] == "bad").any():
            raise ValueError("a bad note")
        return rows

    pipeline = world.pipeline(
        capture="cursor", batch_rows=10, retries=0, transforms=[picky], policy=policy
    )
    assert pipeline.run().complete
    world.delete(15)
    world.put([(11, 5, "bad")])
    pipeline.run(resnapshot=["orders"])
    assert 15 not in world.loaded() and world.gaps() == {"orders:11"}


@pytest.mark.usefixtures("gathering")
def test_a_history_has_no_version_that_never_was(tmp_path: Path) -> None:
    """Each page of a change log has the row as it is now: three times of one record."""
    world = World(tmp_path)
    world.put((i, i, "a") for i in range(6))
    pipeline = world.pipeline(capture="trigger", deletes="history", batch_rows=2)
    assert pipeline.run().complete
    for number, note in [(1, "b"), (2, "b"), (3, "b"), (1, "c"), (4, "b"), (5, "b"), (1, "d")]:
        world.put([(number, number, note)])
    assert pipeline.run().complete
    notes = "SELECT note FROM orders WHERE id = 1 ORDER BY _rowtrail_valid_from"
    assert [note for (note,) in world.query(notes)] == ["a", "d"]


@pytest.mark.usefixtures("gathering")
@pytest.mark.parametrize("batch_rows", [1, 100])
@pytest.mark.parametrize("policy", ["latest", "block"])
def test_a_row_that_cannot_be_represented_is_put_to_an_end_by_a_newer_one(
    url: str, source: psycopg.Connection[Any], tmp_path: Path, policy: str, batch_rows: int
) -> None:
    """Or holds it up, under `block`. In one batch it is folded, else as if each were one."""
    pipeline = logged(url, tmp_path, policy=policy, batch_rows=batch_rows)
    assert pipeline.run().complete
    for amount in ("NaN", "2", "Infinity"):
        source.execute("UPDATE orders SET amount = %s", [amount])
    counts = pipeline.run().streams["orders"].counts
    (status,) = pipeline.status().streams
    outcomes = (counts.loaded, counts.failed, counts.waiting, counts.folded)
    if policy == "block":
        assert outcomes == (0, 1, 2, 0)
    else:
        assert outcomes == ((1, 2, 0, 0) if batch_rows == 1 else (1, 1, 0, 1))
    assert status.held_back == 1
