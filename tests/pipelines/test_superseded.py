"""What the target has already as new or newer is told as superseded, never as loaded."""

from __future__ import annotations

import pytest

from rowtrail import Breakers
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.witness import ledger_of, outcomes
from tests.pipelines.world import World


def test_a_change_that_the_first_read_has_seen_already(world: World) -> None:
    """It was made while the table was read, before its own page: the log brings it once more."""
    world.put((n, n, "before") for n in range(1, 13))
    seen: list[Point] = []

    def change_the_last(point: Point) -> None:
        if not seen:
            world.put([(12, 12, "while it was read")])
        seen.append(point)

    # Pages are read ahead: the last of six is still to come when the first batch is opened.
    result = run_pipeline(world.pipeline(batch_rows=2).definition, faults=change_the_last)
    counts = result.streams["orders"].counts
    assert result.complete
    assert (counts.loaded, counts.superseded) == (12, 1)
    assert world.loaded() == world.expected()
    with ledger_of(world) as ledger:
        assert [entry.event for entry in outcomes(ledger, 12)] == ["loaded", "superseded"]
        for key in range(1, 12):
            assert [entry.event for entry in outcomes(ledger, key)] == ["loaded"]


@pytest.mark.parametrize("deletes", ["soft", "hard"])
def test_a_new_epoch_wins_whatever_the_position_of_the_older_one(
    world: World, deletes: str
) -> None:
    """Numbers of reads are high by then, and the sequence of the new change log is low."""
    keys = range(1, 13)
    for n in range(5):
        world.put((key, key, f"read {n}") for key in keys)
        assert world.pipeline(capture="snapshot", deletes=deletes).run().complete
    # So many in one page that they come as items of their own.
    world.delete(*range(4, 10))
    anew = world.pipeline(
        capture="trigger", deletes=deletes, batch_rows=4, breakers=Breakers(deleted_share=1.0)
    )
    assert anew.run().complete
    assert world.loaded() == world.expected()
