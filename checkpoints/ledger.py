"""The ledger of one pipeline: what became of every record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import Engine

from rowtrail.checkpoints import migrations, sqlite
from rowtrail.checkpoints.batches import Batches
from rowtrail.checkpoints.decisions import Decisions
from rowtrail.checkpoints.errors import LedgerError
from rowtrail.checkpoints.failures import Failures
from rowtrail.checkpoints.leases import Leases
from rowtrail.checkpoints.migrations import Identity
from rowtrail.checkpoints.pruning import Pruning
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.runs import Runs
from rowtrail.checkpoints.selections import Selection
from rowtrail.checkpoints.states import TrailEntry
from rowtrail.checkpoints.store import Clock, Store, utc_now
from rowtrail.checkpoints.streams import Streams

if TYPE_CHECKING:
    from rowtrail.checkpoints.taken_up import TakenUp


class Ledger:
    """An open ledger. Its parts share one database; each method is one transaction.

    Whatever goes wrong is a LedgerError, and what a method had begun is undone.
    """

    def __init__(self, store: Store, ledger_id: str, pipeline: str) -> None:
        self.id = ledger_id
        self.pipeline = pipeline
        self.runs = Runs(store)
        self.streams = Streams(store)
        self.batches = Batches(store)
        self.failures = Failures(store)
        self.decisions = Decisions(store)
        self.leases = Leases(store)
        self.pruning = Pruning(store)
        self._store = store

    def trail(self, record_id: RecordId) -> list[TrailEntry]:
        """All that the ledger knows of a record, in the order in which it happened."""
        from rowtrail.checkpoints.trail import trail

        with self._store.read() as connection:
            return trail(connection, record_id)

    def taken_up(self, stream: str, selection: Selection) -> TakenUp:
        """What a run or a span of time took up of a stream. Raises UnknownError."""
        from rowtrail.checkpoints.taken_up import TakenUp

        return TakenUp(self._store, stream, selection)

    def backup(self, path: str | Path) -> None:
        """Copies the ledger to a new file (mode 600) while it is in use."""
        sqlite.back_up(self._store.engine, Path(path))

    def shrink(self) -> tuple[int, int]:
        """Gives the room of what was pruned back to the disk; returns the bytes before and after.

        Needs as much room again for the time being. Raises LedgerBusyError while others write.
        """
        return sqlite.shrink(self._store.engine, Path(self._store.location))

    def settle_files(self) -> None:
        """Nothing that was deleted is in the ledger's files from now on, unless others read."""
        sqlite.checkpoint(self._store.engine)

    def close(self) -> None:
        self._store.engine.dispose()


def open_ledger(
    path: str | Path,
    pipeline: str,
    *,
    ledger_id: str | None = None,
    clock: Clock = utc_now,
) -> Ledger:
    """Opens the ledger of a pipeline, made or brought to the current version where needed.

    `ledger_id` is for a ledger that is made anew in the place of a lost one: a target takes it for
    the same. Raises LedgerVersionError for a ledger of a newer version, LedgerCorruptError for a
    file that is damaged or no ledger, and LedgerError for one that belongs to another pipeline or
    has another id.
    """
    location = Path(path)
    engine = sqlite.sqlite_engine(location)
    store = Store(engine, str(location), clock)
    try:
        _prepare(engine, store, Identity(ledger_id or str(uuid4()), pipeline))
        with store.read() as connection:
            found = migrations.identity(connection)
        _refuse_other(store.location, found, pipeline, ledger_id)
    except BaseException:
        engine.dispose()
        raise
    return Ledger(store, found.ledger_id, pipeline)


def _prepare(engine: Engine, store: Store, new: Identity) -> None:
    """Makes or migrates the tables; what needs neither is not written to."""
    with store.read() as connection:
        if not migrations.is_empty(connection) and migrations.is_current(connection, store):
            return
    sqlite.use_write_ahead_log(engine, store.location)
    with store.write() as connection:
        # Another process may have done it in the meantime.
        if migrations.is_empty(connection):
            migrations.create(connection, store, new)
        else:
            migrations.migrate(connection, store)


def _refuse_other(location: str, found: Identity, pipeline: str, ledger_id: str | None) -> None:
    if found.pipeline != pipeline:
        raise LedgerError(
            f"The ledger {location} belongs to the pipeline {found.pipeline}, not to {pipeline}. "
            "Give each pipeline a ledger of its own, or take the old name."
        )
    if ledger_id is not None and found.ledger_id != ledger_id:
        raise LedgerError(
            f"The ledger {location} exists and has another id ({found.ledger_id}) than the one "
            f"that was lost ({ledger_id}). Move it away first, or use it as it is."
        )
