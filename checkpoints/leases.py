"""The lease: one process at a time runs a pipeline (DESIGN 2.10).

Its generation rises with each acquisition and fences what an earlier holder may still try. It is
the time in microseconds, so that it rises also above what a ledger issued that was lost or that an
older copy was put back for: a target has seen those generations.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select

from rowtrail.checkpoints import process
from rowtrail.checkpoints.errors import LeaseHeldError, LeaseLostError
from rowtrail.checkpoints.states import LeaseRecord
from rowtrail.checkpoints.store import Store
from rowtrail.checkpoints.tables import lease

TIME_TO_LIVE = timedelta(seconds=60)


class Leases:
    """`time_to_live`: how long a holder that says nothing keeps the lease."""

    def __init__(self, store: Store, time_to_live: timedelta = TIME_TO_LIVE) -> None:
        self._store = store
        self._time_to_live = time_to_live

    def acquire(self, holder: str) -> int:
        """Takes the lease and returns its generation; `holder` is what others are told.

        Raises LeaseHeldError. A lease that was released, has expired, or whose holder was a process
        of this machine that has ended, is free.
        """
        now = self._store.now()
        # The target remembers the generation: the ledger must never know less.
        with self._store.write() as connection:
            row = _row(connection)
            if row is not None:
                self._refuse_if_held(row)
                connection.execute(lease.delete())
            generation = max(_microseconds(now), 0 if row is None else row.generation + 1)
            connection.execute(
                lease.insert().values(
                    one=1,
                    generation=generation,
                    holder=holder,
                    process=process.this_process(),
                    acquired_at=now,
                    expires_at=now + self._time_to_live,
                    released=False,
                )
            )
        return int(generation)

    def renew(self, generation: int) -> None:
        """Keeps the lease for another time to live. Raises LeaseLostError when it is gone.

        A lease that has expired and that nobody took meanwhile is still its holder's.
        """
        with self._store.write(durable=False) as connection:
            kept = connection.execute(
                lease.update()
                .where(lease.c.generation == generation, lease.c.released.is_(False))
                .values(expires_at=self._store.now() + self._time_to_live)
            )
            if kept.rowcount == 0:
                row = _row(connection)
                taken = (
                    "was given back"
                    if row is None or row.generation == generation
                    else (f"was taken over by {row.holder}")
                )
                raise LeaseLostError(
                    f"The lease of {self._store.location} {taken}. "
                    "This process stops writing; what it had not committed is read again."
                )

    def release(self, generation: int) -> None:
        """Gives the lease back; does nothing when another process has it."""
        with self._store.write(durable=False) as connection:
            connection.execute(
                lease.update().where(lease.c.generation == generation).values(released=True)
            )

    def current(self) -> LeaseRecord | None:
        """The last holder; None before the first."""
        with self._store.read() as connection:
            row = _row(connection)
        if row is None:
            return None
        return LeaseRecord(
            generation=row.generation,
            holder=row.holder,
            since=row.acquired_at,
            expires_at=row.expires_at,
            released=row.released,
            live=self._is_held(row),
        )

    def _is_held(self, row: Row[Any]) -> bool:
        expired = row.expires_at <= self._store.now()
        return not (row.released or expired or process.is_dead(row.process))

    def _refuse_if_held(self, row: Row[Any]) -> None:
        if self._is_held(row):
            raise LeaseHeldError(
                f"The pipeline is being run by {row.holder}, since {row.acquired_at:%Y-%m-%d %X} "
                f"UTC (ledger {self._store.location}). Wait until that run ends; if its machine is "
                f"gone, the lease ends by itself at {row.expires_at:%X} UTC."
            )


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _row(connection: Connection) -> Row[Any] | None:
    return connection.execute(select(lease)).one_or_none()
