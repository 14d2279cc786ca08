"""Whole runs into Snowflake, or what stands in for it: rows, deletes, a record that fails, cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.connectors.snowflake_warehouse import SnowflakeWarehouse

from .world import World


class SnowflakeWorld(World):
    """Its target is a schema of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        self.destination = url
        self.warehouse = SnowflakeWarehouse(url)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self.warehouse.query(statement)

    def loaded(self) -> dict[int, tuple[Any, ...]]:
        rows = self.query(
            "SELECT id, CAST(amount AS VARCHAR), note FROM orders "
            "WHERE _rowtrail_deleted_at IS NULL"
        )
        assert len(rows) == len({row[0] for row in rows}), "a record stands twice at the target"
        return {row[0]: row[1:] for row in rows}


@pytest.fixture
def world(tmp_path: Path, snowflake_url: str) -> SnowflakeWorld:
    return SnowflakeWorld(tmp_path, snowflake_url)


def test_rows_changes_and_deletes(world: SnowflakeWorld) -> None:
    world.put((i, i, f"note {i}") for i in range(250))
    pipeline = world.pipeline(batch_rows=100)
    first = pipeline.run()
    assert first.complete and first.streams["orders"].batches == 3
    assert world.loaded() == world.expected()
    world.put([(1, 99, "changed"), (300, 5, "new")])
    world.delete(2, 3)
    assert pipeline.run().complete
    assert world.loaded() == world.expected()


def test_a_record_that_fails_is_named_mended_and_replayed(world: SnowflakeWorld) -> None:
    world.put((i, i, "bad" if i == 7 else "good") for i in range(20))
    strict = True

    def checked(rows: pd.DataFrame) -> pd.DataFrame:
        if strict and (rows["note"] == "bad").any():
            raise ValueError("a bad note")
        return rows

    pipeline = world.pipeline(transforms=[checked], retries=0)
    result = pipeline.run()
    assert [failed.record for failed in result.failed_records] == ["orders:7"]
    assert world.gaps() == {"orders:7"}
    assert world.loaded().keys() == set(range(20)) - {7}
    strict = False
    pipeline.retry("orders", 7)
    assert world.gaps() == set()
    assert world.loaded() == world.expected()


def test_a_value_that_snowflake_cannot_hold_fails_its_record_alone(world: SnowflakeWorld) -> None:
    world.put((i, i, "x" * (17_000_000 if i == 3 else 1)) for i in range(5))
    result = world.pipeline(retries=0, capture_images=False).run()
    (failed,) = result.failed_records
    assert failed.record == "orders:3" and failed.stage == "load"
    assert "more than 16,777,216 bytes" in failed.message
    assert world.loaded().keys() == {0, 1, 2, 4}


def test_every_version_is_kept(world: SnowflakeWorld) -> None:
    pipeline = world.pipeline(deletes="history")
    for note in ("first", "second"):
        world.put([(1, 1, note), (2, 2, "stays")])
        assert pipeline.run().complete
    world.delete(2)
    assert pipeline.run().complete
    found = world.query(
        "SELECT id, note, _rowtrail_is_current FROM orders ORDER BY id, _rowtrail_valid_from"
    )
    assert (1, "first", False) in found and (1, "second", True) in found
    assert not [row for row in found if row[0] == 2 and row[2]]


def test_a_run_tells_what_it_cost(world: SnowflakeWorld) -> None:
    world.put((i, i, "a") for i in range(10))
    pipeline = world.pipeline()
    cost = pipeline.run().streams["orders"].cost
    assert cost is not None
    assert cost.statements > 15 and cost.staged_bytes > 500 and cost.seconds > 0
    idle = pipeline.run().streams["orders"].cost
    assert idle is not None
    assert idle.staged_bytes == 0 and idle.statements < cost.statements
