"""Asks a stream's checks and suites of the source's rows and of the target's, and lines them up.

The source's rows are read in key order and taken through the transforms, as they would be loaded;
the target's are those up to the same key. What is asked of a whole needs all of its rows at once,
so that both sides are held in memory: a cap says how many rows that may be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.base import Capture, Destination, ReadsRows, Source, Target
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.errors import ConfigurationError, RowtrailError
from rowtrail.connectors.registry import open_source
from rowtrail.connectors.schema import TableSchema
from rowtrail.pipelines.checks import Severity
from rowtrail.pipelines.definition import PipelineDefinition, StreamDefinition
from rowtrail.pipelines.fitting import fit
from rowtrail.pipelines.isolation import Budget
from rowtrail.pipelines.lock_file import LockFile
from rowtrail.pipelines.look import first_changes
from rowtrail.pipelines.opening import lock_of, target_if_there
from rowtrail.pipelines.patterns import Resolved, resolve_beside_ledger
from rowtrail.pipelines.redaction import Redaction, redaction_of
from rowtrail.pipelines.shapes import Shape, shape_of
from rowtrail.pipelines.stages import stage
from rowtrail.pipelines.validation import Validation, Verdict, validation_of

DEFAULT_ROWS = 100_000
"""Of each side; a hundred columns of them are some 100 MB."""


@dataclass(frozen=True, kw_only=True)
class ComparedCheck:
    """One check or expectation, asked of both sides. None: that side has no rows to be asked."""

    check: str  # `column amount: min = 0`
    severity: Severity
    source: Verdict | None
    target: Verdict | None

    @property
    def differs(self) -> bool:
        """Whether the two sides say another thing: met or not, how often not, what was seen."""
        return None not in (self.source, self.target) and self.source != self.target

    @property
    def fails(self) -> bool:
        """Whether one side does not meet what rows are held back for, or a stream stopped."""
        sides = [one for one in (self.source, self.target) if one is not None]
        return self.severity is Severity.FAIL and not all(one.success for one in sides)


@dataclass(frozen=True, kw_only=True)
class ComparedChecks:
    """The checks and suites of one stream."""

    stream: str
    source_rows: int = 0  # that were asked
    target_rows: int = 0
    whole: bool = True  # these are all rows; else the first ones, by key
    left_out: int = 0  # rows of the source that do not get as far as the checks
    is_there: bool = False  # the target has the table
    checks: tuple[ComparedCheck, ...] = ()
    problem: str = ""  # why it could not be asked; a sentence or more

    @property
    def passes(self) -> bool:
        return not self.problem and not any(one.fails or one.differs for one in self.checks)


def compare_checks(
    definition: PipelineDefinition, names: Sequence[str] = (), rows: int = DEFAULT_ROWS
) -> list[ComparedChecks]:
    """Of the streams of these names, or of all that have checks or suites, at most so many rows.

    Nothing is changed. What concerns one stream is its problem. Raises ConfigurationError for a
    name that is no stream or has none, and what opening source and target raises.
    """
    lock = lock_of(definition)
    with closing(open_source(definition.source)) as source:
        resolved = resolve_beside_ledger(definition, source)
        chosen = _chosen(resolved, names)
        destination = target_if_there(definition)
        try:
            return [_compare(resolved, one, lock, source, destination, rows) for one in chosen]
        finally:
            if destination is not None:
                destination.close()


def _chosen(resolved: Resolved, names: Sequence[str]) -> list[StreamDefinition]:
    chosen = [resolved.stream(name) for name in names] or list(resolved.definition.streams)
    having = [one for one in chosen if one.checks or one.checks_where_found or one.expectations]
    without = [one.name for one in chosen if one not in having]
    if without and (names or not having):
        raise ConfigurationError(
            f"Nothing is asked of {', '.join(without)}: set `checks` or `expectations` first."
        )
    return having


def _compare(
    resolved: Resolved,
    stream: StreamDefinition,
    lock: LockFile | None,
    source: Source,
    destination: Destination | None,
    rows: int,
) -> ComparedChecks:
    found = ComparedChecks(stream=stream.name)
    try:
        if stream.name in resolved.gone:
            raise ConfigurationError(resolved.gone[stream.name])
        described = source.describe(stream.source_spec())
        shape = shape_of(stream, described, lock)
        redaction = redaction_of(stream, described, shape.target)
        validation = validation_of(stream, described, shape.target)
        at_source = _at_source(source, stream, shape, redaction, rows)
        at_target = _at_target(destination, stream, shape.target, at_source.upto, rows)
        return replace(
            found,
            source_rows=len(at_source.rows),
            target_rows=0 if at_target is None else len(at_target),
            whole=at_source.upto is None,
            left_out=at_source.left_out,
            is_there=at_target is not None,
            checks=_lined_up(validation, redaction, at_source.rows, at_target),
        )
    except RowtrailError as error:
        return replace(found, problem=str(error))


@dataclass(frozen=True, kw_only=True)
class _AtSource:
    """The first rows of a source's table, as they would be loaded."""

    rows: pa.RecordBatch
    upto: tuple[object, ...] | None  # the last key that was read; None: there are no more
    left_out: int


