"""Ten bad records among a hundred thousand: the ten are named, the others load in the same run."""

from __future__ import annotations

import math
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from rowtrail import Pipeline, transform
from rowtrail.connectors.base import Load
from rowtrail.connectors.destinations.duckdb import DuckdbDestination
from rowtrail.connectors.errors import RecordError
from rowtrail.pipelines.results import RunResult
from tests.duckdb_files import write_into
from tests.pipelines.witness import held_back, ledger_of
from tests.pipelines.world import World

ROWS = 100_000
BAD = sorted(random.Random(7).sample(range(1, ROWS + 1), 10))
FEW = 2 * len(BAD) * math.log2(ROWS) + len(BAD)
"""Attempts that naming them may take."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A hundred thousand orders, of which ten have a note that begins with `bad`."""
    world = World(tmp_path_factory.mktemp("large"))
    bad = set(BAD)
    with closing(sqlite3.connect(world.source)) as connection, connection:
        connection.executemany(
            "INSERT INTO orders VALUES (?, ?, ?, ?)",
            ((n, n, f"{'bad' if n in bad else 'good'} {n}", n) for n in range(1, ROWS + 1)),
        )
    return world


@pytest.fixture
def world(large: World, tmp_path: Path) -> World:
    return large.copy(tmp_path / "world")


def assert_ten_are_named(world: World, result: RunResult, stage: str, said: str) -> None:
    stream = result.streams["orders"]
    assert (stream.counts.loaded, stream.counts.failed) == (ROWS - len(BAD), len(BAD))
    assert [one.record for one in result.failed_records] == [f"orders:{key}" for key in BAD]
    for failed in result.failed_records:
        assert failed.stage == stage
        assert said in failed.message
    assert stream.attempts <= FEW
    ((loaded, different),) = world.query("SELECT count(*), count(DISTINCT id) FROM orders")
    assert loaded == different
    with ledger_of(world) as ledger:
        assert sorted(held_back(ledger)) == BAD
    assert world.gaps() == {f"orders:{key}" for key in BAD}


def test_a_transform_that_raises(world: World) -> None:
    def picky(frame):
        bad = frame["note"].str.startswith("bad")
        if bad.any():
            raise ValueError(f"no rate for order {frame['id'][bad].iloc[0]}")
        return frame

    result = world.pipeline(batch_rows=ROWS, transforms=[picky]).run()
    assert_ten_are_named(world, result, "transform", "ValueError: no rate for order")
    for key, failed in zip(BAD, result.failed_records, strict=True):
        assert failed.message.endswith(f"for order {key}"), "each with an error of its own"
        assert failed.error_class == "ValueError"
    assert result.streams["orders"].attempts > 1


def test_a_value_that_does_not_fit(world: World) -> None:
    @transform(adds={"size": "int16"})
    def sized(frame):
        bad = frame["note"].str.startswith("bad")
        return frame.assign(size=frame["id"].where(bad, 1).where(~bad, 40_000))

    result = world.pipeline(batch_rows=ROWS, transforms=[sized]).run()
    assert_ten_are_named(world, result, "validate", "column size does not fit int16")


def test_a_row_that_the_target_refuses(world: World) -> None:
    """Ten rows at the target hold what ten new ones bring, under a unique index."""
    pipeline = world.pipeline(batch_rows=ROWS, deletes="hard")
    _first_run_of_ten(world, pipeline)
    with write_into(world.target) as connection:
        connection.execute("CREATE UNIQUE INDEX one_note ON orders (note)")
    result = pipeline.run()
    assert_ten_are_named(world, result, "load", "a unique index")
    assert all("bad" not in failed.message for failed in result.failed_records)
    assert result.streams["orders"].attempts == len(BAD), "the index tells which they are"


def test_batches_that_follow_one_that_was_refused(world: World) -> None:
    """They are held against the rules before they are written, so that none is written twice."""
    pipeline = world.pipeline(batch_rows=ROWS // 4, deletes="hard")
    _first_run_of_ten(world, pipeline)
    with write_into(world.target) as connection:
        connection.execute("CREATE UNIQUE INDEX one_note ON orders (note)")
    refused = []
    write = DuckdbDestination.write

    def counted(self: DuckdbDestination, load: Load, *, probe: bool = False) -> pa.Array:
        try:
            return write(self, load, probe=probe)
        except RecordError:
            refused.append(len(load.rows))
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DuckdbDestination, "write", counted)
        result = pipeline.run()
    assert_ten_are_named(world, result, "load", "a unique index")
    assert sorted(refused) == [1] * len(BAD) + [ROWS // 4]


def _first_run_of_ten(world: World, pipeline: Pipeline) -> None:
    """Loads ten other rows with the notes of the bad ones, and then brings the rest back."""
    world.sql("CREATE TABLE aside AS SELECT * FROM orders")
    world.sql("DELETE FROM orders")
    world.sql("INSERT INTO orders SELECT -id, amount, note, seen FROM aside WHERE note LIKE 'bad%'")
    assert pipeline.run().complete
    world.sql("INSERT INTO orders SELECT * FROM aside")


def test_a_row_that_the_source_cannot_spell(world: World) -> None:
    marks = ", ".join("?" for _ in BAD)
    world.sql(f"UPDATE orders SET amount = 'much' WHERE id IN ({marks})", BAD)
    result = world.pipeline(batch_rows=ROWS).run()
    assert_ten_are_named(world, result, "extract", "amount")
    assert all("much" not in failed.message for failed in result.failed_records)


def test_large_integers_and_nulls_side_by_side_come_through_the_search(world: World) -> None:
    """What is put together again from parts is what went in."""
    world.sql("ALTER TABLE orders ADD COLUMN large INTEGER")
    world.sql("UPDATE orders SET large = 9007199254740993 + id WHERE id % 3 > 0")

    def picky(frame):
        if frame["note"].str.startswith("bad").any():
            raise ValueError("bad note")
        return frame.assign(note=frame["note"] + "!")

    world.pipeline(batch_rows=ROWS, transforms=[picky]).run()
    marks = ", ".join("?" for _ in BAD)
    expected = world.sql(
        f"SELECT id, note || '!', large FROM orders WHERE id NOT IN ({marks}) ORDER BY id", BAD
    )
    assert world.query("SELECT id, note, large FROM orders ORDER BY id") == expected
