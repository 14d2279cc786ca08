"""Capture `trigger`: the database's own triggers write the keys of changed rows to a log table.

Only keys are logged; the current row is joined when the log is read and carries the sequence of the
log's entry, a lower bound of what the row shows. So an entry too many does no harm, and a column
that is added later needs no new trigger.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Protocol

import duckdb
import pyarrow as pa

from rowtrail.connectors.base import ReadState
from rowtrail.connectors.capture.pages import (
    KeyedTable,
    Page,
    delete_changes,
    keyless_changes,
    last_key,
    no_keys,
    page_changes,
    whole_keys,
)
from rowtrail.connectors.capture.position import Values, decode, encode
from rowtrail.connectors.capture.reconcile import key_range, keys_gone
from rowtrail.connectors.capture.row_hash import scratch
from rowtrail.connectors.changes import (
    VERSION_SCHEMA,
    Changes,
    Operation,
    Version,
    constant_versions,
)
from rowtrail.connectors.errors import ConfigurationError, PositionLostError

NAME = "trigger"


@dataclass(frozen=True, kw_only=True)
class LogState:
    """A change log as it is now. Sequences begin at 1."""

    log: str  # random; another one when the log was made again
    acknowledged: int  # entries up to here may have been deleted
    last: int  # the newest entry's sequence, deleted or not; 0 when there never was one
    token: int | None  # of the entry that was asked for; None when the log does not have it


@dataclass(frozen=True, kw_only=True)
class LogPage:
    """The newest entry of each key among some entries, with the row as it is now.

    `page.rows` has the key of each entry, and NULL in all other columns where there is no row.
    """

    page: Page
    sequences: pa.Array  # int64, rising
    operations: pa.Array  # uint8; DELETE where there is no row
    last: int  # the last sequence read; all entries up to it were read
    token: int | None  # of the entry with that sequence; None when there is none


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
class TriggerPosition:
    """While the full first read lasts, `sequence` is where the log is read from after it."""

    log: str
    sequence: int
    entry: int | None  # the token of the one with this sequence, if there was one
    started: str  # UTC, ISO 8601: when the full read began
    full: bool = False  # in the midst of the full read
    after: Values | None = None  # the last key of it, in the source's own values
    known: Values | None = None  # the last key that fitted the schema

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
        with scratch() as engine:
            at = yield from _full_read(engine, table, state, at)
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
        raise ConfigurationError(
            f"Stream {table.stream.name} has no change log at the source yet. Make it with: "
            f"rowtrail init --capture"
        )
    return TriggerPosition(
        log=found.log,
        sequence=found.last,
        entry=found.token,
        started=started.isoformat(),
        full=True,
    )


def _full_read(
    engine: duckdb.DuckDBPyConnection,
    table: LoggedTable,
    state: ReadState,
    at: TriggerPosition,
) -> Generator[Changes, None, TriggerPosition]:
    """The whole table in key order; returns the position from which the log is read."""
    _checked(table, at)
    if at.after is None:
        version = Version(state.epoch, at.sequence, 0, 0)
        yield from keyless_changes(table, version, at.token())
    while at.full:
        page = table.page(at.after)
        keys = whole_keys(table.schema, page.rows)
        span = key_range(keys, at.known, more=page.full)
        gone = keys_gone(engine, table.schema, state.known, span, keys)
        version = Version(state.epoch, page.mark, 0, 0)
        if len(gone) + len(page.rows) > table.stream.batch_rows:
            yield from delete_changes(table, version, at.token(), gone)
            gone = no_keys(table.schema)
        at = replace(at, full=page.full, after=page.last, known=last_key(keys) or at.known)
        yield page_changes(
            table,
            version,
            at.token(),
            page=page,
            operation=Operation.INSERT,
            deletes=gone,
            # Only what was committed before the first page is sure to be in all of them.
            complete=None if at.full else datetime.fromisoformat(at.started),
        )
    return at


def _log_read(table: LoggedTable, state: ReadState, at: TriggerPosition) -> Iterator[Changes]:
    """The log's entries up to the newest one at the start of this."""
    started = datetime.now(UTC)
    bound = _checked(table, at).last
    while at.sequence < bound:
        found = table.log_page(at.sequence, bound)
        at = replace(at, sequence=found.last, entry=found.token, after=None, known=None)
        yield _log_changes(
            table, state.epoch, at.token(), found, started if at.sequence >= bound else None
        )


def _checked(table: LoggedTable, at: TriggerPosition) -> LogState:
    """The log's state, when it still has everything from this position on."""
    found = table.log_state(at.sequence)
    lost = (
        "its change log is gone"
        if found is None
        else "its change log was made again, so that changes may be missing"
        if found.log != at.log
        else "entries beyond its position were deleted from the change log, as another pipeline "
        "that reads the same log would do"
        if found.acknowledged > at.sequence
        else "the source is older than its position, perhaps restored from a back-up"
        if _is_older(found, at)
        else None
    )
    if found is None or lost is not None:
        name = table.stream.name
        raise PositionLostError(
            f"Stream {name} cannot go on from its position: {lost}. See that `rowtrail init "
            f"--capture` has been run, then read it anew: rowtrail run --resnapshot {name}"
        )
    return found


def _is_older(found: LogState, at: TriggerPosition) -> bool:
    """Whether the entry that the position has read never was in this state of the source."""
    if found.token is not None:
        return found.token != at.entry
    return found.last < at.sequence or (at.entry is not None and found.acknowledged < at.sequence)


def _log_changes(
    table: LoggedTable,
    epoch: int,
    position: str,
    found: LogPage,
    complete: datetime | None,
) -> Changes:
    page = found.page
    fits = pa.array(page.fits())
    sequences = found.sequences.filter(fits)
    count = len(sequences)
    constant = constant_versions(Version(epoch, 0, 0, 0), count)
    return Changes(
        stream=table.stream.name,
        schema=table.schema,
        rows=page.rows.filter(fits),
        operations=found.operations.filter(fits),
        versions=pa.RecordBatch.from_arrays(
            [constant.column(0), sequences, constant.column(2), constant.column(3)],
            schema=VERSION_SCHEMA,
        ),
        position=position,
        rejected=tuple(
            misfit.rejected(
                Operation(found.operations[misfit.row].as_py()),
                Version(epoch, found.sequences[misfit.row].as_py(), 0, 0),
            )
            for misfit in page.misfits
        ),
        watermark=complete,
        read_complete=complete is not None,
    )
