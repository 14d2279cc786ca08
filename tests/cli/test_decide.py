"""`rowtrail retry`, `replay` and `ignore`, as a person types them."""

from __future__ import annotations

import pytest

from rowtrail.checkpoints.ledger import open_ledger
from tests.cli.place import Place


def mend(place: Place) -> None:
    place.put((2, 2, "mended"))


def test_a_mended_record_is_retried_alone(spoiled: Place) -> None:
    mend(spoiled)
    answer = spoiled.type("retry", "orders", "2", "--from", "extract")
    assert answer.code == 0
    assert answer.out == "Request 1, orders: retry from the row at the source: 1 loaded.\n"
    assert spoiled.loaded() == {1, 2}


def test_a_record_that_fails_again_is_told_with_its_cause(spoiled: Place) -> None:
    answer = spoiled.type("retry", "orders", "2")
    assert answer.code == 3
    assert "1 failed again" in answer.out
    assert "orders:2 failed at transform: NoRateError: there is no rate for it" in answer.out


def test_all_that_is_failed_is_retried_without_names(spoiled: Place) -> None:
    mend(spoiled)
    answer = spoiled.type("retry", "--from", "extract")
    assert answer.code == 0 and "1 loaded" in answer.out
    nothing = spoiled.type("retry")
    assert (nothing.code, nothing.out) == (0, "Nothing to retry: no record is failed.\n")
    assert spoiled.type("retry", "--json").document == {"requests": []}


def test_a_dry_run_says_what_would_happen_and_changes_nothing(spoiled: Place) -> None:
    mend(spoiled)
    before = spoiled.type("record", "orders", "2", "--json").document
    for command in ("retry", "replay"):
        answer = spoiled.type(command, "orders", "2", "--from", "extract", "--dry-run")
        assert answer.code == 0
        assert answer.out.startswith("Dry run, orders: ") and "would be: 1 loaded" in answer.out
    assert spoiled.loaded() == {1}
    assert spoiled.type("record", "orders", "2", "--json").document == before
    assert spoiled.type("retry", "orders", "2", "--dry-run").code == 3


def test_a_replay_takes_the_row_as_it_is_now(spoiled: Place) -> None:
    answer = spoiled.type("replay", "orders", "1", "--reason", "rate table mended")
    assert answer.code == 0
    assert "replay from the row at the source: 1 loaded" in answer.out
    assert "rate table mended" in spoiled.type("record", "orders", "1").out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("replay", "orders"), "name the records by their keys"),
        (("ignore", "orders", "--reason", "x"), "name the records by their keys"),
        (("ignore", "orders", "2"), "say why"),
        (("retry", "orders", "2", "--from", "load"), "'load' is neither extract nor transform"),
        (("retry", "ordres"), "Its streams are orders"),
        (("retry", "orders", "two"), "two is no key of stream orders"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage(spoiled: Place, line: tuple[str, ...], words: str) -> None:
    answer = spoiled.type(*line)
    assert answer.code == 2
    assert words in answer.err


def test_json_tells_what_became_of_each_request(spoiled: Place) -> None:
    answer = spoiled.type("retry", "orders:2", "--json")
    assert answer.code == 3
    (request,) = answer.document["requests"]
    assert request["failed"] == ["orders:2"] and request["carried_out"] is True


def test_ignoring_and_taking_it_back(spoiled: Place) -> None:
    assert spoiled.type("status").code == 3
    answer = spoiled.type("ignore", "orders", "2", "--reason", "a test order")
    assert answer.code == 0 and "orders:2: ignored from now on" in answer.out
    status = spoiled.type("status")
    assert status.code == 0 and "1 record is left out on purpose" in status.out
    assert spoiled.type("run").code == 0
    retried = spoiled.type("retry", "orders", "2")
    assert "orders:2 is ignored and stays so" in retried.err
    undone = spoiled.type("ignore", "orders", "2", "--undo", "--json")
    assert undone.document["state"] == "failed"
    assert spoiled.type("status").code == 3


def test_what_is_not_held_back_cannot_be_ignored(spoiled: Place) -> None:
    answer = spoiled.type("ignore", "orders", "2", "1", "--reason", "both")
    assert answer.code == 1
    assert "orders:1 is not failed, so nothing was changed" in answer.err
    assert spoiled.type("status").code == 3
    assert spoiled.type("ignore", "orders", "2", "--undo").code == 1


def test_while_a_run_is_under_way_a_request_is_noted_for_it(spoiled: Place) -> None:
    mend(spoiled)
    ledger = open_ledger(spoiled.ledger, "shop")
    generation = ledger.leases.acquire("another-host:1")
    try:
        answer = spoiled.type("retry", "orders", "2", "--from", "extract")
        assert answer.code == 0
        assert "noted as request 1" in answer.out and "another-host:1" in answer.out
        assert spoiled.type("retry", "orders", "2", "--dry-run").code == 1
        status = spoiled.type("status", "--json").document
        assert status["requests"] == 1 and status["running"]["holder"] == "another-host:1"
        assert "A run is under way" in spoiled.type("status").out
    finally:
        ledger.leases.release(generation)
        ledger.close()
    assert "A run is under way" not in spoiled.type("status").out
    run = spoiled.type("run")
    assert run.code == 0 and "Request 1: retry from the row at the source: 1 loaded" in run.err
    assert spoiled.loaded() == {1, 2}


def test_a_record_that_never_was_is_not_replayed(spoiled: Place) -> None:
    """A typo must not become a delete in the record's trail."""
    for dry_run in ((), ("--dry-run",)):
        answer = spoiled.type("replay", "orders", "77", *dry_run)
        assert answer.code == 2
        assert "Neither the source nor the ledger knows record orders:77" in answer.err
    assert "never seen orders:77" not in spoiled.type("record", "orders", "77").out
    assert spoiled.query("SELECT count(*) FROM _rowtrail_tombstones_orders WHERE id = 77") == [(0,)]
    spoiled.sql("DELETE FROM orders WHERE id = 1")
    assert "1 deleted" in spoiled.type("replay", "orders", "1").out
