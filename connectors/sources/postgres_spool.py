"""What one peek at a slot has given, kept apart by table: the log is read once for all streams.

The server decodes its log from the slot's start with each peek, whatever table is asked for. So the
messages of all tables are put aside, in memory while they are few and else in files without a name
that only this user could open, and each stream reads those of its own table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rowtrail.connectors.capture.log_position import LogPosition
from rowtrail.connectors.capture.pgoutput import Relation
from rowtrail.connectors.capture.pgoutput_scan import LogScan, Scanned
from rowtrail.connectors.capture.visibility import visible

_IN_MEMORY = 16 * 1024 * 1024  # bytes of one table's messages
_SCHEMA = pa.schema(
    [
        ("kind", pa.uint8()),
        ("layout", pa.int32()),
        ("commit", pa.int64()),
        ("xid", pa.uint32()),
        ("ordinal", pa.int64()),
        ("data", pa.binary()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Transactions:
    """Those that a peek has read, in the order of their commits."""

    commits: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    xids: npt.NDArray[np.uint32]
    times: npt.NDArray[np.int64]  # µs since 1970-01-01

    def __len__(self) -> int:
        return len(self.commits)

    def first(self, count: int) -> Transactions:
        return Transactions(
            commits=self.commits[:count],
            ends=self.ends[:count],
            xids=self.xids[:count],
            times=self.times[:count],
        )

    def has(self, at: LogPosition) -> bool:
        """Whether the transaction that the position names is among them."""
        same = (self.commits == at.commit) & (self.xids == np.uint32(at.xid))
        return bool(np.any(same & (self.times == at.time)))

    def contradict(self, at: LogPosition) -> bool:
        """Whether there is one that whoever came to the position would have met before it."""
        if at.ordinal:
            return False
        new = (self.commits > at.commit) & (self.commits >= at.start)
        return bool(np.any(new & (self.commits < at.upto)))


@dataclass(frozen=True, kw_only=True)
class Spool:
    """All that a slot has to tell of the transactions that end up to `upto`, and are visible."""

    slot: str
    asked_at: float  # time.monotonic() before the bound was taken
    confirmed: int  # the slot's own place when it was read
    upto: int
    transactions: Transactions
    fresh_to: datetime  # what was committed up to then is in it (UTC)
    layouts: tuple[Relation, ...]
    _files: dict[int, _TableFile] = field(repr=False)

    def messages(self, table: int) -> Iterator[pa.RecordBatch]:
        """The messages about one table (its oid), of `_SCHEMA`, in the order of the log.

        `kind` is I, U, D or T as ASCII; `layout` is a number in `layouts`, -1 for T.
        """
        found = self._files.get(table)
        if found is None:
            return
        before = self.transactions.commits[-1] if len(self.transactions) else 0
        for batch in found.batches():
            kept = batch.column("commit").to_numpy() <= before
            yield batch if kept.all() else batch.filter(pa.array(kept))

    def has(self, table: int) -> bool:
        """Whether there is any message about the table."""
        return table in self._files

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def fill_spool(
    batches: Iterable[pa.RecordBatch],
    *,
    slot: str,
    asked_at: float,
    confirmed: int,
    upto: int,
    fresh_to: datetime,
    snapshot_after: Callable[[npt.NDArray[np.uint32]], str],
    scan: LogScan | None = None,
) -> Spool:
    """Reads messages to their end; `batches` have one binary column.

    `snapshot_after` is called with all transactions when they have been read, and gives what is
    visible then. `scan` is given where the messages go on from earlier ones. A transaction
    whose commit is in the log, but that nobody can see yet (it waits for a synchronous standby),
    ends the spool: so all that was ever applied is visible to whoever looks at the source.
    """
    scan = scan or LogScan()
    files: dict[int, _TableFile] = {}
    try:
        everything = _filled(files, batches, scan)
        seen = visible(snapshot_after(everything.xids), everything.xids)
    except BaseException:
        for file in files.values():
            file.close()
        raise
    end = len(everything) if seen.all() else int(np.argmin(seen))
    transactions = everything.first(end)
    if end < len(everything):
        upto = int(transactions.ends[-1]) if end else confirmed
        fresh_to = datetime.fromtimestamp(everything.times[end] / 1_000_000, UTC)
    elif end:
        upto = max(upto, int(transactions.ends[-1]))
    return Spool(
        slot=slot,
        asked_at=asked_at,
        confirmed=confirmed,
        upto=upto,
        fresh_to=fresh_to,
        transactions=transactions,
        layouts=tuple(scan.layouts),
        _files=files,
    )


def _filled(
    files: dict[int, _TableFile], batches: Iterable[pa.RecordBatch], scan: LogScan
) -> Transactions:
    """Puts the messages into the files of their tables, which it makes; all their transactions."""
    parts: list[Transactions] = []
    for batch in batches:
        data = batch.column(0)
        scanned = scan.scan(data)
        parts.append(_transactions(scanned))
        for oid, rows in _by_table(scanned):
            if oid not in files:
                files[oid] = _TableFile()
            files[oid].write(_rows(scanned, data, rows))
    return _joined(parts)


class _TableFile:
    """The messages of one table: written once, then read from the start as often as needed."""

    def __init__(self) -> None:
        self._file: IO[bytes] = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._writer: Any = pa.ipc.new_stream(pa.PythonFile(self._file, "w"), _SCHEMA)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def batches(self) -> Iterator[pa.RecordBatch]:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        yield from pa.ipc.open_stream(pa.PythonFile(_Reading(self._file), "r"))

    def close(self) -> None:
        self._file.close()


class _Reading:
    """One reader of a file that others may read too: it keeps its own place."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._place = 0
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        self._file.seek(self._place)
        found = self._file.read(size)
        self._place += len(found)
        return found

    def close(self) -> None:
        self.closed = True


def _by_table(scanned: Scanned) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """The rows of the messages about each table, truncations among them."""
    truncated: dict[int, list[int]] = {}
    for truncation in scanned.truncations:
        for oid in truncation.oids:
            truncated.setdefault(oid, []).append(truncation.row)
    present = np.unique(scanned.oids)
    for oid in sorted({*present[present > 0].tolist(), *truncated}):
        rows = np.flatnonzero(scanned.oids == oid)
        if oid in truncated:
            rows = np.sort(np.concatenate([rows, np.array(truncated[oid], dtype=np.int64)]))
        yield oid, rows


def _rows(scanned: Scanned, data: pa.Array, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    everything = len(rows) == len(data)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(scanned.kinds[rows]),
            pa.array(scanned.layouts[rows]),
            pa.array(scanned.commit_lsns[rows]),
            pa.array(scanned.xids[rows]),
            pa.array(scanned.ordinals[rows]),
            data if everything else data.take(pa.array(rows)),
        ],
        schema=_SCHEMA,
    )


def _transactions(scanned: Scanned) -> Transactions:
    found = scanned.commits
    return Transactions(
        commits=found.commit_lsns, ends=found.end_lsns, xids=found.xids, times=found.times
    )


def _joined(parts: list[Transactions]) -> Transactions:
    return Transactions(
        commits=np.concatenate([np.empty(0, np.int64), *(part.commits for part in parts)]),
        ends=np.concatenate([np.empty(0, np.int64), *(part.ends for part in parts)]),
        xids=np.concatenate([np.empty(0, np.uint32), *(part.xids for part in parts)]),
        times=np.concatenate([np.empty(0, np.int64), *(part.times for part in parts)]),
    )
