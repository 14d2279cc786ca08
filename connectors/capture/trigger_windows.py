"""Capture `trigger` on servers with many writers: the change log is read by snapshots.

Sequences are handed out before their transactions commit, so that a reader of `sequence > last`
misses what commits late (554 of 1,951 rows under four writers). So each entry has its transaction's
id, and a read takes a window of the log: the entries of all transactions that the last window's
snapshot did not show and this one's does. Windows follow one another, and for one key the entries
of a later window come after those of an earlier one, since writers of a row wait for one another.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import pyarrow as pa

from rowtrail.connectors.base import ReadState
from rowtrail.connectors.capture.full_read import FullPosition, full_read
from rowtrail.connectors.capture.log_pages import (
    ENTRIES_GONE,
    LOG_GONE,
    LOG_MADE_AGAIN,
    NAME,
    SOURCE_OLDER,
    LogPage,
    log_changes,
    log_missing,
    position_lost,
)
from rowtrail.connectors.capture.pages import KeyedTable, delete_changes, last_key, page_changes
from rowtrail.connectors.capture.position import Values, decode, encode
from rowtrail.connectors.capture.reconcile import key_range, keys_gone
from rowtrail.connectors.capture.row_hash import scratch
from rowtrail.connectors.changes import VERSION_SCHEMA, Changes, Version, constant_versions

SERVER_CHANGED = (
    "the source is another server than the one it was read from, or the same after a fail-over or "
    "a restore, and may lack what that one committed last"
)


@dataclass(frozen=True, kw_only=True)
class LogNow:
    """A change log at this moment. Snapshots are texts as of `pg_current_snapshot`."""

    log: str  # random; another one when the log was made again
    server: str  # of which history it is: system identifier and timeline
    acknowledged: str | None  # entries that this snapshot shows may have been deleted
    snapshot: str  # what is visible now
    holds_entry: bool  # the log has the entry that was asked for, or had it until it was deleted


class Window(NamedTuple):
    """Entries of the transactions that `old` does not show and `new` does."""

    old: str
    new: str


class Extent(NamedTuple):
    """The sequences in a window; 0: there is none."""

    last: int
    emptied: int  # of the last entry that says that the table was truncated


class WindowedTable(KeyedTable, Protocol):
    """A table whose changes triggers log with the ids of their transactions."""

    def require_log(self) -> None:
        """Raises ConfigurationError when there is no log, or it does not fit the table."""
        ...

    def log_now(self, entry: str | None) -> LogNow | None:
        """`entry` is the token of a `LogPage`. None without a log."""
        ...

    def extent(self, window: Window) -> Extent: ...

    def window_page(self, window: Window, after: int, upto: int) -> LogPage:
        """The next `batch_rows` entries of the window; the truncations are left out."""
        ...


@dataclass(frozen=True, kw_only=True)
class WindowPosition(FullPosition):
    """All that `old` shows is applied, and of the window up to `new` what `sequence` says.

    While the first full read lasts, `old` is the snapshot that it began with.
    """

    read: int  # number of the window, or of the full read and the window after it
    log: str
    server: str
    old: str
    new: str | None  # None between two windows
    sequence: int  # the last entry applied of the window; between two, of the last one
    entry: str | None  # token of the last entry read, by which a restored source is known

    @classmethod
    def parse(cls, stream: str, token: str) -> WindowPosition:
        return cls(**decode(stream, NAME, token, {field.name for field in fields(cls)}))

    def token(self) -> str:
        return encode(NAME, vars(self))

    def version(self, epoch: int) -> Version:
        """What a row that is read now shows at least."""
        return Version(epoch, self.read, self.sequence, 0)

    def opened(self, read: int, new: str, started: datetime) -> WindowPosition:
        """At the beginning of the next window, which shows all that was committed by then."""
        return replace(
            self,
            read=read,
            new=new,
            sequence=0,
            started=started.isoformat(),
            after=None,
            known=None,
        )

    def closed(self) -> WindowPosition:
        assert self.new is not None
        return replace(self, old=self.new, new=None)


def read_windows(table: WindowedTable, state: ReadState) -> Iterator[Changes]:
    """At first the whole table, then a window of the log up to what is visible when it begins.

    Versions are (epoch, number of the read, sequence, 0), and (…, 0, 0) in the full read, whose
    window follows under the same number. A window that was broken off is read to its end under its
    own number; another one follows. Raises PositionLostError when the log is not the one of the
    position, has gone on without it, or the source has another history.
    """
    table.require_log()
    if state.position is None:
        at = _begin(table, state)
    else:
        at = WindowPosition.parse(table.stream.name, state.position)
    if at.full:
        _checked(table, at)
        version = at.version(state.epoch)
        at = yield from full_read(table, state.known, at, lambda page: version)
        yield from _read(table, state, _opened(table, at, at.read), idle=False)
        return
    if at.new is not None:
        at = yield from _read(table, state, at, idle=False)
    yield from _read(table, state, _opened(table, at, state.read_number), idle=True)


def position_version(stream: str, epoch: int, token: str) -> Version:
    """The newest version of which a stream at this position knows everything."""
    return WindowPosition.parse(stream, token).version(epoch)


def forgettable(stream: str, token: str) -> str:
    """The snapshot whose entries a stream at this position does not need any more."""
    return WindowPosition.parse(stream, token).old


def shows_all_of(later: str, earlier: str) -> bool:
    """Whether each transaction that the snapshot `earlier` shows is visible in `later`, too."""
    (later_end, later_open), (earlier_end, earlier_open) = _parts(later), _parts(earlier)
    return later_end >= earlier_end and all(
        xid in earlier_open or xid >= earlier_end for xid in later_open
    )


def _parts(snapshot: str) -> tuple[int, frozenset[int]]:
    """The first transaction id that it cannot show, and those before it that were open."""
    _, end, running = snapshot.split(":")
    return int(end), frozenset(int(xid) for xid in running.split(",") if xid)


def _begin(table: WindowedTable, state: ReadState) -> WindowPosition:
    started = datetime.now(UTC)
    found = table.log_now(None)
    if found is None:
        raise log_missing(table.stream.name)
    return WindowPosition(
        read=state.read_number,
        log=found.log,
        server=found.server,
        old=found.snapshot,
        new=None,
        sequence=0,
        entry=None,
        started=started.isoformat(),
        full=True,
    )


def _opened(table: WindowedTable, at: WindowPosition, read: int) -> WindowPosition:
    started = datetime.now(UTC)
    return at.opened(read, _checked(table, at).snapshot, started)


def _read(
    table: WindowedTable, state: ReadState, at: WindowPosition, *, idle: bool
) -> Generator[Changes, None, WindowPosition]:
    """A window from where the position is in it. With `idle`, an empty one is reported, too."""
    assert at.new is not None
    window = Window(at.old, at.new)
    extent = table.extent(window)
    _checked(table, at)
    if extent.emptied > at.sequence:
        yield from _sweep(table, state, at, extent.emptied)
        at = replace(at, sequence=extent.emptied)
    started = datetime.fromisoformat(at.started)
    reported = False
    while at.sequence < extent.last:
        found = table.window_page(window, at.sequence, extent.last)
        _checked(table, at)  # else somebody has deleted entries before they were read
        token = None if found.token is None else str(found.token)
        at = replace(at, sequence=found.last, entry=token or at.entry)
        versions = constant_versions(at.version(state.epoch), len(found.sequences))
        columns = [versions.column(0), versions.column(1), found.sequences, versions.column(3)]
        reported = at.sequence >= extent.last
        at = at.closed() if reported else at
        yield log_changes(
            table,
            found,
            pa.RecordBatch.from_arrays(columns, schema=VERSION_SCHEMA),
            at.token(),
            started if reported else None,
        )
    if reported:
        return at
    at = at.closed()
    if idle or extent.last:
        yield page_changes(table, at.version(state.epoch), at.token(), complete=started)
    return at


def _sweep(
    table: WindowedTable, state: ReadState, at: WindowPosition, sequence: int
) -> Iterator[Changes]:
    """After a truncation: all that is known and that the table does not have now is gone.

    Rows that came since are logged. Broken off, it begins anew: what it has deleted is not known
    any more.
    """
    version = Version(state.epoch, at.read, sequence, 0)
    after: Values | None = None
    known: Values | None = None
    more = True
    with scratch() as engine:
        while more:
            found = table.key_page(after)
            more = found.full
            span = key_range(found.keys, known, more=more)
            for gone in keys_gone(engine, table, state.known, span, found.keys):
                yield from delete_changes(table, version, at.token(), gone)
            after, known = found.last, last_key(found.keys) or known


def _checked(table: WindowedTable, at: WindowPosition) -> LogNow:
    """The log's state, when it still has everything from this position on."""
    found = table.log_now(at.entry)
    lost = (
        LOG_GONE
        if found is None
        else LOG_MADE_AGAIN
        if found.log != at.log
        else SERVER_CHANGED
        if found.server != at.server
        else SOURCE_OLDER
        if not found.holds_entry or not shows_all_of(found.snapshot, at.new or at.old)
        else ENTRIES_GONE
        if found.acknowledged is not None and not shows_all_of(at.old, found.acknowledged)
        else None
    )
    if found is None or lost is not None:
        raise position_lost(table.stream.name, lost or LOG_GONE)
    return found
