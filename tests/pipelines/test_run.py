"""Whole runs over real databases: what the source says is what the target has."""

from __future__ import annotations

import pytest

from rowtrail import Breakers
from rowtrail.checkpoints.states import RunState
from tests.pipelines.world import World


def test_changes_and_deletes_arrive(world: World, capture: str, deletes: str) -> None:
    pipeline = world.pipeline(capture=capture, deletes=deletes, batch_rows=7)
    world.put((n, n / 4, f"note {n}") for n in range(1, 31))
    first = pipeline.run()
    assert first.complete
    assert first.streams["orders"].counts.loaded == 30
    assert world.loaded() == world.expected()

    world.put([(3, 9.99, "changed"), (31, 1, None)])
    world.delete(5, 6)
    second = pipeline.run()
    counts = second.streams["orders"].counts
    assert (counts.loaded, counts.deleted) == (2, 2)
    assert world.loaded() == world.expected()

    third = pipeline.run()
    assert third.streams["orders"].counts.total == 0
    assert world.loaded() == world.expected()


def test_a_row_that_comes_back_is_there_again(world: World, capture: str, deletes: str) -> None:
    pipeline = world.pipeline(capture=capture, deletes=deletes)
    world.put((n, 1, "first") for n in range(1, 6))
    pipeline.run()
    world.delete(2)
    pipeline.run()
    assert 2 not in world.loaded()
    world.put([(2, 2, "again")])
    pipeline.run()
    assert world.loaded() == world.expected()


def test_a_changed_key_is_a_delete_and_an_insert(world: World, capture: str) -> None:
    pipeline = world.pipeline(capture=capture)
    world.put((n, n, "x") for n in range(1, 6))
    pipeline.run()
    world.sql("UPDATE orders SET id = 100, seen = 99 WHERE id = 4")
    pipeline.run()
    assert world.loaded() == world.expected()
    assert 100 in world.loaded() and 4 not in world.loaded()


def test_a_filtered_row_leaves_the_target_and_is_counted(world: World, capture: str) -> None:
    def no_tests(frame):
        return frame[frame["note"] != "test"]

    pipeline = world.pipeline(capture=capture, transforms=[no_tests])
    world.put([(1, 1, "real"), (2, 1, "test"), (3, 1, "real")])
    first = pipeline.run().streams["orders"]
    assert (first.counts.loaded, first.counts.filtered) == (2, 1)
    world.put([(3, 1, "test"), (2, 1, "real")])
    second = pipeline.run().streams["orders"]
    assert (second.counts.loaded, second.counts.filtered) == (1, 1)
    assert set(world.loaded()) == {1, 2}
    assert pipeline.run().streams["orders"].counts.total == 0


def test_a_column_added_at_the_source_is_added_at_the_target(world: World, capture: str) -> None:
    pipeline = world.pipeline(capture=capture)
    world.put([(1, 1, "a"), (2, 2, "b")])
    pipeline.run()
    world.sql("ALTER TABLE orders ADD COLUMN extra INTEGER")
    world.sql("UPDATE orders SET extra = 7, seen = 50 WHERE id = 2")
    pipeline.run()
    assert world.query("SELECT id, extra FROM orders ORDER BY id") == [(1, None), (2, 7)]


def test_a_renamed_column_is_filled_where_all_rows_are_read(world: World) -> None:
    pipeline = world.pipeline(capture="snapshot")
    world.put((n, n, "x") for n in range(1, 4))
    pipeline.run()
    world.sql("ALTER TABLE orders RENAME COLUMN note TO remark")
    assert pipeline.run().streams["orders"].counts.loaded == 3
    assert world.query("SELECT DISTINCT remark FROM orders") == [("x",)]


def test_changing_the_capture_reads_anew_and_sweeps_what_is_gone(world: World) -> None:
    world.put((n, n, "x") for n in range(1, 11))
    for capture in ("cursor", "trigger", "cursor", "snapshot", "trigger"):
        world.put([(1, world.clock, capture)])
        world.delete(max(world.expected()))
        result = world.pipeline(capture=capture).run()
        assert result.complete
        assert world.loaded() == world.expected()


