"""When a stream stops and asks, and when what looks like too much is no alarm."""

from __future__ import annotations

import pytest

from rowtrail import Breakers
from rowtrail.checkpoints.states import RunState
from rowtrail.pipelines.stream_actions import resume
from tests.pipelines.world import World


def test_a_retry_in_which_most_fail_again_loads_the_others(world: World) -> None:
    """A person chose them, knowing that they failed."""
    broken = {"notes": {"bad", "worse"}}

    def picky(frame):
        if frame["note"].isin(broken["notes"]).any():
            raise ValueError("bad note")
        return frame

    pipeline = world.pipeline(transforms=[picky], breakers=Breakers(sample=10))
    world.put((n, n, {0: "bad", 1: "worse", 2: "worse"}.get(n % 10, "good")) for n in range(1, 81))
    assert pipeline.run().streams["orders"].held_back == 24
    broken["notes"] = {"worse"}
    (retried,) = pipeline.retry("orders")
    assert "8 loaded" in retried.text and "16 failed again" in retried.text
    assert len(world.loaded()) == 64


def test_a_replay_in_which_most_fail_stops(world: World) -> None:
    """They were loaded before: the code is broken, not the data."""
    broken = {"now": False}

    def picky(frame):
        if broken["now"] and (frame["id"] > 3).any():
            raise ValueError("bad id")
        return frame

    pipeline = world.pipeline(transforms=[picky], breakers=Breakers(sample=10))
    world.put((n, n, "good") for n in range(1, 13))
    pipeline.run()
    broken["now"] = True
    with pytest.raises(Exception, match=r"breakers\.failed_share"):
        pipeline.replay("orders", *range(1, 13))
    assert world.gaps() == set()


def test_more_deletes_than_rows_can_be_allowed(world: World) -> None:
    """The log also holds the deletes of rows that came and went since the last run."""
    pipeline = world.pipeline(breakers=Breakers(sample=1))
    world.put((n, n, "x") for n in range(1, 13))
    pipeline.run()
    world.put((n, n, "short-lived") for n in range(20, 30))
    world.delete(*range(1, 13), *range(20, 30))
    assert pipeline.run().state is RunState.FAILED
    assert len(world.loaded()) == 12
    assert pipeline.run(allow_deletes=1.0).complete
    assert world.loaded() == {}


def test_a_scheduler_does_not_empty_the_target_step_by_step(world: World, capture: str) -> None:
    """Each run alone would stay below the limit, counted from what the last one left."""
    pipeline = world.pipeline(capture=capture, batch_rows=20, breakers=Breakers(sample=10))
    world.put((n, n, "x") for n in range(1, 201))
    pipeline.run()
    for key in range(11, 201):
        world.delete(key)
    assert pipeline.run().state is RunState.FAILED
    left = len(world.loaded())
    assert left >= 140
    for _ in range(3):
        assert pipeline.run().state is RunState.FAILED
        assert len(world.loaded()) == left
    assert pipeline.run(allow_deletes=1.0).complete
    assert world.loaded() == world.expected()


def test_a_stream_that_a_person_resumed_may_delete_again(world: World) -> None:
    pipeline = world.pipeline(batch_rows=20, breakers=Breakers(sample=10))
    world.put((n, n, "x") for n in range(1, 201))
    pipeline.run()
    for key in range(101, 201):
        world.delete(key)
    assert pipeline.run().state is RunState.FAILED
    world.put((n, n, "back") for n in range(101, 201))
    world.delete(1)
    assert pipeline.run().state is RunState.FAILED
    resume(pipeline.definition, "orders")
    assert pipeline.run().complete
    assert world.loaded() == world.expected()
