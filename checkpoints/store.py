"""Transactions on the ledger's database, and its errors in the ledger's own words."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from rowtrail.checkpoints.errors import (
    LedgerAccessError,
    LedgerBusyError,
    LedgerCorruptError,
    LedgerError,
    LedgerFullError,
)

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


class Store:
    """Where the ledger's parts read and write. `location` is what messages call the ledger."""

    def __init__(self, engine: Engine, location: str, clock: Clock) -> None:
        self.engine = engine
        self.location = location
        self.now = clock
        self._durable = engine.execution_options(rowtrail_writes="durable")
        self._soon = engine.execution_options(rowtrail_writes="soon")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that sees one state of the ledger. Raises LedgerError."""
        with self._translated(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """One transaction that holds the write lock from its start. Raises LedgerError.

        One that need not be `durable` survives a crash of the process, but not a loss of power
        before the next durable one. What is lost so is lost from the end: nothing is kept of which
        something before it is gone.
        """
        engine = self._durable if durable else self._soon
        with self._translated(), engine.begin() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise ledger_error(self.location, error.orig or error) from error


_SHARED_MEMORY_STEP = 32_768
"""Bytes by which SQLite grows the file it shares memory through, in WAL mode."""


def _has_no_room(location: str) -> bool:
    try:
        return shutil.disk_usage(Path(location).parent).free < 2 * _SHARED_MEMORY_STEP
    except OSError:
        return False


# What SQLite says, in the order in which it is looked for -> error, cause, next step.
_SAYINGS: tuple[tuple[tuple[str, ...], type[LedgerError], str, str], ...] = (
    (
        ("disk is full", "quota exceeded"),
        LedgerFullError,
        "the disk is full",
        "The write was undone, nothing is lost: make room and run again.",
    ),
    (
        ("is locked", "is busy"),
        LedgerBusyError,
        "another process is writing to it for too long",
        "Wait until that process is done and try again.",
    ),
    (
        ("not a database", "malformed", "disk image"),
        LedgerCorruptError,
        "it is damaged or no ledger",
        "Restore a back-up, or rebuild it from the target with `rowtrail ledger rebuild`.",
    ),
    (
        ("readonly", "unable to open", "disk i/o error", "permission"),
        LedgerAccessError,
        "it cannot be read or written",
        "Check the rights of the file and of its folder, and the health of the disk.",
    ),
)


def ledger_error(location: str, error: BaseException) -> LedgerError:
    """The error to raise for what the database's driver raised."""
    said = str(error)
    if "disk i/o error" in said.lower() and _has_no_room(location):
        # What SQLite says, too, where it cannot grow its shared memory.
        said = "disk is full"
    for words, kind, cause, remedy in _SAYINGS:
        if any(word in said.lower() for word in words):
            return kind(f"The ledger {location} cannot be used: {cause} ({said}). {remedy}")
    return LedgerError(
        f"The ledger {location} refused a statement: {said}. "
        "This is a mistake in Rowtrail; please report it."
    )
