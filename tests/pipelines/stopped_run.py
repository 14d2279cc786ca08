"""A run in a process of its own that is stopped by SIGSTOP, its lease expired, and waked later.

`python -m tests.pipelines.stopped_run FOLDER POINT [URL]` stops at that point of its second batch,
and ends by telling as JSON how it came out. Its clock is an hour behind, so that to everybody else
its lease has expired the moment it is taken. The point `in the transaction` is the last statement
before the COMMIT of a PostgreSQL target.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rowtrail import Pipeline
from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.connectors.destinations import postgres
from rowtrail.pipelines import lease
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.held_run import ROOT
from tests.pipelines.postgres_world import PostgresWorld
from tests.pipelines.world import World

BATCH = 2
"""In the second batch it stops: the first one is done, the others are to come."""
IN_THE_TRANSACTION = "in the transaction"


@dataclass(frozen=True)
class HowItEnded:
    error: str | None  # the class of what was raised, or of nothing
    said: str  # what the stream or the exception says
    complete: bool


class StoppedRun:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"it has ended instead of standing still: {status}"

    def wake(self) -> HowItEnded:
        """Lets it go on to its end."""
        self._process.send_signal(signal.SIGCONT)
        out, _ = self._process.communicate(timeout=120)
        return HowItEnded(**json.loads(out))


@contextmanager
def stopped_run(world: World, point: str) -> Iterator[StoppedRun]:
    command = [sys.executable, "-m", "tests.pipelines.stopped_run", str(world.folder), point]
    if isinstance(world, PostgresWorld):
        command.append(world.destination)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield StoppedRun(process)
        finally:
            process.kill()


def of(world: World) -> Pipeline:
    return world.pipeline(batch_rows=2)


def _behind(path: Path, pipeline: str) -> Ledger:
    return open_ledger(path, pipeline, clock=lambda: datetime.now(UTC) - timedelta(hours=1))


def _stop() -> None:
    # It stands still for as long as its lease lives, so for more than two heartbeats.
    lease.HEARTBEAT = 0
    # The next batch is read ahead by then: a process that is stopped while it reads a SQLite file
    # keeps everybody else from writing to it.
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGSTOP)


def _stop_before_the_commit() -> None:
    update_gaps, calls = postgres.update_gaps, []

    def last_statement(work: Any, load: Any) -> None:
        update_gaps(work, load)
        calls.append(load)
        if len(calls) == BATCH:
            _stop()

    postgres.update_gaps = last_statement


def _main(folder: str, where: str, url: str = "") -> None:
    world = PostgresWorld(Path(folder), url) if url else World(Path(folder))
    reached: list[Point] = []

    def stop(point: Point) -> None:
        if point.value == where:
            reached.append(point)
            if len(reached) == BATCH:
                _stop()

    if where == IN_THE_TRANSACTION:
        _stop_before_the_commit()
    try:
        result = run_pipeline(of(world).definition, faults=stop, ledger_opener=_behind)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
        print(json.dumps({"error": type(error).__name__, "said": str(error), "complete": False}))
        return
    stream = result.streams["orders"]
    said = stream.error or stream.skipped or ""
    print(json.dumps({"error": None, "said": said, "complete": result.complete}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
