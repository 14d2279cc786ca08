"""Capture `cursor`: rows by a column that rises with each change, and deletes by comparing keys.

What the cursor cannot show is made up for: late commits and equal values by reading the end of the
last read again, values that it cannot place by a sweep, deletes and rows inserted behind it by key
reconciliation. Only a change that leaves the cursor behind the window and the key alone is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, Protocol

import duckdb
import numpy as np
import pyarrow.compute as pc

from rowtrail.connectors.base import ReadState
from rowtrail.connectors.capture.key_sums import SummedTable, differing
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
    whole_keys,
)
from rowtrail.connectors.capture.position import Values, decode, encode
from rowtrail.connectors.capture.reconcile import (
    KeyRange,
    key_range,
    keys_gone,
    keys_unknown,
)
from rowtrail.connectors.capture.row_hash import HASH_COLUMN, Hashes, scratch
from rowtrail.connectors.changes import Changes, Version

NAME = "cursor"


class CursorBounds(NamedTuple):
    """Cursor values in the source's own terms: int, float or text."""

    start: object  # where this read begins, inclusively; None: it reads all rows in key order
    newest: object  # the greatest value at its start; None when the cursor can place no row
    window: object  # where the next read begins
    settled: object  # behind it nothing more is expected, the lag aside


class CursorTable(KeyedTable, Protocol):
    """A table with a cursor column. `extra` of its pages is one array of booleans: the rows that
    the next read will see again."""

    def bounds(self, settled: object) -> CursorBounds:
        """The bounds of a read that begins now, after one that settled there (None: the first)."""
        ...

    def full_page(self, bounds: CursorBounds, after: Values | None) -> Page:
        """All rows in key order, beyond this key."""
        ...

    def cursor_page(self, bounds: CursorBounds, after: Values | None) -> Page:
        """Rows from the start to the newest, beyond `after`, which is (cursor, key columns …)."""
        ...

    def unplaced_page(self, bounds: CursorBounds, after: Values | None) -> Page:
        """Rows whose cursor is NULL, or cannot be placed beside the newest, in key order."""
        ...


@dataclass(frozen=True, kw_only=True)
class CursorPosition:
    """How far a read has come: `full`, or `rows`, `unplaced` and `keys`; then `done`."""

    read: int
    phase: str
    bounds: CursorBounds
    ordinal: int  # of the last changes; rises through the read
    after: Values | None  # where the phase goes on
    known: Values | None  # with `full` and `keys`: where the compared ranges end
    started: str  # UTC, ISO 8601

    @classmethod
    def parse(cls, stream: str, token: str) -> CursorPosition:
        found = decode(stream, NAME, token, {field.name for field in fields(cls)})
        return cls(**{**found, "bounds": CursorBounds(*found["bounds"])})

    def token(self) -> str:
        return encode(NAME, vars(self))

    def version(self, epoch: int) -> Version:
        return Version(epoch, self.read, self.ordinal, 0)

    def enter(self, phase: str) -> CursorPosition:
        return replace(self, phase=phase, after=None, known=None)

    def step(self) -> CursorPosition:
        # By two: a delete and a row with neighbouring ordinals would be one change of a key.
        return replace(self, ordinal=self.ordinal + 2)


def read_cursor(table: CursorTable, state: ReadState) -> Iterator[Changes]:
    """Rows at and beyond the last read's window, up to the cursor's greatest value at the start.

    The first read takes all rows in key order. Rows of the window that the last read has seen just
    so, by their hash, are left out. Versions are (epoch, number of the read, ordinal, 0) with an
    ordinal that rises through the read. A read that was broken off goes on under its own number, up
    to its own bounds; another one follows, for which `state.known` has to show what the first has
    done: the end of a read is durable before anything behind it is asked for.
    """
    at = _start(table, state)
    yield from _read(table, state, at)
    if at.read != state.read_number:
        yield from _read(table, state, _begin(table, state, at.bounds.settled))


def _read(table: CursorTable, state: ReadState, at: CursorPosition) -> Iterator[Changes]:
    with scratch() as engine:
        if at.ordinal == 0:
            yield from keyless_changes(table, at.version(state.epoch), at.token())
        seen = _Seen(engine, state)
        if at.phase == "full":
            at = yield from _full(engine, table, state, at, seen)
        if at.phase == "rows":
            pages = partial(table.cursor_page, at.bounds)
            at = yield from _walk(table, state.epoch, at, seen, pages)
            at = at.enter("unplaced")
        if at.phase == "unplaced":
            pages = partial(table.unplaced_page, at.bounds)
            at = yield from _walk(table, state.epoch, at, seen, pages)
            at = at.enter("keys")
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
    if state.position is None:
        return _begin(table, state, None)
    last = CursorPosition.parse(table.stream.name, state.position)
    return _begin(table, state, last.bounds.settled) if last.phase == "done" else last


