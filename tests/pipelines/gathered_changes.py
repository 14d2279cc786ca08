"""Small changes of one table, and how far they are to be gathered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from rowtrail.connectors.base import Gathering
from rowtrail.connectors.changes import (
    Changes,
    Operation,
    Version,
    constant_operations,
    constant_versions,
)
from rowtrail.connectors.schema import Column, TableSchema

SCHEMA = TableSchema(table="orders", columns=(Column(name="id", type=pa.int64()),), key=("id",))


def changes_of(*ids: int, **more: Any) -> Changes:
    """One change of each of these records, whose position is the last of them."""
    schema = more.pop("schema", SCHEMA)
    position = str(ids[-1]) if ids else "none"
    return Changes(
        stream="orders",
        schema=schema,
        rows=pa.RecordBatch.from_pydict({"id": list(ids)}, schema=SCHEMA.arrow()),
        operations=constant_operations(Operation.UPDATE, len(ids)),
        versions=constant_versions(Version(1, ids[0] if ids else 0, 0, 0), len(ids)),
        **{"position": position, **more},
    )


def ids(changes: Changes) -> list[int]:
    found: list[int] = changes.rows.column("id").to_pylist()
    return found


def at(second: int) -> datetime:
    return datetime(2024, 5, 17, 12, 0, second, tzinfo=UTC)


def upto(**limits: Any) -> Gathering:
    """Without an end but for these limits."""
    endless = {"rows": 10**9, "size": 10**9, "seconds": 10**9, "quiet_seconds": 10**9}
    return Gathering(**{**endless, **limits})
