"""A crash at every named point of the commit order, resumed and compared with a run without one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rowtrail import Pipeline
from rowtrail.checkpoints.states import BatchState, DecisionKind, RunState
from rowtrail.pipelines.commit import Faults, Point, no_faults
from rowtrail.pipelines.requests import Request, submit
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.crashing import Crash, CrashAt
from tests.pipelines.witness import batches, held_back, ledger_of, outcomes, record, versions
from tests.pipelines.world import World

KEYS = range(1, 20)
POINTS = [pytest.param(point, id=point.value) for point in Point]
BEFORE_THE_WRITE = (Point.OPENED, Point.STAGED, Point.PREPARED)


def picky(frame):
    if (frame["note"] == "bad").any():
        raise ValueError("bad note")
    return frame[frame["note"] != "test"]


def sync(pipeline: Pipeline, faults: Faults = no_faults) -> None:
    run_pipeline(pipeline.definition, faults=faults)


def sync_with_crash(pipeline: Pipeline, faults: Faults) -> None:
    with pytest.raises(Crash):
        sync(pipeline, faults)


def fill(world: World) -> None:
    """Of the day's three batches the second holds a row that fails and one that is dropped."""
    world.put((n, n, {4: "bad", 5: "test"}.get(n, "first")) for n in range(1, 10))


def change(world: World) -> None:
    world.put([(1, 9, "second"), (4, 9, "mended"), (7, 9, "bad"), (11, 1, "new"), (8, 1, "test")])
    world.delete(3, 6)
    world.sql("UPDATE orders SET id = 12, seen = ? WHERE id = 9", (world.clock + 1,))
    world.clock += 1


@dataclass(frozen=True)
class Story:
    """All that must be the same whether or not a process died on the way."""

    rows: dict[int, tuple[Any, ...]]
    gaps: set[str]
    held_back: dict[int, str]
    outcomes: dict[int, list[tuple[str, int | None]]]
    carrying_batches: int  # closed ones with records; of others a repeated read may add some
    versions: dict[int, Any]

    @classmethod
    def of(cls, world: World) -> Story:
        with ledger_of(world) as ledger:
            closed = [one for one in batches(ledger) if one.state is BatchState.CLOSED]
            return cls(
                rows=world.loaded(),
                gaps=world.gaps(),
                held_back={key: state.value for key, state in held_back(ledger).items()},
                outcomes={
                    key: [(entry.event, entry.operation) for entry in outcomes(ledger, key)]
                    for key in KEYS
                },
                carrying_batches=sum(one.records > 0 for one in closed),
                versions=versions(world),
            )


def assert_same(story: Story, uninterrupted: Story, capture: str) -> None:
    assert story.rows == uninterrupted.rows
    assert story.gaps == uninterrupted.gaps
    assert story.held_back == uninterrupted.held_back
    assert story.outcomes == uninterrupted.outcomes
    assert story.carrying_batches == uninterrupted.carrying_batches
    assert set(story.versions) == set(uninterrupted.versions)
    if capture == "trigger":  # elsewhere a version holds the number of a read, and one was broken
        assert story.versions == uninterrupted.versions


