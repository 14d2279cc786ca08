"""What a dry run says of the target is what the replay then does, for DuckDB and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rowtrail import Pipeline
from rowtrail.pipelines.differences import EXAMPLES, Differences
from rowtrail.pipelines.requests import RequestResult
from tests.pipelines.postgres_world import PostgresWorld
from tests.pipelines.world import World
from tests.postgres_server import PostgresServer


@pytest.fixture(params=["duckdb", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "duckdb":
        yield World(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("server")
    with server.database() as url:
        yield PostgresWorld(tmp_path, url)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as started:
        yield started


class Notes:
    """A transform that puts a mark on every note, drops tests and refuses what is bad."""

    def __init__(self) -> None:
        self.mark = ""
        self.refused = {"bad"}

    def pipeline(self, world: World, **stream: Any) -> Pipeline:
        def notes(frame):
            if frame["note"].isin(self.refused).any():
                raise ValueError("bad note")
            return frame[frame["note"].ne("test").fillna(True)].assign(
                note=lambda rows: rows["note"].where(rows["note"].isna(), rows["note"] + self.mark)
            )

        return world.pipeline(transforms=[notes], **stream)


def told(result: RequestResult) -> dict[str, tuple[str, dict[str, tuple[str | None, ...]]]]:
    """Of each example what becomes of it, and its columns now and after."""
    assert isinstance(result.differences, Differences)
    return {
        one.record: (one.becomes.value, {c.column: (c.now, c.after) for c in one.columns})
        for one in result.differences.examples
    }


def counted(result: RequestResult) -> dict[str, int]:
    assert result.differences is not None
    return {kind: number for kind, number in result.differences.counts.items() if number}


@pytest.mark.parametrize("deletes", ["soft", "hard"])
def test_each_kind_of_difference_column_by_column(place: World, deletes: str) -> None:
    notes = Notes()
    pipeline = notes.pipeline(place, deletes=deletes)
    place.put([(n, n, "x") for n in range(1, 7)] + [(9, 9, "bad"), (10, None, None)])
    pipeline.run()
    before = place.query("SELECT * FROM orders ORDER BY id")
    place.sql("UPDATE orders SET amount = 2.5, note = NULL WHERE id = 2")
    place.sql("UPDATE orders SET note = 'test' WHERE id = 3")
    place.delete(4)
    place.put([(7, 70.5, "new"), (8, 8, "test"), (10, 0, "")])
    dry = pipeline.replay("orders", 1, 2, 3, 4, 7, 8, 9, 10, dry_run=True)
    seen = {one: (place.clock if one == 10 else place.clock - 2) for one in (7, 10)}
    assert told(dry) == {
        "orders:1": ("unchanged", {}),
        "orders:2": ("updated", {"amount": ("2.00", "2.50"), "note": ("x", None)}),
        "orders:3": ("filtered", {}),
        "orders:4": ("deleted", {}),
        "orders:7": (
            "inserted",
            {
                "id": (None, "7"),
                "amount": (None, "70.50"),
                "note": (None, "new"),
                "seen": (None, str(seen[7])),
            },
        ),
        "orders:8": ("unchanged", {}),
        "orders:9": ("failed again", {}),
        "orders:10": (
            "updated",
            {"amount": (None, "0.00"), "note": (None, ""), "seen": ("8", str(seen[10]))},
        ),
    }
    assert counted(dry) == {
        "failed again": 1, "deleted": 1, "filtered": 1, "updated": 2, "inserted": 1, "unchanged": 2
    }  # fmt: skip
    assert dry.differences is not None
    (failed,) = [one for one in dry.differences.examples if one.record == "orders:9"]
    assert (failed.stage, failed.error_class) == ("transform", "ValueError")
    assert "bad note" in (failed.message or "")
    assert place.query("SELECT * FROM orders ORDER BY id") == before, "a dry run changes nothing"
    done = pipeline.replay("orders", 1, 2, 3, 4, 7, 8, 9, 10)
    assert (done.differences, done.chosen) == (None, 8)
    after = pipeline.replay("orders", 1, 2, 3, 4, 7, 8, 10, dry_run=True)
    assert counted(after) == {"unchanged": 7}, "the replay has done what the dry run said"


def test_a_retry_says_the_same_of_images(place: World) -> None:
    notes = Notes()
    pipeline = notes.pipeline(place)
    place.put([(1, 1, "good"), (2, 2, "fine")])
    pipeline.run()
    place.put([(1, 1, "bad"), (3, 3, "bad")])
    pipeline.run()
    notes.refused = set()
    notes.mark = "!"
    (dry,) = pipeline.retry("orders", dry_run=True)
    assert told(dry) == {
        "orders:1": ("updated", {"note": ("good", "bad!"), "seen": ("1", "3")}),
        "orders:3": (
            "inserted",
            {
                "id": (None, "3"),
                "amount": (None, "3.00"),
                "note": (None, "bad!"),
                "seen": (None, "4"),
            },
        ),
    }
    pipeline.retry("orders")
    assert place.loaded() == {1: ("1.00", "bad!"), 2: ("2.00", "fine"), 3: ("3.00", "bad!")}


def test_a_few_of_each_kind_are_told_and_all_are_counted(place: World) -> None:
    """Also where they come in several batches."""
    notes = Notes()
    pipeline = notes.pipeline(place, batch_rows=7)
    place.put((n, n, "x") for n in range(1, 41))
    run = pipeline.run()
    place.sql("UPDATE orders SET note = 'y' WHERE id <= 20")
    place.delete(33, 34)
    place.sql("UPDATE orders SET note = 'bad' WHERE id BETWEEN 21 AND 30")
    dry = pipeline.replay("orders", run=run.run_id, dry_run=True)
    assert counted(dry) == {"failed again": 10, "deleted": 2, "updated": 20, "unchanged": 8}
    kinds = [becomes for becomes, _ in told(dry).values()]
    assert len(kinds) == EXAMPLES
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "failed again": 3, "deleted": 2, "updated": 3, "unchanged": 2
    }  # fmt: skip
    assert dry.differences is not None
    assert asdict(dry.differences)["counts"]["inserted"] == 0


def test_what_the_target_has_in_a_newer_version_stays(world: World) -> None:
    notes = Notes()
    pipeline = notes.pipeline(world)
    world.put([(1, 1, "x")])
    pipeline.run()
    world.change_target("UPDATE orders SET _rowtrail_epoch = 9")
    world.put([(1, 2, "y")])
    dry = pipeline.replay("orders", 1, dry_run=True)
    assert told(dry) == {"orders:1": ("superseded", {})}


def test_values_of_redacted_columns_are_not_told(world: World) -> None:
    pipeline = world.pipeline(redact=["note"])
    world.put([(1, 1, "secret")])
    pipeline.run()
    world.put([(1, 2, "other secret"), (2, 2, "third secret")])
    dry = pipeline.replay("orders", 1, 2, dry_run=True)
    assert told(dry)["orders:1"] == (
        "updated",
        {"amount": ("1.00", "2.00"), "note": ("***", "***"), "seen": ("1", "2")},
    )
    assert told(dry)["orders:2"][1]["note"] == (None, "***")
    assert "secret" not in str(dry)


def test_values_are_compared_as_values(tmp_path: Path) -> None:
    """Types that a database gives back in another form are equal all the same."""
    world = World(
        tmp_path,
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, amount REAL, note BLOB, seen TIMESTAMP, "
        "big DECIMAL(30, 10), day DATE, yes BOOLEAN)",
    )
    world.sql(
        "INSERT INTO orders VALUES (1, 1.5, x'00ff', '2024-01-31 08:00:00.123456', 1.5, "
        "'2024-01-31', 1), (2, NULL, NULL, NULL, NULL, NULL, NULL)"
    )
    pipeline = world.pipeline(cursor=None)
    pipeline.run()
    assert counted(pipeline.replay("orders", 1, 2, dry_run=True)) == {"unchanged": 2}
    world.sql("UPDATE orders SET yes = 0, note = x'01', day = '2024-02-01' WHERE id = 1")
    assert told(pipeline.replay("orders", 1, dry_run=True)) == {
        "orders:1": (
            "updated",
            {
                "note": ("x'00ff'", "x'01'"),
                "day": ("2024-01-31", "2024-02-01"),
                "yes": ("true", "false"),
            },
        )
    }
