"""Which files of an archive are of batches that were closed, which are missing, which are too old.

A stream's closed batches are numbered without a gap. A batch that was abandoned leaves its number
to the next one, so of several files of a number the one that was opened last is that of the closed
batch; a history that was lost with an older ledger or target branches off in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from rowtrail.checkpoints.errors import UnknownError
from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.states import BatchState, StreamRecord
from rowtrail.connectors.errors import RowtrailError
from rowtrail.pipelines.archive import Archive
from rowtrail.pipelines.archive_names import ArchivedBatch, ArchivedKind


@dataclass(frozen=True, kw_only=True)
class LostBatch:
    """A closed batch that the archive should have and does not give."""

    sequence: int
    why: str
    batch_id: str | None  # None: neither ledger nor archive tell
    records: int | None  # likewise

    def __str__(self) -> str:
        named = f"batch {self.batch_id}" if self.batch_id else f"the batch numbered {self.sequence}"
        count = "an unknown number of" if self.records is None else f"{self.records:,}"
        return f"{self.why} It is that of {named}, with {count} records."


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The closed batches of a stream, the oldest first."""

    batches: tuple[ArchivedBatch, ...]
    lost: tuple[LostBatch, ...] = ()  # holes, and what the ledger has beyond the last file


def lineage(archive: Archive, stream: str, ledger: Ledger, record: StreamRecord | None) -> Lineage:
    """The files of the batches that led to where the ledger is now.

    Without a record of the stream they lead to the file that was opened last.
    """
    by_number: dict[int, list[ArchivedBatch]] = {}
    for one in archive.batches(stream):
        by_number.setdefault(one.sequence, []).append(one)
    if not by_number:
        return Lineage(batches=())
    if record is None:
        everything = [one for several in by_number.values() for one in several]
        last = max(everything, key=lambda one: one.opened_at).sequence
    else:
        last = record.sequence
    chosen: list[ArchivedBatch] = []
    missing: list[int] = []
    later: datetime | None = None
    for number in range(last, min(by_number) - 1, -1):
        found = _of_closed(by_number.get(number, ()), later, ledger)
        if found is None:
            missing.append(number)
        else:
            chosen.append(found)
            later = found.opened_at
    chosen.reverse()
    lost = tuple(_lost(archive, stream, ledger, chosen, number) for number in reversed(missing))
    return Lineage(batches=tuple(chosen), lost=lost)


def _of_closed(
    several: Iterable[ArchivedBatch], later: datetime | None, ledger: Ledger
) -> ArchivedBatch | None:
    """The file of the batch that was closed before the next one was opened."""
    before = [one for one in several if later is None or one.opened_at <= later]
    for one in sorted(before, key=lambda one: one.opened_at, reverse=True):
        if _state(ledger, one) in (None, BatchState.CLOSED):
            return one
    return None


def _state(ledger: Ledger, batch: ArchivedBatch) -> BatchState | None:
    """None where the ledger does not know it: it is of a ledger that was lost."""
    try:
        return ledger.batches.get(batch.batch_id).state
    except UnknownError:
        return None


def _lost(
    archive: Archive, stream: str, ledger: Ledger, chosen: Sequence[ArchivedBatch], number: int
) -> LostBatch:
    """What the ledger knows of a batch without a file, or else the file of the next batch."""
    why = f"The archive {archive.store.location} has no file numbered {number} of stream {stream}."
    known = ledger.batches.closed_as(stream, number)
    if known is not None:
        return LostBatch(sequence=number, why=why, batch_id=known.batch_id, records=known.records)
    for after in chosen:
        if after.sequence == number + 1:
            try:
                _, facts = archive.read(after)
            except RowtrailError:
                break
            return LostBatch(
                sequence=number,
                why=why,
                batch_id=facts.previous_batch,
                records=facts.previous_records,
            )
    return LostBatch(sequence=number, why=why, batch_id=None, records=None)


def within(
    batches: Sequence[ArchivedBatch], since: datetime | None, until: datetime | None
) -> list[ArchivedBatch]:
    """Those that were opened from `since` on and before `until`."""
    return [
        one
        for one in batches
        if (since is None or one.opened_at >= since) and (until is None or one.opened_at < until)
    ]


def is_whole(batches: Sequence[ArchivedBatch], lost: Iterable[int]) -> bool:
    """Whether these tell the whole table: from the first read of an epoch on, without a gap.

    Keys that only older epochs had are deleted in that first read.
    """
    newest = max((one.epoch for one in batches), default=0)
    starts = [
        one.sequence for one in batches if one.kind is ArchivedKind.START and one.epoch == newest
    ]
    return bool(starts) and all(number < max(starts) for number in lost)
