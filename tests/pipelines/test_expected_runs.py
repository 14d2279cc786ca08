"""Runs of streams with Great Expectations suites: rows that fail, batches that stop a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rowtrail import Pipeline, Stream
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.results import CheckWarning
from tests.pipelines.suite_files import expectation, write_suite
from tests.pipelines.world import World

ROWS = [(1, 1, "a"), (2, -2, "b"), (3, 3, None), (4, -4, None), (5, 5, "a")]
POSITIVE = expectation("column_values_to_be_between", column="amount", min_value=0)
FEW = expectation("table_row_count_to_be_between", max_value=3)


def suite(world: World, *expectations: dict[str, Any]) -> Path:
    return write_suite(world.folder / "orders.json", *expectations)


def pipeline(world: World, *expectations: dict[str, Any], **stream: Any) -> Pipeline:
    return world.pipeline(expectations=suite(world, *expectations), **stream)


def test_each_unexpected_row_is_a_failed_record(world: World, capture: str) -> None:
    ordered = pipeline(
        world,
        POSITIVE,
        expectation("column_values_to_not_be_null", column="note"),
        capture=capture,
    )
    world.put(ROWS)
    failed = ordered.run().failed_records
    low = "column amount breaks the expectation expect_column_values_to_be_between (min_value = 0)"
    assert [(one.record, one.stage, one.error_class, one.message) for one in failed] == [
        ("orders:2", "validate", "ExpectationFailed", f"{low}: its value is '-2.00'"),
        (
            "orders:3",
            "validate",
            "ExpectationFailed",
            "column note breaks the expectation expect_column_values_to_not_be_null: its value is "
            "NULL",
        ),
        ("orders:4", "validate", "ExpectationFailed", f"{low}: its value is '-4.00'"),
    ]
    assert set(world.loaded()) == {1, 5}
    assert len(ordered.failure_groups()) == 2

    world.put([(2, 2, "b"), (3, 3, "c"), (4, 4, "d")])
    assert ordered.run().complete
    assert world.loaded() == world.expected()


def test_a_single_replay_goes_through_the_same_suite(world: World) -> None:
    world.put(ROWS)
    assert world.pipeline().run().complete
    checked = pipeline(world, POSITIVE, FEW)
    assert checked.replay("orders", 2).failed == ("orders:2",)
    (retried,) = checked.retry("orders", 2)
    assert retried.failed == ("orders:2",)


def test_a_suite_that_was_changed_lets_the_next_run_try_again_at_once(world: World) -> None:
    world.put(ROWS)
    assert pipeline(world, POSITIVE).run().streams["orders"].held_back == 2
    assert pipeline(world, POSITIVE).run().streams["orders"].held_back == 2
    more = expectation("column_values_to_be_between", column="amount", min_value=-2)
    (failed,) = pipeline(world, more).run().failed_records
    assert failed.record == "orders:4"


@pytest.mark.parametrize("deletes", ["soft", "hard"])
def test_a_batch_that_is_not_as_expected_stops_the_stream_before_it_is_loaded(
    world: World, deletes: str
) -> None:
    world.put(ROWS[:2])
    assert pipeline(world, FEW, deletes=deletes).run().complete
    world.put(ROWS)
    result = pipeline(world, FEW, POSITIVE, deletes=deletes).run()
    assert result.streams["orders"].error == (
        "Stream orders was stopped: the rows of a batch together break the expectation "
        "expect_table_row_count_to_be_between (max_value = 3) (orders.json), it has '5'. Nothing "
        "of the batch was loaded. Mend the source, or correct orders.json, then run again."
    )
    assert (set(world.loaded()), result.failed_records) == ({1, 2}, ())
    assert pipeline(world, POSITIVE, deletes=deletes).run().streams["orders"].held_back == 2
    assert set(world.loaded()) == {1, 2, 3, 5}


def test_it_is_asked_of_each_batch_and_not_of_chosen_records(world: World) -> None:
    world.put(ROWS[:3])
    many = expectation("table_row_count_to_be_between", min_value=3)
    ordered = pipeline(world, many)
    assert ordered.run().complete
    world.put([(1, 7, "z")])
    assert "it has '1'" in (ordered.run().streams["orders"].error or "")
    replayed = ordered.replay("orders", 1)
    assert "1 loaded" in replayed.text
    assert world.loaded()[1] == ("7.00", "z")


def test_a_batch_of_the_archive_is_not_asked_again_as_a_whole(world: World) -> None:
    many = expectation("table_row_count_to_be_between", min_value=3)
    ordered = Pipeline(
        name="test",
        source=f"sqlite:///{world.source}",
        destination=world.destination,
        ledger=world.ledger,
        archive=world.folder / "archive",
        streams=[Stream("orders", expectations=suite(world, many))],
        install_capture=True,
    )
    world.put(ROWS[:3])
    assert ordered.run().complete
    ordered.replay("orders", 1)  # a batch of one, in the archive as well
    world.target.unlink()
    ordered.replay_archive("orders")
    assert world.loaded() == world.expected()


def test_warnings_let_rows_and_batches_through(world: World) -> None:
    world.put(ROWS)
    result = pipeline(
        world,
        expectation("column_values_to_be_between", "warning", column="amount", min_value=0),
        expectation("column_values_to_not_be_null", column="note", mostly=0.5),
        expectation("column_mean_to_be_between", "info", column="amount", min_value=100),
    ).run()
    assert result.complete
    low = "expectation expect_column_values_to_be_between of column amount (min_value = 0)"
    null = "expectation expect_column_values_to_not_be_null of column note (mostly = 0.5)"
    mean = "expectation expect_column_mean_to_be_between of column amount (min_value = 100)"
    assert result.warnings == (
        CheckWarning(check=low, rows=2, record="orders:2"),
        CheckWarning(check=null, rows=2, record="orders:3"),
        CheckWarning(check=mean, rows=0, observed="'0.6'"),
    )
    assert world.loaded() == world.expected()


def test_light_checks_come_first(world: World) -> None:
    world.put(ROWS)
    result = pipeline(
        world, expectation("table_row_count_to_equal", value=3), checks={"amount": {"min": 0}}
    ).run()
    assert [one.error_class for one in result.failed_records] == ["CheckFailed", "CheckFailed"]
    assert result.streams["orders"].error is None


def test_a_redacted_value_is_in_no_message(world: World) -> None:
    world.put([(1, 1, "secret-word"), (2, 2, "b")])
    asked = expectation("column_values_to_match_regex", column="note", regex="^[a-z]$")
    most = expectation(
        "column_most_common_value_to_be_in_set", "info", column="note", value_set=["q"]
    )
    result = pipeline(world, asked, most, redact=["note"]).run()
    (failed,) = result.failed_records
    assert failed.message.endswith("(regex = '^[a-z]$'): its value is ***")
    assert [one.observed for one in result.warnings] == ["***"]
    assert b"secret-word" not in world.ledger.read_bytes()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (expectation("nothing_like_it", column="note"), "has none of this name"),
        (expectation("column_values_to_not_be_null", column="nose"), "Did you mean note?"),
        (
            expectation("column_values_to_match_regex", column="note", regex="("),
            "Invalid regular expression",
        ),
    ],
)
def test_what_cannot_be_asked_stops_the_stream_and_fails_no_record(
    world: World, asked: dict[str, Any], words: str
) -> None:
    world.put(ROWS)
    result = pipeline(world, POSITIVE, asked).run()
    assert words in (result.streams["orders"].error or "")
    assert result.failed_records == ()


def test_a_file_that_is_no_suite_is_a_mistake(world: World) -> None:
    path = world.folder / "orders.json"
    path.write_text("{}")
    with pytest.raises(ConfigurationError, match="it has no list of `expectations`"):
        world.pipeline(expectations=path)
