"""What every ledger knows of groups: failures of one cause, and what is decided about them."""

from __future__ import annotations

import pytest

from rowtrail.checkpoints.errors import LedgerError, UnknownError
from rowtrail.checkpoints.states import DecisionKind, FailureGroup, FailureState, NewFailure
from tests.checkpoints.desk import Desk, end, failure, record

FAILED, WAITING, IGNORED = FailureState.FAILED, FailureState.WAITING, FailureState.IGNORED
LONG, ODD, EVEN = "abcdef0123456789", "abcdef0199999999", "abcdef01999999aa"


def of(group: str, key: int, position: int = 1, **more: object) -> NewFailure:
    return failure(key, position, fingerprint=group, message=f"cause {group}", **more)


def waiting(key: int, position: int) -> NewFailure:
    return of("waiting", key, position, state=WAITING)


def ids(group: FailureGroup) -> list[object]:
    return [one.key[0] for one in group.examples]


class GroupRules:
    def test_what_waits_is_counted_with_what_it_waits_for(self, desk: Desk) -> None:
        desk.close([], 1, failures=(of("aa", 1), of("aa", 2), of("bb", 3), of("bb", 4)))
        desk.close([], 2, failures=(waiting(1, 2), waiting(3, 2)))
        desk.close([], 3, failures=(waiting(1, 3), waiting(9, 3)))
        first, second, third = desk.ledger.failures.groups()
        assert (first.fingerprint, first.count, first.failed, first.waiting) == ("aa", 4, 2, 2)
        assert (second.fingerprint, second.count, second.failed, second.waiting) == ("bb", 3, 2, 1)
        assert (third.fingerprint, third.failed, third.waiting) == ("waiting", 0, 1)
        assert (first.message, ids(first), ids(third)) == ("cause aa", [1, 2], [9])
        positions = [one.version[1] for one in desk.ledger.failures.of_group(first)]
        assert positions == [1, 1, 2, 3]
        (only,) = desk.ledger.failures.of_group(second, (WAITING,))
        assert only.record_id == record(3)
        alone = desk.ledger.failures.groups(states=(WAITING,))
        assert [(one.fingerprint, one.waiting, ids(one)) for one in alone] == [
            ("aa", 2, [1]),
            ("bb", 1, [3]),
            ("waiting", 1, [9]),
        ]

    def test_the_ids_shown_tell_groups_apart(self, desk: Desk) -> None:
        desk.close([], 1, failures=(of(LONG, 1), of(ODD, 2), of("0123456789abcdef", 3)))
        shown = {one.fingerprint: one.group for one in desk.ledger.failures.groups()}
        assert shown == {
            LONG: "abcdef012",
            ODD: "abcdef019",
            "0123456789abcdef": "01234567",
        }
        for fingerprint, group in shown.items():
            assert desk.ledger.failures.group(group).fingerprint == fingerprint
            assert desk.ledger.failures.group(f" {group.upper()} ").fingerprint == fingerprint
        desk.close([], 2, failures=(of(EVEN, 4),))
        shown = {one.fingerprint: one.group for one in desk.ledger.failures.groups()}
        assert (shown[ODD], shown[EVEN], shown[LONG]) == ("abcdef019999999", EVEN[:15], "abcdef012")

    @pytest.mark.parametrize("kind", ["retry", "ignore"])
    def test_a_group_that_several_are_meant_by(self, desk: Desk, kind: str) -> None:
        desk.close([], 1, failures=(of(LONG, 1), of(ODD, 2)))
        with pytest.raises(LedgerError, match=f"begin with abcd.*{LONG} .orders.*Type more of it"):
            ask(desk, kind, "abcd")
        assert set(desk.states().values()) == {FAILED}

    def test_a_group_of_several_streams(self, desk: Desk) -> None:
        desk.close([], 1, failures=(of("aa", 1),))
        desk.ledger.streams.begin_epoch("lines", "cursor", "lines")
        lines = of("aa", 1, record_id=record(1, stream="lines"))
        desk.prepare_in(desk.open(stream="lines"), failures=(lines,))
        groups = desk.ledger.failures.groups()
        assert [(one.stream, one.group) for one in groups] == [("lines", "aa"), ("orders", "aa")]
        with pytest.raises(LedgerError, match=r"\(lines, orders\).*lines --group aa"):
            desk.ledger.failures.group("aa")
        assert desk.ledger.failures.group("aa", "lines").stream == "lines"
        desk.ledger.decisions.ignore_group("lines", "aa", "ann", "test data")
        assert [one.stream for one in desk.ledger.failures.groups()] == ["orders"]

    def test_a_retry_is_of_the_records_that_the_group_has_now(self, desk: Desk) -> None:
        decisions = desk.ledger.decisions
        desk.close([], 1, failures=(of("aa", 2), of("aa", 1), of("bb", 3), of("aa", 4)))
        desk.close([], 2, failures=(waiting(1, 2), waiting(3, 2)))
        decisions.ignore("orders", [record(4)], "ann", "test data")
        asked = decisions.request(DecisionKind.RETRY, "orders", (), actor="ann", group="a")
        assert asked.record_ids == (record(2), record(1))
        assert asked.group == "aa"
        desk.close([], 3, failures=(of("aa", 7, 3),))
        assert decisions.get(asked.id) == asked
        assert decisions.pending() == [asked]
        (entry,) = [one for one in desk.ledger.trail(record(1)) if one.event == "retry asked"]
        assert entry.detail == "by ann, with group aa"

    def test_a_group_is_ignored_and_taken_back(self, desk: Desk) -> None:
        """What waits behind its failed changes is not: it goes on."""
        decisions = desk.ledger.decisions
        desk.close([], 1, failures=(of("aa", 1), of("aa", 2), of("bb", 3)))
        desk.close([], 2, failures=(waiting(1, 2),))
        done = decisions.ignore_group("orders", "aa", "ann", "test data")
        assert (done.result, done.reason, done.group) == ("2 changes ignored", "test data", "aa")
        assert done.record_ids == (record(1), record(2))
        assert list(desk.states().values()) == [IGNORED, IGNORED, FAILED, WAITING]
        assert desk.events(1) == ["failed", "waiting", "ignored"]
        (group,) = desk.ledger.failures.groups(states=(IGNORED,))
        assert (group.fingerprint, group.ignored, group.failed) == ("aa", 2, 0)
        undone = decisions.unignore_group("orders", "aa", "bob")
        assert (undone.result, undone.reason) == ("2 changes failed", None)
        assert list(desk.states().values()) == [FAILED, FAILED, FAILED, WAITING]
        assert decisions.pending() == []

    @pytest.mark.parametrize("kind", ["retry", "ignore"])
    def test_a_group_that_there_is_not_is_refused_with_those_there_are(
        self, desk: Desk, kind: str
    ) -> None:
        with pytest.raises(UnknownError, match=r"no group cc of stream orders.*No record .* is"):
            ask(desk, kind, "cc")
        desk.close([], 1, failures=(of("aa", 1), of("bb", 2), of("bb", 3)))
        for wrong in ("cc", "", "%", "a_"):
            with pytest.raises(UnknownError, match=r"bb \(orders, 2 records\), aa \(orders, 1 rec"):
                ask(desk, kind, wrong)
        with pytest.raises(UnknownError, match="no stream lines"):
            desk.ledger.failures.group("aa", "lines")
        assert [one.id for one in desk.ledger.decisions.pending()] == []

    def test_a_group_that_has_ended_is_refused_with_what_became_of_it(self, desk: Desk) -> None:
        desk.close([], 1, failures=(of("aa", 1), of("aa", 2), of("bb", 3)))
        loaded, *_ = desk.held()
        desk.close([1], 2, ends=(end(loaded.failure_id),))
        desk.ledger.decisions.ignore("orders", [record(2)], "ann", "test data")
        with pytest.raises(UnknownError) as caught:
            ask(desk, "retry", "aa")
        assert "Group aa of stream orders has no record that is failed or waiting now" in str(
            caught.value
        )
        assert "(1 ignored, 1 loaded)" in str(caught.value)
        assert "bb (orders, 1 record)." in str(caught.value)
        with pytest.raises(UnknownError, match="no record that is ignored now"):
            desk.ledger.decisions.unignore_group("orders", "bb", "ann")

    def test_a_group_of_many_records(self, desk: Desk) -> None:
        keys = range(10_000)
        desk.close([], 1, failures=tuple(of("aa", key) for key in keys))
        (group,) = desk.ledger.failures.groups()
        assert (group.failed, len(group.examples)) == (len(keys), 3)
        assert len(desk.ledger.failures.of_group(group, limit=10)) == 10
        asked = desk.ledger.decisions.request(
            DecisionKind.RETRY, "orders", (), actor="ann", group="aa"
        )
        assert asked.record_ids == tuple(record(key) for key in keys)
        desk.ledger.decisions.ignore_group("orders", "aa", "ann", "test data")
        assert desk.ledger.failures.counts("orders")[IGNORED] == len(keys)

    def test_since_when_a_stream_has_a_gap(self, desk: Desk) -> None:
        assert desk.ledger.failures.oldest("orders") is None
        desk.close([], 1, failures=(of("aa", 1),))
        desk.close([], 2, failures=(of("bb", 2, 2), waiting(3, 2)))
        first, second, third = desk.ledger.failures.list()
        assert desk.ledger.failures.oldest("orders") == first.first_at < second.first_at
        desk.ledger.decisions.ignore("orders", [record(1), record(2)], "ann", "test data")
        assert desk.ledger.failures.oldest("orders") == third.first_at
        assert desk.ledger.failures.oldest("lines") is None


def ask(desk: Desk, kind: str, group: str) -> None:
    if kind == "retry":
        desk.ledger.decisions.request(DecisionKind.RETRY, "orders", (), actor="ann", group=group)
    else:
        desk.ledger.decisions.ignore_group("orders", group, "ann", "test data")
