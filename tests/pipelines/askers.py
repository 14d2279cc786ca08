"""Processes that all ask for retries while another one syncs: `python -m tests.pipelines.askers`.

Its arguments are the folder of a `Desks`, how many processes ask, and how often each. It imports
everything once and forks, so that eight processes cost one start of an interpreter. Nothing is
opened before: neither DuckDB nor Arrow survives a fork with threads at work.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from rowtrail import Breakers, Pipeline
from rowtrail.checkpoints.errors import LeaseHeldError
from tests.pipelines.forking import WARM
from tests.pipelines.world import World

BAD = range(1, 9)
"""These keys fail whatever is done about them."""
FIRST = 100
"""The first of the keys that fail until they are mended: one for each other request."""


def asked(process: int, times: int) -> list[int]:
    """The keys that a process asks for, in its order: bad ones and mended ones by turns."""
    own = FIRST + process * times
    return [BAD[(process + n) % len(BAD)] if n % 2 else own + n for n in range(times)]


class Desks(World):
    """A world whose transform refuses bad notes, and broken ones until it is mended."""

    def retried(self) -> Pipeline:
        mended = self.folder / "mended"

        def picky(frame):
            if (frame["note"] == "bad").any():
                raise ValueError("bad note")
            if (frame["note"] == "broken").any() and not mended.exists():
                raise ValueError("broken note")
            return frame

        return self.pipeline(
            transforms=[picky],
            batch_rows=20,
            retries=0,  # those that runs make by themselves are attempts as well
            breakers=Breakers(failed_share=1.0, deleted_share=1.0),
        )

    @property
    def stop(self) -> Path:
        """The syncing process ends when this file is there."""
        return self.folder / "stop"


def sync_until_told(desks: Desks) -> None:
    pipeline = desks.retried()
    while not desks.stop.exists():
        try:
            result = pipeline.run()
        except LeaseHeldError:
            time.sleep(0.005)
            continue
        stream = result.streams["orders"]
        assert stream.error is None and stream.skipped is None, stream
        time.sleep(0.05)  # now and then one that asks gets the lease itself


def _ask(desks: Desks, process: int, times: int) -> None:
    pipeline = desks.retried()
    for key in asked(process, times):
        (noted,) = pipeline.retry("orders", key)
        assert noted.decision_id is not None


def _fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:  # noqa: BLE001 - what belongs to the parent is left alone
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _main(folder: str, processes: str, times: str) -> int:
    for name in WARM:
        import_module(name)
    desks = Desks(Path(folder))
    syncing = _fork(lambda: sync_until_told(desks))
    asking = [_fork(lambda p=p: _ask(desks, p, int(times))) for p in range(int(processes))]
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in asking]
    desks.stop.touch()
    ends.append(os.waitstatus_to_exitcode(os.waitpid(syncing, 0)[1]))
    return int(any(ends))


if __name__ == "__main__":
    raise SystemExit(_main(*sys.argv[1:]))