def _at_source(
    source: Source, stream: StreamDefinition, shape: Shape, redaction: Redaction, rows: int
) -> _AtSource:
    parts: list[pa.RecordBatch] = []
    left_out = read = 0
    last: tuple[object, ...] = ()
    for changes in _first(source, stream, rows + 1):
        left_out += len(changes.rejected)
        more = read + len(changes) > rows
        if more:
            changes = _cut(changes, rows - read)
        if len(changes):
            last = tuple(column[-1].as_py() for column in changes.keys().columns)
        with redaction.telling(changes.rows):
            staged = stage(
                changes,
                Budget(None),
                (),
                steps=stream.transforms,
                terms=shape.terms,
                redaction=redaction,
            )
        read += len(changes)
        left_out += len(staged.failed)
        parts.append(staged.rows)
        if more:
            break
    else:
        last = ()
    schema = shape.target.arrow()
    return _AtSource(
        rows=_one_batch(pa.Table.from_batches(parts, schema=schema)),
        upto=last or None,
        left_out=left_out,
    )


def _first(source: Source, stream: StreamDefinition, rows: int) -> Iterator[Changes]:
    size = min(rows, stream.page_rows)
    spec = replace(stream.source_spec(), capture=Capture.SNAPSHOT, batch_rows=size)
    return first_changes(source, spec)


def _cut(changes: Changes, rows: int) -> Changes:
    return changes.take(pa.array(np.arange(rows, dtype=np.int64)))


def _at_target(
    destination: Destination | None,
    stream: StreamDefinition,
    schema: TableSchema,
    upto: tuple[object, ...] | None,
    rows: int,
) -> pa.RecordBatch | None:
    """Its live rows up to that key, in the stream's types; None where the table is not there."""
    there = None if destination is None else destination.describe(stream.target)
    if destination is None or there is None:
        return None
    if not isinstance(destination, ReadsRows):
        raise ConfigurationError("This target's connector cannot show its rows.")
    target = Target(stream=stream.name, table=stream.target, schema=schema, deletes=stream.deletes)
    keys = destination.keys(target, None, upto, rows + 1)
    keys = keys.filter(keys["present"]).select(list(schema.key))
    if len(keys) > rows:
        raise ConfigurationError(
            f"Table {stream.target} has more than {rows:,} rows where the source has at most that: "
            f"look at more of them with `--rows`."
        )
    asked = _one_batch(keys.cast(schema.arrow_key()))
    found = destination.rows(target, asked)
    # One may have been deleted since the keys were read.
    live = found.rows.filter(pc.is_null(found.deleted_at))
    missing = [name for name in schema.names if name not in live.schema.names]
    if missing:
        raise ConfigurationError(
            f"Table {stream.target} has no column {', '.join(missing)} yet; the next run makes it: "
            f"`rowtrail run {stream.name}`."
        )
    columns = [_fitted(stream, live, one.name, one.type) for one in schema.columns]
    return pa.RecordBatch.from_arrays(columns, schema=schema.arrow())


def _fitted(
    stream: StreamDefinition, rows: pa.RecordBatch, name: str, values_type: pa.DataType
) -> pa.Array:
    fitted, misfits = fit(rows.column(name), values_type)
    if misfits.true_count:
        raise ConfigurationError(
            f"Column {name} of table {stream.target} has values that are none of the stream's "
            f"type; `rowtrail schema {stream.name}` shows both."
        )
    return fitted


def _lined_up(
    validation: Validation,
    redaction: Redaction,
    source: pa.RecordBatch,
    target: pa.RecordBatch | None,
) -> tuple[ComparedCheck, ...]:
    there = [rows for rows in (source, target) if rows is not None and len(rows)]
    sides = {id(rows): dict(validation.verdicts(rows, redaction)) for rows in there}
    here, at_target = sides.get(id(source), {}), sides.get(id(target), {})
    return tuple(
        ComparedCheck(
            check=one.check,
            severity=one.severity,
            source=here.get(one),
            target=at_target.get(one),
        )
        for one in dict.fromkeys((*here, *at_target))
    )


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    columns = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)
