"""Runs of streams with light checks: who is held back, who is loaded, and how it is mended."""

from __future__ import annotations

import pytest

from rowtrail import Breakers
from rowtrail.checkpoints.states import Stage
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.fingerprints import error_fingerprint
from rowtrail.pipelines.results import CheckWarning
from tests.pipelines.world import World

ROWS = [(1, 1, "a"), (2, -2, "b"), (3, 3, None), (4, -4, None), (5, 5, "a")]


def test_the_rows_that_break_a_check_are_held_back_and_the_others_are_loaded(
    world: World, capture: str, deletes: str
) -> None:
    pipeline = world.pipeline(
        capture=capture, deletes=deletes, checks={"amount": {"min": 0}, "note": {"not_null": True}}
    )
    world.put(ROWS)
    result = pipeline.run()
    assert [
        (one.record, one.stage, one.error_class, one.message) for one in result.failed_records
    ] == [
        (
            "orders:2",
            "validate",
            "CheckFailed",
            "column amount breaks the check min = 0: its value is '-2.00'",
        ),
        (
            "orders:3",
            "validate",
            "CheckFailed",
            "column note breaks the check not_null = true: it is NULL",
        ),
        (
            "orders:4",
            "validate",
            "CheckFailed",
            "column amount breaks the check min = 0: its value is '-4.00'",
        ),
    ]
    assert set(world.loaded()) == {1, 5}
    assert world.gaps() == {"orders:2", "orders:3", "orders:4"}

    world.put([(2, 2, "b"), (3, 3, "c"), (4, 4, "d")])
    assert pipeline.run().complete
    assert world.loaded() == world.expected()


def test_failures_of_one_check_are_one_group(world: World) -> None:
    world.put([(one, -one - 0.5, f"x{one}'\"") for one in range(1, 9)])
    pipeline = world.pipeline(
        checks={"amount": [{"min": 0, "severity": "warn"}], "note": {"pattern": "it's|x[1-3].*"}},
    )
    pipeline.run()
    (group,) = pipeline.failure_groups()
    assert group.failed == 5


def test_two_checks_of_a_column_are_two_groups() -> None:
    def of(words: str) -> str:
        return error_fingerprint(Stage.VALIDATE, "CheckFailed", words, ["amount", "note"])

    low = of("column amount breaks the check min = 0: its value is '-2.00'")
    assert low == of("column amount breaks the check min = 0: its value is '-17.50'")
    assert low != of("column amount breaks the check max = 0: its value is '17.50'")
    assert low != of("column note breaks the check min = 0: its value is '-2.00'")


def test_deletes_are_not_checked(world: World, deletes: str) -> None:
    pipeline = world.pipeline(deletes=deletes, checks={"note": {"not_null": True}})
    world.put([(1, 1, "a"), (2, 2, "b")])
    assert pipeline.run().complete
    world.delete(1)
    assert pipeline.run().complete
    assert set(world.loaded()) == {2}


def test_all_rows_that_share_a_value_are_held_back(world: World) -> None:
    pipeline = world.pipeline(checks={"note": {"unique": True}})
    world.put(ROWS)
    assert [one.record for one in pipeline.run().failed_records] == ["orders:1", "orders:5"]
    # A batch of one holds no other row; a person who chose it has looked.
    (retried,) = pipeline.retry("orders", 5)
    assert "1 loaded" in retried.text
    assert set(world.loaded()) == {2, 3, 4, 5}


def test_a_retry_and_a_replay_go_through_the_checks(world: World) -> None:
    world.put(ROWS)
    assert world.pipeline().run().complete
    checked = world.pipeline(checks={"amount": {"min": 0}})
    replayed = checked.replay("orders", 1, 2)
    assert replayed.failed == ("orders:2",)
    assert "1 loaded, 1 failed again" in replayed.text
    (retried,) = checked.retry("orders", 2)
    assert retried.failed == ("orders:2",)


