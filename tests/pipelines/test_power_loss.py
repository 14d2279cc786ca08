"""A loss of power takes the ledger's writes since the last one that had to reach the disk.

The target and the source keep theirs. What is lost of the ledger must be known again from its last
manifest and the target's receipts.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.crashing import Crash
from tests.pipelines.witness import held_back, ledger_of
from tests.pipelines.world import World


class PowerFails:
    """Keeps the ledger as the n-th manifest leaves it, and puts it back at a later point."""

    def __init__(self, world: World, point: Point, batch: int) -> None:
        self._world = world
        self._point = point
        self._batch = batch
        self._kept = world.folder / "kept"
        self._prepared = 0

    def __call__(self, point: Point) -> None:
        if point is Point.PREPARED:
            self._prepared += 1
            if self._prepared == self._batch:
                self._kept.mkdir()
                for file in self._ledger():
                    shutil.copy(file, self._kept)
        if point is self._point and self._prepared == self._batch:
            raise Crash(point)

    def restore(self) -> None:
        for file in self._ledger():
            file.unlink()
        for file in self._kept.iterdir():
            shutil.copy(file, self._world.folder)
        # The process that held the lease is gone with the power; this one, in its place, is not.
        with closing(sqlite3.connect(self._world.ledger)) as connection, connection:
            connection.execute("UPDATE lease SET released = TRUE")

    def _ledger(self) -> list[Path]:
        return list(self._world.folder.glob("ledger.db*"))


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("point", [Point.WRITTEN, Point.CLOSED, Point.ACKNOWLEDGED])
def test_nothing_is_lost_or_doubled(world: World, capture: str, point: Point, batch: int) -> None:
    def refuse_seven(frame):
        if (frame["id"] == 7).any():
            raise ValueError("seven")
        return frame

    pipeline = world.pipeline(capture=capture, batch_rows=2, transforms=[refuse_seven])
    world.put((n, 1, "a") for n in range(1, 10))
    pipeline.run()
    world.put((n, 2, "b") for n in range(3, 9))
    world.delete(1)
    power = PowerFails(world, point, batch)
    with pytest.raises(Crash):
        run_pipeline(pipeline.definition, faults=power)
    power.restore()

    assert [one.record for one in pipeline.run().failed_records] == ["orders:7"]
    expected = world.expected()
    del expected[7]
    assert world.loaded() == expected
    assert world.gaps() == {"orders:7"}
    with ledger_of(world) as ledger:
        assert list(held_back(ledger)) == [7]
        assert ledger.batches.unfinished() == []
