"""Capture `snapshot`: every read goes over the whole table and is compared with the last one."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import duckdb
import numpy as np

from rowtrail.connectors.base import ReadState
from rowtrail.connectors.capture.pages import (
    KeyedTable,
    Page,
    all_rows,
    delete_changes,
    hashed_keys,
    keyless_changes,
    last_key,
    no_keys,
    page_changes,
    page_hashes,
    whole_keys,
)
from rowtrail.connectors.capture.position import Values, decode, encode
from rowtrail.connectors.capture.reconcile import KnownHashes, keys_gone
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
        return cls(**decode(stream, NAME, token))

    def token(self) -> str:
        return encode(NAME, vars(self))

    def version(self, epoch: int) -> Version:
        return Version(epoch, self.read, self.ordinal, 0)


def read_snapshot(table: KeyedTable, state: ReadState) -> Iterator[Changes]:
    """One read of the whole table, in key order, page by page.

    Rows whose hash the last complete read has seen are left out; a key of the target that the
    source lacks in the range of a page is a delete. Versions are (epoch, number of the read,
    ordinal, 0). A read that was broken off goes on after its last page, under its own number.
    """
    at = _start(table, state)
    with scratch() as engine:
        if at.ordinal == 0:
            yield from keyless_changes(table, at.version(state.epoch), at.token())
        hashes = KnownHashes(state.known.pages(), table.schema)
        if at.known is not None:
            hashes.upto(at.known)
        while not at.done:
            page = table.page(at.after)
            then = _after(table, at, page)
            at = yield from _page_changes(engine, table, state, page, hashes, at, then)


def _page_changes(
    engine: duckdb.DuckDBPyConnection,
    table: KeyedTable,
    state: ReadState,
    page: Page,
    hashes: KnownHashes,
    at: SnapshotPosition,
    then: SnapshotPosition,
) -> Generator[Changes, None, SnapshotPosition]:
    """What a page changes, between the positions before and after it; returns where it ends."""
    upto = None if then.done else then.known
    gone = no_keys(table.schema)
    changed = all_rows(page)
    seen = page_hashes(engine, page)
    # A page of which no key fits spans no range to compare.
    if then.done or then.known != at.known:
        known = state.known.keys(at.known, upto)
        gone = keys_gone(engine, table.schema, known, whole_keys(table.schema, page.rows))
        changed = ~np.isin(seen, hashes.upto(upto))
    if len(gone) + int(changed.sum()) > table.stream.batch_rows:
        at = replace(at, ordinal=at.ordinal + 1)
        yield from delete_changes(table, at.version(state.epoch), at.token(), gone)
        gone = no_keys(table.schema)
    then = replace(then, ordinal=at.ordinal + 1)
    yield page_changes(
        table,
        then.version(state.epoch),
        then.token(),
        page=page,
        chosen=changed,
        deletes=gone,
        hashed=hashed_keys(table.schema, page, seen),
        complete=datetime.fromisoformat(then.started) if then.done else None,
    )
    return then


def position_version(stream: str, epoch: int, token: str) -> Version:
    """The newest version that a stream at this position can have."""
    return SnapshotPosition.parse(stream, token).version(epoch)


def _start(table: KeyedTable, state: ReadState) -> SnapshotPosition:
    if state.position is not None:
        last = SnapshotPosition.parse(table.stream.name, state.position)
        if not last.done:
            return last
    return SnapshotPosition(
        read=state.read_number,
        ordinal=0,
        after=None,
        known=None,
        done=False,
        started=datetime.now(UTC).isoformat(),
    )


def _after(table: KeyedTable, at: SnapshotPosition, page: Page) -> SnapshotPosition:
    return replace(
        at,
        after=page.last or at.after,
        known=last_key(whole_keys(table.schema, page.rows)) or at.known,
        done=not page.full,
    )
