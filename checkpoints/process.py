"""Which process this is, in words that another process on the same machine can check."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def this_process() -> str | None:
    """Kernel, process namespace, number and start time; None on systems without /proc."""
    place, start = _place(), _start_time(os.getpid())
    return None if place is None or start is None else f"{place} {os.getpid()} {start}"


def is_dead(process: str | None) -> bool:
    """Whether that process has certainly ended; False when it cannot be told from here."""
    place = _place()
    if process is None or place is None or not process.startswith(f"{place} "):
        return False
    number, start = process.removeprefix(f"{place} ").split(" ")
    return _start_time(int(number)) != start


def _place() -> str | None:
    """The boot and the namespace: process numbers mean nothing beyond them (containers)."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def _start_time(number: int) -> str | None:
    """Ticks since the boot, which tell a process from a later one of the same number.

    None when there is no such process, or when it has ended and only its parent has not noticed.
    """
    try:
        stat = (_PROC / str(number) / "stat").read_text()
    except OSError:
        return None
    # The command, in parentheses, may hold spaces and parentheses itself. See proc(5).
    fields = stat.rpartition(")")[2].split()
    state, start = fields[0], fields[19]
    return None if state in "ZX" else start
