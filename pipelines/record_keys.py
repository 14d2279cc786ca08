"""Record ids as key columns. A key fits them only if it comes back as the very same record id.

Arrow takes bytes for text, text for bytes and integers for dates, and would so make one record of
two: keys keep their types (DESIGN 2.8).
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId, from_arrow
from rowtrail.checkpoints.states import HeldBack
from rowtrail.connectors.schema import TableSchema


def fitting(ids: Sequence[RecordId], fields: pa.Schema) -> list[int]:
    """The numbers of the ids, all of one stream, that fit key columns of these types, rising.

    One with a NULL in its key never does: no row can be found by it.
    """
    if not ids or _columns(ids, fields) is not None:
        return list(range(len(ids)))
    if len(ids) == 1:
        return []
    # By halves, since nearly all of them fit.
    middle = len(ids) // 2
    rest = fitting(ids[middle:], fields)
    return [*fitting(ids[:middle], fields), *(middle + number for number in rest)]


def key_batch(ids: Sequence[RecordId], fields: pa.Schema) -> pa.RecordBatch:
    """The keys as columns of these types; raises ValueError when one does not fit."""
    batch = _columns(ids, fields)
    if batch is None:
        raise ValueError("a record id does not fit the key columns")
    return batch


def held_keys(held: Sequence[HeldBack], schema: TableSchema) -> pa.Table | None:
    """The keys that fit the stream's, and `_held`: the number of each. None when there are none."""
    fields = schema.arrow_key()
    numbers = fitting([one.record_id for one in held], fields)
    if not numbers:
        return None
    keys = key_batch([held[number].record_id for number in numbers], fields)
    return pa.Table.from_batches([keys]).append_column("_held", pa.array(numbers))


def _columns(ids: Sequence[RecordId], fields: pa.Schema) -> pa.RecordBatch | None:
    """None when any of them does not fit."""
    try:
        columns = [
            pa.array([record_id.key[index] for record_id in ids], field.type)
            for index, field in enumerate(fields)
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=fields)
        if any(column.null_count for column in columns):
            return None
        same = not ids or from_arrow(ids[0].stream, batch) == list(ids)
    except (pa.ArrowException, ArithmeticError, IndexError, TypeError, ValueError):
        return None
    return batch if same else None
