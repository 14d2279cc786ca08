"""A world whose pipeline has an archive, and whose source can be taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rowtrail import Pipeline
from rowtrail.pipelines.archive import Archive, open_archive
from rowtrail.pipelines.archive_names import ArchivedBatch
from rowtrail.pipelines.archive_replay import ArchiveReplayed
from rowtrail.pipelines.results import RunResult
from tests.pipelines.world import World

MakePipeline = Callable[..., Pipeline]


class Archived:
    """A world of any target with an archive in its folder."""

    def __init__(self, world: World, place: str | None = None) -> None:
        self.world = world
        self.place = place or str(world.folder / "archive")

    def pipeline(self, **settings: Any) -> Pipeline:
        pipeline = self.world.pipeline(**{"batch_rows": 3, **settings})
        pipeline.definition = replace(pipeline.definition, archive=self.place)
        return pipeline

    @property
    def archive(self) -> Archive:
        return open_archive(self.pipeline().definition)

    def batches(self, stream: str = "orders") -> list[ArchivedBatch]:
        """In the order in which they were opened."""
        return sorted(self.archive.batches(stream), key=lambda one: one.opened_at)

    def file(self, batch: ArchivedBatch) -> Path:
        return Path(self.place) / batch.path

    @contextmanager
    def without_source(self) -> Iterator[None]:
        """The source's file is somewhere else meanwhile."""
        away = self.world.source.rename(self.world.source.with_suffix(".away"))
        try:
            yield
            assert not self.world.source.exists(), "somebody opened it"
        finally:
            away.rename(self.world.source)

    def lose_target(self) -> None:
        self.world.target.unlink()

    def lose_ledger(self) -> None:
        for file in self.world.folder.glob("ledger.db*"):
            file.unlink()

    def replay(self, pipeline: Pipeline, **options: Any) -> ArchiveReplayed:
        (result,) = pipeline.replay_archive("orders", **options)
        return result


def fill(world: World) -> None:
    """Nine rows, in three batches."""
    world.put((n, n, "first") for n in range(1, 10))


def change(world: World) -> None:
    """Updates, deletes, a changed key, and a key that comes back."""
    world.put([(1, 9, "second"), (4, 9, "second"), (11, 1, "new")])
    world.delete(3, 6)
    world.sql("UPDATE orders SET id = 12, seen = ? WHERE id = 9", (world.clock + 1,))
    world.clock += 1
    world.put([(6, 6, "again")])


def assert_goes_on(world: World, pipeline: Pipeline) -> RunResult:
    """The next run reads what has changed since, and nothing else."""
    world.put([(2, 2, "later"), (30, 3, "later")])
    world.delete(1)
    result = pipeline.run()
    assert result.complete
    assert world.loaded() == world.expected()
    return result
