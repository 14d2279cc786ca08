"""What every ledger keeps of runs and streams."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from rowtrail.checkpoints.errors import LedgerError, TransitionError, UnknownError
from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.states import (
    RUN_TRANSITIONS,
    DecisionKind,
    RunKind,
    RunState,
    StreamState,
)
from tests.checkpoints.desk import NOON, Desk, FakeClock, failure, record


class RunRules:
    def test_a_run_is_kept(self, ledger: Ledger) -> None:
        run = ledger.runs.start()
        assert ledger.runs.get(run).state is RunState.RUNNING
        assert ledger.runs.get(run).ended_at is None
        ledger.runs.finish(run, RunState.FAILED, "no disk")
        found = ledger.runs.get(run)
        assert (found.state, found.message) == (RunState.FAILED, "no disk")
        assert found.ended_at is not None and found.ended_at > found.started_at

    @pytest.mark.parametrize("state", RunState)
    @pytest.mark.parametrize("first", sorted(RUN_TRANSITIONS[RunState.RUNNING]))
    def test_a_run_ends_once(self, ledger: Ledger, first: RunState, state: RunState) -> None:
        run = ledger.runs.start()
        if state is RunState.RUNNING:
            with pytest.raises(TransitionError, match="is running and cannot become running"):
                ledger.runs.finish(run, state)
        ledger.runs.finish(run, first)
        with pytest.raises(TransitionError, match=f"is {first} and cannot become {state}"):
            ledger.runs.finish(run, state)

    def test_the_last_runs_come_first(self, ledger: Ledger) -> None:
        runs = [ledger.runs.start() for _ in range(4)]
        assert [one.id for one in ledger.runs.recent(3)] == runs[:0:-1]

    def test_runs_that_died_are_abandoned(self, ledger: Ledger) -> None:
        done = ledger.runs.start(RunKind.REQUEST)
        assert [one.id for one in ledger.runs.recent(kind=RunKind.REQUEST)] == [done]
        assert ledger.runs.recent(kind=RunKind.RUN) == []
        ledger.runs.finish(done, RunState.COMPLETE)
        died = [ledger.runs.start(), ledger.runs.start()]
        assert ledger.runs.abandon_running() == died
        assert ledger.runs.abandon_running() == []
        assert {ledger.runs.get(run).state for run in died} == {RunState.ABANDONED}
        assert ledger.runs.get(done).state is RunState.COMPLETE

    def test_a_run_is_found_by_what_a_person_types(self, ledger: Ledger) -> None:
        for nobody in ("last", "", "%", "no such"):
            with pytest.raises(UnknownError, match="knows no run"):
                ledger.runs.named(nobody)
        first, second = ledger.runs.start(), ledger.runs.start()
        ledger.runs.start(RunKind.REQUEST)
        assert ledger.runs.named("last").id == second
        assert ledger.runs.named(first).id == ledger.runs.named(first[:30]).id == first
        with pytest.raises(UnknownError, match="Several runs begin with"):
            ledger.runs.named("")
        with pytest.raises(UnknownError, match="knows no run"):
            ledger.runs.named("%")

    def test_an_unknown_run_is_named(self, ledger: Ledger) -> None:
        with pytest.raises(UnknownError, match="no run abc"):
            ledger.runs.finish("abc", RunState.COMPLETE)


def page(*keys: int) -> pa.RecordBatch:
    columns = [pa.array(keys, pa.int64()), pa.array(np.array(keys, dtype=np.uint64) * 7)]
    return pa.RecordBatch.from_arrays(columns, names=["id", "_rowtrail_hash"])


class StreamRules:
    def test_a_stream_begins_with_an_epoch(self, ledger: Ledger) -> None:
        assert ledger.streams.get("orders") is None
        made = ledger.streams.begin_epoch("orders", "cursor", "orders")
        assert made == ledger.streams.get("orders")
        assert (made.epoch, made.position, made.read_number, made.sequence) == (1, None, 0, 0)
        assert (made.state, made.last_batch_id, made.watermark) == (StreamState.ACTIVE, None, None)
        assert ledger.streams.begin_epoch("lines", "trigger", "lines").epoch == 1
        assert [one.name for one in ledger.streams.all()] == ["lines", "orders"]

    def test_a_new_epoch_forgets_the_position_but_not_the_sequence(self, desk: Desk) -> None:
        closed = desk.close([1], 1, watermark=NOON, page=page(1), read_complete=True)
        streams = desk.ledger.streams
        number = streams.next_read("orders")
        streams.set_state("orders", StreamState.NEEDS_SNAPSHOT, "slot lost")
        fresh = streams.begin_epoch("orders", "trigger", "orders")
        assert (fresh.epoch, fresh.capture, fresh.position) == (2, "trigger", None)
        assert (fresh.state, fresh.state_reason, fresh.watermark) == (
            StreamState.ACTIVE,
            None,
            None,
        )
        assert (fresh.sequence, fresh.last_batch_id) == (1, closed.batch_id)
        assert fresh.read_number == number
        assert list(streams.pages("orders")) == []
        assert streams.begin_epoch("orders", "trigger", "orders").epoch == 3

    def test_read_numbers_rise(self, ledger: Ledger) -> None:
        ledger.streams.begin_epoch("orders", "cursor", "orders")
        assert ledger.streams.next_read("orders") == 1
        assert ledger.streams.next_read("orders") == 2
        found = ledger.streams.get("orders")
        assert found is not None and found.read_number == 2

    def test_a_state_has_a_reason(self, ledger: Ledger, clock: FakeClock) -> None:
        ledger.streams.begin_epoch("orders", "cursor", "orders")
        ledger.streams.set_state("orders", StreamState.STOPPED, "too many deletes")
        found = ledger.streams.get("orders")
        assert found is not None
        assert (found.state, found.state_reason) == (StreamState.STOPPED, "too many deletes")
        assert found.updated_at == clock.now

    def test_an_unknown_stream_is_named_with_those_that_are_known(self, ledger: Ledger) -> None:
        ledger.streams.begin_epoch("orders", "cursor", "orders")
        for call in (
            lambda: ledger.streams.next_read("order"),
            lambda: ledger.streams.set_state("order", StreamState.PAUSED),
            lambda: ledger.streams.pages("order"),
            lambda: ledger.streams.drop("order"),
            lambda: ledger.trail(record(1, stream="order")),
        ):
            with pytest.raises(UnknownError, match="no stream order; it knows: orders"):
                call()

    def test_what_a_receipt_says_is_adopted(self, ledger: Ledger) -> None:
        said = {
            "capture": "trigger",
            "target": "sales",
            "epoch": 3,
            "position": "p9",
            "sequence": 12,
            "batch_id": "b",
        }
        adopted = ledger.streams.adopt("orders", read_number=4, **said)  # type: ignore[arg-type]
        assert adopted == ledger.streams.get("orders")
        assert (adopted.capture, adopted.target) == ("trigger", "sales")
        assert (adopted.epoch, adopted.position) == (3, "p9")
        assert (adopted.read_number, adopted.sequence, adopted.last_batch_id) == (4, 12, "b")
        assert [ledger.streams.next_read("orders") for _ in range(3)] == [5, 6, 7]
        again = ledger.streams.adopt("orders", read_number=6, **said)  # type: ignore[arg-type]
        assert again.read_number == 7  # a number that was issued is never issued again

    def test_after_an_adoption_decisions_are_above_all_that_may_be_lost(self, desk: Desk) -> None:
        ask = desk.ledger.decisions.request
        assert ask(DecisionKind.RETRY, "orders", [], actor="ann").id == 1
        desk.ledger.streams.adopt(
            "orders",
            capture="c",
            target="orders",
            epoch=1,
            position=None,
            read_number=0,
            sequence=4,
            batch_id="b",
        )
        first = ask(DecisionKind.RETRY, "orders", [], actor="ann").id
        assert first > NOON.timestamp() * 1000
        assert ask(DecisionKind.RETRY, "orders", [], actor="ann").id == first + 1

    def test_a_renamed_stream_keeps_all(self, desk: Desk) -> None:
        desk.fail(7, 1)
        desk.close([1, 2], 2)
        streams = desk.ledger.streams
        streams.rename("orders", "sales")
        assert streams.get("orders") is None
        assert [e.event for e in desk.ledger.trail(record(1, stream="sales"))] == ["loaded"]
        (held,) = desk.ledger.failures.held_back("sales")
        assert held.record_id == record(7, stream="sales")
        streams.begin_epoch("orders", "cursor", "orders")
        with pytest.raises(LedgerError, match="sales cannot be renamed to orders"):
            streams.rename("sales", "orders")

    def test_a_dropped_stream_is_forgotten_and_the_others_are_not(self, desk: Desk) -> None:
        ledger = desk.ledger
        desk.fail(7, 1)
        ledger.decisions.ignore("orders", [record(7)], "ann", "test data")
        desk.close([1], 2, page=page(1), read_complete=True, failures=(failure(8, 2),))
        desk.prepare([2], 3, page=page(2), failures=(failure(9, 3),))
        ledger.streams.begin_epoch("lines", "cursor", "lines")
        batch = desk.open(stream="lines")
        ledger.streams.drop("orders")
        assert [one.name for one in ledger.streams.all()] == ["lines"]
        assert [one.batch_id for one in ledger.batches.unfinished()] == [batch.batch_id]
        assert ledger.failures.list() == []
        ledger.streams.begin_epoch("orders", "cursor", "orders")
        assert desk.events(1) == desk.events(7) == []

    def test_decisions_are_not_numbered_anew_after_a_drop(self, desk: Desk) -> None:
        ask = desk.ledger.decisions.request
        last = ask(DecisionKind.RETRY, "orders", [], actor="ann").id
        desk.ledger.streams.drop("orders")
        desk.ledger.streams.begin_epoch("orders", "cursor", "orders")
        assert ask(DecisionKind.RETRY, "orders", [], actor="ann").id == last + 1


class PageRules:
    def test_pages_come_back_in_order_once_the_read_is_complete(self, desk: Desk) -> None:
        pages = desk.ledger.streams.pages
        desk.close([1], 1, page=page(1, 2))
        assert list(pages("orders")) == []
        desk.close([3], 1, page=page(3))
        desk.close([], 1, read_complete=True)
        assert [one.to_pydict() for one in pages("orders")] == [
            {"id": [1, 2], "_rowtrail_hash": [7, 14]},
            {"id": [3], "_rowtrail_hash": [21]},
        ]
        assert next(pages("orders")).schema == page(1).schema

    def test_a_complete_read_takes_the_place_of_the_one_before(self, desk: Desk) -> None:
        pages = desk.ledger.streams.pages
        desk.close([1], 1, page=page(1), read_complete=True)
        desk.close([2], 2, page=page(2))
        assert [one["id"].to_pylist() for one in pages("orders")] == [[1]]
        desk.close([3], 2, page=page(3), read_complete=True)
        assert [one["id"].to_pylist() for one in pages("orders")] == [[2], [3]]

    def test_pages_count_from_the_close_of_their_batch(self, desk: Desk) -> None:
        desk.close([1], 1, page=page(1))
        lost = desk.prepare([2], 1, page=page(2), read_complete=True)
        assert list(desk.ledger.streams.pages("orders")) == []
        desk.ledger.batches.abandon(lost.batch_id)
        desk.close([2], 1, page=page(22), read_complete=True)
        found = desk.ledger.streams.pages("orders")
        assert [one["id"].to_pylist() for one in found] == [[1], [22]]

    def test_pages_stay_readable_while_the_next_read_is_written(self, desk: Desk) -> None:
        desk.close([1], 1, page=page(1))
        desk.close([2], 1, page=page(2), read_complete=True)
        reading = desk.ledger.streams.pages("orders")
        assert next(reading)["id"].to_pylist() == [1]
        desk.close([3], 2, page=page(3))
        assert next(reading)["id"].to_pylist() == [2]

    def test_pages_that_are_gone_are_not_passed_over_in_silence(self, desk: Desk) -> None:
        desk.close([1], 1, page=page(1))
        desk.close([2], 1, page=page(2), read_complete=True)
        reading = desk.ledger.streams.pages("orders")
        next(reading)
        desk.close([3], 2, page=page(3), read_complete=True)
        with pytest.raises(LedgerError, match="pages of the last read are gone"):
            next(reading)
