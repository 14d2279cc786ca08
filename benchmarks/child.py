"""Runs one measurement in a process of its own: a cold start, and a peak of memory of its own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent

# What a run or a retry imports where it is used. After these, neither imports anything that takes
# more than a millisecond (compare sys.modules before and after when that may have changed).
_IMPORTED_WHEN_USED = (
    "duckdb",
    "pandas",
    "pyarrow.acero",
    "pyarrow.compute",
    "pyarrow.ipc",
    "rowtrail",
    "rowtrail.checkpoints.manifest",
    "rowtrail.connectors.destinations.duckdb",
    "rowtrail.pipelines.config",
    "sqlalchemy.dialects.sqlite",
    "tenacity.wait",
)
_OF_SOURCE = {
    "postgres": ("adbc_driver_postgresql.dbapi", "psycopg", "rowtrail.connectors.sources.postgres"),
    "sqlite": ("adbc_driver_sqlite.dbapi", "rowtrail.connectors.sources.sqlite"),
}


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """Which Python makes a measurement."""

    python: str = sys.executable
    settings: Mapping[str, str] = field(default_factory=dict)  # environment variables


_THIS_ONE = Interpreter()

_KEEPS_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""What is installed by pip was compiled then. A checkout is compiled when it is first imported, but
not where this is set, as it is in many containers: then each process would do it all over."""


def measure(
    function: str, /, *, interpreter: Interpreter = _THIS_ONE, **arguments: object
) -> dict[str, Any]:
    """Calls `module:function` in a new interpreter with JSON values; it returns a dict of them.

    Added are `peak_bytes`, the most memory that process had, `process_seconds`, from before it
    starts until it is gone, and `process_cpu_seconds`, what all its threads took. Nothing is in
    flight to the disk when it starts. Raises CalledProcessError; what the child had to say is on
    standard error.
    """
    os.sync()
    command = [interpreter.python, "-m", "benchmarks.child", function, json.dumps(arguments)]
    environment = {**os.environ, **_KEEPS_BYTECODE, **interpreter.settings}
    started = perf_counter()
    done = subprocess.run(
        command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, check=True, text=True
    )
    seconds = perf_counter() - started
    measured: dict[str, Any] = json.loads(done.stdout)
    return {**measured, "process_seconds": seconds}


def import_all(source: str = "sqlite") -> None:
    """Imports what is imported where it is used, so that only the work is timed."""
    for name in (*_IMPORTED_WHEN_USED, *_OF_SOURCE[source]):
        import_module(name)


def _peak_bytes() -> int:
    """The peak of this process; getrusage counts the parent's pages in until exec, this does not.

    See proc(5), VmHWM, and getrusage(2), whose unit is bytes on macOS and KiB elsewhere.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _main() -> None:
    """Standard output is for the answer alone; what else is printed goes to standard error."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    module, _, name = sys.argv[1].partition(":")
    measured = getattr(import_module(module), name)(**json.loads(sys.argv[2]))
    spent = {"peak_bytes": _peak_bytes(), "process_cpu_seconds": process_time()}
    with answer:
        json.dump({**(measured or {}), **spent}, answer)


if __name__ == "__main__":
    _main()
