"""That a batch has each key once, before it is merged."""

from __future__ import annotations

import pyarrow as pa

from rowtrail.connectors.base import Load
from rowtrail.connectors.changes import are_distinct
from rowtrail.connectors.errors import StopError


def check_keys_are_unique(load: Load) -> None:
    """Raises StopError when a key comes twice: of two changes of one row in one statement, which of
    them it takes is left to chance."""
    names = list(load.target.schema.key)
    keys = load.rows.select(names)
    if are_distinct(keys):
        return
    rows = pa.Table.from_batches([keys])
    twice = len(rows) - len(rows.group_by(names, use_threads=False).aggregate([]))
    if twice:
        raise StopError(
            f"Batch {load.receipt.batch_id} of stream {load.target.stream} has {twice} rows whose "
            f"key comes twice, which a merge does not take. This is an error of Rowtrail or of a "
            f"connector, not of the records; report it."
        )
