"""One record at the source and at the target, as they are now, column by column."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import StreamRecord, VersionTuple
from rowtrail.connectors.base import Destination, ReadsRows, Target, TargetTable
from rowtrail.connectors.changes import Operation, version_at
from rowtrail.connectors.errors import RowtrailError
from rowtrail.connectors.registry import open_destination, open_source
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.pipelines.definition import PipelineDefinition, StreamDefinition
from rowtrail.pipelines.look import read_state
from rowtrail.pipelines.patterns import at_source
from rowtrail.pipelines.record_keys import key_batch
from rowtrail.pipelines.values import are_equal, plain

_NO_SUCH_KEY = "no row of it can have this key"


class SideState(StrEnum):
    """What one side says of a record."""

    THERE = "there"
    ABSENT = "absent"  # it has no such row; of a target: and never had
    DELETED = "deleted"  # the target knows its delete
    FILTERED = "filtered"  # the target knows that a transform dropped it
    UNFIT = "unfit"  # the source has a row that it cannot represent in the stream's types
    UNREAD = "unread"  # it could not be asked


@dataclass(frozen=True, kw_only=True)
class Side:
    """One record as the source or the target has it."""

    state: SideState
    row: pa.RecordBatch | None = None  # one row; of a target: a soft-deleted one as well
    version: VersionTuple | None = None  # of a source: a lower bound, as a fetch is stamped
    deleted_at: datetime | None = None
    why: str = ""  # it is unfit, unread or absent
    key: pa.Schema | None = None  # of the source: the key columns in its types


@dataclass(frozen=True, kw_only=True)
class ComparedColumn:
    """One column on both sides. Values are those that JSON has, others are texts."""

    column: str
    at_source: bool
    at_target: bool
    source: object = None  # None: NULL, or it is not there
    target: object = None
    source_type: str | None = None  # as Arrow names it
    target_type: str | None = None
    equal: bool | None = None  # None: only one side has it
    redacted: bool = False  # its values are left out here; whether they are equal is said


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What both sides have of one record. `columns` is empty unless one of them has a row."""

    record_id: RecordId
    source: Side
    target: Side
    columns: tuple[ComparedColumn, ...]

    @property
    def different(self) -> tuple[str, ...]:
        """The columns that both sides have, with values that are not the same."""
        return tuple(one.column for one in self.columns if one.equal is False)


def compare_record(
    definition: PipelineDefinition, record_id: RecordId, known: StreamRecord | None
) -> Comparison:
    """Reads the record on both sides; the source first, as everything is read.

    `known` is the stream in the ledger. A side that does not answer is told in its place; nothing
    is raised, and nothing is changed.
    """
    stream = definition.stream(record_id.stream)
    source = _at_source(definition, record_id, known)
    target = _at_target(definition, stream, record_id, source.key)
    return Comparison(
        record_id=record_id,
        source=source,
        target=target,
        columns=compare_rows(source.row, target.row, redacted_columns(stream)),
    )


def redacted_columns(stream: StreamDefinition) -> Collection[str]:
    """The columns whose values are shown to nobody, in small letters."""
    return frozenset(name.lower() for name in (*stream.redact, *stream.redact_where_found))


def compare_rows(
    source: pa.RecordBatch | None, target: pa.RecordBatch | None, redacted: Collection[str] = ()
) -> tuple[ComparedColumn, ...]:
    """Two rows by the names of their columns, in the source's order; None is no row at all.

    `redacted` are names in small letters.
    """
    names = [name for row in (source, target) if row is not None for name in row.schema.names]
    return tuple(
        _column(name, source, target, name.lower() in redacted) for name in dict.fromkeys(names)
    )


