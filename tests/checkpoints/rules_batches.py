"""What every ledger keeps of batches, from open to close."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from rowtrail.checkpoints.errors import LedgerError, TransitionError, UnknownError
from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.states import BatchKind, BatchState, FailureState, Outcome
from tests.checkpoints.desk import (
    NOON,
    NOTHING,
    Desk,
    end,
    failure,
    manifest,
    record,
    version,
)

Opener = Callable[[], Ledger]


class BatchRules:
    def test_a_batch_goes_from_open_to_closed(self, desk: Desk) -> None:
        batches = desk.ledger.batches
        opened = desk.open()
        assert (opened.state, opened.sequence, opened.records) == (BatchState.OPEN, 1, 0)
        assert (opened.stream, opened.run_id, opened.kind) == ("orders", desk.run, "capture")
        assert (opened.manifest_digest, opened.closed_at, opened.epoch) == (None, None, 1)
        failures = (failure(3, 5),)
        digest = batches.prepare(manifest(opened.batch_id, [1, 2], 5, failures=failures))
        prepared = batches.get(opened.batch_id)
        assert (prepared.state, prepared.records) == (BatchState.PREPARED, 3)
        assert (prepared.manifest_digest, len(digest)) == (digest, 64)
        batches.close(opened.batch_id, NOTHING)
        closed = batches.get(opened.batch_id)
        assert closed.closed_at is not None and closed.closed_at > opened.opened_at
        assert closed == replace(prepared, state=BatchState.CLOSED, closed_at=closed.closed_at)
        assert batches.recent("orders", 1) == [closed]

    def test_a_close_moves_the_stream(self, desk: Desk) -> None:
        closed = desk.close([1], 5, watermark=NOON)
        stream = desk.ledger.streams.get("orders")
        assert stream is not None
        assert (stream.position, stream.sequence) == ("after 5", 1)
        assert (stream.last_batch_id, stream.watermark) == (closed.batch_id, NOON)
        desk.close([1], 6, position_after=None)
        stream = desk.ledger.streams.get("orders")
        assert stream is not None
        assert (stream.position, stream.sequence, stream.watermark) == ("after 5", 2, NOON)

    def test_a_prepared_batch_moves_nothing(self, desk: Desk) -> None:
        before = desk.ledger.streams.get("orders")
        desk.prepare([1], 5, failures=(failure(2, 5),))
        assert desk.ledger.streams.get("orders") == before
        assert desk.held() == []

    def test_another_process_closes_from_the_manifest_alone(
        self, desk: Desk, opener: Opener
    ) -> None:
        first = desk.fail(4, 1)
        batch = desk.prepare(
            [9, 4, 7],
            5,
            load=[2, 0, 1],
            failures=(failure(8, 5),),
            ends=(end(first),),
            watermark=NOON,
        )
        desk.ledger.close()
        other = opener()
        assert [one.batch_id for one in other.batches.unfinished()] == [batch.batch_id]
        other.batches.close(batch.batch_id, pa.array([0], pa.uint32()))
        events = {key: [e.event for e in other.trail(record(key))] for key in (9, 4, 7, 8)}
        assert events == {
            9: ["loaded"],
            4: ["failed", "loaded", "failure ended"],
            7: ["superseded"],  # row 0 of the load is row 2 of the manifest
            8: ["failed"],
        }
        stream = other.streams.get("orders")
        assert stream is not None
        assert (stream.position, stream.sequence, stream.watermark) == ("after 5", 2, NOON)
        other.close()

    def test_a_manifest_can_be_replaced(self, desk: Desk) -> None:
        batch = desk.open()
        prepare = desk.ledger.batches.prepare
        page = pa.RecordBatch.from_arrays([pa.array([1])], names=["id"])
        first = prepare(manifest(batch.batch_id, [1, 2], 5, page=page))
        second = prepare(manifest(batch.batch_id, [1], 5, failures=(failure(2, 5),), page=page))
        assert first != second == desk.ledger.batches.get(batch.batch_id).manifest_digest
        desk.ledger.batches.close(batch.batch_id, NOTHING)
        assert (desk.events(1), desk.events(2)) == (["loaded"], ["failed"])

    def test_the_digest_is_that_of_the_whole_manifest(self, desk: Desk) -> None:
        batch = desk.open()
        plain = manifest(batch.batch_id, [1, 2], 5, failures=(failure(3, 5),))
        numbers = np.zeros((4, 2), dtype=np.int64)
        names = ["epoch", "position", "ordinal", "revision"]
        others = [
            replace(plain, keys=pa.RecordBatch.from_arrays([pa.array([1, 4])], names=["id"])),
            replace(
                plain, versions=pa.RecordBatch.from_arrays(list(map(pa.array, numbers)), names)
            ),
            replace(plain, operations=pa.array([1, 2], pa.uint8())),
            replace(plain, outcomes=pa.array([1, 2], pa.uint8())),
            replace(plain, load_rows=pa.array([1, 0], pa.uint32())),
            replace(plain, failures=()),
            replace(plain, failures=(failure(3, 5, message="other"),)),
            replace(plain, failures=(failure(3, 5, extracted=b"other"),)),
            replace(plain, ends=(end(1),)),
            replace(plain, position_after=None),
            replace(plain, watermark=NOON),
            replace(plain, read_complete=True),
            replace(plain, page=pa.RecordBatch.from_arrays([pa.array([1])], names=["id"])),
        ]
        prepare = desk.ledger.batches.prepare
        digests = [prepare(one) for one in (plain, *others)]
        assert len(set(digests)) == len(digests)
        assert prepare(plain) == digests[0]

    def test_sequences_follow_what_was_closed(self, desk: Desk) -> None:
        desk.close([1], 1)
        lost = desk.prepare([2], 2)
        desk.ledger.batches.abandon(lost.batch_id)
        assert lost.sequence == 2
        assert desk.open().sequence == 2

    def test_an_abandoned_batch_leaves_nothing(self, desk: Desk) -> None:
        first = desk.fail(4, 1)
        batch = desk.prepare([1, 4], 2, failures=(failure(5, 2),), ends=(end(first),))
        desk.ledger.batches.abandon(batch.batch_id)
        assert desk.events(1) == desk.events(5) == []
        assert desk.events(4) == ["failed"]
        assert desk.ledger.batches.unfinished() == []
        assert desk.ledger.batches.get(batch.batch_id).state is BatchState.ABANDONED

    def test_a_stream_has_one_batch_at_a_time(self, desk: Desk) -> None:
        earlier = desk.open()
        with pytest.raises(TransitionError, match=f"orders cannot .* batch {earlier.batch_id} is"):
            desk.open()
        desk.ledger.streams.begin_epoch("lines", "cursor", "lines")
        assert desk.open(stream="lines").sequence == 1

    def test_unfinished_batches_come_in_order(self, desk: Desk) -> None:
        for name in ("a", "b", "c"):
            desk.ledger.streams.begin_epoch(name, "cursor", name)
        opened = [desk.open(stream=name) for name in ("b", "a", "c")]
        desk.ledger.batches.prepare(manifest(opened[1].batch_id, [1], 1))
        found = desk.ledger.batches.unfinished()
        assert [one.batch_id for one in found] == [one.batch_id for one in opened]
        assert [one.state for one in found] == ["open", "prepared", "open"]

    def test_the_last_batches_come_first(self, desk: Desk) -> None:
        closed = [desk.close([n], n) for n in (1, 2, 3)]
        last = desk.prepare([4], 4)
        assert [one.batch_id for one in desk.ledger.batches.recent("orders", 3)] == [
            last.batch_id,
            closed[2].batch_id,
            closed[1].batch_id,
        ]

    def test_a_second_close_changes_nothing(self, desk: Desk) -> None:
        desk.close([1], 1, failures=(failure(2, 1),))
        before = desk.ledger.streams.get("orders"), desk.events(1), desk.events(2)
        (batch,) = desk.ledger.batches.recent("orders", 1)
        desk.ledger.batches.close(batch.batch_id, pa.array([0], pa.uint32()))
        assert (desk.ledger.streams.get("orders"), desk.events(1), desk.events(2)) == before
        assert desk.ledger.batches.recent("orders", 1) == [batch]

    def test_a_second_abandonment_changes_nothing(self, desk: Desk) -> None:
        batch = desk.open()
        desk.ledger.batches.abandon(batch.batch_id)
        before = desk.ledger.batches.get(batch.batch_id)
        desk.ledger.batches.abandon(batch.batch_id)
        assert desk.ledger.batches.get(batch.batch_id) == before

    def test_what_may_not_follow_is_refused(self, desk: Desk) -> None:
        batches = desk.ledger.batches
        opened = desk.open()
        with pytest.raises(TransitionError, match="of stream orders is open and cannot become clo"):
            batches.close(opened.batch_id, NOTHING)
        batches.abandon(opened.batch_id)
        for call in (
            lambda: batches.close(opened.batch_id, NOTHING),
            lambda: batches.prepare(manifest(opened.batch_id, [1], 1)),
        ):
            with pytest.raises(TransitionError, match="is abandoned and cannot become"):
                call()
        closed = desk.close([1], 1)
        for call in (
            lambda: batches.abandon(closed.batch_id),
            lambda: batches.prepare(manifest(closed.batch_id, [1], 1)),
        ):
            with pytest.raises(TransitionError, match="is closed and cannot become"):
                call()

    def test_unknown_batches_streams_and_runs_are_named(self, desk: Desk) -> None:
        batches = desk.ledger.batches
        for call in (
            lambda: batches.get("abc"),
            lambda: batches.close("abc", NOTHING),
            lambda: batches.abandon("abc"),
            lambda: batches.prepare(manifest("abc", [1], 1)),
        ):
            with pytest.raises(UnknownError, match="no batch abc"):
                call()
        with pytest.raises(UnknownError, match="no stream lines"):
            batches.open(desk.run, "lines", BatchKind.CAPTURE, 1)
        with pytest.raises(LedgerError):
            batches.open("no such run", "orders", BatchKind.CAPTURE, 1)
        assert batches.unfinished() == []

    def test_superseded_rows_that_the_load_has_not_are_refused(self, desk: Desk) -> None:
        batch = desk.prepare([1, 2, 3], 1, load=[2, 0])
        with pytest.raises(LedgerError, match=r"row 2 .* its load has 2"):
            desk.ledger.batches.close(batch.batch_id, pa.array([2], pa.uint32()))
        desk.ledger.batches.close(batch.batch_id, pa.array([1], pa.uint32()))
        assert [desk.events(key) for key in (1, 2, 3)] == [["superseded"], ["loaded"], ["loaded"]]

    def test_batches_without_changes_and_batches_of_failures_alone_close(self, desk: Desk) -> None:
        assert desk.close([], 1).records == 0
        assert desk.close([], 2, failures=(failure(1, 2),)).records == 1
        stream = desk.ledger.streams.get("orders")
        assert stream is not None and stream.position == "after 2"

    def test_a_batch_of_an_earlier_epoch_does_not_move_the_new_one(self, desk: Desk) -> None:
        page = pa.RecordBatch.from_arrays([pa.array([1])], names=["id"])
        batch = desk.prepare([1], 5, page=page, read_complete=True, watermark=NOON)
        desk.ledger.streams.begin_epoch("orders", "cursor", "orders")
        desk.ledger.batches.close(batch.batch_id, NOTHING)
        stream = desk.ledger.streams.get("orders")
        assert stream is not None
        assert (stream.epoch, stream.position, stream.watermark) == (2, None, None)
        assert (stream.sequence, stream.last_batch_id) == (1, batch.batch_id)
        assert list(desk.ledger.streams.pages("orders")) == []
        assert desk.events(1) == ["loaded"]

    def test_all_outcomes_are_kept(self, desk: Desk) -> None:
        outcomes = pa.array([int(one) for one in Outcome], pa.uint8())
        desk.close([1, 2, 3, 4], 1, outcomes=outcomes, load=[0, 1])
        assert [desk.events(key) for key in (1, 2, 3, 4)] == [
            ["loaded"],
            ["filtered"],
            ["folded"],
            ["superseded"],
        ]

    def test_many_superseded_rows_of_unordered_keys(self, desk: Desk) -> None:
        random = np.random.default_rng(3)
        keys = random.permutation(10_000)
        load = random.permutation(10_000)[:9_000]
        superseded = random.permutation(9_000)[:4_000]
        desk.close(keys.tolist(), 1, superseded=superseded.tolist(), load=load.tolist())
        gone = set(keys[load[superseded]].tolist())
        for key in range(0, 10_000, 331):
            assert desk.events(key) == ["superseded" if key in gone else "loaded"]

    def test_a_late_replay_ends_its_failure_as_superseded(self, desk: Desk) -> None:
        late, early = desk.fail(4, 1), desk.fail(5, 1)
        desk.close([5, 4], 2, superseded=[1], ends=(end(late), end(early)))
        assert desk.states() == {late: FailureState.SUPERSEDED, early: FailureState.LOADED}
        assert desk.events(4) == ["failed", "superseded", "failure ended"]

    def test_versions_and_operations_are_on_the_trail(self, desk: Desk) -> None:
        closed = desk.close([1], 7, operations=pa.array([3], pa.uint8()))
        (entry,) = desk.ledger.trail(record(1))
        assert (entry.version, entry.operation) == (version(7), 3)
        assert (entry.batch_id, entry.run_id, entry.at) == (
            closed.batch_id,
            desk.run,
            closed.closed_at,
        )
