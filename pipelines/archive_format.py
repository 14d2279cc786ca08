"""An archived batch as the bytes of a Parquet file, and back."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.connectors.changes import (
    INSTANT_TYPE,
    OPERATION_TYPE,
    VERSION_SCHEMA,
    Changes,
    Operation,
    Rejected,
    Times,
    Version,
)
from rowtrail.connectors.errors import StopError
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.pipelines.images import from_image, to_image

FORMAT = 1
COMPRESSION, LEVEL = "zstd", 1
"""What little a harder compression saves costs more time than the ledger does (measured)."""

_FACTS = b"rowtrail"
_OPERATION = "_rowtrail_operation"
_AT, _COMMITTED = "_rowtrail_at", "_rowtrail_committed"
_VERSION = tuple(f"_rowtrail_{name}" for name in VERSION_SCHEMA.names)
_REJECTED = tuple(
    pa.field(f"_rowtrail_rejected_{name}", kind)
    for name, kind in (
        ("key", pa.string()),
        ("column", pa.string()),
        ("message", pa.string()),
        ("image", pa.binary()),
    )
)


@dataclass(frozen=True, kw_only=True)
class BatchFacts:
    """What is known of an archived batch beside its changes."""

    pipeline: str
    ledger_id: str
    run_id: str
    batch_id: str
    stream: str
    epoch: int
    sequence: int
    capture: str
    target: str
    read_number: int
    position_before: str | None
    position_after: str | None  # None: as before
    previous_batch: str | None  # the stream's batch that was closed before, should it be missing
    previous_records: int | None


def encode(changes: Changes, facts: BatchFacts) -> bytes:
    """A Parquet file that any reader takes: the source's columns, and Rowtrail's own after them.

    Rows that the source could not represent come last, with their raw image and NULL elsewhere.
    """
    import pyarrow.parquet as pq

    schema = changes.schema
    about = {
        "format": FORMAT,
        **asdict(facts),
        "watermark": changes.watermark.isoformat() if changes.watermark else None,
        "read_complete": changes.read_complete,
        "table": schema.table,
        "key": schema.key,
        "declared": {one.name: [one.declared, one.nullable] for one in schema.columns},
        "columns": base64.b64encode(schema.arrow().serialize()).decode(),
    }
    table = pa.Table.from_batches([changes.rows])
    table = table.append_column(_OPERATION, changes.operations)
    for name, column in zip(_VERSION, changes.versions.columns, strict=True):
        table = table.append_column(name, column)
    if changes.times is not None:
        table = table.append_column(_AT, changes.times.at)
        table = table.append_column(_COMMITTED, changes.times.committed)
    if changes.rejected:
        table = pa.concat_tables(
            [table, _rejected_rows(changes.stream, changes.rejected)], promote_options="default"
        )
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({_FACTS: json.dumps(about)}),
        sink,
        compression=COMPRESSION,
        compression_level=LEVEL,
        use_dictionary=False,  # zstd alone is faster, and smaller where values differ (measured)
    )
    return bytes(sink.getvalue())


def decode(content: bytes) -> tuple[Changes, BatchFacts]:
    """The changes and what is known of them. Raises StopError for another format."""
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(content))
    about = json.loads(table.schema.metadata[_FACTS])
    if about["format"] > FORMAT:
        raise StopError(
            f"It has format {about['format']}, and this Rowtrail knows {FORMAT} at most. Upgrade "
            f"with: pip install --upgrade rowtrail"
        )
    facts = BatchFacts(**{name: about[name] for name in BatchFacts.__dataclass_fields__})
    schema = _schema(about)
    rejected: tuple[Rejected, ...] = ()
    if _REJECTED[0].name in table.schema.names:
        refused = table.column(_REJECTED[0].name).is_valid()
        rejected = _rejected(facts.stream, table.filter(refused))
        table = table.filter(pa.compute.invert(refused))
    return Changes(
        stream=facts.stream,
        schema=schema,
        rows=_columns(table, schema.names, schema.arrow()),
        operations=_columns(
            table, (_OPERATION,), pa.schema([pa.field(_OPERATION, OPERATION_TYPE)])
        ).column(0),
        versions=_columns(table, _VERSION, VERSION_SCHEMA),
        position=facts.position_after or facts.position_before or "",
        rejected=rejected,
        watermark=datetime.fromisoformat(about["watermark"]) if about["watermark"] else None,
        read_complete=about["read_complete"],
        times=_times(table),
    ), facts


def _times(table: pa.Table) -> Times | None:
    if _AT not in table.schema.names:
        return None
    schema = pa.schema([(_AT, INSTANT_TYPE), (_COMMITTED, pa.bool_())])
    at, committed = _columns(table, schema.names, schema).columns
    return Times(at, committed, fresh=False)


def _schema(about: dict[str, Any]) -> TableSchema:
    arrow = pa.ipc.read_schema(pa.BufferReader(base64.b64decode(about["columns"])))
    return TableSchema(
        table=about["table"],
        columns=tuple(
            Column(
                name=field.name,
                type=field.type,
                declared=about["declared"][field.name][0],
                nullable=about["declared"][field.name][1],
            )
            for field in arrow
        ),
        key=tuple(about["key"]),
    )


def _columns(table: pa.Table, names: Sequence[str], schema: pa.Schema) -> pa.RecordBatch:
    """These columns in the types that they had: Parquet has fewer."""
    columns = []
    for name, field in zip(names, schema, strict=True):
        column = table.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([])
        columns.append(column if column.type.equals(field.type) else column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _rejected_rows(stream: str, rejected: Sequence[Rejected]) -> pa.Table:
    columns: dict[str, pa.Array] = {
        _OPERATION: pa.array([int(one.operation) for one in rejected], OPERATION_TYPE)
    }
    for part, name in enumerate(_VERSION):
        columns[name] = pa.array([one.version[part] for one in rejected], pa.int64())
    texts = (
        [RecordId(stream, one.key).key_text() for one in rejected],  # type: ignore[arg-type]
        [one.column for one in rejected],
        [one.message for one in rejected],
        [to_image(one.image) for one in rejected],
    )
    for field, values in zip(_REJECTED, texts, strict=True):
        columns[field.name] = pa.array(values, field.type)
    return pa.table(columns)


def _rejected(stream: str, table: pa.Table) -> tuple[Rejected, ...]:
    names = (_OPERATION, *_VERSION, *(field.name for field in _REJECTED))
    rows = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    return tuple(
        Rejected(
            key=RecordId.of_key_text(stream, key).key,
            operation=Operation(operation),
            version=Version(*version),
            column=column,
            message=message,
            image=from_image(image),
        )
        for operation, *version, key, column, message, image in rows
    )


def restamped(changes: Changes, captured: int, fetched: int) -> Changes:
    """The changes as a replay takes them up: what was captured wins over itself alone, what was
    fetched later over that too, as it did then."""
    columns = changes.versions.columns
    revisions = columns[3].to_numpy()
    columns[3] = pa.array(np.where(revisions == 0, captured, fetched).astype(np.int64))
    return replace(changes, versions=pa.RecordBatch.from_arrays(columns, schema=VERSION_SCHEMA))
