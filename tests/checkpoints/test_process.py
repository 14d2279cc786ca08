"""Telling a process that lives from one that has ended."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rowtrail.checkpoints import process

pytestmark = pytest.mark.skipif(
    process.this_process() is None, reason="without /proc no process is known to be dead"
)
_PRINT = "from rowtrail.checkpoints.process import this_process; print(this_process())"


def ended_process() -> str:
    said = subprocess.run([sys.executable, "-c", _PRINT], check=True, capture_output=True)
    return said.stdout.decode().strip()


def test_this_process_lives() -> None:
    assert not process.is_dead(process.this_process())


def test_a_process_that_ended_is_dead() -> None:
    assert process.is_dead(ended_process())


def test_a_number_in_use_again_is_another_process() -> None:
    place, _, start = ended_process().rsplit(" ", 2)
    assert process.is_dead(f"{place} {os.getpid()} {start}")


def test_nothing_is_known_of_processes_elsewhere() -> None:
    """On another machine, in another container, after another boot."""
    assert not process.is_dead(f"elsewhere {ended_process()}")
    assert not process.is_dead(None)


def test_an_ended_process_whose_parent_has_not_noticed_is_dead() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PRINT], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        said = child.stdout.read().strip()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and still in the table
        assert process.is_dead(said)
