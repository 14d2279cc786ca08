"""Capture `cursor`: rows by a column that rises with each change, and deletes by comparing keys.

What the cursor cannot show is made up for: late commits and equal values by reading the end of the
last read again, values that it cannot place by a sweep, deletes and rows inserted behind it by key
reconciliation. Only a change that leaves the cursor behind the window and the key alone is missed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.base import ReadState
from rowtrail.connectors.capture.pages import (
    KeyedTable,
    Mask,
    Page,
    delete_changes,
    hashed_keys,
    keyless_changes,
    last_key,
    page_changes,
    page_hashes,
)
from rowtrail.connectors.capture.position import Values, decode, encode
from rowtrail.connectors.capture.reconcile import keys_gone, keys_unknown
from rowtrail.connectors.capture.row_hash import HASH_COLUMN, Hashes, scratch
from rowtrail.connectors.changes import Changes, Version

NAME = "cursor"


class CursorTable(KeyedTable, Protocol):
    """A table with a cursor column. Cursor values are in the source's own terms."""

    def newest(self, like: object) -> object:
        """The greatest value that the cursor can place, spelled like this one; None without any."""
        ...

    def settled(self, newest: object) -> object:
        """The greatest value behind which nothing more is expected, the lag aside."""
        ...

    def window(self, high: object) -> object:
        """Where the read after one that settled at `high` begins, inclusively."""
        ...

    def cursor_page(self, start: object, upto: object, after: Values | None) -> Page:
        """Rows with start <= cursor <= upto, beyond `after`, which is (cursor, key columns …).

        `extra` is one array: the cursor's values.
        """
        ...

    def unplaced_page(self, like: object, after: Values | None) -> Page:
        """Rows whose cursor is NULL, or cannot be placed beside `like`, in key order."""
        ...


@dataclass(frozen=True, kw_only=True)
class CursorPosition:
    """How far a read has come: `rows`, then `unplaced` rows, then `keys`, then `done`.

    `bounds` are the cursor values (from where, up to where, where settled) of this read.
    """

    read: int
    phase: str
    bounds: Values
    ordinal: int  # of the last changes; rises through the read
    after: Values | None  # where the phase goes on
    known: Values | None  # with `keys`: where the compared ranges end
    started: str  # UTC, ISO 8601

    @classmethod
    def parse(cls, stream: str, token: str) -> CursorPosition:
        return cls(**decode(stream, NAME, token))

    def token(self) -> str:
        return encode(NAME, vars(self))

    def version(self, epoch: int) -> Version:
        return Version(epoch, self.read, self.ordinal, 0)

    def enter(self, phase: str) -> CursorPosition:
        return replace(self, phase=phase, after=None, known=None)


def read_cursor(table: CursorTable, state: ReadState) -> Iterator[Changes]:
    """Rows at and beyond the last read's window, up to the cursor's greatest value at the start.

    Rows of the window that the last read has seen just so, by their hash, are left out. Versions
    are (epoch, number of the read, ordinal, 0) with an ordinal that rises through the read. A read
    that was broken off goes on under its own number.
    """
    at = _start(table, state)
    with scratch() as engine:
        if at.phase == "rows" and at.ordinal == 0:
            yield from keyless_changes(table, at.version(state.epoch), at.token())
        seen = _Seen(engine, state)
        if at.phase == "rows":
            at = yield from _rows(table, state.epoch, at, seen)
        if at.phase == "unplaced":
            at = yield from _unplaced(table, state.epoch, at, seen)
        if at.phase == "keys":
            at = yield from _keys(engine, table, state, at)
    yield page_changes(
        table, at.version(state.epoch), at.token(), complete=datetime.fromisoformat(at.started)
    )


def position_version(stream: str, epoch: int, token: str) -> Version:
    """The newest version that a stream at this position can have."""
    return CursorPosition.parse(stream, token).version(epoch)


