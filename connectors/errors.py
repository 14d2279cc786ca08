"""Errors by what to do about them. Drivers' own exceptions do not leave `connectors/`.

The four families: try again, fix the configuration, quarantine the record, stop. Each message names
the object, the cause and the next step, never a password, and never a value of a redacted column.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class RowtrailError(Exception):
    """Anything that Rowtrail says to a person: `str(error)` is one paragraph that stands alone."""

    stream: str | None = None
    """The stream that it stops, where several are read together: the others can go on."""


@contextmanager
def about_stream(stream: str) -> Iterator[None]:
    """What is raised within stops this stream alone."""
    try:
        yield
    except RowtrailError as error:
        error.stream = stream
        raise


class TransientError(RowtrailError):
    """May pass by itself (a lock, a cut connection): try the same thing again, with back-off."""


class ConfigurationError(RowtrailError):
    """A person must change a setting, a right or a schema; trying again is of no use."""


class TargetMissingError(ConfigurationError):
    """Nothing is there to be read; the first run makes it."""


class RecordError(RowtrailError):
    """Plainly about a value: some record among those handed over cannot be taken.

    `column` is the column's name where the database tells it.
    """

    def __init__(self, message: str, *, column: str | None = None) -> None:
        super().__init__(message)
        self.column = column


class StopError(RowtrailError):
    """The system or the code is broken (disk full, corrupt file): stop the run, fail no record."""


class PositionLostError(StopError):
    """A stream's position is no longer in the source (log pruned, made again, or from elsewhere).

    Only a new snapshot of the stream mends it.
    """


class OwnershipError(StopError):
    """The target belongs to another ledger, or a newer holder of the lease has taken it over.

    `generation` is that of the newer holder, where it is this same ledger's. It is also higher
    when an older copy of the ledger was put back: then the lease says that nobody took over.
    """

    def __init__(self, message: str, *, generation: int | None = None) -> None:
        super().__init__(message)
        self.generation = generation
