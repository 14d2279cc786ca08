"""How much the long tests do: little with the others, all of it in `make soak`."""

from __future__ import annotations

import os


def rounds(short: int, long: int) -> int:
    """`long` where the environment variable ROWTRAIL_SOAK is set, else `short`."""
    return long if os.environ.get("ROWTRAIL_SOAK") else short
