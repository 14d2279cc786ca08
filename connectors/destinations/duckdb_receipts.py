"""Receipts: proof, in the same transaction as its rows, that a batch is at the target."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC
from typing import Any

import duckdb

from rowtrail.connectors.base import Receipt
from rowtrail.connectors.destinations.duckdb_sql import Transaction, fetch_arrow
from rowtrail.connectors.errors import StopError

RECEIPTS_TABLE = "_rowtrail_receipts"
KEPT = 100
"""Receipts kept for each stream; recovery needs the newest and those of unfinished batches."""

RECEIPTS_DDL = f"""
CREATE TABLE IF NOT EXISTS {RECEIPTS_TABLE} (
    pipeline VARCHAR NOT NULL,
    batch_id VARCHAR PRIMARY KEY,
    stream VARCHAR NOT NULL,
    target VARCHAR NOT NULL,
    ledger_id VARCHAR NOT NULL,
    sequence BIGINT NOT NULL,
    run_id VARCHAR NOT NULL,
    epoch BIGINT NOT NULL,
    capture VARCHAR NOT NULL,
    read_number BIGINT NOT NULL,
    position_before VARCHAR,
    position_after VARCHAR,
    manifest_digest VARCHAR NOT NULL,
    written_at TIMESTAMPTZ NOT NULL,
    superseded BLOB NOT NULL,
    UNIQUE (pipeline, stream, sequence)
)
"""

_COLUMNS = tuple(field.name for field in fields(Receipt))


def superseded_of(work: Transaction, batch_id: str) -> bytes | None:
    """What the batch's receipt says was superseded; None where there is no receipt."""
    rows = work.run(f"SELECT superseded FROM {RECEIPTS_TABLE} WHERE batch_id = ?", [batch_id])
    return bytes(rows[0][0]) if rows else None


def write_receipt(work: Transaction, receipt: Receipt, superseded: bytes) -> None:
    """Adds the receipt and drops the stream's oldest ones.

    Raises StopError when another batch has the sequence: the ledger is older than the target.
    """
    values: dict[str, object] = {name: getattr(receipt, name) for name in _COLUMNS}
    values["superseded"] = superseded
    marks = ", ".join("?" for _ in _COLUMNS)
    try:
        work.run(
            f"INSERT INTO {RECEIPTS_TABLE} ({', '.join(_COLUMNS)}) VALUES ({marks})",
            list(values.values()),
        )
    except duckdb.ConstraintException as error:
        raise StopError(
            f"Batch {receipt.batch_id} of stream {receipt.stream} would be its number "
            f"{receipt.sequence}, which the target has already had from another batch: the ledger "
            f"is behind the target. Nothing was written; start a new run, which compares the two."
        ) from error
    work.run(
        f"DELETE FROM {RECEIPTS_TABLE} WHERE pipeline = ? AND stream = ? AND sequence <= ?",
        [receipt.pipeline, receipt.stream, receipt.sequence - KEPT],
    )


def newest_receipts(connection: duckdb.DuckDBPyConnection, pipeline: str | None) -> list[Receipt]:
    """The receipt of the highest sequence of each stream, of one pipeline or of all."""
    table = fetch_arrow(
        connection,
        f"SELECT {', '.join(_COLUMNS)} FROM {RECEIPTS_TABLE} WHERE coalesce(pipeline = ?, true) "
        "QUALIFY row_number() OVER (PARTITION BY pipeline, stream ORDER BY sequence DESC) = 1 "
        "ORDER BY pipeline, stream",
        [pipeline],
    )
    return [_receipt(row) for row in table.to_pylist()]


def _receipt(row: dict[str, Any]) -> Receipt:
    return Receipt(**{**row, "written_at": row["written_at"].astimezone(UTC)})
