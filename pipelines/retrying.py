"""Tries again what may pass by itself; never what a value or a setting causes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rowtrail.connectors.errors import TransientError

T = TypeVar("T")

ATTEMPTS = 5
FIRST_WAIT = 0.2
LONGEST_WAIT = 10.0
"""Seconds; with jitter, so that several pipelines do not come back at the same moment."""


def retry_transient(action: Callable[[], T]) -> T:
    """Runs `action` until it passes, at most ATTEMPTS times; the last TransientError is raised."""
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt
    from tenacity.wait import wait_random_exponential

    retrying = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
        reraise=True,
    )
    return retrying(action)
