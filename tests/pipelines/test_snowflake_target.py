"""Whole runs into Snowflake, or what stands in for it: rows, deletes, a record that fails, cost."""

from __future__ import annotations

from pathlib import Path
from threading import Event, get_ident
from typing import Any

import pandas as pd
import pytest

from rowtrail.connectors.destinations.snowflake import SnowflakeDestination
from rowtrail.connectors.destinations.snowflake_merge import Staged
from rowtrail.connectors.destinations.snowflake_uploads import Uploads
from rowtrail.connectors.errors import TransientError
from tests.pipelines.snowflake_world import SnowflakeWorld


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


def test_rows_are_gathered_into_large_batches(world: SnowflakeWorld) -> None:
    """The source gives 131,072 rows at a time."""
    world.put((i, i % 7, None) for i in range(140_000))
    pipeline = world.pipeline()
    first = pipeline.run().streams["orders"]
    assert (first.batches, first.counts.loaded) == (1, 140_000)
    assert world.query("SELECT count(*) FROM orders") == [(140_000,)]


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first merge waits for the upload of the next batch; the first ids of what is merged."""
    uploaded = Event()
    merged: list[int] = []
    upload, merge = Uploads.upload, Staged.merge

    def uploading(uploads: Uploads, *args: Any) -> None:
        upload(uploads, *args)
        uploaded.set()

    def merging(staged: Staged, deletes: Any) -> Any:
        if not merged:
            assert uploaded.wait(60), "nothing was uploaded meanwhile"
        merged.append(staged.load.rows.column("id")[0].as_py())
        return merge(staged, deletes)

    monkeypatch.setattr(Uploads, "upload", uploading)
    monkeypatch.setattr(Staged, "merge", merging)
    return merged


def test_the_next_batch_is_uploaded_while_one_is_merged(
    world: SnowflakeWorld, ahead: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put((i, i, f"note {i}") for i in range(25))
    folders: list[str] = []
    new_folder = SnowflakeDestination._new_folder

    def noted(destination: SnowflakeDestination) -> str:
        folders.append(new_folder(destination))
        return folders[-1]

    monkeypatch.setattr(SnowflakeDestination, "_new_folder", noted)
    result = world.pipeline(batch_rows=10).run()
    assert result.complete and result.streams["orders"].batches == 3
    assert ahead == [0, 10, 20]
    assert len(folders) == 3, "what had been uploaded was uploaded again"
    assert world.loaded() == world.expected()
    assert world.query('LIST @"PUBLIC"."_ROWTRAIL_STAGE"') == []


def test_what_was_made_ahead_is_made_again_where_a_record_is_held_back(
    world: SnowflakeWorld, request: pytest.FixtureRequest
) -> None:
    """Whoever makes it ahead does not ask; a change of it is to wait behind the failed one."""
    world.put((i, i, "x" * 17_000_000 if i == 1 else "") for i in range(1, 21))
    pipeline = world.pipeline(policy="block", retries=0, batch_rows=10)
    assert pipeline.run().streams["orders"].counts.failed == 1
    world.put((i, i, "new") for i in [*range(2, 12), 1, 12])
    ahead = request.getfixturevalue("ahead")
    counts = pipeline.run().streams["orders"].counts
    assert (counts.loaded, counts.waiting) == (11, 1)
    assert len(ahead) == 2
    assert world.loaded().keys() == set(range(2, 21))
    assert world.query('LIST @"PUBLIC"."_ROWTRAIL_STAGE"') == []


def test_an_upload_that_fails_is_made_again_in_its_turn(
    world: SnowflakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put((i, i, f"note {i}") for i in range(30))
    asked: list[str] = []

    def failing(uploads: Uploads, rows: Any, folder: str, tag: str) -> None:
        asked.append(folder)
        raise TransientError("the stage is not there")

    monkeypatch.setattr(Uploads, "upload", failing)
    assert world.pipeline(batch_rows=10).run().complete
    assert world.loaded() == world.expected()
    assert asked


def test_code_of_a_stream_s_own_runs_in_one_thread(world: SnowflakeWorld) -> None:
    """It may use what belongs to that, such as a connection of SQLite."""
    world.put((i, i, f"note {i}") for i in range(30))
    threads: set[int] = set()

    def noting(rows: pd.DataFrame) -> pd.DataFrame:
        threads.add(get_ident())
        return rows

    assert world.pipeline(batch_rows=10, transforms=[noting]).run().complete
    assert threads == {get_ident()}
