"""Older copies of a ledger or a target put back, second ledgers, lost ledgers, paused processes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rowtrail import Pipeline
from rowtrail.checkpoints.states import DecisionKind, FailureState, RunState, StreamState
from rowtrail.connectors.base import Capture
from rowtrail.connectors.errors import ConfigurationError, OwnershipError
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.rebuild import rebuild_ledger
from rowtrail.pipelines.run import run_pipeline
from rowtrail.pipelines.stream_actions import resnapshot
from tests.pipelines.crashing import Crash, CrashAt
from tests.pipelines.witness import batches, held_back, ledger_of, record, versions
from tests.pipelines.world import World


def picky(frame):
    if (frame["note"] == "bad").any():
        raise ValueError("bad note")
    return frame


@pytest.fixture
def started(world: World, capture: str) -> Pipeline:
    """A pipeline after its first run: rows 1 to 9 are loaded, 9 has failed."""
    pipeline = world.pipeline(capture=capture, batch_rows=4, transforms=[picky])
    world.put((n, n, "bad" if n == 9 else "first") for n in range(1, 10))
    pipeline.run()
    return pipeline


def back_up_ledger(world: World) -> Path:
    path = world.folder / "ledger.backup"
    with ledger_of(world) as ledger:
        ledger.backup(path)
    return path


def put_back_ledger(world: World, backup: Path) -> None:
    for file in world.folder.glob("ledger.db*"):
        file.unlink()
    shutil.copy(backup, world.ledger)


def complete_but_for_stale(world: World) -> bool:
    """Whether the target is the source, less the records that the ledger holds back."""
    with ledger_of(world) as ledger:
        held = set(held_back(ledger))
    loaded, expected = world.loaded(), world.expected()
    assert {f"orders:{key}" for key in held} == world.gaps()
    return {key: row for key, row in loaded.items() if key not in held} == {
        key: row for key, row in expected.items() if key not in held
    }


def test_an_older_ledger_goes_on_where_the_target_is(world: World, started: Pipeline) -> None:
    backup = back_up_ledger(world)
    world.put([(1, 7, "second"), (3, 7, "bad"), (20, 1, "new")])
    world.delete(4)
    started.run()
    world.put([(2, 8, "third")])
    started.run()
    before = versions(world)
    put_back_ledger(world, backup)

    result = started.run()
    assert any("an older ledger was put back" in note for note in result.recovered)
    assert any("1 failed records are known again" in note for note in result.recovered)
    assert {one.record for one in result.failed_records} == {"orders:3", "orders:9"}
    assert complete_but_for_stale(world)
    assert all(version >= before[key] for key, version in versions(world).items())

    world.put([(3, 9, "mended"), (21, 1, "newer")])
    world.delete(5)
    again = started.run()
    assert again.recovered == ()
    assert [one.record for one in again.failed_records] == ["orders:9"]
    assert complete_but_for_stale(world)


def test_what_failed_beyond_an_older_ledger_is_retried_from_the_source(
    world: World, started: Pipeline
) -> None:
    """Its own image of 9 is of a version that was overtaken in the history that it lost."""
    backup = back_up_ledger(world)
    world.put([(9, 99, "bad")])
    started.run()
    put_back_ledger(world, backup)
    started.run()

    mended = world.pipeline(
        capture=started.definition.streams[0].capture.value, transforms=[lambda frame: frame]
    )
    (retried,) = mended.retry("orders", 9)
    assert "1 loaded" in retried.text
    assert world.loaded()[9] == ("99.00", "bad")
    assert mended.run().complete
    assert world.loaded() == world.expected()
    assert world.gaps() == set()


def test_an_older_ledger_with_a_batch_in_flight(world: World, started: Pipeline) -> None:
    world.put([(1, 7, "second"), (2, 7, "bad")])
    with pytest.raises(Crash):
        run_pipeline(started.definition, faults=CrashAt(Point.PREPARED))
    backup = back_up_ledger(world)
    started.run()
    world.put([(3, 7, "third")])
    started.run()
    put_back_ledger(world, backup)

    result = started.run()
    assert any("an older ledger was put back" in note for note in result.recovered)
    assert {one.record for one in result.failed_records} == {"orders:2", "orders:9"}
    assert complete_but_for_stale(world)


@pytest.mark.parametrize("since", ["the start", "a batch"])
def test_an_older_target_stops_the_stream_until_it_is_read_anew(
    world: World, started: Pipeline, since: str
) -> None:
    backup = world.folder / "target.backup"
    shutil.copy(world.target, backup)
    world.put([(1, 7, "second"), (20, 1, "new")])
    world.delete(4)
    started.run()
    if since == "the start":
        world.target.unlink()
    else:
        shutil.copy(backup, world.target)

    stopped = started.run()
    assert not stopped.complete
    assert stopped.state is RunState.FAILED
    stream = stopped.streams["orders"]
    assert stream.skipped is not None
    assert stream.needs_snapshot
    assert stream.skipped.startswith("needs snapshot: the ledger has loaded")
    assert "rowtrail run --resnapshot orders" in stream.skipped
    assert stream.batches == 0
    assert started.run().streams["orders"].skipped == stream.skipped, "until somebody decides"
    with pytest.raises(ConfigurationError, match="needs a snapshot"):
        started.replay("orders", 2)

    world.put([(9, 9, "mended")])
    mended = started.run(resnapshot=["orders"])
    assert mended.complete
    assert world.loaded() == world.expected()
    assert world.gaps() == set()
    assert started.run().complete


def test_a_resnapshot_asked_for_beforehand_mends_an_older_target(
    world: World, started: Pipeline
) -> None:
    backup = world.folder / "target.backup"
    shutil.copy(world.target, backup)
    world.put([(1, 7, "second"), (9, 9, "mended")])
    world.delete(4)
    started.run()
    shutil.copy(backup, world.target)
    started.run()
    resnapshot(started.definition, "orders")
    with pytest.raises(Crash):
        run_pipeline(started.definition, faults=CrashAt(Point.PREPARED))
    assert started.run().complete
    assert world.loaded() == world.expected()


def test_a_second_ledger_writes_nothing(world: World, started: Pipeline) -> None:
    world.put([(1, 7, "second")])
    owner = "SELECT pipeline, ledger_id, generation FROM _rowtrail_owner"
    before = world.loaded(), versions(world), world.query(owner)
    other = world.pipeline(ledger=world.folder / "other.db")
    with pytest.raises(OwnershipError, match="Two ledgers must not fill one target"):
        other.run()
    assert (world.loaded(), versions(world), world.query(owner)) == before
    started.run()
    assert complete_but_for_stale(world)


def test_a_lost_ledger_is_made_anew_from_the_target(world: World, started: Pipeline) -> None:
    world.put([(1, 7, "second"), (20, 1, "new")])
    with ledger_of(world) as ledger:
        identity = ledger.id
    for file in world.folder.glob("ledger.db*"):
        file.unlink()

    notes = rebuild_ledger(started.definition)
    assert any("the ledger was lost" in note for note in notes)
    assert any("1 failed records are known again" in note for note in notes)
    with pytest.raises(ConfigurationError, match="never overwrites one"):
        rebuild_ledger(started.definition)
    with ledger_of(world) as ledger:
        assert ledger.id == identity
        assert held_back(ledger) == {9: FailureState.FAILED}

    result = started.run()
    assert result.recovered == ()
    assert [one.record for one in result.failed_records] == ["orders:9"]
    assert complete_but_for_stale(world)
    world.put([(9, 9, "mended")])
    world.delete(3)
    assert started.run().complete
    assert world.loaded() == world.expected()


def test_a_rebuilt_ledger_is_that_of_its_own_pipeline(world: World, started: Pipeline) -> None:
    """Two pipelines may share a target, and each call a stream by the same name."""
    mine = started.definition
    other = replace(
        mine,
        name="another",
        ledger=world.folder / "another.db",
        streams=(replace(mine.streams[0], target="others", capture=Capture.SNAPSHOT),),
    )
    with ledger_of(world) as ledger:
        identity = ledger.id
    for _ in range(3):  # further than mine, so that its receipts are the newest
        world.put([(30, 1, str(world.clock))])
        run_pipeline(other)
    for file in world.folder.glob("ledger.db*"):
        file.unlink()
    rebuild_ledger(mine)
    with ledger_of(world) as ledger:
        assert ledger.id == identity
    started.run()
    assert complete_but_for_stale(world)


def test_a_replay_wins_over_one_that_a_lost_ledger_numbered(world: World) -> None:
    rate = {"now": "1"}

    def tag(frame):
        return frame.assign(note=frame["note"] + rate["now"])

    pipeline = world.pipeline(transforms=[tag])
    world.put([(1, 1, "a"), (2, 2, "b")])
    pipeline.run()
    for rate["now"] in ("2", "3"):
        pipeline.replay("orders", 1)
    for file in world.folder.glob("ledger.db*"):
        file.unlink()
    rebuild_ledger(pipeline.definition)
    rate["now"] = "4"
    assert "1 loaded" in pipeline.replay("orders", 1).text
    assert world.loaded()[1] == ("1.00", "a4")


def test_there_is_nothing_to_rebuild_from(world: World) -> None:
    pipeline = world.pipeline()
    world.put([(1, 1, "a")])
    with pytest.raises(ConfigurationError, match="does not exist yet"):
        rebuild_ledger(pipeline.definition)
    assert not world.ledger.exists()


@pytest.mark.parametrize("point", [Point.OPENED, Point.PREPARED, Point.WRITTEN, Point.CLOSED])
def test_capture_changed_and_back_with_crashes_between(world: World, point: Point) -> None:
    world.put((n, n, "x") for n in range(1, 10))
    for number, capture in enumerate(("cursor", "trigger", "cursor", "snapshot", "trigger")):
        world.put([(1, world.clock, capture), (100 + number, 1, "new")])
        world.delete(number + 2)
        pipeline = world.pipeline(capture=capture, batch_rows=4)
        with pytest.raises(Crash):
            run_pipeline(pipeline.definition, faults=CrashAt(point))
        # Of what the broken read may have behind it and before it.
        world.put([(1, world.clock, capture), (9, world.clock, capture)])
        with pytest.raises(Crash):
            run_pipeline(pipeline.definition, faults=CrashAt(point, occurrence=2))
        assert pipeline.run().complete
        assert world.loaded() == world.expected()
    with ledger_of(world) as ledger:
        stream = ledger.streams.get("orders")
        assert stream is not None
        assert (stream.capture, stream.epoch) == ("trigger", 5)
        assert stream.state is StreamState.ACTIVE


def test_a_record_is_not_fetched_before_its_stream_is_read_anew(world: World) -> None:
    """Its version could hide a change that is made before the new capture's first read."""
    world.put([(1, 1, "a"), (2, 2, "b")])
    world.pipeline(capture="cursor").run()
    changed = world.pipeline(capture="trigger")
    with pytest.raises(ConfigurationError, match="rowtrail run orders"):
        changed.replay("orders", 1)
    world.put([(1, 9, "later")])
    assert changed.run().complete
    assert world.loaded() == world.expected()


def test_a_request_of_an_older_target_waits_for_the_snapshot(world: World) -> None:
    pipeline = world.pipeline()
    world.put([(1, 1, "a"), (2, 2, "b")])
    pipeline.run()
    with ledger_of(world) as ledger:
        asked = ledger.decisions.request(DecisionKind.REPLAY, "orders", [record(1)], actor="ana")
    world.target.unlink()
    assert pipeline.run().decisions == ()
    result = pipeline.run(resnapshot=["orders"])
    assert len(result.decisions) == 1
    with ledger_of(world) as ledger:
        assert ledger.decisions.get(asked.id).result == result.decisions[0]
        assert len(batches(ledger)) >= 2
    assert world.loaded() == world.expected()
