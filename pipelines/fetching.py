"""Reads single records from the source again, as a person asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.checkpoints.record_id import RecordId, from_arrow
from rowtrail.checkpoints.states import HeldBack
from rowtrail.connectors.changes import VERSION_SCHEMA, Changes, Operation, Version, version_at
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.lane import ReadyStream
from rowtrail.pipelines.opening import OpenPipeline
from rowtrail.pipelines.record_keys import fitting, key_batch

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
    """The rows as they are at the source now; the decision's number makes them win over today's."""
    keys = key_batch(ids, ready.source_schema.arrow_key())
    changes = opened.source.fetch(ready.lane.stream.source_spec(), keys, ready.state)
    return _not_below(changes.with_revision(revision), ready.lane.held.all())


def refuse_unknown(opened: OpenPipeline, changes: Changes) -> None:
    """Raises ConfigurationError for rows that are not at the source and never were.

    A mistyped key would otherwise become a delete that nothing has happened before.
    """
    gone = pc.equal(changes.operations, int(Operation.DELETE))
    unknown = [
        one
        for one in from_arrow(changes.stream, changes.keys().filter(gone))
        if all(entry.operation is None for entry in opened.ledger.trail(one))
    ]
    if unknown:
        named = ", ".join(map(str, unknown[:NAMED])) + (", …" if len(unknown) > NAMED else "")
        raise ConfigurationError(
            f"Neither the source nor the ledger knows record {named}, so that nothing was done. "
            f"Check the key."
        )


def _not_below(changes: Changes, held: Sequence[HeldBack]) -> Changes:
    """Raises versions to those of the failures that the rows are to end.

    The row was read after the one that failed, so that version is a lower bound of it too. In the
    midst of a first read the position that the stream has applied is below it.
    """
    floors: dict[RecordId, Version] = {}
    for one in held:
        version = Version(*one.version)
        floors[one.record_id] = max(version, floors.get(one.record_id, version))
    if not floors:
        return changes
    rejected = [
        replace(one, version=_raised(one.version, floors.get(RecordId(changes.stream, one.key))))  # type: ignore[arg-type]
        for one in changes.rejected
    ]
    versions = [
        _raised(version_at(changes.versions, row), floors.get(one))
        for row, one in enumerate(from_arrow(changes.stream, changes.keys()))
    ]
    columns = [
        pa.array([version[part] for version in versions], pa.int64())
        for part in range(len(VERSION_SCHEMA))
    ]
    return replace(
        changes,
        versions=pa.RecordBatch.from_arrays(columns, schema=VERSION_SCHEMA),
        rejected=tuple(rejected),
    )


def _raised(version: Version, floor: Version | None) -> Version:
    """The version, or the floor's place in history under the same decision."""
    if floor is None or floor[:3] <= version[:3]:
        return version
    return floor._replace(revision=version.revision)
