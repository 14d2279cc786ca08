"""The fenced merge: a batch goes into its table where it is newer than what is there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.base import Load, Target
from rowtrail.connectors.changes import Operation
from rowtrail.connectors.destinations.postgres_apply import Staged
from rowtrail.connectors.destinations.postgres_keys import Key, key_range, order_by
from rowtrail.connectors.destinations.postgres_layout import PostgresLayout
from rowtrail.connectors.destinations.postgres_sql import Transaction
from rowtrail.connectors.destinations.postgres_staging import append, stage
from rowtrail.connectors.destinations.postgres_types import column_type
from rowtrail.connectors.destinations.unique_keys import check_keys_are_unique

Mask = npt.NDArray[np.bool_]


def merge(work: Transaction, layout: PostgresLayout, load: Load) -> Mask:
    """Merges the load and returns, per row, whether it was superseded and changed nothing.

    Raises StopError when the load has a key twice.
    """
    superseded = np.zeros(len(load.rows), dtype=np.bool_)
    if not len(superseded):
        return superseded
    check_keys_are_unique(load)
    deletes = load.operations.to_numpy(zero_copy_only=False) == Operation.DELETE
    if not deletes.any() and same_types(layout, load.target) and are_all_new(work, layout, load):
        append(work, layout.table, load)
    else:
        # Each key is looked up by the primary key's index, as INSERT … ON CONFLICT would do. The
        # planner, which does not know that the batch is in some order, would rather read all of the
        # table: twice the time for 122,880 of a million rows, and worse the larger it is.
        work.run("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
        staged = Staged(
            work=work,
            layout=layout,
            load=load,
            rows=stage(work, load),
            has_tombstones=bool(work.run(f"SELECT FROM {layout.table.tombstones.sql} LIMIT 1")),
        )
        superseded[staged.take_out_superseded()] = True
        applied = ~superseded
        staged.apply(
            upserts=int(np.count_nonzero(applied & ~deletes)),
            deletes=int(np.count_nonzero(applied & deletes)),
        )
    # What a table puts off until the commit is checked now: a probe has to find it, and only here
    # can it still be told which row is at fault.
    work.run("SET CONSTRAINTS ALL IMMEDIATE")
    return superseded


def same_types(layout: PostgresLayout, target: Target) -> bool:
    """Whether the table takes the bytes of the batch as they are; a wider column does not."""
    return all(
        layout.types[column.name] == column_type(target.table, column)
        for column in target.schema.columns
    )


def are_all_new(work: Transaction, layout: PostgresLayout, load: Load) -> bool:
    """Whether neither the table nor its tombstones have a key between the least and the greatest
    of the batch, so that it can go in unseen: a table's first load, read in key order.

    Two look-ups in an index. False where that cannot be told so easily.
    """
    keys = load.rows.select(list(load.target.schema.key))
    if any(pa.types.is_floating(kind) for kind in keys.schema.types):
        return False  # Arrow leaves NaN out of its order
    if any(column.null_count for column in keys.columns):
        return False  # the staging table tells whose
    try:
        low, high = _end(keys, "min"), _end(keys, "max")
    except (ValueError, OverflowError, pa.ArrowNotImplementedError):
        return False  # a date that Python cannot hold
    return not any(
        work.run(
            f"SELECT FROM {table.sql} "
            f"WHERE {key_range(load.target, low, high, closed=True)} "
            f"ORDER BY {order_by(layout, load.target)} LIMIT 1"
        )
        for table in (layout.table, layout.table.tombstones)
    )


def _end(keys: pa.RecordBatch, which: str) -> Key:
    """The least or the greatest key, by its columns in their order."""
    found: list[object] = []
    for name in keys.schema.names:
        end = pc.min_max(keys[name])[which]
        found.append(end.as_py())
        keys = keys.filter(pc.equal(keys[name], end))
    return tuple(found)
