"""Bad rows are found one by one, in few attempts, and broken code is told from bad data."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowtrail import Breakers
from rowtrail.pipelines.isolation import (
    AttemptsSpentError,
    Budget,
    EveryProbeFailedError,
    FailsTogetherError,
    isolate,
)
from tests.pipelines.witness import ledger_of, record
from tests.pipelines.world import World


def failing_on(bad: set[int]):
    def attempt(start: int, stop: int) -> range:
        if found := sorted(bad.intersection(range(start, stop))):
            raise ValueError(f"row {found[0]}")
        return range(start, stop)

    return attempt


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.data())
def test_every_row_ends_on_one_side(length: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, length - 1), max_size=min(length - 1, 19)))
    found = isolate(length, failing_on(bad), ValueError, Budget(10_000))
    assert [row for row, _ in found.failed] == sorted(bad)
    passed = [row for part in found.passed for row in part.result]
    assert passed == [row for row in range(length) if row not in bad]


def test_ten_bad_of_a_hundred_thousand_take_few_attempts() -> None:
    n, k = 100_000, 10
    bad = set(random.Random(7).sample(range(n), k))
    budget = Budget(100_000)
    found = isolate(n, failing_on(bad), ValueError, budget)
    assert {row for row, _ in found.failed} == bad
    assert budget.spent <= 2 * k * math.log2(n) + k


def test_each_failure_carries_its_own_error() -> None:
    found = isolate(64, failing_on({3, 40}), ValueError, Budget(1_000))
    assert [str(error) for _, error in found.failed] == ["row 3", "row 40"]


def test_a_budget_that_is_spent_stops_the_search() -> None:
    with pytest.raises(AttemptsSpentError, match="5 attempts"):
        isolate(100, failing_on({3, 40}), ValueError, Budget(5))


def test_code_that_fails_on_everything_is_not_blamed_on_the_data() -> None:
    budget = Budget(100_000)
    with pytest.raises(EveryProbeFailedError, match="ValueError"):
        isolate(50_000, failing_on(set(range(50_000))), ValueError, budget)
    assert budget.spent < 100


def test_rows_that_a_person_chose_are_all_tried() -> None:
    budget = Budget(None)
    found = isolate(100, failing_on(set(range(100))), ValueError, budget)
    assert [row for row, _ in found.failed] == list(range(100))
    assert budget.spent == 199


def test_what_failed_as_a_whole_is_not_tried_again() -> None:
    tried: list[tuple[int, int]] = []

    def attempt(start: int, stop: int) -> range:
        tried.append((start, stop))
        return failing_on({5})(start, stop)

    found = isolate(8, attempt, ValueError, Budget(100), ValueError("all of them"))
    assert tried == [(0, 4), (4, 6), (4, 5), (5, 6), (6, 8)], "(4, 8) must fail, as (0, 4) passed"
    assert [(row, str(error)) for row, error in found.failed] == [(5, "row 5")]
    alone = isolate(1, attempt, ValueError, Budget(0), ValueError("all of them"))
    assert [(row, str(error)) for row, error in alone.failed] == [(0, "all of them")]


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 200), st.data())
def test_two_rows_that_collide_are_told_from_bad_rows(length: int, data: st.DataObject) -> None:
    rows = st.integers(0, length - 1)
    first, second = sorted(data.draw(st.lists(rows, min_size=2, max_size=2, unique=True)))

    def attempt(start: int, stop: int) -> range:
        if start <= first and second < stop:
            raise ValueError("they collide")
        return range(start, stop)

    with pytest.raises(FailsTogetherError) as caught:
        isolate(length, attempt, ValueError, Budget(10_000))
    assert caught.value.rows == (first, second)


def test_many_bad_rows_in_one_place_are_still_bad_rows() -> None:
    bad = set(range(100))
    found = isolate(5_000, failing_on(bad), ValueError, Budget(10_000))
    assert {row for row, _ in found.failed} == bad


@pytest.mark.parametrize(("first", "second"), [(3, 90), (49, 50), (0, 99), (10, 11)])
def test_rows_that_fail_only_together_are_named(first: int, second: int) -> None:
    def attempt(start: int, stop: int) -> None:
        if start <= first and second < stop:
            raise ValueError("they collide")

    with pytest.raises(FailsTogetherError) as caught:
        isolate(100, attempt, ValueError, Budget(1_000))
    assert caught.value.rows == (first, second)


def test_other_errors_pass_through() -> None:
    def attempt(start: int, stop: int) -> None:
        raise KeyError("not expected")

    with pytest.raises(KeyError):
        isolate(10, attempt, ValueError, Budget(10))


def test_nothing_takes_no_attempt() -> None:
    budget = Budget(0)
    assert isolate(0, failing_on(set()), ValueError, budget).passed == []


def test_records_that_a_person_retries_may_all_fail_again(world: World) -> None:
    def picky(frame):
        if (frame["note"] == "bad").any():
            raise ValueError("bad note")
        return frame

    world.put((number, 1, "bad" if number % 4 else "good") for number in range(36))
    pipeline = world.pipeline(transforms=[picky], breakers=Breakers(failed_share=1, attempts=100))
    assert len(pipeline.run().failed_records) == 27
    (dry,) = pipeline.retry("orders", dry_run=True)
    (retried,) = pipeline.retry("orders")
    replayed = pipeline.replay("orders", *(number for number in range(36) if number % 4))
    for result in (dry, retried, replayed):
        assert len(result.failed) == 27
        assert "27 failed again" in result.text
    with ledger_of(world) as ledger:
        assert {one.attempts for one in ledger.failures.list("orders")} == {3}
        trail = [entry.event for entry in ledger.trail(record(1))]
    assert trail.count("failed") == 3


def test_a_run_of_nothing_but_bad_records_stops(world: World) -> None:
    def broken(frame):
        return frame["no such column"]

    world.put((number, 1, "x") for number in range(25))
    result = world.pipeline(transforms=[broken]).run()
    error = result.streams["orders"].error or ""
    assert "Stream orders was stopped" in error and "then run again" in error