def assert_one_batch_read_again(world: World, point: Point, crashes: int) -> None:
    """A crash before the write costs its one batch; a crash after it costs none."""
    with ledger_of(world) as ledger:
        assert ledger.batches.unfinished() == []
        abandoned = [one for one in batches(ledger) if one.state is BatchState.ABANDONED]
        runs = [one.state for one in ledger.runs.recent(100)]
    assert len(abandoned) == (crashes if point in BEFORE_THE_WRITE else 0)
    assert runs.count(RunState.ABANDONED) == crashes
    assert RunState.RUNNING not in runs


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Story]:
    """The story of each capture as it goes when nothing happens."""
    stories = {}
    for capture in ("trigger", "cursor", "snapshot"):
        world = World(tmp_path_factory.mktemp(capture))
        pipeline = world.pipeline(capture=capture, batch_rows=3, transforms=[picky])
        fill(world)
        sync(pipeline)
        change(world)
        sync(pipeline)
        stories[capture] = Story.of(world)
    return stories


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_leaves_no_trace_once_resumed(
    world: World, capture: str, point: Point, uninterrupted: dict[str, Story]
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
    assert set(world.loaded()) == set(world.expected()) - {5, 7, 8} | {7}, "7 is there, but stale"


@pytest.mark.parametrize("point", POINTS)
def test_the_last_batch_may_be_the_one(world: World, point: Point) -> None:
    pipeline = world.pipeline(batch_rows=3)
    fill(world)
    sync_with_crash(pipeline, CrashAt(point, occurrence=3))
    sync(pipeline)
    assert world.loaded() == world.expected()
    assert_one_batch_read_again(world, point, crashes=1)


def test_recovery_says_what_it_did(world: World) -> None:
    pipeline = world.pipeline(batch_rows=3)
    fill(world)
    sync_with_crash(pipeline, CrashAt(Point.PREPARED))
    cut_off = pipeline.run().recovered
    assert any("ended without a word" in note for note in cut_off)
    assert any("read again" in note for note in cut_off)
    change(world)
    sync_with_crash(pipeline, CrashAt(Point.WRITTEN))
    written = pipeline.run().recovered
    assert any("closed from its manifest" in note for note in written)
    assert pipeline.run().recovered == ()


def test_crash_upon_crash_goes_on_a_batch_at_a_time(world: World, capture: str) -> None:
    pipeline = world.pipeline(capture=capture, batch_rows=3)
    fill(world)
    for _ in range(4):
        sync_with_crash(pipeline, CrashAt(Point.WRITTEN))
    with ledger_of(world) as ledger:
        assert sum(one.records for one in batches(ledger)) == 9, "nothing was read twice"
    sync(pipeline)
    assert world.loaded() == world.expected()
    with ledger_of(world) as ledger:
        for key in range(1, 10):
            assert [entry.event for entry in outcomes(ledger, key)] == ["loaded"]


def mended(frame):
    return frame.assign(note=frame["note"] + "!")


@pytest.fixture(scope="module")
def failed_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Rows 1 to 3, of which 2 was refused by a transform."""
    world = World(tmp_path_factory.mktemp("failed"))
    world.put([(1, 1, "good"), (2, 2, "bad"), (3, 3, "good")])
    sync(world.pipeline(transforms=[picky]))
    return world


def ask(pipeline: Pipeline, kind: DecisionKind, key: int, faults: Faults = no_faults) -> None:
    request = Request(kind=kind, stream="orders", record_ids=(record(key),))
    submit(pipeline.definition, [request], faults=faults)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("kind", [DecisionKind.RETRY, DecisionKind.REPLAY])
def test_a_crash_in_a_request(
    failed_world: World, tmp_path: Path, kind: DecisionKind, point: Point
) -> None:
    world = failed_world.copy(tmp_path / "world")
    pipeline = world.pipeline(transforms=[mended])
    with pytest.raises(Crash):
        ask(pipeline, kind, 2, CrashAt(point))
    result = pipeline.run()
    assert result.complete
    assert len(result.decisions) == 1, "the request is carried out by the next run"
    assert world.loaded() == {1: ("1.00", "good"), 2: ("2.00", "bad!"), 3: ("3.00", "good")}
    assert world.gaps() == set()
    assert_one_batch_read_again(world, point, crashes=1)
    with ledger_of(world) as ledger:
        assert held_back(ledger) == {}
        assert ledger.decisions.pending() == []
        events = [entry.event for entry in outcomes(ledger, 2)]
        assert events[:2] == ["failed", "loaded"]
        assert set(events[2:]) <= {"superseded"}, "carried out twice, it changes nothing"
        for other in (1, 3):
            assert [entry.event for entry in outcomes(ledger, other)] == ["loaded"]


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_in_a_replay_of_a_loaded_record(
    failed_world: World, tmp_path: Path, point: Point
) -> None:
    world = failed_world.copy(tmp_path / "world")
    pipeline = world.pipeline(transforms=[mended])
    with pytest.raises(Crash):
        ask(pipeline, DecisionKind.REPLAY, 1, CrashAt(point))
    assert pipeline.run().decisions != ()
    assert world.loaded()[1] == ("1.00", "good!")
    assert world.loaded()[3] == ("3.00", "good")
    assert_one_batch_read_again(world, point, crashes=1)
