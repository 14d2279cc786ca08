"""The ledger of one pipeline: what became of every record."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from rowtrail.checkpoints import migrations, sqlite
from rowtrail.checkpoints.batches import Batches
from rowtrail.checkpoints.decisions import Decisions
from rowtrail.checkpoints.failures import Failures
from rowtrail.checkpoints.leases import Leases
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.runs import Runs
from rowtrail.checkpoints.states import TrailEntry
from rowtrail.checkpoints.store import Clock, Store, utc_now
from rowtrail.checkpoints.streams import Streams


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
        self._store = store

    def trail(self, record_id: RecordId) -> list[TrailEntry]:
        """All that the ledger knows of a record, in the order in which it happened."""
        from rowtrail.checkpoints.trail import trail

        with self._store.read() as connection:
            return trail(connection, record_id)

    def backup(self, path: str | Path) -> None:
        """Copies the ledger to a new file (mode 600) while it is in use."""
        sqlite.back_up(self._store.engine, Path(path))

    def close(self) -> None:
        self._store.engine.dispose()


def open_ledger(path: str | Path, pipeline: str, *, clock: Clock = utc_now) -> Ledger:
    """Opens the ledger of a pipeline, made or brought to the current version where needed.

    Raises LedgerVersionError for a ledger of a newer version, LedgerCorruptError for a file that is
    damaged or no ledger, and LedgerError for one that belongs to another pipeline.
    """
    location = Path(path)
    engine = sqlite.sqlite_engine(location)
    store = Store(engine, str(location), clock)
    try:
        ledger_id = _ready(engine, store, pipeline)
    except BaseException:
        engine.dispose()
        raise
    return Ledger(store, ledger_id, pipeline)


def _ready(engine: Engine, store: Store, pipeline: str) -> str:
    with store.read() as connection:
        current = not migrations.is_empty(connection) and migrations.is_current(connection, store)
        if current:
            return migrations.identity(connection, store.location, pipeline)
    sqlite.use_write_ahead_log(engine)
    with store.write() as connection:
        # Another process may have done it in the meantime.
        if migrations.is_empty(connection):
            migrations.create(connection, store, pipeline)
        else:
            migrations.migrate(connection, store)
        return migrations.identity(connection, store.location, pipeline)
