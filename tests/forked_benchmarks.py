"""Benchmarks whose measurements are forks of one process: `python -m tests.forked_benchmarks ...`.

It takes the arguments of `python -m benchmarks`. What a measurement does, in a process of its own,
is the same; only the interpreter does not start and import everything anew, dozens of times. The
parent opens nothing of DuckDB or Arrow, neither of which survives a fork with threads at work.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from functools import cache
from importlib import import_module
from subprocess import CalledProcessError
from time import perf_counter, process_time
from typing import Any

from benchmarks import child
from benchmarks.__main__ import main

_WITH_THIS = child.Interpreter()


def measure(
    function: str, /, *, interpreter: child.Interpreter = _WITH_THIS, **arguments: object
) -> dict[str, Any]:
    """As `benchmarks.child.measure` does it, in a fork."""
    assert interpreter == _WITH_THIS, "what another Python measures is a peer's"
    _import_all()
    started = perf_counter()
    receiving, sending = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(receiving)
        _live(function, arguments, sending)
    os.close(sending)
    with os.fdopen(receiving) as answer:
        told = answer.read()
    _, status = os.waitpid(process, 0)
    if status != 0:
        raise CalledProcessError(os.waitstatus_to_exitcode(status), function)
    return {**json.loads(told), "process_seconds": perf_counter() - started}


@cache
def _import_all() -> None:
    for source in ("sqlite", "postgres"):
        child.import_all(source)


def _live(function: str, arguments: dict[str, object], sending: int) -> None:
    """Never returns: what belongs to the parent must not be cleaned up by the child."""
    status = 1
    try:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        module, _, name = function.partition(":")
        # As JSON, since that is how a new interpreter gets and gives them.
        measured = getattr(import_module(module), name)(**json.loads(json.dumps(arguments))) or {}
        spent = {"peak_bytes": child._peak_bytes(), "process_cpu_seconds": process_time()}
        with os.fdopen(sending, "w") as answer:
            json.dump({**measured, **spent}, answer)
        status = 0
    except BaseException:  # noqa: BLE001 - nothing may get out of here
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    child.measure = measure  # before the benchmarks take it from there
    main()
