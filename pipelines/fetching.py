"""Reads single records from the source again, as a person asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.checkpoints.record_id import RecordId, from_arrow
from rowtrail.checkpoints.states import HeldBack, Prunable
from rowtrail.connectors.changes import VERSION_SCHEMA, Changes, Operation, Version
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.lane import ReadyStream
from rowtrail.pipelines.opening import OpenPipeline
from rowtrail.pipelines.record_keys import fitting, held_keys, key_batch

NAMED = 5
"""A message names so many records at most."""


def without_key(ready: ReadyStream, ids: Sequence[RecordId]) -> list[RecordId]:
    """The records that cannot be asked for, since their key does not fit the stream's key."""
    fine = set(fitting(ids, ready.source_schema.arrow_key()))
    return [one for number, one in enumerate(ids) if number not in fine]


def no_such_key(ready: ReadyStream, ids: Sequence[RecordId]) -> ConfigurationError:
    """What to tell who asked for records whose key does not fit the stream's key."""
    fields = ready.source_schema.arrow_key()
    key = ", ".join(f"{field.name} ({field.type})" for field in fields)
    named = ", ".join(map(str, ids[:NAMED])) + (", …" if len(ids) > NAMED else "")
    return ConfigurationError(
        f"Record id {named} of stream {ready.lane.stream.name} does not fit its key {key}. Such a "
        f"row can only be mended at the source; its change is then read as usual."
    )


def fetch(
    opened: OpenPipeline, ready: ReadyStream, ids: Sequence[RecordId], revision: int
) -> Changes:
    """As `fetch_keys`, of these records."""
    return fetch_keys(opened, ready, key_batch(ids, ready.source_schema.arrow_key()), revision)


def fetch_keys(
    opened: OpenPipeline, ready: ReadyStream, keys: pa.RecordBatch, revision: int
) -> Changes:
    """The rows as they are at the source now; the decision's number makes them win over today's."""
    changes = opened.source.fetch(ready.lane.stream.source_spec(), keys, ready.state)
    return _not_below(changes.with_revision(revision), ready.lane.held.all())


def refuse_unknown(opened: OpenPipeline, changes: Changes, before: int) -> None:
    """Raises ConfigurationError for rows that are not at the source and never were.

    A mistyped key would otherwise become a delete that nothing has happened before. `before` tells
    how many records of the same decision were taken up already.
    """
    gone = pc.equal(changes.operations, int(Operation.DELETE))
    unknown = [
        one
        for one in from_arrow(changes.stream, changes.keys().filter(gone))
        if all(entry.operation is None for entry in opened.ledger.trail(one))
    ]
    if unknown:
        named = ", ".join(map(str, unknown[:NAMED])) + (", …" if len(unknown) > NAMED else "")
        done = "nothing was done"
        if before:
            done = f"it stopped there; {before:,} records before were taken up"
        trails = [
            one
            for one in opened.ledger.pruning.pruned(changes.stream)
            if one.what is Prunable.TRAILS
        ]
        if trails:
            raise ConfigurationError(
                f"Record {named} is not at the source, and the ledger knows nothing of it now; "
                f"trails before {trails[0].upto:%Y-%m-%d %H:%M} UTC were pruned on "
                f"{trails[0].at:%Y-%m-%d}. {done[0].upper()}{done[1:]}. Check the key; if the "
                f"record is still at the target, `rowtrail stream resnapshot {changes.stream}` "
                f"takes it away."
            )
        raise ConfigurationError(
            f"Neither the source nor the ledger knows record {named}, so that {done}. Check the "
            f"key."
        )


def _not_below(changes: Changes, held: Sequence[HeldBack]) -> Changes:
    """Raises versions to those of the failures that the rows are to end.

    The row was read after the one that failed, so that version is a lower bound of it too. In the
    midst of a first read the position that the stream has applied is below it.
    """
    theirs = held_keys(held, changes.schema)
    if theirs is not None and len(changes):
        changes = _raised_to(changes, held, theirs)
    if not held or not changes.rejected:
        return changes
    floors: dict[RecordId, Version] = {}
    for one in held:
        version = Version(*one.version)
        floors[one.record_id] = max(version, floors.get(one.record_id, version))
    rejected = [
        replace(one, version=_raised(one.version, floors.get(RecordId(changes.stream, one.key))))  # type: ignore[arg-type]
        for one in changes.rejected
    ]
    return replace(changes, rejected=tuple(rejected))


def _raised_to(changes: Changes, held: Sequence[HeldBack], theirs: pa.Table) -> Changes:
    """Only the rows of records that are held back are looked at one by one."""
    names = list(changes.schema.key)
    rows = pa.array(np.arange(len(changes), dtype=np.int64))
    mine = pa.Table.from_batches([changes.keys()]).append_column("_row", rows)
    joined = theirs.join(mine, keys=names, join_type="inner")
    pairs = zip(joined["_row"].to_pylist(), joined["_held"].to_pylist(), strict=True)
    columns = [column.to_numpy().copy() for column in changes.versions.columns]
    for row, number in pairs:
        version = Version(*(int(column[row]) for column in columns))
        raised = _raised(version, Version(*held[number].version))
        for column, part in zip(columns, raised, strict=True):
            column[row] = part
    versions = pa.RecordBatch.from_arrays([pa.array(c) for c in columns], schema=VERSION_SCHEMA)
    return replace(changes, versions=versions)


def _raised(version: Version, floor: Version | None) -> Version:
    """The version, or the floor's place in history under the same decision."""
    if floor is None or floor[:3] <= version[:3]:
        return version
    return floor._replace(revision=version.revision)
