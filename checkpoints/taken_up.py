"""The keys that a run or a span of time took up, batch by batch, as Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from sqlalchemy import ColumnElement, and_, func, select

from rowtrail.checkpoints import keyset, streams, tables
from rowtrail.checkpoints.key_layout import KeyLayout
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.selections import Selection
from rowtrail.checkpoints.states import BatchState
from rowtrail.checkpoints.store import Store
from rowtrail.checkpoints.tables import attempts, batches, failures, outcomes

_FAILED_AT_ONCE = 10_000


class TakenUp:
    """What is asked for a selection by run or by time. A key comes once for each batch it is in."""

    def __init__(self, store: Store, stream: str, selection: Selection) -> None:
        """Raises UnknownError for a stream that the ledger does not know."""
        self._store = store
        self._stream = stream
        with store.read() as connection:
            self._stream_id = streams.require(connection, stream).id
        self._selection = selection

    def changes(self) -> int:
        """How many changes these are; a record may have several."""
        query = select(func.coalesce(func.sum(batches.c.records), 0)).where(self._closed())
        with self._store.read() as connection:
            return int(connection.execute(query).scalar_one())

    def key_batches(self) -> Iterator[pa.RecordBatch]:
        """Keys of changes that have an outcome, in the types that they had when it was noted."""
        query = (
            select(batches.c.id)
            .join(outcomes, outcomes.c.batch == batches.c.id)
            .where(self._closed())
            .order_by(batches.c.id)
        )
        with self._store.read() as connection:
            found = list(connection.scalars(query))
        for batch in found:
            yield from self._keys_of(batch)

    def failed(self) -> Iterator[list[RecordId]]:
        """Records that failed, or waited, some at a time."""
        query = (
            select(failures.c.id, failures.c.key_text)
            .join(attempts, attempts.c.failure_id == failures.c.id)
            .where(failures.c.stream_id == self._stream_id, self._attempted())
            .order_by(failures.c.id)
            .distinct()
            .limit(_FAILED_AT_ONCE)
        )
        last = 0
        while True:
            with self._store.read() as connection:
                rows = connection.execute(query.where(failures.c.id > last)).all()
            if not rows:
                return
            last = rows[-1].id
            yield [RecordId.of_key_text(self._stream, row.key_text) for row in rows]

    def _closed(self) -> ColumnElement[bool]:
        chosen = self._selection
        wanted: list[ColumnElement[bool]] = [
            batches.c.stream_id == self._stream_id,
            batches.c.state == BatchState.CLOSED,
        ]
        if chosen.run_id is not None:
            wanted.append(batches.c.run_id == chosen.run_id)
        else:
            wanted += _within(batches.c.closed_at, chosen)
        return and_(*wanted)

    def _attempted(self) -> ColumnElement[bool]:
        chosen = self._selection
        if chosen.run_id is not None:
            return attempts.c.run_id == chosen.run_id
        return and_(*_within(attempts.c.at, chosen))

    def _keys_of(self, batch: int) -> Iterator[pa.RecordBatch]:
        layouts, segments = tables.key_layouts, tables.outcome_segments
        with self._store.read() as connection:
            row = connection.execute(
                select(outcomes.c.header, layouts.c.layout)
                .join(layouts)
                .where(outcomes.c.batch == batch)
            ).one_or_none()
            if row is None:  # pruned meanwhile
                return
            bodies = select(segments.c.body).where(segments.c.batch == batch)
            found = list(connection.scalars(bodies.order_by(segments.c.number)))
        layout = KeyLayout.from_bytes(row.layout)
        header = keyset.read_header(layout, row.header)
        yield from keyset.decode_keys(layout, header, found).to_batches()


def _within(column: Any, chosen: Selection) -> list[ColumnElement[bool]]:
    return [column >= chosen.since, column < chosen.until]
