"""A process that runs pipelines in children and kills them: `python -m tests.pipelines.forking`.

It imports everything once and then forks, so that a run costs no start of an interpreter. Each line
on its standard input asks for a run; each line on its standard output says how that one ended.
Nothing is opened before the fork: neither DuckDB nor Arrow survives one with threads at work.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).parents[2]
WARM = (
    "adbc_driver_sqlite.dbapi",
    "duckdb",
    "pandas",
    "rowtrail.checkpoints.manifest",
    "rowtrail.checkpoints.outcomes",
    "rowtrail.connectors.destinations.duckdb",
    "rowtrail.connectors.sources.sqlite",
    "tenacity",
    "tenacity.wait",
)
"""What a run imports only when it gets there."""


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    killed: bool
    status: int  # its exit status; of no meaning when it was killed
    seconds: float  # wall time


class Forks:
    """The other end of the line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, folder: Path, kill_after: float | None = None) -> Ended:
        """One run of the world in the folder, killed after so many seconds if it still lives."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps([str(folder), kill_after]), file=self._process.stdin, flush=True)
        return Ended(**json.loads(self._process.stdout.readline()))


@contextmanager
def forks(module: str) -> Iterator[Forks]:
    """Starts the process; `module` has a `sync(folder: Path) -> bool` that the children call."""
    # NumPy's linear algebra would start threads of its own at import.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.pipelines.forking", module]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    ) as process:
        yield Forks(process)
        assert process.stdin is not None
        process.stdin.close()


def _serve(sync: Callable[[Path], bool]) -> None:
    for line in sys.stdin:
        folder, kill_after = json.loads(line)
        print(json.dumps(asdict(_fork(sync, Path(folder), kill_after))), flush=True)


def _fork(sync: Callable[[Path], bool], folder: Path, kill_after: float | None) -> Ended:
    started = perf_counter()
    alive, held_by_child = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(alive)
        _live(sync, folder)
    os.close(held_by_child)
    # The pipe ends when the child does, however that happens.
    ended, _, _ = select.select([alive], [], [], kill_after)
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(alive)
    return Ended(
        killed=os.WIFSIGNALED(status),
        status=0 if os.WIFSIGNALED(status) else os.WEXITSTATUS(status),
        seconds=perf_counter() - started,
    )


def _live(sync: Callable[[Path], bool], folder: Path) -> None:
    """Never returns: what belongs to the parent must not be cleaned up by the child."""
    status = 1
    try:
        status = 0 if sync(folder) else 3
    except BaseException as error:  # noqa: BLE001 - nothing may get out of here
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


if __name__ == "__main__":
    for name in WARM:
        import_module(name)
    _serve(import_module(sys.argv[1]).sync)
