"""Reads a few rows of a source for people who ask; nothing is known before, nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import StreamRecord
from rowtrail.connectors.base import Capture, ReadState, Source, StreamSpec
from rowtrail.connectors.changes import Changes, Operation
from rowtrail.connectors.registry import open_source
from rowtrail.pipelines.definition import PipelineDefinition, StreamDefinition
from rowtrail.pipelines.patterns import at_source


class _NothingKnown:
    """A target that has nothing."""

    def __init__(self, key: pa.Schema) -> None:
        self._schema = key.append(pa.field("present", pa.bool_()))

    def keys(self, after: object, upto: object, limit: int) -> pa.Table:
        return self._schema.empty_table()

    def pages(self) -> Iterator[pa.RecordBatch]:
        return iter(())


def sample(source: Source, stream: StreamDefinition, rows: int) -> Changes | None:
    """The first rows of a stream's table, at most so many; None where it is empty."""
    spec = replace(stream.source_spec(), capture=Capture.SNAPSHOT, batch_rows=rows)
    return next(iter(first_changes(source, spec)), None)


def first_changes(source: Source, spec: StreamSpec) -> Iterator[Changes]:
    """The rows of a table in key order, as a snapshot reads them that knows of none."""
    return iter(source.read(spec, _new(source.describe(spec).arrow_key())))


def is_at_source(definition: PipelineDefinition, record_id: RecordId) -> bool:
    """Whether the source has a row with this key now.

    A key that no row of this table can have is not there. Raises what the source raises.
    """
    source = open_source(definition.source)
    try:
        spec = at_source(definition, source, record_id.stream).source_spec()
        fields = source.describe(spec).arrow_key()
        try:
            values = zip(record_id.key, fields.types, strict=True)
            columns = [pa.array([value], data_type) for value, data_type in values]
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            return False
        keys = pa.RecordBatch.from_arrays(columns, schema=fields)
        found = source.fetch(spec, keys, _new(fields))
    finally:
        source.close()
    return bool(found.rejected) or Operation.DELETE not in found.operations.to_pylist()


def read_state(key: pa.Schema, stream: StreamDefinition, known: StreamRecord | None) -> ReadState:
    """For a fetch that is stamped as the engine stamps it: with what the stream has applied."""
    now = (stream.capture.value, stream.target)
    if known is None or (known.capture, known.target) != now:
        return _new(key)
    return replace(
        _new(key), epoch=known.epoch, position=known.position, read_number=known.read_number
    )


def _new(key: pa.Schema) -> ReadState:
    return ReadState(epoch=1, position=None, read_number=1, known=_NothingKnown(key))
