"""Finds the bad rows in a set that fails, by trying parts of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from rowtrail.connectors.errors import RowtrailError, StopError

T = TypeVar("T")

SUSPICIOUS = 20
"""So many rows failed and none passed: look at rows elsewhere before going on."""
SAMPLE = 8
"""So many rows, spread over the rest, are then tried one by one."""


class EveryProbeFailedError(StopError):
    """The code (or the target) is broken, not the data: whatever is tried fails."""


class FailsTogetherError(StopError):
    """Rows that pass one by one and fail as a set (two that collide on a unique index)."""

    def __init__(self, rows: tuple[int, ...], cause: Exception) -> None:
        super().__init__(f"rows {rows} fail only together: {cause}")
        self.rows = rows
        self.cause = cause


class AttemptsSpentError(StopError):
    """The budget of attempts is used up: too many bad rows to name them one by one."""


class Budget:
    """Counts attempts over a batch. Not a value: it is spent.

    Without a limit a person chose the rows: each is tried to its end, however many of them fail.
    """

    def __init__(self, attempts: int | None) -> None:
        self.limit = attempts
        self.spent = 0

    def spend(self) -> None:
        if self.limit is not None and self.spent >= self.limit:
            raise AttemptsSpentError(
                f"{self.spent:,} attempts to find the bad records of one batch were not enough."
            )
        self.spent += 1


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What rows are tried on, in the words in which a stop reaches a person."""

    stream: str
    name: str  # `transform mine:clean`, `table orders`
    remedy: str  # what to do when it refuses far too much; a sentence
    remedy_together: str  # what to do when it refuses some rows only together; a sentence
    record_ids: Callable[[Sequence[int]], Sequence[object]]  # the records of these rows

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Gives the stops of `isolate` the stream's name, its records' and a next step."""
        stopped = f"Stream {self.stream} was stopped:"
        try:
            yield
        except (EveryProbeFailedError, AttemptsSpentError) as error:
            raise type(error)(f"{stopped} at {self.name}, {error} {self.remedy}") from error
        except FailsTogetherError as error:
            named = " and ".join(map(str, self.record_ids(error.rows)))
            raise StopError(
                f"{stopped} records {named} are each taken by {self.name} alone but not together: "
                f"{sentence(error.cause)} {self.remedy_together}"
            ) from error


def sentence(error: Exception) -> str:
    """What an exception says, with its class unless it was made for people, and a full stop."""
    text = str(error) if isinstance(error, RowtrailError) else f"{type(error).__name__}: {error}"
    return text if text.endswith(".") else f"{text}."


@dataclass(frozen=True)
class Passed(Generic[T]):
    """The rows [start, stop) passed in one attempt, with this result."""

    start: int
    stop: int
    result: T


@dataclass
class Isolated(Generic[T]):
    """Every row is in one of the two, in order."""

    passed: list[Passed[T]] = field(default_factory=list)
    failed: list[tuple[int, Exception]] = field(default_factory=list)


def isolate(
    length: int,
    attempt: Callable[[int, int], T],
    expected: type[Exception],
    budget: Budget,
    known: Exception | None = None,
) -> Isolated[T]:
    """Tries rows [0, length) whole, and where that raises `expected`, halves, down to single rows.

    `known`: what all of them together are known to raise. `attempt(start, stop)` must not leave
    anything behind when it raises. Where a whole fails and its first half passes, the second half
    is taken to fail without being tried, so that k bad rows of n take between k·log2(n) and
    2·k·log2(n) attempts, and share those near the top. Other exceptions pass through. Raises
    FailsTogetherError, and with a budget that has a limit EveryProbeFailedError and
    AttemptsSpentError.
    """
    search = _Search(length, attempt, expected, budget)
    if length and known is not None:
        search.split(0, length, known)
    elif length:
        search.run(0, length)
    return search.found


class _Search(Generic[T]):
    def __init__(
        self,
        length: int,
        attempt: Callable[[int, int], T],
        expected: type[Exception],
        budget: Budget,
    ) -> None:
        self.length = length
        self.attempt = attempt
        self.expected = expected
        self.budget = budget
        self.found: Isolated[T] = Isolated()
        self.sampled = False

    def run(self, start: int, stop: int) -> None:
        result, error = self._try(start, stop)
        if error is None:
            self.found.passed.append(Passed(start, stop, result))  # type: ignore[arg-type]
        else:
            self.split(start, stop, error)

    def split(self, start: int, stop: int, error: Exception) -> None:
        """Finds the bad rows among those that have raised this error together."""
        if stop - start == 1:
            self.found.failed.append((start, error))
            self._suspect(error, stop)
            return
        passed, failed = len(self.found.passed), len(self.found.failed)
        middle = (start + stop) // 2
        self._split_presumed(start, stop)
        if len(self.found.failed) > failed:
            return
        # All parts passed: the rows of one half fail together, or those of the two halves do.
        for part in ((start, middle), (middle, stop)):
            _, again = self._try(*part)
            if again is not None:
                del self.found.passed[passed:]
                self.split(*part, again)
                break
        raise FailsTogetherError(self._narrow(start, middle, stop), error)

    def _split_presumed(self, start: int, stop: int) -> None:
        """Likewise, for rows among which there should be a bad one: none need be found."""
        if stop - start == 1:
            self.run(start, stop)
            return
        failed = len(self.found.failed)
        middle = (start + stop) // 2
        self.run(start, middle)
        if len(self.found.failed) > failed:
            self.run(middle, stop)
        else:
            self._split_presumed(middle, stop)

    def _try(self, start: int, stop: int) -> tuple[T | None, Exception | None]:
        self.budget.spend()
        try:
            return self.attempt(start, stop), None
        except self.expected as error:
            return None, error

    def _suspect(self, error: Exception, after: int) -> None:
        """Stops when all that was tried failed, and rows spread over the rest fail as well."""
        if self.budget.limit is None or self.sampled or self.found.passed:
            return
        if len(self.found.failed) < SUSPICIOUS:
            return
        self.sampled = True
        rest = range(after, self.length, max(1, (self.length - after) // SAMPLE))
        if all(self._try(row, row + 1)[1] is not None for row in rest):
            raise EveryProbeFailedError(
                f"every record that was tried fails alike, the last one with {sentence(error)}"
            ) from error

    def _narrow(self, start: int, middle: int, stop: int) -> tuple[int, ...]:
        """A small contiguous span around `middle` that still fails together.

        Both halves pass alone, so the rows that collide lie on both sides of the middle.
        """
        low, high = start, middle - 1  # the greatest left end that still fails
        while low < high:
            probe = (low + high + 1) // 2
            if self._try(probe, stop)[1] is not None:
                low = probe
            else:
                high = probe - 1
        left = low
        low, high = middle + 1, stop  # the least right end that still fails
        while low < high:
            probe = (low + high) // 2
            if self._try(left, probe)[1] is not None:
                high = probe
            else:
                low = probe + 1
        # Its two ends are the colliding pair when exactly two rows collide.
        return (left, high - 1)
