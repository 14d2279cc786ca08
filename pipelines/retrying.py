"""Tries again what may pass by itself; never what a value or a setting causes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rowtrail.connectors.errors import TransientError

T = TypeVar("T")

ATTEMPTS = 3
"""At least. A statement that runs into a time-out of minutes is not tried more often than that."""

FIRST_WAIT = 0.2
LONGEST_WAIT = 10.0
"""Seconds; with jitter, so that several pipelines do not come back at the same moment."""

PATIENCE = 60.0
"""Seconds from the first failure on. A restart of a server after an update, or a fail-over to its
standby, takes some seconds to half a minute: no reason for a nightly run to end with half of its
work, and for somebody to be called. What takes longer needs somebody anyway."""

OPENING_PATIENCE = 10.0
"""Seconds while nothing has been done yet: a wrong port looks like a server that is restarting, and
whoever typed it waits for the answer."""


def retry_transient(
    action: Callable[[], T],
    *,
    seconds: float = 0.0,
    note: Callable[[str], None] | None = None,
) -> T:
    """Runs `action` until it passes: ATTEMPTS times at least, and for that many seconds after it
    has failed first. Then the last TransientError is raised. `note` is told of each wait.
    """
    from tenacity import RetryCallState, Retrying, retry_if_exception_type
    from tenacity.wait import wait_random_exponential

    failed_first: float | None = None

    def is_enough(state: RetryCallState) -> bool:
        nonlocal failed_first
        now = state.outcome_timestamp or 0.0
        failed_first = now if failed_first is None else failed_first
        return state.attempt_number >= ATTEMPTS and now - failed_first >= seconds

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if note is not None and state.next_action is not None:
            note(f"{error} Trying again in {state.next_action.sleep:.1f} s.")

    retrying = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=is_enough,
        wait=wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
        before_sleep=tell,
        reraise=True,
    )
    return retrying(action)


class Patience:
    """How long one run waits for what may pass by itself.

    It is lost once for all streams: when a database has stayed away for as long as that, each of
    fifty streams would wait as long again. It is back when anything has passed.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._lost = False

    def retry(self, action: Callable[[], T]) -> T:
        """Runs `action` until it passes or patience ends; the last TransientError is raised."""
        try:
            result = retry_transient(
                action, seconds=0.0 if self._lost else PATIENCE, note=self._note
            )
        except TransientError:
            self._lost = True
            raise
        self._lost = False
        return result