def test_the_delete_breaker_stops_before_anything_is_deleted(world: World, capture: str) -> None:
    pipeline = world.pipeline(capture=capture, breakers=Breakers(sample=10))
    world.put((n, n, "x") for n in range(1, 21))
    pipeline.run()
    before = world.loaded()
    world.delete(*range(1, 11))
    stopped = pipeline.run()
    assert stopped.state is RunState.FAILED
    assert "--allow-deletes" in (stopped.streams["orders"].error or "")
    assert world.loaded() == before
    allowed = pipeline.run(allow_deletes=1.0)
    assert allowed.complete
    assert world.loaded() == world.expected()


def test_another_target_is_filled_from_the_start(world: World, capture: str) -> None:
    world.put((n, n, "x") for n in range(1, 6))
    world.pipeline(capture=capture).run()
    world.put([(9, 9, "new")])
    assert world.pipeline(capture=capture, target="others").run().complete
    assert world.query("SELECT id FROM others ORDER BY id") == [(n,) for n in (1, 2, 3, 4, 5, 9)]
    world.delete(1)
    assert world.pipeline(capture=capture).run().complete
    assert world.loaded() == world.expected()


def test_a_target_table_that_was_dropped_stops_the_stream(world: World, capture: str) -> None:
    """Going on would leave a table that looks whole and has the last changes only."""
    pipeline = world.pipeline(capture=capture)
    world.put((n, n, "x") for n in range(1, 6))
    pipeline.run()
    world.change_target("DROP TABLE orders")
    world.put([(9, 9, "new")])
    stopped = pipeline.run().streams["orders"]
    assert "rowtrail run --resnapshot orders" in (stopped.error or "")
    assert pipeline.run().streams["orders"].needs_snapshot
    assert pipeline.run(resnapshot=["orders"]).complete
    assert world.loaded() == world.expected()


def test_the_target_says_how_fresh_an_idle_table_is(world: World, capture: str) -> None:
    pipeline = world.pipeline(capture=capture)
    world.put([(1, 1, "x")])
    marks = []
    for _ in range(3):
        pipeline.run()
        marks += world.query("SELECT epoch_us(loaded_up_to) FROM _rowtrail_watermarks")
    assert len(set(marks)) == 3


def test_an_emptied_source_is_not_believed(world: World, capture: str) -> None:
    pipeline = world.pipeline(capture=capture)
    world.put((n, n, "x") for n in range(1, 13))
    pipeline.run()
    world.delete(*range(1, 13))
    stopped = pipeline.run()
    assert "every row" in (stopped.streams["orders"].error or "")
    assert len(world.loaded()) == 12
    assert pipeline.run(allow_deletes=1.0).complete
    assert world.loaded() == {}


def test_the_failure_breaker_stops_the_stream(world: World) -> None:
    def picky(frame):
        if (frame["note"] == "bad").any():
            raise ValueError("bad note")
        return frame

    pipeline = world.pipeline(transforms=[picky], breakers=Breakers(failed_records=3))
    world.put((n, n, "bad" if n % 10 == 0 else "good") for n in range(1, 61))
    stopped = pipeline.run()
    assert "breakers.failed_records" in (stopped.streams["orders"].error or "")
    assert world.loaded() == {}


@pytest.mark.parametrize("batch_rows", [1, 3, 1000])
def test_any_batch_size_gives_the_same(world: World, capture: str, batch_rows: int) -> None:
    pipeline = world.pipeline(capture=capture, batch_rows=batch_rows)
    world.put((n, n, "x") for n in range(1, 8))
    pipeline.run()
    world.put([(2, 5, "y"), (2, 6, "z"), (9, 1, "new")])
    world.delete(4, 9)
    pipeline.run()
    assert world.loaded() == world.expected()
