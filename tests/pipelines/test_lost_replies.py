"""Connections that are cut, also after the commit: nothing doubled, and only that is tried again.

The connectors are real; what stands between them and the engine drops replies on purpose.
"""

from __future__ import annotations

import pytest

from rowtrail.checkpoints.states import BatchState, DecisionKind
from rowtrail.connectors.base import Load
from rowtrail.connectors.errors import RecordError, RowtrailError, StopError
from rowtrail.pipelines import retrying
from rowtrail.pipelines.progress import Silent
from tests.pipelines.wires import cut, wire_destination, wire_source
from tests.pipelines.witness import batches, ledger_of, outcomes, record
from tests.pipelines.world import World


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0)
    monkeypatch.setattr(retrying, "LONGEST_WAIT", 0)
    monkeypatch.setattr(retrying, "PATIENCE", 0)


def assert_one_outcome_each(world: World, keys: range) -> None:
    with ledger_of(world) as ledger:
        assert ledger.batches.unfinished() == []
        for key in keys:
            assert [entry.event for entry in outcomes(ledger, key)] == ["loaded"]


def test_committed_but_the_reply_was_lost(
    world: World, capture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wires = wire_destination(monkeypatch, after_write=lambda number: cut() if number % 2 else None)
    pipeline = world.pipeline(capture=capture, batch_rows=4)
    world.put((n, n, "x") for n in range(1, 10))
    result = pipeline.run()
    assert result.complete
    assert result.streams["orders"].counts.loaded == 9
    assert result.streams["orders"].counts.total == 9
    assert wires[0].writes == 2 * result.streams["orders"].batches
    assert world.loaded() == world.expected()
    assert_one_outcome_each(world, range(1, 10))


def test_replies_lost_until_patience_ends(
    world: World, capture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = world.pipeline(capture=capture, batch_rows=4)
    world.put((n, n, "x") for n in range(1, 10))
    with monkeypatch.context() as patched:
        wires = wire_destination(patched, after_write=lambda number: cut())
        stopped = pipeline.run()
    assert stopped.streams["orders"].error == "The connection was cut."
    assert wires[0].writes == retrying.ATTEMPTS
    with ledger_of(world) as ledger:
        assert [one.state for one in batches(ledger)] == [BatchState.CLOSED], "its receipt is there"
    assert pipeline.run().complete
    assert world.loaded() == world.expected()
    assert_one_outcome_each(world, range(1, 10))


def test_cut_before_the_commit_until_patience_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = world.pipeline(batch_rows=4)
    world.put((n, n, "x") for n in range(1, 10))
    with monkeypatch.context() as patched:
        wire_destination(patched, before_write=lambda number: cut() if number > 1 else None)
        stopped = pipeline.run()
    assert stopped.streams["orders"].error == "The connection was cut."
    with ledger_of(world) as ledger:
        assert [one.state for one in batches(ledger)] == [BatchState.CLOSED, BatchState.ABANDONED]
    assert set(world.loaded()) == {1, 2, 3, 4}
    assert pipeline.run().complete
    assert_one_outcome_each(world, range(1, 10))


def test_a_stopped_stream_does_not_keep_requests_from_being_carried_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = world.pipeline()
    world.put([(1, 1, "a"), (2, 2, "b")])
    pipeline.run()
    world.put([(1, 5, "later")])

    def lose_the_first(number: int) -> Exception | None:
        """How its write ended is not known; meanwhile somebody asks for a replay."""
        if number > 1:
            return None
        with ledger_of(world) as ledger:
            ledger.decisions.request(DecisionKind.REPLAY, "orders", [record(2)], actor="ana")
        return StopError("The disk went away.")

    wire_destination(monkeypatch, after_write=lose_the_first)
    result = pipeline.run()
    assert result.streams["orders"].error == "The disk went away."
    assert result.decisions == ("replay from the row at the source: 1 loaded",)
    assert world.loaded() == world.expected()


@pytest.mark.parametrize("error", [StopError("The disk is full."), RowtrailError("It is odd.")])
def test_only_what_may_pass_by_itself_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    wires = wire_destination(monkeypatch, before_write=lambda number: error)
    world.put([(1, 1, "a")])
    stopped = world.pipeline().run()
    assert stopped.streams["orders"].error == str(error)
    assert wires[0].writes == 1


def test_data_errors_are_isolated_not_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One write that fails, probes that halve 8 rows down to one, and one write that passes."""
    pipeline = world.pipeline()
    world.put((n, n, "x") for n in range(1, 9))

    def refuse_five(load: Load) -> None:
        if 5 in load.rows.column("id").to_pylist():
            raise RecordError("five is not wanted", column="id")

    wires = wire_destination(monkeypatch, refuses=refuse_five)
    result = pipeline.run()
    assert [one.record for one in result.failed_records] == ["orders:5"]
    assert wires[0].writes == 2
    assert wires[0].probes == result.streams["orders"].attempts == 5


def test_a_transform_that_raises_is_not_tried_again(world: World) -> None:
    calls: list[int] = []

    def picky(frame):
        calls.append(len(frame))
        if (frame["note"] == "bad").any():
            raise ValueError("bad note")
        return frame

    world.put((n, n, "bad" if n == 5 else "x") for n in range(1, 9))
    result = world.pipeline(transforms=[picky]).run()
    assert [one.record for one in result.failed_records] == ["orders:5"]
    assert calls == [8, 4, 2, 1, 1, 2], "the second half must fail, as the first one passed"
    assert result.streams["orders"].attempts == len(calls)


@pytest.mark.parametrize("items", [1, 2])
def test_a_read_that_is_cut_goes_on_from_the_last_closed_batch(
    world: World, capture: str, monkeypatch: pytest.MonkeyPatch, items: int
) -> None:
    pipeline = world.pipeline(capture=capture, batch_rows=2)
    world.put((n, n, "x") for n in range(1, 10))
    sources = wire_source(monkeypatch, items=items)
    result = pipeline.run()
    assert result.complete
    assert result.streams["orders"].counts.loaded == result.streams["orders"].counts.total == 9
    assert world.loaded() == world.expected()
    assert_one_outcome_each(world, range(1, 10))
    started_from = sources[0].started_from
    assert started_from[0] is None
    assert len(started_from) >= 3
    assert len(set(started_from)) == len(started_from), "each goes on from a place of its own"


def test_a_source_that_stays_away_stops_the_stream(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = world.pipeline()
    world.put([(1, 1, "a")])
    with monkeypatch.context() as patched:
        sources = wire_source(patched, items=0)
        stopped = pipeline.run()
    assert stopped.streams["orders"].error == "The connection was cut."
    assert len(sources[0].started_from) == retrying.ATTEMPTS
    assert pipeline.run().complete


def test_a_source_that_cannot_be_told_does_not_undo_a_batch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = wire_source(monkeypatch, acknowledging=lambda number: cut() if number % 2 else None)
    world.put((n, n, "x") for n in range(1, 6))
    result = world.pipeline(batch_rows=2).run()
    assert result.complete
    assert sources[0].acknowledged == 2 * result.streams["orders"].batches
    assert world.loaded() == world.expected()


def test_a_source_that_can_never_be_told_is_told_by_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is at the target: the run is complete, and says what it could not do."""
    told: list[str] = []

    class Listening(Silent):
        def note(self, text: str) -> None:
            told.append(text)

    pipeline = world.pipeline(batch_rows=2)
    world.put((n, n, "x") for n in range(1, 6))
    pipeline.run()
    world.put((n, n, "y") for n in range(1, 6))
    with monkeypatch.context() as patched:
        wire_source(patched, acknowledging=lambda number: cut())
        assert pipeline.run(reporter=Listening()).complete
    assert "could not forget what is loaded: The connection was cut." in told[-1]
    assert world.loaded() == world.expected()
    world.put([(1, 1, "z")])
    assert pipeline.run().complete
    assert world.loaded() == world.expected()
    assert world.sql("SELECT count(*) FROM _rowtrail_log_orders") == [(0,)]
