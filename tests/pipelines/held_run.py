"""A run in a process of its own that stands still until it is told to go on.

`python -m tests.pipelines.held_run FOLDER POINT` says `holding` at that point of its first batch,
waits for a line on its standard input, goes on, and ends by telling its result as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.world import World

ROOT = Path(__file__).parents[2]


class HeldRun:
    """A run that stands still in another process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "holding"

    def finish(self) -> dict[str, Any]:
        """Lets it go on to its end; what it says of itself."""
        out, _ = self._process.communicate("go on\n")
        result: dict[str, Any] = json.loads(out)
        return result


@contextmanager
def held_run(world: World, point: Point) -> Iterator[HeldRun]:
    command = [sys.executable, "-m", "tests.pipelines.held_run", str(world.folder), point.value]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            yield HeldRun(process)
        finally:
            process.kill()


def _main(folder: str, where: str) -> None:
    waited: list[Point] = []

    def wait(point: Point) -> None:
        if point.value == where and not waited:
            waited.append(point)
            print("holding", flush=True)
            sys.stdin.readline()

    result = run_pipeline(World(Path(folder)).pipeline().definition, faults=wait)
    print(json.dumps({"state": result.state.value, "decisions": result.decisions}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
