"""One failed record: held back by name, mended, and retried, replayed or ignored on its own."""

from __future__ import annotations

import pytest

from rowtrail import Pipeline
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import FailureState
from tests.duckdb_files import write_into
from tests.pipelines.world import World


def events(world: World, key: int) -> list[str]:
    ledger = open_ledger(world.ledger, "test")
    try:
        return [entry.event for entry in ledger.trail(RecordId("orders", (key,)))]
    finally:
        ledger.close()


def spoil_at_extract(world: World) -> Pipeline:
    world.put([(1, 1, "a"), (2, 2, "b")])
    world.sql("UPDATE orders SET amount = 'twelve' WHERE id = 2")
    return world.pipeline()


def test_a_value_of_the_wrong_type_fails_alone_at_extract(world: World, capture: str) -> None:
    spoil_at_extract(world)
    pipeline = world.pipeline(capture=capture)
    result = pipeline.run()
    assert not result.complete
    (failed,) = result.failed_records
    assert (failed.record, failed.stage) == ("orders:2", "extract")
    assert "amount" in failed.message and "twelve" not in failed.message
    assert set(world.loaded()) == {1}
    assert world.gaps() == {"orders:2"}

    world.sql("UPDATE orders SET amount = 12 WHERE id = 2")
    (retried,) = pipeline.retry("orders", 2)
    assert "1 loaded" in retried.text and "row at the source" in retried.text
    assert world.loaded() == world.expected()
    assert world.gaps() == set()
    assert pipeline.run().complete


def test_a_retry_goes_on_from_the_captured_image(world: World, capture: str) -> None:
    fixed = {"yet": False}

    def picky(frame):
        if not fixed["yet"] and (frame["note"] == "bad").any():
            raise KeyError("no rate")
        return frame

    pipeline = world.pipeline(capture=capture, transforms=[picky])
    world.put([(1, 1, "good"), (2, 2, "bad"), (3, 3, "good")])
    result = pipeline.run()
    assert [one.record for one in result.failed_records] == ["orders:2"]
    assert result.streams["orders"].summary == "complete except 1"

    (again,) = pipeline.retry("orders", 2)
    assert again.failed == ("orders:2",)
    assert "1 failed again" in again.text

    fixed["yet"] = True
    (dry,) = pipeline.retry("orders", 2, dry_run=True)
    assert "would be: 1 loaded" in dry.text
    assert set(world.loaded()) == {1, 3}

    (retried,) = pipeline.retry("orders", 2)
    assert "1 loaded" in retried.text and "captured image" in retried.text
    assert world.loaded() == world.expected()
    trail = events(world, 2)
    assert trail.count("failed") == 2
    assert trail[-1] != "failed"
    assert "loaded" in trail


def test_a_later_change_takes_the_place_of_a_failed_one(world: World, capture: str) -> None:
    def picky(frame):
        if (frame["note"] == "bad").any():
            raise ValueError("bad note")
        return frame

    pipeline = world.pipeline(capture=capture, transforms=[picky])
    world.put([(1, 1, "good"), (2, 2, "bad")])
    pipeline.run()
    world.put([(2, 3, "mended")])
    assert pipeline.run().complete
    assert world.loaded() == world.expected()
    assert world.gaps() == set()
    (nothing,) = pipeline.retry("orders", 2)
    assert "nothing to retry" in nothing.text


def test_a_delete_takes_the_place_of_a_failed_insert(world: World, capture: str) -> None:
    def picky(frame):
        if (frame["note"] == "bad").any():
            raise ValueError("bad note")
        return frame

    pipeline = world.pipeline(capture=capture, transforms=[picky])
    world.put([(1, 1, "good"), (2, 2, "bad"), (3, 3, "good"), (4, 4, "good")])
    pipeline.run()
    world.delete(2)
    assert pipeline.run().complete
    assert world.loaded() == world.expected()


def test_a_target_that_refuses_a_row_names_it(world: World) -> None:
    pipeline = world.pipeline(deletes="hard")
    world.put([(1, 1, "a")])
    pipeline.run()
    with write_into(world.target) as connection:
        connection.execute("CREATE UNIQUE INDEX one_note ON orders (note)")
    world.put([(2, 2, "b"), (3, 3, "a"), (4, 4, "c")])
    result = pipeline.run()
    (failed,) = result.failed_records
    assert (failed.record, failed.stage) == ("orders:3", "load")
    assert set(world.loaded()) == {1, 2, 4}

    with write_into(world.target) as connection:
        connection.execute("DROP INDEX one_note")
    (retried,) = pipeline.retry("orders", 3)
    assert "transformed image" in retried.text
    assert world.loaded() == world.expected()


