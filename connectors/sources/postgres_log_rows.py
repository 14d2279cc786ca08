"""One stream's table under capture `log`: where it begins, its snapshot, its part of the log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rowtrail.connectors.capture.log import LogRows, LogStart, LogWindow, Part
from rowtrail.connectors.capture.log_position import LogPosition, Origin
from rowtrail.connectors.capture.visibility import visible
from rowtrail.connectors.changes import OPERATION_TYPE
from rowtrail.connectors.errors import ConfigurationError, TransientError
from rowtrail.connectors.sources.postgres_log_decode import Decoder, split
from rowtrail.connectors.sources.postgres_ranges import plan_ranges, read_parts
from rowtrail.connectors.sources.postgres_rows import PostgresRows
from rowtrail.connectors.sources.postgres_shared_log import SharedLog
from rowtrail.connectors.sources.postgres_slot import published, read_log_end, read_slot
from rowtrail.connectors.sources.postgres_spool import Spool

OLDER_SECONDS = 60.0
"""How long the start of a stream waits for transactions that are under way."""

_TRUNCATE = ord("T")
_BYTES = 64 * 1024 * 1024  # of messages that are decoded at once


@dataclass(frozen=True, kw_only=True)
class PostgresLogRows(PostgresRows):
    """Implements `LogTable`."""

    log: SharedLog

    def begin(self) -> LogStart:
        """Waits until no transaction is under way that may have changed the table before it was in
        the publication, or that has committed but cannot be seen yet: the log would not tell it,
        and neither would the snapshot."""
        name = self.stream.log
        entry = published(self.connection, name, self.table)
        if entry is None or read_slot(self.connection, name) is None:
            what = "publication" if entry is None else "replication slot"
            raise ConfigurationError(
                f"Table {self.table.name} of stream {self.stream.name} is in no {what} {name} at "
                f"{self.connection.name}. Make it with: rowtrail init --capture"
            )
        self._wait_for_older()
        slot = read_slot(self.connection, name)
        end = read_log_end(self.connection)
        assert slot is not None
        return LogStart(
            origin=Origin(system=end.system, slot=name, published=entry),
            place=slot.confirmed,
            visible=end.snapshot,
            ranges=plan_ranges(self.connection, self),
        )

    def parts(self, ranges: str, done: str) -> Iterator[Part]:
        return read_parts(self, ranges, done)

    def window(self, at: LogPosition, asked_at: float | None) -> LogWindow:
        return self.over(self.log.spool(self.stream, self.table, at, asked_at), at)

    def over(self, spool: Spool, at: LogPosition) -> PostgresLogWindow:
        """What a spool has for this table after the position."""
        return PostgresLogWindow(
            spool=spool,
            at=at,
            table=self.table.oid,
            limit=self.stream.batch_rows,
            unguarded=not self.table.is_always_unique(self.schema.key),
            decoder=Decoder(
                stream=self.stream.name,
                schema=self.schema,
                readers=self.readers,
                columns={name: self.table.column(name) for name in self.schema.names},
                lookup=self.lookup,
            ),
        )

    def _wait_for_older(self) -> None:
        # Above that of every transaction that has written so far; a snapshot's xmax need not be,
        # as long as none of the newest has ended.
        ((newest,),) = self.connection.records("SELECT pg_catalog.pg_current_xact_id()::text::int8")
        deadline = time.monotonic() + OLDER_SECONDS
        while True:
            ((oldest,),) = self.connection.records(
                "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::int8"
            )
            if oldest >= newest:
                return
            if time.monotonic() > deadline:
                raise TransientError(
                    f"Stream {self.stream.name} cannot begin while transactions that were there "
                    f"before it are under way ({self._oldest()}). End them, or run again later."
                )
            time.sleep(0.02)

    def _oldest(self) -> str:
        rows = self.connection.records(
            "SELECT pid, usename, extract(epoch FROM now() - xact_start)::int8 "
            "FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL "
            "ORDER BY backend_xid::text::int8 LIMIT 1"
        )
        if not rows:
            return "a prepared one, see pg_prepared_xacts"
        pid, user, seconds = rows[0]
        return f"the oldest is of process {pid}, user {user}, since {seconds} seconds"


@dataclass(frozen=True, kw_only=True)
class PostgresLogWindow:
    """Implements `LogWindow` over what a peek has put aside."""

    spool: Spool
    at: LogPosition
    table: int
    limit: int
    unguarded: bool  # two rows may have one key, if only within a transaction
    decoder: Decoder

    @property
    def upto(self) -> int:
        return max(self.spool.upto, self.at.upto)

    @property
    def last(self) -> tuple[int, int, int]:
        found = self.spool.transactions
        if not len(found) or int(found.commits[-1]) < self.at.commit:
            return self.at.commit, self.at.xid, self.at.time
        return int(found.commits[-1]), int(found.xids[-1]), int(found.times[-1])

    def times_of(self, commits: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        found = self.spool.transactions
        times: npt.NDArray[np.int64] = found.times[np.searchsorted(found.commits, commits)]
        return times

    @property
    def fresh_to(self) -> datetime:
        return self.spool.fresh_to

    def rows(self) -> Iterator[LogRows]:
        for messages in _grouped(self._wanted(), self.limit):
            layout = messages.column("layout")[0].as_py()
            if layout < 0:
                yield _truncation(self.decoder, messages)
                continue
            found = self.decoder.rows(self.spool.layouts[layout], messages)
            yield from split(self.decoder.current(found) if self.unguarded else found, self.limit)

    def _wanted(self) -> Iterator[pa.RecordBatch]:
        """The messages after the position, without those of which the snapshot tells."""
        at = self.at
        for batch in self.spool.messages(self.table):
            commits = batch.column("commit").to_numpy()
            later = commits > at.commit
            if at.ordinal:
                within = batch.column("ordinal").to_numpy() > at.ordinal
                later |= (commits == at.commit) & within
            if at.visible is not None:
                later &= ~visible(at.visible, batch.column("xid").to_numpy())
            if later.all():
                yield batch
            elif later.any():
                yield batch.filter(pa.array(later))


def _grouped(batches: Iterator[pa.RecordBatch], limit: int) -> Iterator[pa.RecordBatch]:
    """Messages of one layout at a time, as many as are taken at once; a truncation by itself."""
    waiting: list[pa.RecordBatch] = []
    for run in (run for batch in batches for run in _runs(batch)):
        if waiting and not _goes_with(waiting[-1], run):
            yield from _cut(waiting, limit)
            waiting = []
        waiting.append(run)
        if sum(map(len, waiting)) >= limit or sum(one.nbytes for one in waiting) >= _BYTES:
            *whole, rest = _cut(waiting, limit)
            yield from whole
            waiting = [rest]
            if len(rest) >= limit or rest.nbytes >= _BYTES:
                yield rest
                waiting = []
    if waiting:
        yield from _cut(waiting, limit)


def _runs(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch cut where the layout changes, and before and after each truncation."""
    layouts = batch.column("layout").to_numpy()
    truncated = layouts < 0
    cuts = np.flatnonzero((layouts[1:] != layouts[:-1]) | truncated[1:] | truncated[:-1]) + 1
    for start, end in zip([0, *cuts], [*cuts, len(batch)], strict=True):
        yield batch.slice(start, end - start)


