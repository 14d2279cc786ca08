"""The lease while a process holds it: renewed in the background, given back at the end."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from time import monotonic

from rowtrail.checkpoints.errors import LedgerBusyError, LedgerError
from rowtrail.checkpoints.ledger import Ledger

HEARTBEAT = 15.0
"""Seconds between two renewals of the lease, which lives for a minute."""


class HeldLease:
    """The lease of this process, renewed in the background until it is closed.

    Losing it is noticed twice: by `check` before each batch, and where it counts, by the owner row
    at the target, which refuses the next write.
    """

    def __init__(self, ledger: Ledger, holder: str) -> None:
        self.generation = ledger.leases.acquire(holder)
        self._ledger = ledger
        self._stop = threading.Event()
        self._lost: LedgerError | None = None
        self._renewed = monotonic()
        self._thread = threading.Thread(target=self._beat, name="rowtrail-lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises LeaseLostError when another process has taken the lease over.

        A process that was stopped for a while asks the ledger first, since its thread was, too.
        """
        if self._lost is None and monotonic() - self._renewed > 2 * HEARTBEAT:
            self._renew()
        if self._lost is not None:
            raise self._lost

    def close(self) -> None:
        """Gives the lease back; one that was lost needs no release."""
        self._stop.set()
        self._thread.join()
        with suppress(LedgerError):
            self._ledger.leases.release(self.generation)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            self._renew()
            if self._lost is not None:
                return

    def _renew(self) -> None:
        try:
            self._ledger.leases.renew(self.generation)
        except LedgerBusyError:
            return  # it takes nothing away: the lease is ours until somebody takes it over
        except LedgerError as error:
            self._lost = error
        else:
            self._renewed = monotonic()


def holder() -> str:
    """Names this process: the host and the process id, as `rowtrail status` shows it."""
    return f"{socket.gethostname()}:{os.getpid()}"
