"""Stands for the source where an archive is replayed: nothing is asked of the real one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId, from_arrow
from rowtrail.connectors.base import Problem, ReadState, StreamSpec
from rowtrail.connectors.changes import Changes, Operation, Rejected, version_at
from rowtrail.connectors.errors import ConfigurationError, StopError
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.pipelines.fitting import fit, misfit_reason


class ArchiveSource:
    """A `Source` that knows the tables as the archive saw them last, and reads nothing."""

    def __init__(self) -> None:
        self._schemas: dict[str, TableSchema] = {}

    def learn(self, stream: str, schema: TableSchema) -> None:
        self._schemas[stream] = schema

    def describe(self, stream: StreamSpec) -> TableSchema:
        """The newest shape in the archive, less the columns that the stream leaves out now."""
        return chosen_columns(self._schemas[stream.name], stream)

    def read(self, stream: StreamSpec, state: ReadState) -> Iterator[Changes]:
        raise _not_here(stream)

    def fetch(self, stream: StreamSpec, keys: pa.RecordBatch, state: ReadState) -> Changes:
        raise _not_here(stream)

    def acknowledge(self, streams: Mapping[str, tuple[StreamSpec, str]]) -> None:
        """Nothing was read."""

    def preflight(self, streams: Sequence[StreamSpec]) -> list[Problem]:
        return []

    def close(self) -> None: ...


def _not_here(stream: StreamSpec) -> StopError:
    return StopError(
        f"Stream {stream.name} is replayed from the archive, and yet its source was asked. This is "
        f"an error of Rowtrail; report it."
    )


def chosen_columns(schema: TableSchema, stream: StreamSpec) -> TableSchema:
    """The columns that the stream takes now: what is excluded today stays out of the target."""
    taken = {name.lower() for name in (*stream.columns, *schema.key)}
    excluded = {name.lower() for name in stream.exclude}
    columns = tuple(
        one
        for one in schema.columns
        if (not stream.columns or one.name.lower() in taken) and one.name.lower() not in excluded
    )
    gone = [name for name in schema.key if name not in {one.name for one in columns}]
    if gone:
        raise ConfigurationError(
            f"Stream {stream.name} leaves out column {', '.join(gone)}, which is in the key of its "
            f"archived rows. Take it out of `exclude` for the replay."
        )
    return replace(schema, columns=columns)


def in_shape(changes: Changes, schema: TableSchema) -> Changes:
    """Changes of an older shape of the table as rows of `schema`.

    A column that they lack is NULL, one that is gone is left out. A value that does not fit the
    column's type of today makes its row a rejected one. Raises StopError where the key was made of
    other columns.
    """
    if changes.schema == schema:
        return changes
    if changes.schema.key != schema.key:
        raise StopError(
            f"Its key is {', '.join(changes.schema.key)}, and that of stream {changes.stream} is "
            f"{', '.join(schema.key)} now."
        )
    columns: list[pa.Array] = []
    misfits: dict[int, Column] = {}
    there = set(changes.schema.names)
    for column in schema.columns:
        if column.name not in there:
            columns.append(pa.nulls(len(changes), column.type))
            continue
        values, bad = fit(changes.rows.column(column.name), column.type)
        columns.append(values)
        for row in pa.compute.indices_nonzero(bad).to_pylist():
            misfits.setdefault(row, column)
    rows = pa.RecordBatch.from_arrays(columns, schema=schema.arrow())
    shaped = replace(changes, schema=schema, rows=rows)
    if not misfits:
        return shaped
    fine = [row for row in range(len(changes)) if row not in misfits]
    refused = tuple(_refused(changes, row, column) for row, column in misfits.items())
    return replace(shaped.take(pa.array(fine, pa.int64())), rejected=(*changes.rejected, *refused))


def _refused(changes: Changes, row: int, column: Column) -> Rejected:
    image = changes.rows.slice(row, 1)
    (record,) = from_arrow(changes.stream, image.select(list(changes.schema.key)))
    was = changes.schema.column(column.name).type
    return Rejected(
        key=record.key,
        operation=Operation(changes.operations[row].as_py()),
        version=version_at(changes.versions, row),
        column=column.name,
        message=f"column {column.name} of the archived row does not fit its type of today: "
        f"{misfit_reason(was, column.type)}",
        image=image,
    )


def only_records(changes: Changes, ids: Sequence[RecordId]) -> Changes:
    """The changes of these records alone."""
    wanted = set(ids)
    rows = rows_of(changes, ids)
    rejected = tuple(
        one
        for one in changes.rejected
        if RecordId(changes.stream, one.key) in wanted  # type: ignore[arg-type]
    )
    return replace(changes.take(pa.array(sorted(rows), pa.int64())), rejected=rejected)


def rows_of(changes: Changes, ids: Sequence[RecordId]) -> dict[int, RecordId]:
    """The rows of these records, few of many, by their number. One record may have several."""
    from rowtrail.pipelines.record_keys import fitting, key_batch

    fields = changes.schema.arrow_key()
    known = [ids[number] for number in fitting(ids, fields)]
    if not known or not len(changes):
        return {}
    theirs = pa.Table.from_batches([key_batch(known, fields)]).append_column(
        "_record", pa.array(range(len(known)), pa.int64())
    )
    mine = pa.Table.from_batches([changes.keys()]).append_column(
        "_row", pa.array(range(len(changes)), pa.int64())
    )
    found = mine.join(theirs, keys=fields.names, join_type="inner")
    return {
        row: known[number]
        for row, number in zip(
            found.column("_row").to_pylist(), found.column("_record").to_pylist(), strict=True
        )
    }