def _begin(table: CursorTable, state: ReadState, settled: object) -> CursorPosition:
    """A new read, after one that settled there; None: the first, or nothing had a cursor yet."""
    started = datetime.now(UTC)
    return CursorPosition(
        read=state.read_number,
        phase="full" if settled is None else "rows",
        bounds=table.bounds(settled),
        ordinal=0,
        after=None,
        known=None,
        started=started.isoformat(),
    )


def _full(
    engine: duckdb.DuckDBPyConnection,
    table: CursorTable,
    state: ReadState,
    at: CursorPosition,
    seen: _Seen,
) -> Generator[Changes, None, CursorPosition]:
    """All rows and all keys of the target, range by range."""
    more = True
    while more:
        page = table.full_page(at.bounds, at.after)
        more = page.full
        keys = whole_keys(table.schema, page.rows)
        span = key_range(keys, at.known, more=more)
        for gone in keys_gone(engine, table, state.known, span, keys):
            at = at.step()
            yield from delete_changes(table, at.version(state.epoch), at.token(), gone)
        if len(page.rows):
            at = replace(at.step(), after=page.last, known=last_key(keys) or at.known)
            yield _seen_changes(table, state.epoch, at, page, seen)
    return at.enter("done")


def _walk(
    table: CursorTable,
    epoch: int,
    at: CursorPosition,
    seen: _Seen,
    pages: Callable[[Values | None], Page],
) -> Generator[Changes, None, CursorPosition]:
    """The rows of these pages that the last read has not seen so."""
    more = at.bounds.newest is not None or at.phase != "rows"
    while more:
        page = pages(at.after)
        more = page.full
        if len(page.rows):
            at = replace(at.step(), after=page.last)
            yield _seen_changes(table, epoch, at, page, seen)
    return at


def _seen_changes(
    table: CursorTable, epoch: int, at: CursorPosition, page: Page, seen: _Seen
) -> Changes:
    """What is new in the page; kept are the hashes of what the next read will see again."""
    hashes, changed = seen.compare(page)
    again: Mask = page.extra[0].to_numpy(zero_copy_only=False)
    return page_changes(
        table,
        at.version(epoch),
        at.token(),
        page=page,
        chosen=changed,
        hashed=hashed_keys(table.schema, page, hashes, again),
    )


def _keys(
    engine: duckdb.DuckDBPyConnection,
    table: CursorTable,
    state: ReadState,
    at: CursorPosition,
) -> Generator[Changes, None, CursorPosition]:
    """Compares all keys; reports what is gone, and what nothing is known of.

    Where the source can sum its keys, only ranges that differ are looked at one key after another.
    """
    if at.after is None and isinstance(table, SummedTable):
        starts = table.key_starts()
        if starts is not None:
            for span in differing(table, state.known, starts):
                at = replace(at, after=_bound(span.after), known=_key(span.after))
                at = yield from _key_pages(engine, table, state, at, span.upto)
            return at.enter("done")
    at = yield from _key_pages(engine, table, state, at, None)
    return at.enter("done")


def _bound(key: int | None) -> Values | None:
    """A key in the source's own terms."""
    return None if key is None else (str(key),)


def _key(key: int | None) -> Values | None:
    return None if key is None else (key,)


def _key_pages(
    engine: duckdb.DuckDBPyConnection,
    table: CursorTable,
    state: ReadState,
    at: CursorPosition,
    upto: int | None,
) -> Generator[Changes, None, CursorPosition]:
    """Compares the keys beyond the position's, range by range, to the end or up to this one."""
    more = True
    while more:
        found = table.key_page(at.after)
        keys, more = found.keys, found.full
        span = key_range(keys, at.known, more=more)
        if upto is not None and (span is None or span.upto is None or span.upto > (upto,)):
            keys = keys.filter(pc.less_equal(keys.column(0), upto))
            span, more = KeyRange(at.known, (upto,)), False
        for suspects in keys_gone(engine, table, state.known, span, keys):
            # Each was looked up before it counts as deleted: it may have come meanwhile.
            gone = suspects.filter(pc.invert(table.lookup(suspects).extra[0]))
            if len(gone):
                at = at.step()
                yield from delete_changes(table, at.version(state.epoch), at.token(), gone)
        unknown = keys_unknown(engine, table, state.known, span, keys)
        at = replace(at, after=found.last, known=last_key(keys) or at.known)
        if len(unknown):
            at = at.step()
            page = table.lookup(unknown)
            there: Mask = page.extra[0].to_numpy(zero_copy_only=False)
            yield page_changes(table, at.version(state.epoch), at.token(), page=page, chosen=there)
    return at
