"""Retries that runs ask for by themselves: when they are due, how often, and what they take."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from rowtrail import Pipeline
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.states import DecisionKind, Failure, StreamState
from rowtrail.checkpoints.store import utc_now
from rowtrail.pipelines import automatic
from rowtrail.pipelines.definition import PipelineDefinition
from rowtrail.pipelines.results import RunResult
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.witness import ledger_of, record
from tests.pipelines.world import World

MINUTE = timedelta(minutes=1)


class Clock:
    """The ledger's time, some time after now."""

    def __init__(self) -> None:
        self.later = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.later


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Rates:
    """What a transform needs and may lack; it is no part of the transform's code."""

    def __init__(self) -> None:
        self.there = False
        self.asked = 0

    def check(self, notes: Any) -> None:
        self.asked += int((notes == "foreign").sum())
        if not self.there and (notes == "foreign").any():
            raise LookupError("no rate")


def priced(world: World, rates: Rates, **given: Any) -> Pipeline:
    def convert(frame):
        rates.check(frame["note"])
        return frame

    return world.pipeline(transforms=[convert], **given)


def run(pipeline: Pipeline, clock: Clock) -> RunResult:
    return run_pipeline(pipeline.definition, ledger_opener=partial(open_ledger, clock=clock))


def with_code(pipeline: Pipeline, fingerprint: str) -> PipelineDefinition:
    """The same with a transform of which somebody has changed the code."""
    (stream,) = pipeline.definition.streams
    (step,) = stream.transforms
    changed = replace(stream, transforms=(replace(step, fingerprint=fingerprint),))
    return replace(pipeline.definition, streams=(changed,))


def held(world: World) -> list[Failure]:
    with ledger_of(world) as ledger:
        return ledger.failures.list("orders")


def attempts(world: World) -> list[int]:
    return [one.attempts for one in held(world)]


def test_what_passes_by_itself_is_loaded_by_a_later_run(
    world: World, clock: Clock, capture: str
) -> None:
    rates = Rates()
    pipeline = priced(world, rates, capture=capture)
    world.put([(1, 1, "home"), (2, 2, "foreign")])
    assert run(pipeline, clock).streams["orders"].summary == "complete except 1"
    rates.there = True
    clock.later = 2 * MINUTE
    result = run(pipeline, clock)
    assert result.complete
    assert any("1 loaded" in text for text in result.decisions)
    assert world.loaded() == world.expected()
    assert world.gaps() == set()
    with ledger_of(world) as ledger:
        asked = [entry for entry in ledger.trail(record(2)) if entry.event == "retry asked"]
    assert [automatic.ACTOR in entry.detail for entry in asked] == [True]


def test_it_is_tried_less_and_less_often_and_then_left_to_a_person(
    world: World, clock: Clock
) -> None:
    pipeline = priced(world, Rates(), retries=4)
    world.put([(2, 2, "foreign")])
    run(pipeline, clock)
    for wait, number in ((1, 2), (4, 3), (16, 4), (64, 5)):
        clock.later += (wait - 0.5) * MINUTE
        run(pipeline, clock)
        assert attempts(world) == [number - 1], "it was too early"
        clock.later += MINUTE
        run(pipeline, clock)
        assert attempts(world) == [number]
    clock.later += timedelta(days=100)
    run(pipeline, clock)
    assert attempts(world) == [5]
    with ledger_of(world) as ledger:
        decision = ledger.decisions.request(
            DecisionKind.RETRY, "orders", [record(2)], actor="ana", reason=None
        )
    run(pipeline, clock)
    assert attempts(world) == [6]
    with ledger_of(world) as ledger:
        assert "failed again" in (ledger.decisions.get(decision.id).result or "")


def test_none_is_asked_for_where_the_stream_says_so(world: World, clock: Clock) -> None:
    rates = Rates()
    pipeline = priced(world, rates, retries=0)
    world.put([(2, 2, "foreign")])
    run(pipeline, clock)
    rates.there = True
    clock.later = timedelta(days=100)
    run(pipeline, clock)
    assert attempts(world) == [1]


