"""A crash at every named point: what the archive gives afterwards is what the target has."""

from __future__ import annotations

import pytest

from rowtrail.pipelines.commit import Point
from tests.pipelines.archived import Archived
from tests.pipelines.crashing import CrashAt
from tests.pipelines.test_crash import change, fill, picky, sync, sync_with_crash
from tests.pipelines.witness import versions
from tests.pipelines.world import World

AROUND_THE_WRITE = (Point.STAGED, Point.WRITTEN)


@pytest.mark.parametrize(
    ("capture", "point"),
    [
        *(("trigger", point) for point in Point),
        *((capture, point) for capture in ("cursor", "snapshot") for point in AROUND_THE_WRITE),
    ],
)
def test_the_archive_equals_the_target_after_crashes(
    world: World, capture: str, point: Point
) -> None:
    archived = Archived(world)
    pipeline = archived.pipeline(capture=capture, transforms=[picky])
    fill(world)
    sync_with_crash(pipeline, CrashAt(point, occurrence=2))
    sync(pipeline)
    change(world)
    sync_with_crash(pipeline, CrashAt(point))
    sync(pipeline)
    rows, gaps = world.loaded(), world.gaps()
    at = {key: version[:3] for key, version in versions(world).items()}
    archived.lose_target()
    with archived.without_source():
        result = archived.replay(pipeline)
    assert result.needs_snapshot is None and result.lost == ()
    assert world.gaps() == gaps
    # 7 is stale at the one and missing at the other: its first version cannot come after it failed.
    assert {key: row for key, row in world.loaded().items() if key != 7} == {
        key: row for key, row in rows.items() if key != 7
    }
    assert {key: version[:3] for key, version in versions(world).items()} == at
