"""Capture `trigger`: the database's own triggers write the keys of changed rows to a log table.

Only keys are logged; the current row is joined when the log is read and carries the sequence of the
log's entry, a lower bound of what the row shows. So an entry too many does no harm, and a column
that is added later needs no new trigger.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Protocol

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
from rowtrail.connectors.capture.pages import KeyedTable, page_changes
from rowtrail.connectors.capture.position import decode, encode
from rowtrail.connectors.changes import VERSION_SCHEMA, Changes, Version, constant_versions


@dataclass(frozen=True, kw_only=True)
class LogState:
    """A change log as it is now. Sequences begin at 1."""

    log: str  # random; another one when the log was made again
    acknowledged: int  # entries up to here may have been deleted
    last: int  # the newest entry's sequence, deleted or not; 0 when there never was one
    token: int | None  # of the entry that was asked for; None when the log does not have it


class LoggedTable(KeyedTable, Protocol):
    """A table whose changes triggers log. `Page.mark` is the log's last sequence at its time.

    Each entry has a token, which its insert draws at random: where the source was restored from a
    back-up, a sequence is given out anew, but not with the same token.
    """

    def log_state(self, at: int | None) -> LogState | None:
        """With the token of the entry at this sequence (None: the last one); None without a log."""
        ...

    def log_page(self, after: int, upto: int) -> LogPage: ...


@dataclass(frozen=True, kw_only=True)
class TriggerPosition(FullPosition):
    """While the full first read lasts, `sequence` is where the log is read from after it."""

    log: str
    sequence: int
    entry: int | None  # the token of the one with this sequence, if there was one

    @classmethod
    def parse(cls, stream: str, token: str) -> TriggerPosition:
        return cls(**decode(stream, NAME, token, {field.name for field in fields(cls)}))

    def token(self) -> str:
        return encode(NAME, vars(self))


def read_log(table: LoggedTable, state: ReadState) -> Iterator[Changes]:
    """At first the whole table, then what the log has, up to its end when its reading begins.

    Versions are (epoch, sequence, 0, 0). A page of the full read has the log's last sequence in the
    page's own transaction; the log is then read from the first page's on, so that nothing falls
    between. Raises PositionLostError when the log is not the one of the position, has gone on
    without it, or does not have the entry that the position has read.
    """
    at = _start(table, state)
    if at.full:
        _checked(table, at)
        first = at.sequence
        at = yield from full_read(
            table,
            state.known,
            at,
            lambda page: Version(state.epoch, first if page is None else page.mark, 0, 0),
        )
        yield from _log_read(table, state, at)
        return
    started = datetime.now(UTC)
    idle = True
    for changes in _log_read(table, state, at):
        idle = False
        yield changes
    if idle:  # the table is as fresh as it can be, and is to say so
        version = Version(state.epoch, at.sequence, 0, 0)
        yield page_changes(table, version, at.token(), complete=started)


def position_version(stream: str, epoch: int, token: str) -> Version:
    """The newest version of which a stream at this position knows everything."""
    return Version(epoch, TriggerPosition.parse(stream, token).sequence, 0, 0)


def _start(table: LoggedTable, state: ReadState) -> TriggerPosition:
    if state.position is not None:
        return TriggerPosition.parse(table.stream.name, state.position)
    started = datetime.now(UTC)
    found = table.log_state(None)
    if found is None:
        raise log_missing(table.stream.name)
    return TriggerPosition(
        log=found.log,
        sequence=found.last,
        entry=found.token,
        started=started.isoformat(),
        full=True,
    )


def _log_read(table: LoggedTable, state: ReadState, at: TriggerPosition) -> Iterator[Changes]:
    """The log's entries up to the newest one at the start of this."""
    started = datetime.now(UTC)
    bound = _checked(table, at).last
    while at.sequence < bound:
        found = table.log_page(at.sequence, bound)
        entry = None if found.token is None else int(found.token)
        at = replace(at, sequence=found.last, entry=entry, after=None, known=None)
        versions = constant_versions(Version(state.epoch, 0, 0, 0), len(found.sequences))
        columns = [versions.column(0), found.sequences, versions.column(2), versions.column(3)]
        yield log_changes(
            table,
            found,
            pa.RecordBatch.from_arrays(columns, schema=VERSION_SCHEMA),
            at.token(),
            started if at.sequence >= bound else None,
        )


def _checked(table: LoggedTable, at: TriggerPosition) -> LogState:
    """The log's state, when it still has everything from this position on."""
    found = table.log_state(at.sequence)
    lost = (
        LOG_GONE
        if found is None
        else LOG_MADE_AGAIN
        if found.log != at.log
        else ENTRIES_GONE
        if found.acknowledged > at.sequence
        else SOURCE_OLDER
        if _is_older(found, at)
        else None
    )
    if found is None or lost is not None:
        raise position_lost(table.stream.name, lost or LOG_GONE)
    return found


def _is_older(found: LogState, at: TriggerPosition) -> bool:
    """Whether the entry that the position has read never was in this state of the source."""
    if found.token is not None:
        return found.token != at.entry
    return found.last < at.sequence or (at.entry is not None and found.acknowledged < at.sequence)
