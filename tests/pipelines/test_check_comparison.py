"""Checks and suites asked of source and target, and lined up."""

from __future__ import annotations

import pytest

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.check_comparison import ComparedChecks, compare_checks
from rowtrail.pipelines.validation import Verdict
from tests.pipelines.copied_table import ROWS as MANY
from tests.pipelines.copied_table import CopiedTable
from tests.pipelines.suite_files import expectation, write_suite
from tests.pipelines.world import World

ROWS = [(1, 1, "a"), (2, 2, "b"), (3, 3, "c"), (10, 4, "d")]
CHECKS = {"amount": {"min": 0}, "note": {"not_null": True, "severity": "warn"}}


def compared(world: World, rows: int = 100, **stream: object) -> ComparedChecks:
    settings = {"checks": CHECKS, **stream}
    (found,) = compare_checks(world.pipeline(**settings).definition, rows=rows)
    return found


def sides(found: ComparedChecks) -> dict[str, tuple[Verdict | None, Verdict | None]]:
    assert found.problem == ""
    return {one.check: (one.source, one.target) for one in found.checks}


def suite(world: World) -> dict[str, object]:
    return {
        "checks": {},
        "expectations": write_suite(
            world.folder / "s.json",
            expectation("column_values_to_be_between", column="amount", min_value=0),
            expectation("column_mean_to_be_between", column="amount", max_value=5),
            expectation("table_row_count_to_be_between", min_value=1),
        ),
    }


def met(unexpected: int = 0) -> Verdict:
    return Verdict(success=not unexpected, unexpected=unexpected)


def test_both_sides_are_asked_the_same(world: World, deletes: str) -> None:
    world.put(ROWS)
    assert world.pipeline(deletes=deletes).run().complete
    found = compared(world, deletes=deletes)
    assert sides(found) == {
        "column amount: min = 0": (met(), met()),
        "column note: not_null = true": (met(), met()),
    }
    assert (found.source_rows, found.target_rows, found.whole, found.passes) == (4, 4, True, True)
    world.delete(10)
    assert world.pipeline(deletes=deletes).run().complete
    found = compared(world, deletes=deletes)
    assert (found.source_rows, found.target_rows) == (3, 3)


def test_where_the_target_has_something_else_the_sides_differ(world: World) -> None:
    world.put(ROWS)
    assert world.pipeline().run().complete
    world.change_target("UPDATE orders SET amount = -2, note = NULL WHERE id = 2")
    found = compared(world)
    assert sides(found) == {
        "column amount: min = 0": (met(), met(1)),
        "column note: not_null = true": (met(), met(1)),
    }
    assert [(one.fails, one.differs) for one in found.checks] == [(True, True), (False, True)]
    assert not found.passes


def test_what_is_broken_on_both_sides_fails_and_a_warning_does_not(world: World) -> None:
    world.put([*ROWS, (11, -1, None)])
    assert world.pipeline().run().complete
    found = compared(world)
    assert [(one.fails, one.differs) for one in found.checks] == [(True, False), (False, False)]
    assert not found.passes
    assert compared(world, checks={"note": CHECKS["note"]}).passes


def test_suites_are_lined_up_with_what_the_whole_has(world: World) -> None:
    world.put(ROWS)
    assert world.pipeline().run().complete
    world.change_target("UPDATE orders SET amount = -2 WHERE id = 2")
    found = compared(world, **suite(world))
    low, mean, count = (
        "expectation expect_column_values_to_be_between of column amount (min_value = 0)",
        "expectation expect_column_mean_to_be_between of column amount (max_value = 5)",
        "expectation expect_table_row_count_to_be_between (min_value = 1)",
    )
    assert sides(found) == {
        low: (met(), met(1)),
        mean: (
            Verdict(success=True, observed="'2.5'"),
            Verdict(success=True, observed="'1.5'"),
        ),
        count: (
            Verdict(success=True, observed="'4'"),
            Verdict(success=True, observed="'4'"),
        ),
    }
    assert [one.differs for one in found.checks] == [True, True, False]


