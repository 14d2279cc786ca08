"""Capture `log`: the database's own log tells each change, after a snapshot of what was there.

The snapshot is read part by part while the log goes on. Its rows carry the place in the log from
which the log is read afterwards as their version: a lower bound of what they show. So whatever the
log tells later is newer than they are, and a part that was read later than another does no harm.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rowtrail.connectors.base import ReadState
from rowtrail.connectors.capture.log_position import LogPosition, Origin
from rowtrail.connectors.capture.pages import (
    KeyedTable,
    Page,
    delete_changes,
    last_key,
    page_changes,
)
from rowtrail.connectors.capture.reconcile import KeyRange, key_range, keys_gone, known_keys
from rowtrail.connectors.capture.row_hash import scratch
from rowtrail.connectors.changes import (
    VERSION_SCHEMA,
    Changes,
    Operation,
    Rejected,
    Times,
    Version,
)


@dataclass(frozen=True, kw_only=True)
class LogStart:
    """Where a stream's life with a log begins. No older transaction is still under way then."""

    origin: Origin
    place: int  # from where the log is read; all that ends up to there is visible
    visible: str  # what is visible: the log need not tell it again
    ranges: str  # the parts of the table, as `LogTable.parts` takes them


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some rows of the snapshot, and what of the parts has been read with them."""

    page: Page
    done: str


@dataclass(frozen=True, kw_only=True)
class LogRows:
    """Changes of one table in the order of the log. All arrays are aligned with `rows`.

    Ordinals are such that `2 * n` and `2 * n + 1` belong to the n-th change of the transaction: a
    row that gets another key is two of them. With `truncated` all rows of the table went, before
    anything that follows; then there are no rows, and one version.
    """

    rows: pa.RecordBatch  # of the schema
    operations: pa.Array  # uint8
    commits: npt.NDArray[np.int64]
    xids: npt.NDArray[np.uint32]
    ordinals: npt.NDArray[np.int64]
    last: tuple[int, int, int] | None  # commit, transaction id and number of the change that all
    # up to here was read; None: what belongs together goes on in the next item
    rejected: tuple[Rejected, ...] = ()  # with epoch 0
    truncated: bool = False


class LogWindow(Protocol):
    """What a log has to tell up to a bound."""

    @property
    def upto(self) -> int: ...

    @property
    def last(self) -> tuple[int, int, int]:
        """Commit, id and time of the last transaction of any table; zeros for none."""
        ...

    def times_of(self, commits: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """When the transactions with these commits were committed, in µs since 1970."""
        ...

    @property
    def fresh_to(self) -> datetime:
        """What was committed up to then is told (UTC)."""
        ...

    def rows(self) -> Iterator[LogRows]:
        """The table's changes after the position, each item of at most `batch_rows`."""
        ...


class LogTable(KeyedTable, Protocol):
    """A table whose changes the database's log tells."""

    def begin(self) -> LogStart:
        """Waits for transactions that are under way. Raises ConfigurationError without a log."""
        ...

    def parts(self, ranges: str, done: str) -> Iterator[Part]:
        """What is not done yet of the table's parts, in any order."""
        ...

    def window(self, at: LogPosition, asked_at: float | None) -> LogWindow:
        """The log after the position, up to a bound that was taken after `asked_at`, or now.

        Raises PositionLostError when the log is another one, or has gone on without the stream.
        """
        ...


def read_log(table: LogTable, state: ReadState) -> Iterator[Changes]:
    """At first a snapshot of the table, then what the log has up to a bound.

    Versions are (epoch, place of the transaction's commit, ordinal, 0), those of the snapshot's
    rows (epoch, place where the log is read from, 0, 0).
    """
    if state.position is None:
        at = _start(table, state)
    else:
        at = LogPosition.parse(table.stream.name, state.position)
    # What has happened during the snapshot belongs to it: it needs a bound that is taken after it.
    asked_at = state.asked_at if at.phase == "log" else None
    if at.phase == "keyless":
        at = yield from _keyless(table, state, at)
    if at.phase == "snapshot":
        at = yield from _snapshot(table, state, at)
    if at.phase == "sweep":
        at = yield from _sweep(table, state, at)
    yield from _log(table, state, at, asked_at)


def position_version(stream: str, epoch: int, token: str) -> Version:
    """The newest version of which a stream at this position knows everything."""
    return LogPosition.parse(stream, token).version(epoch)


def _start(table: LogTable, state: ReadState) -> LogPosition:
    found = table.begin()
    return LogPosition(
        phase="keyless",
        system=found.origin.system,
        slot=found.origin.slot,
        published=found.origin.published,
        start=found.place,
        upto=found.place,
        commit=0,
        xid=0,
        time=0,
        ordinal=0,
        ranges=found.ranges,
        done="",
        visible=found.visible,
        sweep=not state.fresh,
        after=None,
        known=None,
    )


