"""What every ledger keeps of failures: at most one open per record, and none is lost."""

from __future__ import annotations

import pytest

from rowtrail.checkpoints.errors import UnknownError
from rowtrail.checkpoints.states import (
    FAILURE_TRANSITIONS,
    HELD_BACK,
    FailureState,
    Stage,
)
from tests.checkpoints.desk import NOON, Desk, end, failure, record, version

FAILED, WAITING, IGNORED = HELD_BACK
LOADED, SUPERSEDED = FailureState.LOADED, FailureState.SUPERSEDED


class FailureRules:
    def test_a_failure_is_kept_with_all_that_is_known(self, desk: Desk) -> None:
        batch = desk.close([], 5, failures=(failure(7, 5, transformed=b"transformed"),))
        (found,) = desk.ledger.failures.list()
        assert found == desk.ledger.failures.get(found.id)
        assert (found.record_id, found.version, found.operation) == (record(7), version(5), 2)
        assert (found.state, found.stage, found.error_class) == (
            FAILED,
            Stage.TRANSFORM,
            "ValueError",
        )
        assert (found.message, found.code_fingerprint) == ("no such country", "code")
        assert (found.attempts, found.run_id, found.batch_id) == (1, desk.run, batch.batch_id)
        assert found.first_at == found.last_at == batch.closed_at
        assert found.has_image
        assert desk.ledger.failures.image(found.id) == (b"extracted", b"transformed")

    def test_an_image_need_not_be_kept(self, desk: Desk) -> None:
        number = desk.fail(7, 5, extracted=None)
        assert not desk.ledger.failures.get(number).has_image
        assert desk.ledger.failures.image(number) == (None, None)

    def test_the_same_version_again_is_another_attempt(self, desk: Desk) -> None:
        number = desk.fail(7, 5, transformed=b"old")
        first = desk.ledger.failures.get(number)
        second = desk.ledger.runs.start()
        desk.run = second
        assert desk.fail(7, 5, stage=Stage.LOAD, message="too long", extracted=None) == number
        found = desk.ledger.failures.get(number)
        assert (found.attempts, found.stage, found.message) == (2, Stage.LOAD, "too long")
        assert found.first_at == first.first_at < found.last_at
        assert (found.run_id, found.batch_id != first.batch_id) == (second, True)
        assert desk.ledger.failures.image(number) == (b"extracted", None)
        assert desk.events(7) == ["failed", "failed"]
        details = [entry.detail for entry in desk.ledger.trail(record(7))]
        assert details == [
            "failed at stage transform: ValueError: no such country",
            "failed at stage load: ValueError: too long (attempt 2)",
        ]

    def test_a_newer_failure_takes_the_place_of_an_older_one(self, desk: Desk) -> None:
        older = desk.fail(7, 5)
        newer = desk.fail(7, 6)
        assert desk.states() == {older: SUPERSEDED, newer: FAILED}
        assert [held.failure_id for held in desk.held()] == [newer]

    def test_a_record_that_fails_again_is_held_back_since_it_first_failed(self, desk: Desk) -> None:
        first = desk.fail(7, 5)
        since = desk.ledger.failures.get(first).first_at
        last = desk.ledger.failures.get(desk.fail(7, 6))
        assert (last.first_at, last.version) == (since, version(6))
        assert last.last_at > since
        (loaded,) = desk.held()
        desk.close([7], 7, ends=(end(loaded.failure_id),))
        assert desk.ledger.failures.get(desk.fail(7, 8)).first_at > last.last_at

    def test_a_failure_older_than_one_held_back_is_recorded_as_superseded(self, desk: Desk) -> None:
        newer = desk.fail(7, 6)
        desk.close([], 5, failures=(failure(7, 5),))
        older = max(desk.states())
        assert desk.states() == {newer: FAILED, older: SUPERSEDED}
        assert desk.ledger.failures.get(older).version == version(5)
        assert desk.events(7) == ["failed", "failed", "failure ended"]

    @pytest.mark.parametrize(
        "newer",
        [(1, 5, 0, 1), (1, 5, 1, 0), (1, 6, -1, -1), (2, 0, 0, 0)],
    )
    def test_versions_are_compared_from_the_left(
        self, desk: Desk, newer: tuple[int, int, int, int]
    ) -> None:
        first = desk.fail(7, 5)
        second = desk.fail(7, 0, version=newer)
        assert desk.states() == {first: SUPERSEDED, second: FAILED}
        desk.close([], 5, failures=(failure(7, 5),))
        assert list(desk.states().values()) == [SUPERSEDED, FAILED, SUPERSEDED]

    def test_what_is_ignored_stays_so_for_its_version_alone(self, desk: Desk) -> None:
        number = desk.fail(7, 5)
        desk.ledger.decisions.ignore("orders", [record(7)], "ann", "test data")
        assert desk.fail(7, 5) == number
        assert desk.states() == {number: IGNORED}
        assert desk.ledger.failures.get(number).attempts == 2
        newer = desk.fail(7, 6)
        assert desk.states() == {number: SUPERSEDED, newer: FAILED}

    def test_of_two_failures_of_a_record_in_a_batch_the_newest_is_open(self, desk: Desk) -> None:
        desk.close([], 6, failures=(failure(7, 6), failure(7, 4), failure(7, 5)))
        found = desk.ledger.failures.list(states=tuple(FailureState))
        assert {one.version[1]: one.state for one in found} == {
            6: FAILED,
            4: SUPERSEDED,
            5: SUPERSEDED,
        }

    def test_of_two_failures_of_a_version_in_a_batch_the_later_counts(self, desk: Desk) -> None:
        desk.close([], 5, failures=(failure(7, 5), failure(7, 5, message="later")))
        (found,) = desk.ledger.failures.list()
        assert (found.message, found.attempts) == ("later", 1)

    def test_changes_wait_behind_a_failed_one(self, desk: Desk) -> None:
        first = desk.fail(7, 5)
        desk.close([], 7, failures=(failure(7, 6, state=WAITING), failure(7, 7, state=WAITING)))
        assert list(desk.states().values()) == [FAILED, WAITING, WAITING]
        assert desk.fail_again(7, 5) == first
        assert list(desk.states().values()) == [FAILED, WAITING, WAITING]
        assert desk.ledger.failures.get(first).attempts == 2
        assert desk.events(7) == ["failed", "waiting", "waiting", "failed"]

    def test_a_change_fails_and_the_next_one_waits_in_the_same_batch(self, desk: Desk) -> None:
        desk.close([], 6, failures=(failure(7, 5), failure(7, 6, state=WAITING)))
        assert list(desk.states().values()) == [FAILED, WAITING]

    def test_a_waiting_change_can_fail_in_its_turn(self, desk: Desk) -> None:
        first = desk.fail(7, 5)
        desk.close([], 6, failures=(failure(7, 6, state=WAITING),))
        desk.close([7], 6, ends=(end(first),), failures=(failure(7, 6),))
        assert list(desk.states().values()) == [LOADED, FAILED]

    def test_what_has_failed_does_not_wait(self, desk: Desk) -> None:
        number = desk.fail(7, 5)
        desk.close([], 6, failures=(failure(7, 5, state=WAITING),))
        assert desk.states() == {number: FAILED}

    @pytest.mark.parametrize("state", HELD_BACK)
    @pytest.mark.parametrize("last", [LOADED, SUPERSEDED])
    def test_whatever_is_held_back_can_end(
        self, desk: Desk, state: FailureState, last: FailureState
    ) -> None:
        assert last in FAILURE_TRANSITIONS[state]
        number = desk.fail(7, 5, state=WAITING if state is WAITING else FAILED)
        if state is IGNORED:
            desk.ledger.decisions.ignore("orders", [record(7)], "ann", "test data")
        assert desk.states() == {number: state}
        desk.close([7], 6, ends=(end(number, last, decision_id=3),))
        assert desk.states() == {number: last}
        assert desk.held() == []
        ended = desk.ledger.trail(record(7))[-1]
        assert (ended.event, ended.failure_id, ended.decision_id) == ("failure ended", number, 3)

    @pytest.mark.parametrize("first", [LOADED, SUPERSEDED])
    def test_an_end_is_final(self, desk: Desk, first: FailureState) -> None:
        number = desk.fail(7, 5)
        desk.close([7], 6, ends=(end(number, first),))
        other = SUPERSEDED if first is LOADED else LOADED
        desk.close([7], 7, ends=(end(number, other),))
        assert desk.states() == {number: first}
        again = desk.fail(7, 8)
        assert again != number
        assert desk.states() == {number: first, again: FAILED}

    def test_a_record_that_ended_can_fail_at_the_same_version_again(self, desk: Desk) -> None:
        number = desk.fail(7, 5)
        desk.close([7], 6, ends=(end(number),))
        again = desk.fail(7, 5)
        assert desk.states() == {number: LOADED, again: FAILED}
        assert desk.ledger.failures.get(again).attempts == 1

    def test_ends_of_another_stream_do_nothing(self, desk: Desk) -> None:
        number = desk.fail(7, 5)
        desk.ledger.streams.begin_epoch("lines", "cursor", "lines")
        batch = desk.open(stream="lines")
        desk.prepare_in(batch, ends=(end(number),))
        assert desk.states() == {number: FAILED}

    def test_streams_hold_back_their_own(self, desk: Desk) -> None:
        desk.fail(7, 5)
        desk.ledger.streams.begin_epoch("lines", "cursor", "lines")
        batch = desk.open(stream="lines")
        desk.prepare_in(batch, failures=(failure(7, 9, record_id=record(7, stream="lines")),))
        assert [one.record_id for one in desk.held()] == [record(7)]
        lines = desk.ledger.failures.held_back("lines")
        assert [one.record_id for one in lines] == [record(7, stream="lines")]
        assert len(desk.ledger.failures.list()) == 2
        assert len(desk.ledger.failures.list("lines")) == 1
        assert desk.ledger.failures.held_back("no such stream") == []

    def test_failures_can_be_chosen(self, desk: Desk) -> None:
        numbers = [desk.fail(key, 1) for key in (5, 3, 4)]
        desk.ledger.decisions.ignore("orders", [record(3)], "ann", "test data")
        find = desk.ledger.failures.list
        assert [one.id for one in find()] == numbers
        assert [one.id for one in find(limit=2)] == numbers[:2]
        assert [one.id for one in find(states=(IGNORED,))] == [numbers[1]]
        wanted = [record(4), record(5), record(6), record(5, stream="lines")]
        assert [one.id for one in find(record_ids=wanted)] == [numbers[0], numbers[2]]
        assert [one.id for one in find("orders", record_ids=wanted, limit=1)] == [numbers[0]]
        assert find(record_ids=[]) == []

    def test_many_records_can_be_chosen(self, desk: Desk) -> None:
        desk.close([], 1, failures=tuple(failure(key, 1) for key in range(1_200)))
        wanted = [record(key) for key in range(100, 1_300)]
        assert len(desk.ledger.failures.list(record_ids=wanted)) == 1_100

    def test_what_holds_records_back_is_counted(self, desk: Desk) -> None:
        counts = desk.ledger.failures.counts
        assert counts("orders") == {FAILED: 0, WAITING: 0, IGNORED: 0}
        ended = desk.fail(6, 1)
        desk.close([6], 2, ends=(end(ended),))
        desk.close([], 3, failures=tuple(failure(key, 3) for key in (7, 8, 9)))
        desk.close([], 4, failures=(failure(7, 4, state=WAITING),))
        desk.ledger.decisions.ignore("orders", [record(9)], "ann", "test data")
        assert counts("orders") == {FAILED: 2, WAITING: 1, IGNORED: 1}
        assert {held.record_id: held.state for held in desk.held() if held.version[1] == 3} == {
            record(7): FAILED,
            record(8): FAILED,
            record(9): IGNORED,
        }

    def test_failures_are_grouped_by_cause(self, desk: Desk) -> None:
        desk.close([], 1, failures=tuple(failure(key, 1) for key in range(5)))
        desk.close([], 2, failures=(failure(9, 2, stage=Stage.LOAD, message="too long"),))
        desk.fail(0, 1)
        first, second = desk.ledger.failures.groups()
        assert (first.count, first.stage, first.message) == (5, Stage.TRANSFORM, "no such country")
        assert first.examples == tuple(record(key) for key in (0, 1, 2))
        assert first.first_at < second.first_at < first.last_at
        assert (second.count, second.stage, second.examples) == (1, Stage.LOAD, (record(9),))
        assert (second.stream, second.error_class) == ("orders", "ValueError")
        desk.ledger.decisions.ignore("orders", [record(9)], "ann", "test data")
        assert desk.ledger.failures.groups("orders") == [first]
        assert desk.ledger.failures.groups("lines") == []
        assert [one.count for one in desk.ledger.failures.groups(states=(IGNORED,))] == [1]

    def test_gaps_of_a_target_are_held_back_again(self, desk: Desk) -> None:
        known = desk.fail(7, 5)
        gaps = [failure(key, 0, extracted=None, since=NOON) for key in (7, 8)]
        assert desk.ledger.failures.restore(gaps, desk.run) == 1
        assert [held.record_id for held in desk.held()] == [record(7), record(8)]
        restored = desk.ledger.failures.get(desk.held()[1].failure_id)
        assert (restored.first_at, restored.batch_id, restored.has_image) == (NOON, None, False)
        assert desk.events(8) == ["failed"]
        assert desk.ledger.failures.restore(gaps, desk.run) == 0
        newer = desk.fail(8, 1)
        assert desk.states() == {known: FAILED, restored.id: SUPERSEDED, newer: FAILED}

    def test_an_unknown_failure_is_named(self, desk: Desk) -> None:
        for call in (desk.ledger.failures.get, desk.ledger.failures.image):
            with pytest.raises(UnknownError, match="no failure 99"):
                call(99)

    def test_awkward_values_survive(self, desk: Desk) -> None:
        awkward = record('a,"b"\n🙂 ', None, 2**80)
        text = "quote ' \" \\ \x00 \ud83d\ude42 %s :name ?".encode(
            "utf-16", "surrogatepass"
        ).decode("utf-16")
        desk.close([], 1, failures=(failure(1, 1, record_id=awkward, message=text),))
        (found,) = desk.ledger.failures.list(record_ids=[awkward])
        assert (found.record_id, found.message) == (awkward, text)
        assert [entry.event for entry in desk.ledger.trail(awkward)] == ["failed"]

    def test_a_batch_of_a_hundred_thousand_failures_closes(self, desk: Desk) -> None:
        many = tuple(failure(key, 1) for key in range(100_000))
        desk.close([], 1, failures=many)
        assert desk.ledger.failures.counts("orders")[FAILED] == 100_000

    def test_many_failures_are_repeated_replaced_and_ended(self, desk: Desk) -> None:
        keys = range(10_000)
        desk.close([], 1, failures=tuple(failure(key, 1) for key in keys))
        desk.close([], 2, failures=tuple(failure(key, 1) for key in keys))
        desk.close([], 3, failures=tuple(failure(key, 3) for key in keys))
        assert desk.ledger.failures.counts("orders")[FAILED] == len(keys)
        assert desk.events(5_000) == ["failed", "failed", "failed", "failure ended"]
        ends = tuple(end(held.failure_id) for held in desk.held())
        desk.close(keys, 4, superseded=range(5_000), ends=ends)
        assert desk.events(4_999)[-2:] == ["superseded", "failure ended"]
        assert desk.events(5_000)[-2:] == ["loaded", "failure ended"]
        assert desk.held() == []
        assert sorted(desk.states().values()) == sorted([SUPERSEDED] * 15_000 + [LOADED] * 5_000)