def _column(
    name: str, source: pa.RecordBatch | None, target: pa.RecordBatch | None, redacted: bool
) -> ComparedColumn:
    here = None if source is None or name not in source.schema.names else source[name]
    there = None if target is None or name not in target.schema.names else target[name]
    compared = ComparedColumn(
        column=name,
        at_source=here is not None,
        at_target=there is not None,
        source_type=None if here is None else str(here.type),
        target_type=None if there is None else str(there.type),
        equal=None if here is None or there is None else are_equal(here, there),
        redacted=redacted,
    )
    if redacted:
        return compared
    return replace(
        compared,
        source=None if here is None else plain(here[0]),
        target=None if there is None else plain(there[0]),
    )


def _at_source(
    definition: PipelineDefinition, record_id: RecordId, known: StreamRecord | None
) -> Side:
    try:
        with closing(open_source(definition.source)) as source:
            stream = at_source(definition, source, record_id.stream)
            spec = stream.source_spec()
            fields = source.describe(spec).arrow_key()
            keys = _keys(record_id, fields)
            if keys is None:
                return Side(state=SideState.ABSENT, why=_NO_SUCH_KEY, key=fields)
            changes = source.fetch(spec, keys, read_state(fields, stream, known))
    except RowtrailError as error:
        return Side(state=SideState.UNREAD, why=str(error))
    if changes.rejected:
        (one,) = changes.rejected
        return Side(state=SideState.UNFIT, version=one.version, why=one.message, key=fields)
    version = version_at(changes.versions, 0)
    if changes.operations[0].as_py() == Operation.DELETE:
        return Side(state=SideState.ABSENT, version=version, key=fields)
    return Side(state=SideState.THERE, row=changes.rows, version=version, key=fields)


def _at_target(
    definition: PipelineDefinition,
    stream: StreamDefinition,
    record_id: RecordId,
    key: pa.Schema | None,
) -> Side:
    try:
        with closing(open_destination(definition.destination)) as destination:
            return _look(destination, stream, record_id, key)
    except RowtrailError as error:
        return Side(state=SideState.UNREAD, why=str(error))


def _look(
    destination: Destination, stream: StreamDefinition, record_id: RecordId, key: pa.Schema | None
) -> Side:
    if not isinstance(destination, ReadsRows):
        return Side(state=SideState.UNREAD, why="its connector cannot show single rows")
    there = destination.describe(stream.target)
    if there is None:
        return Side(state=SideState.ABSENT, why=f"there is no table {stream.target}")
    if not there.schema.key:
        return Side(state=SideState.UNREAD, why=f"Rowtrail did not make table {stream.target}")
    target = _target(stream, there, key)
    keys = _keys(record_id, target.schema.arrow_key())
    if keys is None:
        return Side(state=SideState.ABSENT, why=_NO_SUCH_KEY)
    found = destination.rows(target, keys)
    if not found.versions.column(0)[0].is_valid:
        return Side(state=SideState.ABSENT)
    version, deleted_at = version_at(found.versions, 0), found.deleted_at[0].as_py()
    if deleted_at is None:
        return Side(state=SideState.THERE, row=found.rows, version=version)
    others = [name for name in found.rows.schema.names if name not in target.schema.key]
    kept = any(found.rows[name].null_count == 0 for name in others)
    state = SideState.FILTERED if found.filtered[0].as_py() else SideState.DELETED
    row = found.rows if kept else None
    return Side(state=state, row=row, version=version, deleted_at=deleted_at)


def _target(stream: StreamDefinition, there: TargetTable, key: pa.Schema | None) -> Target:
    """All columns of the table, the key's in the types in which the stream has them."""
    types = {field.name: field.type for field in key or ()}
    same = set(types) == set(there.schema.key)
    columns = tuple(
        Column(name=one.name, type=types.get(one.name, one.type) if same else one.type)
        for one in there.schema.columns
    )
    schema = TableSchema(table=stream.target, columns=columns, key=there.schema.key)
    return Target(stream=stream.name, table=stream.target, schema=schema, deletes=stream.deletes)


def _keys(record_id: RecordId, fields: pa.Schema) -> pa.RecordBatch | None:
    try:
        return key_batch([record_id], fields)
    except ValueError:
        return None
