"""Rows that the source could not represent: what becomes of them in a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import NewFailure, Stage
from rowtrail.connectors.changes import (
    VERSION_SCHEMA,
    Changes,
    Operation,
    Rejected,
    Version,
    operations_array,
    version_at,
)
from rowtrail.connectors.schema import TableSchema
from rowtrail.pipelines.fingerprints import error_fingerprint
from rowtrail.pipelines.images import Keeping
from rowtrail.pipelines.record_keys import fitting, key_batch


@dataclass(frozen=True, kw_only=True)
class Rejections:
    """Each rejected row is in one of these."""

    failures: tuple[NewFailure, ...]
    gone: tuple[NewFailure, ...]  # deletes of records that the target cannot hold: no failures
    folded_keys: pa.RecordBatch  # of those in whose place a newer change of the batch is
    folded_operations: pa.Array
    folded_versions: pa.RecordBatch


def sort_rejections(
    changes: Changes, target: TableSchema, images: Keeping, *, each: bool
) -> Rejections:
    """With `each`, for changes that follow each other in order, none gives way to a newer one.

    Rows without a whole key share one record id, since nothing tells them apart: the newest stands
    for them, and says how many they are.
    """
    ids = [RecordId(changes.stream, one.key) for one in changes.rejected]  # type: ignore[arg-type]
    newest = {one.canonical(): number for number, one in enumerate(ids)}
    rows = Counter(one.canonical() for one in ids)
    fields = changes.schema.arrow_key()
    fine = fitting(ids, fields)
    newer = _newest_rows(changes, [ids[number] for number in fine])
    folded = {
        number
        for place, number in enumerate(fine)
        if not each
        and (
            newest[ids[number].canonical()] != number
            or newer.get(place, _NEVER) > changes.rejected[number].version
        )
    }
    kept = [
        _failure(one, changes.rejected[number], rows[one.canonical()], images)
        for number, one in enumerate(ids)
        if number not in folded
        and (newest[one.canonical()] == number or (each and None not in one.key))
    ]
    strangers = set(_deleted_strangers(kept, target))
    given_way = [changes.rejected[number] for number in sorted(folded)]
    return Rejections(
        failures=tuple(one for number, one in enumerate(kept) if number not in strangers),
        gone=tuple(kept[number] for number in sorted(strangers)),
        folded_keys=key_batch([ids[number] for number in sorted(folded)], fields),
        folded_operations=operations_array(one.operation for one in given_way),
        folded_versions=pa.RecordBatch.from_arrays(
            [
                pa.array([one.version[part] for one in given_way], pa.int64())
                for part in range(len(VERSION_SCHEMA))
            ],
            schema=VERSION_SCHEMA,
        ),
    )


_NEVER = Version(0, 0, 0, 0)
"""Before every version: epochs start at 1."""


def _newest_rows(changes: Changes, ids: Sequence[RecordId]) -> dict[int, Version]:
    """The newest version of these records among the rows of the batch, by their number."""
    if not ids or not len(changes):
        return {}
    names = list(changes.schema.key)
    theirs = pa.Table.from_batches([key_batch(ids, changes.schema.arrow_key())])
    theirs = theirs.append_column("_record", pa.array(np.arange(len(ids))))
    mine = pa.Table.from_batches([changes.keys()])
    mine = mine.append_column("_row", pa.array(np.arange(len(changes))))
    joined = theirs.join(mine, keys=names, join_type="inner")
    found: dict[int, Version] = {}
    pairs = (joined.column(name).to_pylist() for name in ("_record", "_row"))
    for record, row in zip(*pairs, strict=True):
        found[record] = max(found.get(record, _NEVER), version_at(changes.versions, row))
    return found


def _failure(record_id: RecordId, rejected: Rejected, rows: int, images: Keeping) -> NewFailure:
    kept = images.extracted(rejected.image)
    message = said = images.redaction.masked(rejected.message, rejected.image)
    if rows > 1 and None in rejected.key:
        message = f"{message} {rows:,} rows of this batch have no whole key."
    return NewFailure(
        record_id=record_id,
        operation=int(rejected.operation),
        version=rejected.version,
        stage=Stage.EXTRACT,
        error_class="ValueDoesNotFit",
        message=message,
        fingerprint=error_fingerprint(Stage.EXTRACT, rejected.column, said),
        code_fingerprint=None,
        image_note=kept.note,
        extracted=kept.image,
        transformed=None,
    )


def _deleted_strangers(rejected: Sequence[NewFailure], schema: TableSchema) -> list[int]:
    """The numbers of the deletes of records whose key the target cannot hold.

    They leave nothing to do but to end what is held back of the record. A key with a NULL is not
    among them: rows share it, so that nothing tells which of them is gone.
    """
    fields = schema.arrow_key()
    return [
        number
        for number, one in enumerate(rejected)
        if one.operation == Operation.DELETE
        and None not in one.record_id.key
        and not fitting([one.record_id], fields)
    ]