def _keyless(
    table: LogTable, state: ReadState, at: LogPosition
) -> Generator[Changes, None, LogPosition]:
    """The rows without a whole key, each rejected by name. They share one record, since nothing
    tells them apart: `done` is how many of them were."""
    version = at.snapshot_version(state.epoch)
    read = int(at.done or 0)
    while len((page := table.keyless(read)).rows):
        read += len(page.rows)
        at = replace(at, done=str(read))
        yield page_changes(table, version, at.token(), page=page)
        if not page.full:
            break
    return replace(at, phase="snapshot", done="")


def _snapshot(
    table: LogTable, state: ReadState, at: LogPosition
) -> Generator[Changes, None, LogPosition]:
    """All rows, each part of which can be made durable by itself."""
    version = at.snapshot_version(state.epoch)
    for part in table.parts(at.ranges, at.done):
        at = replace(at, done=part.done)
        changes = page_changes(
            table, version, at.token(), page=part.page, operation=Operation.INSERT
        )
        del part  # pages are large, and the next one is read before this one is durable
        yield changes
        del changes
    return replace(at, phase="sweep" if at.sweep else "log", ranges="", done="")


def _sweep(
    table: LogTable, state: ReadState, at: LogPosition
) -> Generator[Changes, None, LogPosition]:
    """Deletes what only older epochs have: keys of the target that the source has not.

    A row that was deleted since the snapshot is deleted by the log once more; one that came since
    is in the log, and newer than this.
    """
    version = at.snapshot_version(state.epoch)
    with scratch() as engine:
        more = True
        while more:
            found = table.key_page(at.after)
            more = found.full
            span = key_range(found.keys, at.known, more=more)
            for gone in keys_gone(engine, table, state.known, span, found.keys):
                yield from delete_changes(table, version, at.token(), gone)
            at = replace(at, after=found.last, known=last_key(found.keys) or at.known)
    return replace(at, phase="log", sweep=False, after=None, known=None)


def _log(
    table: LogTable, state: ReadState, at: LogPosition, asked_at: float | None
) -> Iterator[Changes]:
    return window_changes(table, state, at, table.window(at, asked_at))


def window_changes(
    table: LogTable, state: ReadState, at: LogPosition, window: LogWindow
) -> Iterator[Changes]:
    """What a window has after the position; the last item, maybe empty, is at its end."""
    waiting: Changes | None = None
    for found in window.rows():
        if waiting is not None:
            yield waiting
            waiting = None
        if found.truncated:
            # The position is past them with what follows, when all of them are durable.
            yield from _truncated(table, state, at, found, window)
        if found.last is not None:
            commit, xid, number = found.last
            time = int(window.times_of(np.array([commit]))[0])
            at = at.within(commit, xid, time, number)
        if not found.truncated:
            waiting = log_changes(table, state.epoch, found, window, at.token())
    done = at.read_to(window.upto, *window.last)
    if waiting is None:
        waiting = page_changes(table, done.version(state.epoch), done.token())
    yield replace(waiting, position=done.token(), watermark=window.fresh_to, read_complete=True)


def _truncated(
    table: LogTable, state: ReadState, at: LogPosition, found: LogRows, window: LogWindow
) -> Iterator[Changes]:
    """A delete of each row that is known when all that came before is durable."""
    version = Version(state.epoch, int(found.commits[0]), int(found.ordinals[0]), 0)
    time = window.times_of(found.commits[:1])
    for keys in known_keys(table, state.known, KeyRange(None, None)):
        for changes in delete_changes(table, version, at.token(), keys):
            yield replace(changes, times=Times.of_commits(np.repeat(time, len(changes))))


def log_changes(
    table: KeyedTable, epoch: int, found: LogRows, window: LogWindow, position: str
) -> Changes:
    """Rows of the log as changes of this epoch."""
    count = len(found.rows)
    zeros = pa.array(np.zeros(count, dtype=np.int64))
    return Changes(
        stream=table.stream.name,
        schema=table.schema,
        rows=found.rows,
        operations=found.operations,
        versions=pa.RecordBatch.from_arrays(
            [
                pa.array(np.full(count, epoch, dtype=np.int64)),
                pa.array(found.commits),
                pa.array(found.ordinals),
                zeros,
            ],
            schema=VERSION_SCHEMA,
        ),
        position=position,
        rejected=tuple(
            replace(one, version=one.version._replace(epoch=epoch)) for one in found.rejected
        ),
        times=Times.of_commits(window.times_of(found.commits)),
    )
