"""Follows the log of a PostgreSQL source: changes of several streams as they are committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from rowtrail.connectors.base import ReadState
from rowtrail.connectors.capture.log import window_changes
from rowtrail.connectors.capture.log_position import LogPosition
from rowtrail.connectors.capture.pages import page_changes
from rowtrail.connectors.capture.pgoutput_scan import LogScan
from rowtrail.connectors.capture.visibility import visible
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.errors import about_stream
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_log_rows import PostgresLogRows
from rowtrail.connectors.sources.postgres_shared_log import SharedLog, other_history
from rowtrail.connectors.sources.postgres_slot import read_log_end
from rowtrail.connectors.sources.postgres_spool import Spool, fill_spool
from rowtrail.connectors.sources.postgres_stream import LogStream
from rowtrail.connectors.sources.postgres_table import find_table

IDLE_SECONDS = 10.0
"""So often a stream without changes says how far it is: the server need not keep its log for it."""

_VISIBLE_SECONDS = 0.02


@dataclass
class _Following:
    """One stream while it is followed."""

    rows: PostgresLogRows
    state: ReadState
    at: LogPosition  # all before it was given out
    told: float  # time.monotonic() when a position was last given out
    proven: bool  # the log has the transaction that the position names


class LogFollower:
    """Gives out the changes of some streams that share one slot, window by window."""

    def __init__(
        self,
        connection: Connection,
        log: SharedLog,
        streams: Mapping[str, tuple[PostgresLogRows, ReadState]],
        stop: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._log = log
        self._stop = stop
        self._scan = LogScan()
        self._end = read_log_end(connection)  # once all up to there is told, it is as fresh as then
        self._fresh_to: datetime | None = None
        now = time.monotonic()
        self._streams = {
            name: _Following(
                rows=rows,
                state=state,
                at=LogPosition.parse(name, state.position or ""),
                told=now,
                proven=False,
            )
            for name, (rows, state) in streams.items()
        }

    def changes(self) -> Generator[tuple[str, Changes] | None, None, None]:
        """Until it is stopped, or until a table has another shape: then it is to begin anew."""
        slots = {}
        for name, one in self._streams.items():
            with about_stream(name):
                slots[one.rows.stream.log] = self._log.checked(
                    one.rows.stream, one.rows.table, one.at
                )
        ((_, slot),) = slots.items()
        for one in self._streams.values():
            one.proven = one.at.commit < slot.confirmed
        as_is = self._connection.facts().encoding == "SQL_ASCII"
        stream = LogStream(self._connection.url, slot.name, slot.confirmed, as_is=as_is)
        with closing(stream):
            self._log.following = stream
            try:
                yield from self._follow(stream)
            finally:
                self._log.following = None

    def _follow(self, stream: LogStream) -> Iterator[tuple[str, Changes] | None]:
        while not self._stop():
            with closing(self._window(stream)) as spool:
                if self._scan.in_transaction or self._has_new_shape(spool):
                    return
                for name, one in self._streams.items():
                    with about_stream(name):
                        self._prove(one, spool)
                    if spool.has(one.rows.table.oid):
                        for item in self._items(name, one, spool):
                            yield name, item
                            if self._stop():
                                return
                        one.told = time.monotonic()
                    self._move(one, spool)
                idle = not len(spool.transactions)
            yield from self._idle_ones()
            if idle:
                yield None

    def _items(self, name: str, one: _Following, spool: Spool) -> Iterator[Changes]:
        found = window_changes(one.rows, one.state, one.at, one.rows.over(spool, one.at))
        while True:
            with about_stream(name):
                item = next(found, None)
            if item is None:
                return
            yield item

    def _window(self, stream: LogStream) -> Spool:
        # Not as far as the streams are: what one of them has, another may have yet to get.
        upto = stream.sent
        if upto >= self._end.flushed:
            self._fresh_to, self._end = self._end.now, read_log_end(self._connection)
        spool = fill_spool(
            stream.window(self._stop),
            slot=stream.slot,
            asked_at=time.monotonic(),
            confirmed=upto,
            upto=upto,
            fresh_to=self._end.now,
            snapshot_after=self._snapshot_of_all,
            scan=self._scan,
        )
        if not len(spool.transactions):
            return spool
        committed = datetime.fromtimestamp(int(spool.transactions.times[-1]) / 1_000_000, UTC)
        return replace(spool, fresh_to=max(committed, self._fresh_to or committed))

    def _snapshot_of_all(self, xids: npt.NDArray[np.uint32]) -> str:
        """What is visible when all of these transactions are, or when it is to stop: they are not
        told a second time, so whoever cannot be seen yet is waited for."""
        while True:
            snapshot = read_log_end(self._connection).snapshot
            if self._stop() or visible(snapshot, xids).all():
                return snapshot
            time.sleep(_VISIBLE_SECONDS)

    def _has_new_shape(self, spool: Spool) -> bool:
        """A column has come, or has got another type, that the stream does not know: whoever
        follows describes it anew."""
        for name, one in self._streams.items():
            known = {
                (column.name, column.own_oid, column.own_modifier)
                for column in one.rows.table.columns
            }
            told = {
                (column.name, column.type_oid, column.typmod)
                for layout in spool.layouts
                if layout.oid == one.rows.table.oid
                for column in layout.columns
            }
            if told <= known:
                continue
            with about_stream(name):
                there = find_table(self._connection, one.rows.stream.table)
            if there.columns != one.rows.table.columns:
                return True
        return False

    def _prove(self, one: _Following, spool: Spool) -> None:
        """Raises PositionLostError when the log goes past the position without what it names."""
        found = spool.transactions
        if one.proven or not len(found):
            return
        one.proven = found.has(one.at)
        if not one.proven and int(found.commits[-1]) >= one.at.commit:
            raise other_history(one.rows.stream)

    def _move(self, one: _Following, spool: Spool) -> None:
        window = one.rows.over(spool, one.at)
        one.at = one.at.read_to(window.upto, *window.last)

    def _idle_ones(self) -> Iterator[tuple[str, Changes]]:
        now = time.monotonic()
        for name, one in self._streams.items():
            if now - one.told >= IDLE_SECONDS:
                with about_stream(name):
                    self._log.check_published(one.rows.stream, one.rows.table, one.at)
                one.told = now
                version = one.at.version(one.state.epoch)
                yield (
                    name,
                    page_changes(one.rows, version, one.at.token(), complete=self._fresh_to),
                )