def test_rows_that_collide_only_together_stop_the_stream(world: World) -> None:
    pipeline = world.pipeline(deletes="hard")
    world.put([(1, 1, "a")])
    pipeline.run()
    with write_into(world.target) as connection:
        connection.execute("CREATE UNIQUE INDEX one_note ON orders (note)")
    world.put([(2, 2, "same"), (3, 3, "b"), (4, 4, "same")])
    stopped = pipeline.run()
    error = stopped.streams["orders"].error or ""
    assert "orders:2 and orders:4" in error
    assert set(world.loaded()) == {1}


def test_an_ignored_record_no_longer_counts_until_undone(world: World) -> None:
    pipeline = spoil_at_extract(world)
    assert not pipeline.run().complete
    ledger = open_ledger(world.ledger, "test")
    record = RecordId("orders", (2,))
    ledger.decisions.ignore("orders", [record], "ana", "a test order")
    assert ledger.failures.counts("orders")[FailureState.IGNORED] == 1
    assert pipeline.run().complete
    ledger.decisions.unignore("orders", [record], "ana", None)
    ledger.close()
    assert not pipeline.run().complete
    assert {"failed", "ignored"} <= set(events(world, 2))


def test_a_replay_wins_over_itself_and_twice_changes_nothing(world: World) -> None:
    rate = {"now": "1"}

    def tag(frame):
        return frame.assign(note=frame["note"] + rate["now"])

    pipeline = world.pipeline(transforms=[tag])
    world.put([(1, 1, "a"), (2, 2, "b")])
    pipeline.run()
    rate["now"] = "2"
    done = pipeline.replay("orders", 1)
    assert "1 loaded" in done.text
    assert {key: row[1] for key, row in world.loaded().items()} == {1: "a2", 2: "b1"}
    world.put([(1, 1, "c")])
    pipeline.run()
    assert world.loaded()[1][1] == "c2"


def test_a_replay_of_a_row_that_is_gone_is_a_delete(world: World) -> None:
    pipeline = world.pipeline()
    world.put([(1, 1, "a"), (2, 2, "b")])
    pipeline.run()
    world.delete(2)
    assert "1 deleted" in pipeline.replay("orders", 2).text
    assert set(world.loaded()) == {1}
    assert pipeline.run().complete
    assert world.loaded() == world.expected()


def test_one_retry_touches_no_other_record(world: World) -> None:
    pipeline = spoil_at_extract(world)
    pipeline.run()
    before = world.query("SELECT * FROM orders WHERE id = 1")
    world.sql("UPDATE orders SET amount = 12 WHERE id = 2")
    pipeline.retry("orders", 2)
    assert world.query("SELECT * FROM orders WHERE id = 1") == before


def test_no_image_is_kept_when_none_may_be(world: World) -> None:
    def picky(frame):
        if (frame["note"] == "secret").any():
            raise ValueError("bad note")
        return frame

    pipeline = world.pipeline(transforms=[picky], capture_images=False)
    world.put([(1, 1, "good"), (2, 2, "secret")])
    pipeline.run()
    assert b"secret" not in world.ledger.read_bytes()
    world.put([(2, 2, "fine")])
    (retried,) = pipeline.retry("orders", 2)
    assert "row at the source" in retried.text
    assert world.loaded() == world.expected()


@pytest.mark.parametrize("stage", ["transform", "extract"])
def test_from_says_where_a_retry_begins(world: World, stage: str) -> None:
    state = {"broken": True}

    def picky(frame):
        if state["broken"] and (frame["note"] == "bad").any():
            raise ValueError("bad note")
        return frame

    pipeline = world.pipeline(transforms=[picky])
    world.put([(1, 1, "good"), (2, 2, "bad")])
    pipeline.run()
    state["broken"] = False
    world.put([(2, 9, "newer")])
    pipeline.retry("orders", 2, from_stage=stage)
    assert world.loaded()[2] == (("2.00", "bad") if stage == "transform" else ("9.00", "newer"))
    pipeline.run()
    assert world.loaded() == world.expected()