def test_a_check_that_was_changed_lets_the_next_run_try_again_at_once(world: World) -> None:
    world.put(ROWS)
    strict = world.pipeline(checks={"amount": {"min": 0}})
    assert strict.run().streams["orders"].held_back == 2
    # With its back-off none of them is due yet.
    assert strict.run().streams["orders"].held_back == 2
    result = world.pipeline(checks={"amount": {"min": -2}}).run()
    assert [one.record for one in result.failed_records] == ["orders:4"]
    assert world.pipeline(checks={"amount": {"min": 0, "severity": "warn"}}).run().complete
    assert world.loaded() == world.expected()


def test_a_warning_lets_the_row_through_and_is_counted(world: World) -> None:
    pipeline = world.pipeline(
        batch_rows=2,
        checks={
            "amount": {"min": 0, "severity": "warn"},
            "note": [{"not_null": True}, {"in": ["b"], "severity": "warn"}],
        },
    )
    world.put(ROWS)
    result = pipeline.run()
    # Row 4 breaks `min = 0` too, but is not loaded.
    assert result.warnings == result.streams["orders"].warnings
    assert result.warnings == (
        CheckWarning(check="column amount: min = 0", rows=1, record="orders:2"),
        CheckWarning(check="column note: in = ['b']", rows=2, record="orders:1"),
    )
    assert set(world.loaded()) == {1, 2, 5}
    assert pipeline.run().warnings == ()
    replayed = pipeline.replay("orders", 1, 5)
    assert replayed.text.endswith(
        "2 loaded; broken, with a warning alone: column note: in = ['b'], by 2"
    )


def test_checks_see_what_the_transforms_made(world: World) -> None:
    def double(frame):
        return frame.assign(amount=frame["amount"] * 2)

    pipeline = world.pipeline(transforms=[double], checks={"amount": {"max": 9}})
    world.put(ROWS)
    (failed,) = pipeline.run().failed_records
    assert (failed.record, failed.message.rpartition(": ")[2]) == (
        "orders:5",
        "its value is '10.00'",
    )


def test_a_redacted_value_is_in_no_message(world: World) -> None:
    pipeline = world.pipeline(redact=["note"], checks={"note": {"pattern": "[a-z]"}})
    world.put([(1, 1, "secret-word"), (2, 2, "b")])
    (failed,) = pipeline.run().failed_records
    assert failed.message == ("column note breaks the check pattern = '[a-z]': its value is ***")
    assert b"secret-word" not in world.ledger.read_bytes()


def test_a_value_that_a_transform_made_of_a_redacted_one_is_in_no_message(world: World) -> None:
    def reversed_into_note(frame):
        return frame.assign(note=frame["extra"].str[::-1])

    world.put([(1, 1, "a"), (2, 2, "b")])
    world.sql("ALTER TABLE orders ADD COLUMN extra TEXT")
    world.sql("UPDATE orders SET extra = 'terces'")
    pipeline = world.pipeline(
        transforms=[reversed_into_note],
        redact=["extra"],
        checks={"note": {"in": ["a"]}},
    )
    told = {one.record: one.message for one in pipeline.run().failed_records}
    assert told == dict.fromkeys(
        ("orders:1", "orders:2"), "column note breaks the check in = ['a']: its value is '***'"
    )
    assert b"secret" not in world.ledger.read_bytes()


def test_too_many_that_break_a_check_stop_the_stream(world: World) -> None:
    pipeline = world.pipeline(breakers=Breakers(failed_records=3), checks={"amount": {"min": 100}})
    world.put(ROWS)
    result = pipeline.run()
    assert "5 records failed in this run" in (result.streams["orders"].error or "")
    assert world.loaded() == {}


def test_a_wrong_check_stops_the_stream_before_a_row_is_read(world: World) -> None:
    world.put(ROWS)
    result = world.pipeline(checks={"amount": {"min": "low"}}).run()
    assert "cannot check `min = 'low'` of column amount" in (result.streams["orders"].error or "")
    assert result.failed_records == ()
    with pytest.raises(ConfigurationError, match="checks of column amount: has mim, which is no"):
        world.pipeline(checks={"amount": {"mim": 0}})
