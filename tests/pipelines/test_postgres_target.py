"""The engine over a PostgreSQL target: failed records, deletes, crashes, replies that are lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rowtrail.checkpoints.states import FailureState
from rowtrail.pipelines import retrying
from rowtrail.pipelines.check import check_pipeline
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.rebuild import rebuild_ledger
from tests.killable_proxy import KillableProxy
from tests.pipelines.crashing import CrashAt
from tests.pipelines.postgres_world import PostgresWorld
from tests.pipelines.test_crash import (
    POINTS,
    Story,
    assert_one_batch_read_again,
    assert_same,
    change,
    fill,
    picky,
    sync,
    sync_with_crash,
)
from tests.pipelines.witness import held_back, ledger_of, outcomes
from tests.pipelines.world import World
from tests.postgres_server import GivenServer, PostgresServer


@pytest.fixture
def world(tmp_path: Path, postgres_url: str) -> PostgresWorld:
    return PostgresWorld(tmp_path, postgres_url)


def test_one_failed_record_is_retried_alone(world: PostgresWorld, deletes: str) -> None:
    """The others load in the same run; the retry writes one row; deletes arrive."""
    pipeline = world.pipeline(deletes=deletes, batch_rows=4)
    world.put((n, n, f"note {n}") for n in range(1, 11))
    world.put([(6, 6, "zero \0 byte")])
    result = pipeline.run()
    (failed,) = result.failed_records
    assert (failed.record, failed.stage, failed.error_class) == ("orders:6", "load", "RecordError")
    assert "Column note of table orders has a text with a zero byte" in failed.message
    assert set(world.loaded()) == set(range(1, 11)) - {6}
    assert world.gaps() == {"orders:6"}
    before = world.query("SELECT id, xmin::text FROM orders ORDER BY id")
    world.put([(6, 6, "mended")])
    (retried,) = pipeline.retry("orders", 6, from_stage="extract")
    assert retried.carried_out and "1 loaded" in retried.text
    after = world.query("SELECT id, xmin::text FROM orders ORDER BY id")
    assert set(after) - set(before) == {row for row in after if row[0] == 6}, "no other row"
    assert world.gaps() == set()
    world.delete(1, 6)
    assert pipeline.run().complete
    assert world.loaded() == world.expected()
    ((rows,),) = world.query("SELECT count(*) FROM orders")
    assert rows == (10 if deletes == "soft" else 8)


def test_rules_of_the_target_hold_single_records_back(world: PostgresWorld) -> None:
    """Found by probes in the database: what they wrote is rolled back."""
    pipeline = world.pipeline()
    world.put((n, n, "x") for n in range(1, 5))
    pipeline.run()
    world.change_target("ALTER TABLE orders ADD CHECK (amount < 100)")
    world.put((n, 1_000 if n in (3, 77) else n % 50, "y") for n in range(1, 101))
    result = pipeline.run()
    assert [one.record for one in result.failed_records] == ["orders:3", "orders:77"]
    assert {key: row for key, row in world.loaded().items() if key not in (3, 77)} == {
        key: row for key, row in world.expected().items() if key not in (3, 77)
    }
    assert world.loaded()[3] == ("3.00", "x")
    world.put([(3, 5, "mended"), (77, 5, "mended")])
    assert pipeline.run().complete
    assert world.loaded() == world.expected()


def test_the_parts_that_only_read(world: PostgresWorld) -> None:
    pipeline = world.pipeline()
    assert check_pipeline(pipeline.definition).problems == ()
    world.put([(1, 1, "a"), (2, 2, "zero \0")])
    pipeline.run()
    assert check_pipeline(pipeline.definition).problems == ()
    world.ledger.unlink()
    notes = rebuild_ledger(pipeline.definition)
    assert any("1 failed records are known again" in note for note in notes)
    with ledger_of(world) as ledger:
        assert held_back(ledger) == {2: FailureState.FAILED}
    world.put([(2, 2, "mended"), (3, 3, "b")])
    assert pipeline.run().complete
    assert world.loaded() == world.expected()


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer | GivenServer
) -> dict[str, Story]:
    stories = {}
    for capture in ("trigger", "cursor", "snapshot"):
        with postgres_server.database() as url:
            world = PostgresWorld(tmp_path_factory.mktemp(capture), url)
            pipeline = world.pipeline(capture=capture, batch_rows=3, transforms=[picky])
            fill(world)
            sync(pipeline)
            change(world)
            sync(pipeline)
            stories[capture] = Story.of(world)
    return stories


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_leaves_no_trace_once_resumed(
    world: PostgresWorld, capture: str, point: Point, uninterrupted: dict[str, Story]
) -> None:
    pipeline = world.pipeline(capture=capture, batch_rows=3, transforms=[picky])
    fill(world)
    sync_with_crash(pipeline, CrashAt(point, occurrence=2))
    sync(pipeline)
    change(world)
    sync_with_crash(pipeline, CrashAt(point))
    sync(pipeline)
    assert_same(Story.of(world), uninterrupted[capture], capture)
    assert_one_batch_read_again(world, point, crashes=2)


def test_it_ends_as_with_a_duckdb_target(
    world: PostgresWorld, tmp_path: Path, capture: str, deletes: str
) -> None:
    (tmp_path / "duckdb").mkdir()
    other = World(tmp_path / "duckdb")
    for one in (world, other):
        pipeline = one.pipeline(capture=capture, batch_rows=3, deletes=deletes, transforms=[picky])
        fill(one)
        sync(pipeline)
        change(one)
        sync(pipeline)
    assert_same(Story.of(world), Story.of(other), "trigger")


@pytest.fixture
def proxied(world: PostgresWorld) -> Iterator[KillableProxy]:
    direct = world.destination
    with closing(KillableProxy(direct)) as proxy:
        world.destination = proxy.url
        yield proxy
        world.destination = direct


@pytest.mark.parametrize("statement", [b"COMMIT\0", b"COPY", b"_rowtrail_receipts"])
def test_a_reply_that_is_lost_is_asked_for_again(
    world: PostgresWorld,
    proxied: KillableProxy,
    statement: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0)
    pipeline = world.pipeline(batch_rows=4)
    world.put((n, n, "x") for n in range(1, 10))
    pipeline.run()
    world.put((n, n, "y") for n in range(5, 15))

    def lose(point: Point) -> None:
        if point is Point.PREPARED:
            proxied.lose_reply_to(statement)

    sync(pipeline, lose)
    proxied.wait_until_lost()
    assert world.loaded() == world.expected()
    with ledger_of(world) as ledger:
        assert ledger.batches.unfinished() == []
        for key in range(1, 15):
            events = [entry.event for entry in outcomes(ledger, key)]
            assert events == ["loaded"] * (2 if 5 <= key < 10 else 1)
        assert held_back(ledger) == {}
