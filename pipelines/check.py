"""Finds before a run what would stop it or spoil it, without changing anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from rowtrail.connectors.base import Capture, Problem, ReadState, Source
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.errors import RowtrailError
from rowtrail.connectors.registry import open_source
from rowtrail.pipelines.definition import PipelineDefinition, StreamDefinition
from rowtrail.pipelines.isolation import Budget
from rowtrail.pipelines.stages import Staged, stage, target_schema

SAMPLE_ROWS = 1_000


class _NothingKnown:
    """A target that has nothing, for reading a sample."""

    def __init__(self, key: pa.Schema) -> None:
        self._schema = key.append(pa.field("present", pa.bool_()))

    def keys(self, after: object, upto: object) -> pa.Table:
        return self._schema.empty_table()

    def pages(self) -> Iterator[pa.RecordBatch]:
        return iter(())


def check_pipeline(definition: PipelineDefinition) -> list[Problem]:
    """All problems of all streams; those that are `fatal` would stop a run.

    Each stream's transforms are run on a sample whole and in two halves: a function of each row
    gives the same both ways. Raises what opening the source raises.
    """
    source = open_source(definition.source)
    try:
        problems = source.preflight([stream.source_spec() for stream in definition.streams])
        broken = {problem.stream for problem in problems if problem.fatal}
        for stream in definition.streams:
            if stream.name not in broken:
                problems += _check_stream(source, stream)
    finally:
        source.close()
    return problems


def _check_stream(source: Source, stream: StreamDefinition) -> list[Problem]:
    try:
        schema = source.describe(stream.source_spec())
        target_schema(schema, stream.transforms, stream.target)
        if not stream.transforms:
            return []
        sample = _sample(source, stream, schema.arrow_key())
        return [] if sample is None else _check_row_wise(stream, sample)
    except RowtrailError as error:
        return [Problem(stream=stream.name, message=str(error), remedy="")]


def _sample(source: Source, stream: StreamDefinition, key: pa.Schema) -> Changes | None:
    spec = replace(stream.source_spec(), capture=Capture.SNAPSHOT, batch_rows=SAMPLE_ROWS)
    state = ReadState(epoch=1, position=None, read_number=1, known=_NothingKnown(key))
    return next(iter(source.read(spec, state)), None)


def _check_row_wise(stream: StreamDefinition, sample: Changes) -> list[Problem]:
    middle = len(sample) // 2
    indices = pa.array(range(len(sample)), pa.int64())
    whole = _run(stream, sample)
    halves = [
        _run(stream, sample.take(indices.slice(0, middle))),
        _run(stream, sample.take(indices.slice(middle))),
    ]
    together = pa.Table.from_batches([half.rows for half in halves])
    if pa.Table.from_batches([whole.rows]).equals(together):
        return []
    return [
        Problem(
            stream=stream.name,
            message=f"its transforms give other rows for {len(sample):,} sample records at once "
            f"than for the same records in two halves",
            remedy="A transform must be a function of each row: no totals, ranks, sorting, random "
            "numbers or clocks. Otherwise a record that is retried alone comes out differently.",
        )
    ]


def _run(stream: StreamDefinition, sample: Changes) -> Staged:
    return stage(sample, Budget(SAMPLE_ROWS * 20), steps=stream.transforms)
