"""Changes of a record's key: the old key's delete and the row under the new one belong together.

A capture that knows of them tells both in one item, with one position and the ordinals `2 * n` (the
delete) and `2 * n + 1` (the row). The old row goes once the new one is there, so that a row which
fails under its new key is still to be found under the old one; and where changes wait behind a
failed one, the row waits for what its old key waits for (DESIGN §5).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId, from_arrow
from rowtrail.connectors.changes import Changes, Operation
from rowtrail.pipelines.record_keys import fitting, key_batch

Numbers = npt.NDArray[np.int64]


def old_keys_of(changes: Changes, records: Collection[RecordId]) -> dict[int, RecordId]:
    """The deletes of keys in whose place there is one of these records now.

    By their row number, with the new record.
    """
    gone = _deletes(changes)
    if not records or not gone.any():
        return {}
    found = _old_keys_of_rejected(changes, gone)
    old, new = _pairs(changes, gone)
    if len(old):
        fields = changes.schema.arrow_key()
        ids = list(records)
        theirs = pa.Table.from_batches([key_batch([ids[n] for n in fitting(ids, fields)], fields)])
        mine = pa.Table.from_batches([changes.keys().take(pa.array(new))])
        mine = mine.append_column("_row", pa.array(old))
        joined = mine.join(theirs, keys=fields.names, join_type="inner").combine_chunks()
        for batch in joined.to_batches():
            rows = batch.column("_row").to_pylist()
            keys = from_arrow(changes.stream, batch.select(fields.names))
            found |= dict(zip(rows, keys, strict=True))
    return found


def new_keys_of(changes: Changes, rows: Iterable[int]) -> dict[int, RecordId]:
    """Of the deletes among these rows that are half of a change of a key: the new record."""
    wanted = set(rows)
    gone = _deletes(changes)
    if not wanted or not gone.any():
        return {}
    found = {
        row: record for row, record in _old_keys_of_rejected(changes, gone).items() if row in wanted
    }
    old, new = _pairs(changes, gone)
    chosen = np.isin(old, np.array(sorted(wanted), dtype=np.int64))
    keys = from_arrow(changes.stream, changes.keys().take(pa.array(new[chosen])))
    return found | dict(zip(old[chosen].tolist(), keys, strict=True))


def _deletes(changes: Changes) -> npt.NDArray[np.bool_]:
    gone: npt.NDArray[np.bool_] = changes.operations.to_numpy() == int(Operation.DELETE)
    return gone


def _places(changes: Changes) -> tuple[Numbers, Numbers]:
    """Position and ordinal of each row."""
    return changes.versions.column(1).to_numpy(), changes.versions.column(2).to_numpy()


def _pairs(changes: Changes, gone: npt.NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """Row numbers of the deletes of old keys, and of the rows under the new ones."""
    position, ordinal = _places(changes)
    together = gone[:-1] & ~gone[1:]
    together &= position[:-1] == position[1:]
    together &= (ordinal[:-1] % 2 == 0) & (ordinal[:-1] + 1 == ordinal[1:])
    old = np.flatnonzero(together).astype(np.int64)
    return old, old + 1


def _old_keys_of_rejected(changes: Changes, gone: npt.NDArray[np.bool_]) -> dict[int, RecordId]:
    """Likewise, where the row under the new key is one that the source could not represent."""
    if not changes.rejected:
        return {}
    position, ordinal = _places(changes)
    found = {}
    for one in changes.rejected:
        place, number = one.version.position, one.version.ordinal
        if one.operation is Operation.DELETE or number % 2 == 0:
            continue
        for row in np.flatnonzero(gone & (position == place) & (ordinal == number - 1)):
            found[int(row)] = RecordId(changes.stream, one.key)  # type: ignore[arg-type]
    return found
