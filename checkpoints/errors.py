"""What can go wrong with the ledger. No driver's exception leaves `checkpoints/`.

Each message is one paragraph: the object, the cause, the next step.
"""

from __future__ import annotations


class LedgerError(Exception):
    """Anything that the ledger refuses or cannot do; the base of all below."""


class UnknownError(LedgerError):
    """Something was asked for that the ledger does not hold: a stream, a batch, a failure."""


class TransitionError(LedgerError):
    """A state may not follow the one that the ledger holds."""


class LedgerVersionError(LedgerError):
    """The ledger was written by a newer version of Rowtrail."""


class LedgerCorruptError(LedgerError):
    """The file is damaged, or is no ledger."""


class LedgerBusyError(LedgerError):
    """Another process held the ledger's write lock for longer than the busy timeout."""


class LedgerFullError(LedgerError):
    """The disk (or a quota) is full; the write was undone and the ledger is as it was before."""


class LedgerAccessError(LedgerError):
    """The file cannot be opened, read or written."""


class LeaseHeldError(LedgerError):
    """Another process runs the pipeline."""


class LeaseLostError(LedgerError):
    """The lease was taken over: whoever held it must stop writing at once."""
