"""Blobs in the ledger: written with a batch's manifest, searched for one record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, Row, bindparam, delete, select, tuple_

from rowtrail.checkpoints import keyset, tables
from rowtrail.checkpoints.key_layout import KeyColumns, KeyLayout
from rowtrail.checkpoints.packing import Integers, pack_counted, unpack_counted
from rowtrail.checkpoints.places import places
from rowtrail.checkpoints.record_id import RecordId, from_arrow

_outcomes, _segments = tables.outcomes, tables.outcome_segments
_SEGMENTS_AT_ONCE = 256
_LAYOUT = select(tables.key_layouts.c.id).where(tables.key_layouts.c.layout == bindparam("wanted"))


@dataclass(frozen=True)
class Hit:
    """A batch that holds the record, and what it says of one change of it."""

    batch: int
    found: keyset.Found
    superseded: bool  # the target had this version or a newer one, as its receipt said


def write(connection: Connection, batch: int, stream_id: int, blob: keyset.Keyset) -> None:
    connection.execute(
        _outcomes.insert(),
        {
            "batch": batch,
            "stream_id": stream_id,
            "layout_id": _layout_id(connection, blob.layout.to_bytes()),
            "first_place": blob.first_place,
            "last_place": blob.last_place,
            "header": blob.header,
        },
    )
    rows = [
        {"batch": batch, "number": number, "body": body}
        for number, body in enumerate(blob.segments)
    ]
    connection.execute(_segments.insert(), rows)


def remove(connection: Connection, batch: int) -> None:
    connection.execute(delete(_segments).where(_segments.c.batch == batch))
    connection.execute(delete(_outcomes).where(_outcomes.c.batch == batch))


def mark_superseded(connection: Connection, batch: int, stored_rows: Integers) -> None:
    """Notes which rows of the blob the target had already; the blob itself stays as it is."""
    body = pack_counted(np.sort(stored_rows))
    connection.execute(_outcomes.update().where(_outcomes.c.batch == batch).values(superseded=body))


def records_at(connection: Connection, batch: int, stream: str, rows: Integers) -> list[RecordId]:
    """The records in these rows of a blob."""
    layouts = tables.key_layouts
    query = select(_outcomes.c.header, layouts.c.layout).join(layouts)
    row = connection.execute(query.where(_outcomes.c.batch == batch)).one()
    layout = KeyLayout.from_bytes(row.layout)
    bodies = select(_segments.c.body).where(_segments.c.batch == batch)
    keys = keyset.decode_keys(
        layout,
        keyset.read_header(layout, row.header),
        connection.scalars(bodies.order_by(_segments.c.number)),
    )
    chosen = keys.take(pa.array(rows)).combine_chunks().to_batches()
    return [record for part in chosen for record in from_arrow(stream, part)]


def search(connection: Connection, stream_id: int, record: RecordId) -> Iterator[Hit]:
    """All that blobs of prepared and closed batches say of a record."""
    for layout_id, data in _layouts(connection, stream_id):
        layout = KeyLayout.from_bytes(data)
        row = layout.row(record.key)
        if row is not None:
            yield from _search_layout(connection, stream_id, layout_id, layout, row)


def _layout_id(connection: Connection, layout: bytes) -> int:
    layouts = tables.key_layouts
    known = connection.scalar(_LAYOUT, {"wanted": layout})
    if known is None:
        result = connection.execute(layouts.insert().values(layout=layout))
        (known,) = result.inserted_primary_key or (None,)
    assert known is not None
    return int(known)


def _layouts(connection: Connection, stream_id: int) -> list[tuple[int, bytes]]:
    layouts = tables.key_layouts
    used = _outcomes.select().where(
        _outcomes.c.stream_id == stream_id, _outcomes.c.layout_id == layouts.c.id
    )
    query = select(layouts.c.id, layouts.c.layout).where(used.exists())
    return [(row.id, row.layout) for row in connection.execute(query)]


def _search_layout(
    connection: Connection, stream_id: int, layout_id: int, layout: KeyLayout, row: KeyColumns
) -> Iterator[Hit]:
    place = int(places(layout, row)[0])
    query = select(_outcomes.c.batch, _outcomes.c.header, _outcomes.c.superseded).where(
        _outcomes.c.stream_id == stream_id,
        _outcomes.c.layout_id == layout_id,
        _outcomes.c.first_place <= place,
        _outcomes.c.last_place >= place,
    )
    candidates = {r.batch: r for r in connection.execute(query)}
    headers = {b: keyset.read_header(layout, r.header) for b, r in candidates.items()}
    wanted = [(b, number) for b, header in headers.items() for number in header.segments(place)]
    for segment in _bodies(connection, wanted):
        found = keyset.search(layout, headers[segment.batch], segment.number, segment.body, row)
        if found:
            gone = _superseded(candidates[segment.batch].superseded)
            yield from (Hit(segment.batch, f, f.row in gone) for f in found)


def _bodies(connection: Connection, wanted: list[tuple[int, int]]) -> Iterator[Row[Any]]:
    for start in range(0, len(wanted), _SEGMENTS_AT_ONCE):
        some = wanted[start : start + _SEGMENTS_AT_ONCE]
        which = tuple_(_segments.c.batch, _segments.c.number).in_(some)
        yield from connection.execute(select(_segments).where(which))


def _superseded(body: bytes | None) -> set[int]:
    return set() if body is None else set(unpack_counted(body).tolist())
