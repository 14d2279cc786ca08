"""A run into Snowflake in a child of `forking`, which is killed at a point or by somebody else."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from rowtrail import Pipeline
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.forking import Forks

if TYPE_CHECKING:
    from tests.pipelines.snowflake_world import SnowflakeWorld


def pipeline_of(world: SnowflakeWorld, deletes: str = "soft") -> Pipeline:
    return world.pipeline(deletes=deletes, batch_rows=3)


def run_until_killed(
    runs: Forks,
    world: SnowflakeWorld,
    *,
    deletes: str = "soft",
    point: Point | None = None,
    occurrence: int = 1,
) -> None:
    """Ends with SIGKILL: at the point, or when somebody calls `kill`."""
    said = [world.destination, deletes, point, occurrence]
    (world.folder / "child.json").write_text(json.dumps(said))
    assert runs.run(world.folder).killed


def kill(world: SnowflakeWorld) -> None:
    os.kill(int((world.folder / "child.pid").read_text()), signal.SIGKILL)


def sync(folder: Path) -> bool:
    """What a child does."""
    # Not before the fork: Snowflake's connector starts threads.
    from tests.pipelines.snowflake_world import SnowflakeWorld

    (folder / "child.pid").write_text(str(os.getpid()))
    url, deletes, point, occurrence = json.loads((folder / "child.json").read_text())
    reached = 0

    def die(at: Point) -> None:
        nonlocal reached
        reached += at == point
        if at == point and reached == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)

    pipeline = pipeline_of(SnowflakeWorld(folder, url), deletes)
    return run_pipeline(pipeline.definition, faults=die).complete
