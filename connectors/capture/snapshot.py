"""Capture `snapshot`: every read goes over the whole table and is compared with the last one."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime

import duckdb
import numpy as np

from rowtrail.connectors.base import ReadState
from rowtrail.connectors.capture.pages import (
    KeyedTable,
    Page,
    hashed_keys,
    keyless_changes,
    last_key,
    page_changes,
    page_hashes,
    whole_keys,
)
from rowtrail.connectors.capture.position import Values, decode, encode
from rowtrail.connectors.capture.reconcile import KnownHashes, deletes_beside, key_range, keys_gone
from rowtrail.connectors.capture.row_hash import scratch
from rowtrail.connectors.changes import Changes, Version

NAME = "snapshot"


@dataclass(frozen=True, kw_only=True)
class SnapshotPosition:
    """How far a read has come."""

    read: int
    ordinal: int  # of the last changes; rises through the read; 0 before its first page
    after: Values | None  # the last key read, in the source's own values
    known: Values | None  # the last key that fitted the schema: the compared ranges end there
    done: bool
    started: str  # UTC, ISO 8601

    @classmethod
    def parse(cls, stream: str, token: str) -> SnapshotPosition:
        return cls(**decode(stream, NAME, token, {field.name for field in fields(cls)}))

    def token(self) -> str:
        return encode(NAME, vars(self))

    def version(self, epoch: int) -> Version:
        return Version(epoch, self.read, self.ordinal, 0)


def read_snapshot(table: KeyedTable, state: ReadState) -> Iterator[Changes]:
    """One read of the whole table, in key order, page by page.

    Rows whose hash the last complete read has seen are left out; a key of the target that the
    source lacks in the range of a page is a delete. Versions are (epoch, number of the read,
    ordinal, 0). A read that was broken off goes on after its last page, under its own number; as
    it shows nothing of what has happened to its earlier pages since, another one follows. For that
    one `state.known` has to show what the first has done: the end of a read is durable before
    anything behind it is asked for.
    """
    at = _start(table, state)
    yield from _read(table, state, at)
    if at.read != state.read_number:
        yield from _read(table, state, _begin(state))


def _read(table: KeyedTable, state: ReadState, at: SnapshotPosition) -> Iterator[Changes]:
    with scratch() as engine:
        if at.ordinal == 0:
            yield from keyless_changes(table, at.version(state.epoch), at.token())
        hashes = KnownHashes(state.known.pages(), table.schema)
        if at.known is not None:
            hashes.upto(at.known)
        while not at.done:
            page = table.page(at.after)
            at = yield from _page_changes(engine, table, state, at, page, hashes)


def _page_changes(
    engine: duckdb.DuckDBPyConnection,
    table: KeyedTable,
    state: ReadState,
    at: SnapshotPosition,
    page: Page,
    hashes: KnownHashes,
) -> Generator[Changes, None, SnapshotPosition]:
    """What a page changes; returns the position after it."""
    seen = page_hashes(engine, page)
    keys = whole_keys(table.schema, page.rows)
    span = key_range(keys, at.known, more=page.full)
    changed = ~np.isin(seen, hashes.within(span))
    at = replace(at, ordinal=at.ordinal + 1)
    gone = yield from deletes_beside(
        int(changed.sum()),
        keys_gone(engine, table, state.known, span, keys),
        table,
        at.version(state.epoch),
        at.token(),
    )
    at = replace(
        at,
        ordinal=at.ordinal + 1,
        after=page.last,
        known=last_key(keys) or at.known,
        done=not page.full,
    )
    yield page_changes(
        table,
        at.version(state.epoch),
        at.token(),
        page=page,
        chosen=changed,
        deletes=gone,
        hashed=hashed_keys(table.schema, page, seen),
        complete=datetime.fromisoformat(at.started) if at.done else None,
    )
    return at


def position_version(stream: str, epoch: int, token: str) -> Version:
    """The newest version that a stream at this position can have."""
    return SnapshotPosition.parse(stream, token).version(epoch)


def _start(table: KeyedTable, state: ReadState) -> SnapshotPosition:
    if state.position is not None:
        last = SnapshotPosition.parse(table.stream.name, state.position)
        if not last.done:
            return last
    return _begin(state)


def _begin(state: ReadState) -> SnapshotPosition:
    return SnapshotPosition(
        read=state.read_number,
        ordinal=0,
        after=None,
        known=None,
        done=False,
        started=datetime.now(UTC).isoformat(),
    )
