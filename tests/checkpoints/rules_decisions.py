"""What every ledger keeps of decisions, and how a record's trail tells its story."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from rowtrail.checkpoints.errors import LedgerError, TransitionError, UnknownError
from rowtrail.checkpoints.states import DecisionKind, DecisionState, FailureState, Stage
from tests.checkpoints.desk import NOTHING, Desk, end, failure, manifest, record, version

FAILED, WAITING, IGNORED = FailureState.FAILED, FailureState.WAITING, FailureState.IGNORED


class DecisionRules:
    def test_a_request_waits_until_it_is_carried_out(self, desk: Desk) -> None:
        decisions = desk.ledger.decisions
        wanted = [record(7), record("x", 2), record(7)]
        asked = decisions.request(
            DecisionKind.RETRY, "orders", wanted, from_stage="extract", actor="ann", reason="mended"
        )
        assert (asked.id, asked.kind, asked.state) == (1, "retry", DecisionState.PENDING)
        assert (asked.stream, asked.record_ids) == ("orders", (record(7), record("x", 2)))
        assert (asked.from_stage, asked.actor, asked.reason) == ("extract", "ann", "mended")
        assert (asked.finished_at, asked.result) == (None, None)
        second = decisions.request(DecisionKind.REPLAY, "orders", [], actor="bob")
        assert decisions.pending() == [asked, second]
        decisions.finish(asked.id, DecisionState.DONE, "2 loaded")
        assert decisions.pending() == [second]
        done = decisions.get(asked.id)
        assert (done.state, done.result) == (DecisionState.DONE, "2 loaded")
        assert done.finished_at is not None and done.finished_at > done.created_at

    @pytest.mark.parametrize("state", DecisionState)
    @pytest.mark.parametrize("first", [DecisionState.DONE, DecisionState.FAILED])
    def test_a_decision_is_carried_out_once(
        self, desk: Desk, first: DecisionState, state: DecisionState
    ) -> None:
        decisions = desk.ledger.decisions
        number = decisions.request(DecisionKind.RETRY, "orders", [], actor="ann").id
        if state is DecisionState.PENDING:
            with pytest.raises(TransitionError, match="is pending and cannot become pending"):
                decisions.finish(number, state, "")
        decisions.finish(number, first, "")
        with pytest.raises(TransitionError, match=f"is {first} and cannot become {state}"):
            decisions.finish(number, state, "")

    def test_what_is_ignored_can_be_failed_again(self, desk: Desk) -> None:
        decisions = desk.ledger.decisions
        desk.close([], 1, failures=(failure(7, 1), failure(8, 1)))
        desk.close([], 2, failures=(failure(7, 2, state=WAITING),))
        ignored = decisions.ignore("orders", [record(7)], "ann", "test data")
        assert (ignored.state, ignored.result) == (DecisionState.DONE, "1 change ignored")
        assert list(desk.states().values()) == [IGNORED, FAILED, WAITING]
        undone = decisions.unignore("orders", [record(7)], "bob")
        assert (undone.kind, undone.reason, undone.result) == ("unignore", None, "1 change failed")
        assert list(desk.states().values()) == [FAILED, FAILED, WAITING]
        assert decisions.pending() == []

    def test_only_what_is_held_back_is_ignored(self, desk: Desk) -> None:
        decisions = desk.ledger.decisions
        desk.fail(7, 1)
        ended = desk.fail(8, 1)
        desk.close([8], 2, ends=(end(ended),))
        for others in ([record(8)], [record(7), record(9)], [record("7")]):
            with pytest.raises(LedgerError, match=r"^orders:.* is not failed"):
                decisions.ignore("orders", others, "ann", "test data")
        with pytest.raises(LedgerError, match=r"^orders:8 \(and 1 more\) is not failed"):
            decisions.ignore("orders", [record(8), record(7), record(9)], "ann", "test data")
        with pytest.raises(LedgerError, match=r"^orders:7 is not ignored, so nothing was changed"):
            decisions.unignore("orders", [record(7)], "ann")
        assert list(desk.states().values()) == [FAILED, FailureState.LOADED]
        decisions.ignore("orders", [record(7)], "ann", "test data")
        with pytest.raises(LedgerError, match=r"^orders:7 is not failed"):
            decisions.ignore("orders", [record(7)], "ann", "test data")
        assert desk.events(7) == ["failed", "ignored"]

    def test_many_records_are_ignored_at_once(self, desk: Desk) -> None:
        desk.close([], 1, failures=tuple(failure(key, 1) for key in range(2_000)))
        records = [record(key) for key in range(2_000)]
        desk.ledger.decisions.ignore("orders", records, "ann", "test data")
        assert desk.ledger.failures.counts("orders")[IGNORED] == 2_000

    def test_unknown_streams_and_decisions_are_named(self, desk: Desk) -> None:
        decisions = desk.ledger.decisions
        for call in (
            lambda: decisions.request(DecisionKind.RETRY, "lines", [], actor="ann"),
            lambda: decisions.ignore("lines", [record(1)], "ann", "test data"),
        ):
            with pytest.raises(UnknownError, match="no stream lines"):
                call()
        for call in (
            lambda: decisions.get(9),
            lambda: decisions.finish(9, DecisionState.DONE, ""),
        ):
            with pytest.raises(UnknownError, match="no decision 9"):
                call()


class TrailRules:
    def test_a_record_s_life(self, desk: Desk) -> None:
        """Loaded, failed, tried again, ignored, undone, mended, superseded, deleted."""
        decisions = desk.ledger.decisions
        desk.close([7], 1)
        number = desk.fail(7, 2)
        asked = decisions.request(DecisionKind.RETRY, "orders", [record(7)], actor="ann")
        desk.fail(7, 2, message="still no such country")
        decisions.finish(asked.id, DecisionState.FAILED, "1 failed again")
        decisions.ignore("orders", [record(7)], "bob", "test data")
        decisions.unignore("orders", [record(7)], "ann", "no, it is real")
        again = decisions.request(
            DecisionKind.REPLAY, "orders", [record(7)], from_stage="extract", actor="ann"
        )
        closed = desk.close([7], 2, ends=(end(number, decision_id=again.id),))
        decisions.finish(again.id, DecisionState.DONE, "1 loaded")
        desk.close([7], 1, superseded=[0])

        trail = desk.ledger.trail(record(7))
        assert [(entry.event, entry.detail) for entry in trail] == [
            ("loaded", "loaded into the target"),
            ("failed", "failed at stage transform: ValueError: no such country"),
            ("retry asked", "by ann"),
            (
                "failed",
                "failed at stage transform: ValueError: still no such country (attempt 2)",
            ),
            ("retry failed", "1 failed again"),
            ("ignored", "by bob: test data"),
            ("ignore undone", "by ann: no, it is real"),
            ("replay asked", "by ann, from stage extract"),
            ("loaded", "loaded into the target"),
            ("failure ended", "the failure ended: the change was loaded"),
            ("replay done", "1 loaded"),
            (
                "superseded",
                "the target already had this version or a newer one; nothing was changed",
            ),
        ]
        assert [entry.at for entry in trail] == sorted(entry.at for entry in trail)
        ended = trail[9]
        assert (ended.batch_id, ended.run_id) == (closed.batch_id, desk.run)
        assert (ended.failure_id, ended.decision_id) == (number, again.id)
        assert {entry.run_id for entry in trail if entry.batch_id} == {desk.run}
        assert [entry.version for entry in trail if entry.event == "failed"] == [version(2)] * 2

    def test_a_record_without_a_trail(self, desk: Desk) -> None:
        desk.close([1, 3], 1)
        assert desk.events(2) == desk.events("1") == desk.events(1, 1) == []

    def test_what_is_prepared_is_in_flight(self, desk: Desk) -> None:
        batch = desk.prepare([1], 1, failures=(failure(2, 1, stage=Stage.LOAD),))
        (loading,), (failing,) = desk.ledger.trail(record(1)), desk.ledger.trail(record(2))
        assert (loading.event, loading.batch_id) == ("in flight", batch.batch_id)
        assert loading.detail == "prepared to be loaded; the batch is not closed yet"
        assert failing.event == "in flight"
        assert failing.detail == (
            "failed at stage load: ValueError: no such country; the batch is not closed yet"
        )
        desk.ledger.batches.close(batch.batch_id, NOTHING)
        assert (desk.events(1), desk.events(2)) == (["loaded"], ["failed"])

    def test_several_changes_of_a_batch_come_by_version(self, desk: Desk) -> None:
        batch = desk.open()
        folded = manifest(batch.batch_id, [5, 5, 5], 1)
        parts = [[1, 1, 1], [3, 1, 2], [0, 0, 0], [0, 0, 0]]
        names = ["epoch", "position", "ordinal", "revision"]
        folded = replace(
            folded,
            versions=pa.RecordBatch.from_arrays([pa.array(part) for part in parts], names=names),
            outcomes=pa.array([1, 3, 3], pa.uint8()),
            load_rows=pa.array([0], pa.uint32()),
        )
        desk.ledger.batches.prepare(folded)
        desk.ledger.batches.close(batch.batch_id, NOTHING)
        trail = desk.ledger.trail(record(5))
        assert [(entry.event, entry.version) for entry in trail] == [
            ("folded", version(1)),
            ("folded", version(2)),
            ("loaded", version(3)),
        ]

    def test_records_are_found_after_their_key_changed_its_type(self, desk: Desk) -> None:
        desk.close([42], 1)
        text = pa.RecordBatch.from_arrays([pa.array(["42", "x"])], names=["id"])
        wide = pa.RecordBatch.from_arrays([pa.array([42, 5], pa.int32())], names=["id"])
        for position, keys in ((2, text), (3, wide)):
            batch = desk.open()
            changed = replace(manifest(batch.batch_id, [0, 0], position), keys=keys)
            desk.ledger.batches.prepare(changed)
            desk.ledger.batches.close(batch.batch_id, NOTHING)
        positions = {
            key: [entry.version[1] for entry in desk.ledger.trail(record(key)) if entry.version]
            for key in (42, "42", "x", 5)
        }
        assert positions == {42: [1, 3], "42": [2], "x": [2], 5: [3]}

    def test_streams_have_trails_of_their_own(self, desk: Desk) -> None:
        desk.close([1], 1)
        desk.ledger.streams.begin_epoch("lines", "cursor", "lines")
        assert desk.ledger.trail(record(1, stream="lines")) == []