class _Seen:
    """The hashes of the rows that the last read saw in its window, eight bytes each.

    A hash covers the key, so that looking it up among all of them finds the row itself; another row
    of the same hash is met once in 10^13 changed rows for a million in the window.
    """

    def __init__(self, engine: duckdb.DuckDBPyConnection, state: ReadState) -> None:
        self._engine = engine
        parts = [page.column(HASH_COLUMN).to_numpy() for page in state.known.pages()]
        self._hashes = np.sort(np.concatenate([np.empty(0, dtype=np.uint64), *parts]))

    def compare(self, page: Page) -> tuple[Hashes, Mask]:
        """The page's hashes, and which of its rows are new or changed."""
        hashes = page_hashes(self._engine, page)
        return hashes, ~np.isin(hashes, self._hashes)


def _start(table: CursorTable, state: ReadState) -> CursorPosition:
    high = None
    if state.position is not None:
        last = CursorPosition.parse(table.stream.name, state.position)
        if last.phase != "done":
            return last
        high = last.bounds[2]
    newest = table.newest(high)
    return CursorPosition(
        read=state.read_number,
        phase="rows",
        bounds=(
            None if high is None else table.window(high),
            newest,
            None if newest is None else table.settled(newest),
        ),
        ordinal=0,
        after=None,
        known=None,
        started=datetime.now(UTC).isoformat(),
    )


def _rows(
    table: CursorTable, epoch: int, at: CursorPosition, seen: _Seen
) -> Generator[Changes, None, CursorPosition]:
    """The rows between the bounds, in the order of (cursor, key)."""
    start, upto, high = at.bounds
    more = upto is not None
    while more:
        page = table.cursor_page(start, upto, at.after)
        more = page.full
        if len(page.rows):
            at = replace(at, ordinal=at.ordinal + 1, after=page.last)
            hashes, changed = seen.compare(page)
            again = pc.greater_equal(page.extra[0], pa.scalar(table.window(high)))
            window: Mask = again.to_numpy(zero_copy_only=False)
            yield page_changes(
                table,
                at.version(epoch),
                at.token(),
                page=page,
                chosen=changed,
                hashed=hashed_keys(table.schema, page, hashes, window),
            )
    return at.enter("unplaced")


def _unplaced(
    table: CursorTable, epoch: int, at: CursorPosition, seen: _Seen
) -> Generator[Changes, None, CursorPosition]:
    """The rows that the cursor cannot place: all of them, in each read."""
    more = True
    while more:
        page = table.unplaced_page(at.bounds[1], at.after)
        more = page.full
        if len(page.rows):
            at = replace(at, ordinal=at.ordinal + 1, after=page.last)
            hashes, changed = seen.compare(page)
            yield page_changes(
                table,
                at.version(epoch),
                at.token(),
                page=page,
                chosen=changed,
                hashed=hashed_keys(table.schema, page, hashes),
            )
    return at.enter("keys")


def _keys(
    engine: duckdb.DuckDBPyConnection,
    table: CursorTable,
    state: ReadState,
    at: CursorPosition,
) -> Generator[Changes, None, CursorPosition]:
    """Compares all keys, range by range; reports what is gone, and what nothing is known of."""
    more = True
    while more:
        found = table.key_page(at.after)
        more = found.full
        upto = last_key(found.keys) if more else None
        if more and upto is None:  # no key of the page fits, so it spans no range
            at = replace(at, after=found.last)
            continue
        known = state.known.keys(at.known, upto)
        gone = keys_gone(engine, table.schema, known, found.keys)
        unknown = keys_unknown(engine, table.schema, known, found.keys)
        if len(gone):
            at = replace(at, ordinal=at.ordinal + 1)
            yield from delete_changes(table, at.version(state.epoch), at.token(), gone)
        at = replace(at, after=found.last, known=upto)
        if len(unknown):
            at = replace(at, ordinal=at.ordinal + 1)
            page = table.lookup(unknown)
            there: Mask = page.extra[0].to_numpy(zero_copy_only=False)
            yield page_changes(table, at.version(state.epoch), at.token(), page=page, chosen=there)
    return at.enter("done")
