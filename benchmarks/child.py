"""Runs one measurement in a process of its own: a cold start, and a peak of memory of its own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent

# What a run or a retry imports where it is used. After these, neither imports anything that takes
# more than a millisecond (compare sys.modules before and after when that may have changed).
_IMPORTED_WHEN_USED = (
    "adbc_driver_sqlite.dbapi",
    "duckdb",
    "pandas",
    "pyarrow.acero",
    "pyarrow.compute",
    "pyarrow.ipc",
    "rowtrail",
    "rowtrail.checkpoints.manifest",
    "rowtrail.connectors.destinations.duckdb",
    "rowtrail.connectors.sources.sqlite",
    "rowtrail.pipelines.config",
    "sqlalchemy.dialects.sqlite",
    "tenacity.wait",
)


def measure(function: str, **arguments: object) -> dict[str, Any]:
    """Calls `module:function` in a new interpreter with JSON values; it returns a dict of them.

    `peak_bytes`, the most memory that process had, is added. Nothing is in flight to the disk when
    it starts. Raises CalledProcessError; what the child had to say is on standard error.
    """
    os.sync()
    command = [sys.executable, "-m", "benchmarks.child", function, json.dumps(arguments)]
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True, text=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def import_all() -> None:
    """Imports what is imported where it is used, so that only the work is timed."""
    for name in _IMPORTED_WHEN_USED:
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
    module, _, name = sys.argv[1].partition(":")
    measured = getattr(import_module(module), name)(**json.loads(sys.argv[2]))
    print(json.dumps({**(measured or {}), "peak_bytes": _peak_bytes()}))


if __name__ == "__main__":
    _main()