def _goes_with(one: pa.RecordBatch, other: pa.RecordBatch) -> bool:
    layout = one.column("layout")[0].as_py()
    return bool(layout >= 0 and layout == other.column("layout")[0].as_py())


def _cut(waiting: list[pa.RecordBatch], limit: int) -> list[pa.RecordBatch]:
    """In pieces of at most `limit` messages, and about as many bytes as are decoded at once."""
    joined = pa.Table.from_batches(waiting).combine_chunks().to_batches()
    pieces = []
    for batch in joined:
        size = max(1, batch.nbytes // max(len(batch), 1))
        step = max(1, min(limit, _BYTES // size))
        pieces += [batch.slice(start, step) for start in range(0, len(batch), step)]
    return pieces


def _truncation(decoder: Decoder, messages: pa.RecordBatch) -> LogRows:
    commit, xid, ordinal = (
        messages.column(name)[0].as_py() for name in ("commit", "xid", "ordinal")
    )
    schema = decoder.schema.arrow()
    return LogRows(
        rows=pa.RecordBatch.from_arrays(
            [pa.nulls(0, kind) for kind in schema.types], schema=schema
        ),
        operations=pa.array([], OPERATION_TYPE),
        commits=np.array([commit], dtype=np.int64),
        xids=np.array([xid], dtype=np.uint32),
        ordinals=np.array([2 * ordinal], dtype=np.int64),
        last=(commit, xid, ordinal),
        truncated=True,
    )


def open_log_rows(rows: PostgresRows, log: SharedLog) -> PostgresLogRows:
    return PostgresLogRows(**vars(rows), log=log)