def test_what_redacted_columns_have_is_not_told(world: World) -> None:
    world.put(ROWS)
    assert world.pipeline().run().complete
    found = compared(world, redact=["amount"], **suite(world))
    assert {side.observed for one in found.checks for side in (one.source, one.target) if side} == {
        None,
        "***",
        "'4'",
    }


def test_of_many_rows_the_same_keys_are_looked_at_on_both_sides(world: World) -> None:
    world.put(ROWS)
    assert world.pipeline().run().complete
    world.change_target("UPDATE orders SET amount = -2 WHERE id = 10")
    for rows, source, target, whole in ((1, 1, 1, False), (3, 3, 3, False), (4, 4, 4, True)):
        found = compared(world, rows=rows)
        assert (found.source_rows, found.target_rows, found.whole) == (source, target, whole)
        assert found.passes is not whole
    world.sql("DELETE FROM orders WHERE id = 2")
    for size in (1, 2, 9):
        # Up to key 3 the source has two rows by now, and the target three.
        assert "more than 2 rows" in compared(world, rows=2, batch_rows=size).problem
        assert "more than 3 rows" in compared(world, rows=3, batch_rows=size).problem


def test_rows_are_asked_as_they_would_be_loaded(world: World) -> None:
    def picky(frame):
        if (frame["note"] == "bad").any():
            raise ValueError("bad")
        return frame[frame["note"] != "b"].assign(amount=lambda kept: kept["amount"] * -1)

    world.put([*ROWS, (11, 1, "bad")])
    found = compared(world, transforms=[picky])
    assert (found.source_rows, found.left_out, found.is_there) == (3, 1, False)
    assert sides(found)["column amount: min = 0"] == (met(3), None)


def test_an_empty_source_is_asked_nothing(world: World) -> None:
    found = compared(world, **suite(world))
    assert (found.source_rows, found.checks, found.passes) == (0, (), True)


def test_who_asks_nothing_is_told_so(world: World) -> None:
    definition = world.pipeline().definition
    with pytest.raises(ConfigurationError, match="Nothing is asked of orders: set `checks` or"):
        compare_checks(definition)
    with pytest.raises(ConfigurationError, match="Nothing is asked of orders: set `checks` or"):
        compare_checks(definition, ["orders"])
    with pytest.raises(ConfigurationError, match="has no stream others"):
        compare_checks(definition, ["others"])


def test_what_cannot_be_asked_is_the_problem_of_its_stream(world: World) -> None:
    world.put(ROWS)
    found = compared(world, checks={"amuont": {"min": 0}})
    assert "amuont, which its rows do not have" in found.problem
    assert not found.passes


def test_a_column_that_the_target_has_yet_to_get_is_told(world: World) -> None:
    world.put(ROWS)
    assert world.pipeline().run().complete
    world.sql("ALTER TABLE orders ADD COLUMN extra TEXT")
    assert "has no column extra yet; the next run makes it" in compared(world).problem


def test_each_pair_of_databases_is_asked(each_pair: CopiedTable) -> None:
    settings = {"checks": {"amount": {"min": 0}, "note": {"pattern": "note of.*"}}}
    pipeline = each_pair.pipeline(capture="snapshot", **settings)
    assert pipeline.run().complete
    (found,) = compare_checks(pipeline.definition)
    assert (found.source_rows, found.target_rows) == (MANY, MANY)
    assert [(one.source, one.target) for one in found.checks] == [(met(), met())] * 2
    each_pair.change_target("UPDATE orders SET note = 'else' WHERE id < 10")
    (found,) = compare_checks(pipeline.definition, rows=100)
    assert (found.source_rows, found.target_rows, found.whole) == (100, 100, False)
    assert [(one.source, one.target) for one in found.checks] == [(met(), met()), (met(), met(9))]