def test_a_mended_transform_is_tried_at_once(world: World) -> None:
    """However often it failed before; and once for each time that it was mended."""
    rates = Rates()
    pipeline = priced(world, rates, retries=1)
    world.put([(1, 1, "home"), (2, 2, "foreign")])
    pipeline.run()
    pipeline.retry("orders", 2)
    pipeline.retry("orders", 2)
    assert attempts(world) == [3]
    for _ in range(2):
        run_pipeline(with_code(pipeline, "mended, as somebody thought"))
        assert attempts(world) == [4]
    rates.there = True
    assert run_pipeline(with_code(pipeline, "mended")).complete
    assert world.loaded() == world.expected()


def test_what_the_source_could_not_give_waits_for_its_time(world: World, clock: Clock) -> None:
    """It has no code of its own that could have changed."""
    world.put([(2, "twelve", "a")])
    pipeline = priced(world, Rates())
    run(pipeline, clock)
    run(pipeline, clock)
    assert attempts(world) == [1]
    clock.later = 2 * MINUTE
    run(pipeline, clock)
    assert attempts(world) == [2], "a row that is fetched again counts on"


def test_reread_fetches_the_row_in_each_run(world: World, clock: Clock) -> None:
    """The row was changed by somebody whom no capture sees: a cursor that did not move."""
    pipeline = priced(world, Rates(), capture="cursor", policy="reread", retries=3)
    world.put([(2, 2, "foreign")])
    run(pipeline, clock)
    run(pipeline, clock)
    assert attempts(world) == [2]
    world.sql("UPDATE orders SET note = 'home' WHERE id = 2")
    result = run(pipeline, clock)
    assert any("row at the source" in text for text in result.decisions)
    assert result.complete
    assert world.loaded() == world.expected() == {2: ("2.00", "home")}


def test_reread_gives_up_as_well(world: World, clock: Clock) -> None:
    rates = Rates()
    pipeline = priced(world, rates, policy="reread", retries=3)
    world.put([(2, 2, "foreign")])
    for _ in range(6):
        run(pipeline, clock)
    assert attempts(world) == [4]


def test_a_delete_ends_what_is_reread(world: World, clock: Clock, capture: str) -> None:
    pipeline = priced(world, Rates(), policy="reread", capture=capture)
    world.put([(1, 1, "home"), (2, 2, "foreign")])
    run(pipeline, clock)
    world.delete(2)
    assert run(pipeline, clock).complete
    assert world.loaded() == world.expected()


def test_ignored_records_are_left_alone(world: World, clock: Clock) -> None:
    rates = Rates()
    pipeline = priced(world, rates)
    world.put([(1, 1, "home"), (2, 2, "foreign")])
    run(pipeline, clock)
    with ledger_of(world) as ledger:
        ledger.decisions.ignore("orders", [record(2)], "ana", "a test order")
    rates.there, rates.asked = True, 0
    clock.later = timedelta(days=1)
    assert run(pipeline, clock).complete
    assert rates.asked == 0
    assert 2 not in world.loaded()


def test_at_most_so_many_records_are_tried_in_a_run(
    world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automatic, "RECORDS", 3)
    rates = Rates()
    pipeline = priced(world, rates)
    world.put((number, 1, "foreign" if number < 8 else "home") for number in range(40))
    run(pipeline, clock)
    rates.there = True
    for left in (5, 2, 0):
        clock.later += 2 * MINUTE
        assert run(pipeline, clock).streams["orders"].held_back == left
    assert world.loaded() == world.expected()


def test_a_paused_stream_is_not_tried(world: World, clock: Clock) -> None:
    rates = Rates()
    pipeline = priced(world, rates)
    world.put([(1, 1, "home"), (2, 2, "foreign")])
    run(pipeline, clock)
    with ledger_of(world) as ledger:
        ledger.streams.set_state("orders", StreamState.PAUSED, "by ana")
    rates.there = True
    clock.later = timedelta(days=1)
    run(pipeline, clock)
    assert attempts(world) == [1]


def test_the_waits_grow_to_a_day(world: World) -> None:
    (stream,) = world.pipeline(retries=9).definition.streams
    minutes = [wait / MINUTE for wait in automatic.waits(stream)]
    assert minutes == [1, 4, 16, 64, 256, 1024, 1440, 1440, 1440]
