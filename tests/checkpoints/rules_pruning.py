"""What every ledger drops by age, what it never drops, and what it says of that afterwards."""

from __future__ import annotations

import pyarrow as pa

from rowtrail.checkpoints.states import (
    BatchState,
    DecisionKind,
    DecisionState,
    FailureState,
    Prunable,
    RunState,
)
from tests.checkpoints.desk import Desk, FakeClock, end, failure, record, version

DAY = 86_400.0
PAGE = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["id", "_rowtrail_hash"])


def ended(desk: Desk, key: int, position: int) -> int:
    """A failure of this key that a later change has brought to its end."""
    number = desk.fail(key, position, transformed=b"transformed")
    desk.close([key], position + 1, ends=(end(number),))
    return number


def told(counts: object) -> list[tuple[str, str, int]]:
    return [(one.stream, one.what, one.number) for one in counts]  # type: ignore[attr-defined]


class PruningRules:
    def test_nothing_is_pruned_of_what_is_not_old(self, desk: Desk, clock: FakeClock) -> None:
        before = clock.now
        ended(desk, 7, 5)
        pruning = desk.ledger.pruning
        assert pruning.images(before) == pruning.trails(before) == []
        assert pruning.pruned("orders") == []
        assert len(desk.events(7)) == 3

    def test_images_of_ended_failures_go(self, desk: Desk, clock: FakeClock) -> None:
        old, still = ended(desk, 7, 5), desk.fail(8, 7)
        clock.advance(DAY)
        cut = clock()
        recent = ended(desk, 9, 8)
        counts = desk.ledger.pruning.images(cut)
        assert told(counts) == [("orders", "images of ended failures", 1)]
        assert counts[0].size == len(b"extracted") + len(b"transformed")
        failures = desk.ledger.failures
        assert failures.image(old) == (None, None)
        assert failures.image(recent) == (b"extracted", b"transformed")
        assert failures.image(still) == (b"extracted", None)
        assert failures.get(old).image_note == f"no image: pruned on {clock.now:%Y-%m-%d}"
        assert failures.get(old).state is FailureState.LOADED
        (pruned,) = desk.ledger.pruning.pruned("orders")
        assert (pruned.what, pruned.upto) == (Prunable.IMAGES, cut)
        assert cut < pruned.at <= clock.now

    def test_images_of_open_failures_go_when_that_is_said(
        self, desk: Desk, clock: FakeClock
    ) -> None:
        failed, ignored = desk.fail(7, 5), desk.fail(8, 6)
        desk.ledger.decisions.ignore("orders", [record(8)], "me", "test")
        waiting = desk.fail(9, 7, state=FailureState.WAITING)
        counts = desk.ledger.pruning.images(clock(), open_ones=True)
        assert told(counts) == [("orders", "images of open failures", 2)]
        kept = [desk.ledger.failures.get(one).has_image for one in (failed, ignored, waiting)]
        assert kept == [False, False, True], "nothing else has what waits"
        assert desk.states()[failed] is FailureState.FAILED

    def test_the_note_of_an_image_goes_with_it(self, desk: Desk) -> None:
        """Another attempt without an image leaves the one that is there, with its note."""
        number = desk.fail(7, 5, image_note="encrypted")
        assert desk.ledger.failures.get(number).image_note == "encrypted"
        desk.fail(7, 5, extracted=None, image_note="no image: too large")
        assert desk.ledger.failures.get(number).image_note == "encrypted"
        desk.fail(7, 5, image_note=None)
        assert desk.ledger.failures.get(number).image_note is None
        other = desk.fail(8, 6, extracted=None, image_note="no image: 3.2 MB is more")
        assert desk.ledger.failures.get(other).image_note == "no image: 3.2 MB is more"
        (entry,) = desk.ledger.trail(record(8))
        assert entry.detail.endswith("no such country; no image: 3.2 MB is more")

    def test_a_ledger_that_was_behind_says_why_images_went(self, desk: Desk) -> None:
        desk.fail(7, 5)
        desk.fail(8, 6, extracted=None, image_note="no image: as it was")
        desk.ledger.streams.adopt(
            "orders",
            capture="cursor",
            target="orders",
            epoch=1,
            position="after 9",
            read_number=9,
            sequence=9,
            batch_id="elsewhere",
        )
        notes = [one.image_note for one in desk.ledger.failures.list()]
        assert notes == [
            "no image: the record may have changed while the ledger was lost",
            "no image: as it was",
        ]

    def test_old_trails_go_with_all_that_belongs_to_them(
        self, desk: Desk, clock: FakeClock
    ) -> None:
        first = desk.run
        ended(desk, 7, 5)
        asked = desk.ledger.decisions.request(DecisionKind.RETRY, "orders", [record(7)], actor="me")
        desk.ledger.decisions.finish(asked.id, DecisionState.DONE, "1 loaded")
        desk.ledger.batches.abandon(desk.prepare([1, 2], 8).batch_id)
        desk.ledger.runs.finish(first, RunState.COMPLETE)
        clock.advance(DAY)
        cut = clock()
        desk.run = desk.ledger.runs.start()
        desk.close([8], 9)
        assert desk.events(7) == ["failed", "loaded", "failure ended", "retry asked", "retry done"]
        counts = desk.ledger.pruning.trails(cut)
        assert told(counts) == [
            ("orders", "batches", 3),
            ("orders", "ended failures", 1),
            ("orders", "decisions", 1),
        ]
        assert desk.events(7) == []
        assert desk.events(8) == ["loaded"]
        assert len(desk.ledger.batches.recent("orders")) == 1
        assert [run.id for run in desk.ledger.runs.recent()] == [desk.run]
        (pruned,) = desk.ledger.pruning.pruned("orders")
        assert (pruned.what, pruned.upto) == (Prunable.TRAILS, cut)
        assert desk.ledger.pruning.trails(cut) == []
        assert desk.ledger.pruning.pruned("orders") == [pruned], "nothing more was pruned"

    def test_what_is_held_back_stays_whole(self, desk: Desk, clock: FakeClock) -> None:
        """A failure with all its attempts, and who ignored it, and why."""
        desk.fail(7, 5)
        desk.fail(7, 5)
        desk.fail(8, 6)
        desk.ledger.decisions.ignore("orders", [record(8)], "me", "a test")
        desk.close([7], 4)
        trails = [desk.ledger.trail(record(key)) for key in (7, 8)]
        clock.advance(DAY)
        cut = clock()
        desk.close([1], 9)
        desk.ledger.pruning.trails(cut)
        assert [desk.ledger.trail(record(key)) for key in (7, 8)] == [
            [entry for entry in trails[0] if entry.event == "failed"],
            trails[1],
        ]
        assert [one.version for one in desk.held()] == [version(5), version(6)]
        assert all(desk.ledger.failures.get(one.failure_id).has_image for one in desk.held())

    def test_the_newest_batch_of_a_stream_stays(self, desk: Desk, clock: FakeClock) -> None:
        desk.close([1], 5)
        last = desk.close([2], 6)
        clock.advance(DAY)
        desk.ledger.pruning.trails(clock())
        (left,) = desk.ledger.batches.recent("orders")
        assert left.batch_id == last.batch_id
        assert (desk.events(1), desk.events(2)) == ([], ["loaded"])
        stream = desk.ledger.streams.get("orders")
        assert stream is not None and stream.last_batch_id == last.batch_id
        assert desk.close([3], 7).sequence == last.sequence + 1

    def test_unfinished_batches_stay_and_can_be_closed(self, desk: Desk, clock: FakeClock) -> None:
        batch = desk.prepare([1], 5, failures=(failure(2, 5),))
        clock.advance(DAY)
        desk.ledger.pruning.trails(clock())
        assert [one.state for one in desk.ledger.batches.unfinished()] == [BatchState.PREPARED]
        desk.ledger.batches.close(batch.batch_id, pa.array([], pa.uint32()))
        assert (desk.events(1), desk.events(2)) == (["loaded"], ["failed"])

    def test_pages_stay(self, desk: Desk, clock: FakeClock) -> None:
        desk.close([1], 5, page=PAGE, read_complete=True)
        desk.close([2], 6)
        clock.advance(DAY)
        desk.close([3], 7)
        desk.ledger.pruning.trails(clock())
        (page,) = desk.ledger.streams.pages("orders")
        assert page.equals(PAGE)
        assert desk.events(1) == []

    def test_what_is_asked_for_and_not_done_stays(self, desk: Desk, clock: FakeClock) -> None:
        desk.close([1], 5)
        asked = desk.ledger.decisions.request(
            DecisionKind.REPLAY, "orders", [record(1)], actor="me"
        )
        clock.advance(DAY)
        desk.close([2], 6)
        desk.ledger.pruning.trails(clock())
        assert [one.id for one in desk.ledger.decisions.pending()] == [asked.id]

    def test_a_decision_has_a_new_number_after_a_pruning(
        self, desk: Desk, clock: FakeClock
    ) -> None:
        """Its number is a revision: an old one would not win at the target."""
        asked = desk.ledger.decisions.request(DecisionKind.RETRY, "orders", [], actor="me")
        desk.ledger.decisions.finish(asked.id, DecisionState.DONE, "nothing")
        clock.advance(DAY)
        desk.ledger.pruning.trails(clock())
        again = desk.ledger.decisions.request(DecisionKind.RETRY, "orders", [], actor="me")
        assert again.id > asked.id

    def test_a_dry_run_changes_nothing_and_says_the_same(
        self, desk: Desk, clock: FakeClock
    ) -> None:
        ended(desk, 7, 5)
        desk.close([1], 7)
        cut = clock()
        pruning, before = desk.ledger.pruning, desk.ledger.trail(record(7))
        images, trails = pruning.images(cut, dry_run=True), pruning.trails(cut, dry_run=True)
        assert desk.ledger.trail(record(7)) == before
        assert pruning.pruned("orders") == []
        assert pruning.looked_at(Prunable.IMAGES) is pruning.looked_at(Prunable.TRAILS) is None
        assert (pruning.images(cut), pruning.trails(cut)) != ([], [])
        assert images == [one for one in images if one.number == 1]
        assert [one.what for one in trails] == ["batches", "ended failures"]

    def test_only_the_streams_that_are_named(self, desk: Desk, clock: FakeClock) -> None:
        desk.ledger.streams.begin_epoch("lines", "cursor", "lines")
        for _ in range(2):
            desk.prepare_in(desk.open(stream="lines"))
        desk.close([1], 5)
        desk.close([1], 6)
        cut = clock()
        counts = desk.ledger.pruning.trails(cut, of_streams=["lines"])
        assert told(counts) == [("lines", "batches", 1)]
        assert desk.events(1) == ["loaded", "loaded"]
        assert desk.ledger.pruning.pruned("orders") == []
        assert desk.ledger.pruning.looked_at(Prunable.TRAILS) is None, "not all were looked through"
        desk.ledger.pruning.trails(cut)
        assert desk.ledger.pruning.looked_at(Prunable.TRAILS) is not None

    def test_more_than_goes_in_one_transaction(self, desk: Desk, clock: FakeClock) -> None:
        failures = tuple(failure(key, 5) for key in range(1_200))
        desk.close([], 5, failures=failures)
        ends = tuple(end(one.failure_id) for one in desk.held())
        desk.close([1], 6, ends=ends)
        clock.advance(DAY)
        desk.close([1], 7)
        cut = clock()
        assert told(desk.ledger.pruning.images(cut)) == [
            ("orders", "images of ended failures", 1_200)
        ]
        every = desk.ledger.failures.list(states=tuple(FailureState))
        assert len(every) == 1_200 and not any(one.has_image for one in every)
        desk.ledger.pruning.trails(cut)
        assert desk.states() == {}

    def test_up_to_when_never_goes_back(self, desk: Desk, clock: FakeClock) -> None:
        """A second pruning with an earlier end leaves what is known of the first."""
        desk.fail(8, 4)
        clock.advance(DAY)
        near = clock()
        ended(desk, 7, 5)
        clock.advance(DAY)
        far = clock()
        assert len(desk.ledger.pruning.images(far)) == 1
        assert len(desk.ledger.pruning.images(near, open_ones=True)) == 1
        (pruned,) = desk.ledger.pruning.pruned("orders")
        assert pruned.upto == far

    def test_a_stream_is_dropped_with_what_is_said_of_it(
        self, desk: Desk, clock: FakeClock
    ) -> None:
        ended(desk, 7, 5)
        desk.ledger.pruning.images(clock())
        desk.ledger.streams.rename("orders", "bills")
        assert len(desk.ledger.pruning.pruned("bills")) == 1
        desk.ledger.streams.drop("bills")
        assert desk.ledger.pruning.pruned("bills") == []
