"""Loads for destinations in one line each: what a test says is what it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import count
from uuid import uuid4

import pyarrow as pa

from rowtrail.connectors.base import Deletes, Fence, Gap, Load, Receipt, Target
from rowtrail.connectors.changes import (
    INSTANT_TYPE,
    VERSION_SCHEMA,
    Operation,
    Times,
    Version,
    operations_array,
)
from rowtrail.connectors.schema import Column, TableSchema

FENCE = Fence(pipeline="shop", ledger_id="ledger-1", generation=1)
NOW = datetime(2024, 5, 17, 12, 30, tzinfo=UTC)

_sequences = count(1)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One change of a load."""

    values: Mapping[str, object]
    version: Version
    operation: Operation
    filtered: bool = False


def version(at: int | Version) -> Version:
    """A bare number is a position in epoch 1."""
    return at if isinstance(at, Version) else Version(1, at, 0, 0)


def upsert(at: int | Version, /, **values: object) -> Row:
    return Row(values=values, version=version(at), operation=Operation.UPDATE)


def delete(at: int | Version, /, **key: object) -> Row:
    return Row(values=key, version=version(at), operation=Operation.DELETE)


def dropped(at: int | Version, /, **key: object) -> Row:
    """A row that a transform dropped."""
    return Row(values=key, version=version(at), operation=Operation.DELETE, filtered=True)


def schema_of(
    types: Mapping[str, pa.DataType], key: Sequence[str] = ("id",), table: str = "orders"
) -> TableSchema:
    columns = tuple(Column(name=name, type=kind) for name, kind in types.items())
    return TableSchema(table=table, columns=columns, key=tuple(key))


def target_of(
    types: Mapping[str, pa.DataType],
    *,
    key: Sequence[str] = ("id",),
    table: str = "orders",
    deletes: Deletes = Deletes.HARD,
    stream: str = "orders",
) -> Target:
    schema = schema_of(types, key, table)
    return Target(stream=stream, table=table, schema=schema, deletes=deletes)


def orders(deletes: Deletes = Deletes.HARD, table: str = "orders") -> Target:
    """id, note: enough for most tests."""
    return target_of({"id": pa.int64(), "note": pa.string()}, table=table, deletes=deletes)


def receipt_of(
    stream: str = "orders", *, batch_id: str | None = None, sequence: int | None = None
) -> Receipt:
    number = next(_sequences) if sequence is None else sequence
    return Receipt(
        pipeline=FENCE.pipeline,
        batch_id=batch_id or str(uuid4()),
        stream=stream,
        target=stream,
        ledger_id=FENCE.ledger_id,
        sequence=number,
        run_id="run-1",
        epoch=1,
        capture="trigger",
        read_number=7,
        position_before=None,
        position_after=f"position {number}",
        manifest_digest="0" * 64,
        written_at=NOW,
    )


def load_of(
    target: Target,
    *rows: Row,
    receipt: Receipt | None = None,
    gaps_opened: Sequence[Gap] = (),
    gaps_closed: Sequence[str] = (),
    watermark: datetime | None = None,
    committed: Sequence[datetime | None] | None = None,
    read_at: datetime = NOW,
    fresh: bool = True,
) -> Load:
    """`committed`: when each row was committed; None for one that was read at `read_at`."""
    columns = [
        pa.array([row.values.get(column.name) for row in rows], column.type)
        for column in target.schema.columns
    ]
    versions = [pa.array([row.version[i] for row in rows], pa.int64()) for i in range(4)]
    return Load(
        target=target,
        rows=pa.RecordBatch.from_arrays(columns, schema=target.schema.arrow()),
        operations=operations_array([row.operation for row in rows]),
        filtered=pa.array([row.filtered for row in rows], pa.bool_()),
        versions=pa.RecordBatch.from_arrays(versions, schema=VERSION_SCHEMA),
        receipt=receipt or receipt_of(target.stream),
        gaps_opened=tuple(gaps_opened),
        gaps_closed=tuple(gaps_closed),
        watermark=watermark,
        times=None if committed is None else _times(committed, read_at, fresh),
    )


def gap_of(record: str, reason: str = "amount is negative") -> Gap:
    return Gap(record=record, stage="validate", reason=reason, since=NOW)


EDGE_VALUES: Mapping[str, tuple[pa.DataType, Sequence[object]]] = {
    "boolean": (pa.bool_(), [True, False]),
    "int8": (pa.int8(), [-(2**7), 2**7 - 1]),
    "int16": (pa.int16(), [-(2**15), 2**15 - 1]),
    "int32": (pa.int32(), [-(2**31), 2**31 - 1]),
    "int64": (pa.int64(), [-(2**63), 2**63 - 1, 2**53 + 1, 0]),
    "uint8": (pa.uint8(), [0, 2**8 - 1]),
    "uint16": (pa.uint16(), [0, 2**16 - 1]),
    "uint32": (pa.uint32(), [0, 2**32 - 1]),
    "uint64": (pa.uint64(), [0, 2**64 - 1, 2**63]),
    "float32": (pa.float32(), [1.5, float("inf"), 2.0**-149]),
    "float64": (pa.float64(), [float("nan"), float("inf"), float("-inf"), -0.0, 5e-324]),
    "decimal": (pa.decimal128(12, 2), [Decimal("-9999999999.99"), Decimal("0.01")]),
    "decimal38": (
        pa.decimal128(38, 10),
        [Decimal("9" * 28 + "." + "9" * 10), Decimal("-1E-10"), Decimal("1.50")],
    ),
    "integer38": (pa.decimal128(38, 0), [Decimal(10**38 - 1), Decimal(-(10**38) + 1)]),
    "text": (
        pa.string(),
        ["", "🦊 naïve", "a\0b", "NULL", " padded ", "Straße", "\u00e9", "e\u0301", "'\"\\\n;--"],
    ),
    "blob": (pa.binary(), [b"", b"\0\xff", bytes(range(256))]),
    "date": (pa.date32(), [date(1, 1, 1), date(9999, 12, 31), date(1970, 1, 1)]),
    "time": (pa.time64("us"), [time(0), time(23, 59, 59, 999_999)]),
    "timestamp": (
        pa.timestamp("us"),
        [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999), datetime(1969, 12, 31)],
    ),
    "timestamptz": (
        pa.timestamp("us", tz="UTC"),
        [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)],
    ),
    "timestamp_s": (pa.timestamp("s"), [datetime(1, 1, 1), datetime(9999, 12, 31)]),
    "timestamp_ms": (pa.timestamp("ms"), [datetime(1, 1, 1), datetime(9999, 12, 31)]),
    "timestamp_ns": (pa.timestamp("ns"), [datetime(1700, 1, 1), datetime(2262, 1, 1)]),
}
"""Values at the edges of each type that destinations must bring back as they were."""


def _times(committed: Sequence[datetime | None], read_at: datetime, fresh: bool) -> Times:
    return Times(
        pa.array([read_at if one is None else one for one in committed], INSTANT_TYPE),
        pa.array([one is not None for one in committed], pa.bool_()),
        fresh=fresh,
    )
