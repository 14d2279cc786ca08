"""Receipts: proof, in the same transaction as its rows, that a batch is at the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rowtrail.connectors.base import Receipt
from rowtrail.connectors.destinations.claims import CLAIMS
from rowtrail.connectors.destinations.gaps import rename_gaps
from rowtrail.connectors.destinations.statements import OwnTable, Statements
from rowtrail.connectors.errors import StopError

KEPT = 100
"""Receipts kept for each stream; recovery needs the newest and those of unfinished batches."""

RECEIPTS = OwnTable(
    name="_rowtrail_receipts",
    columns="""
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
    superseded BYTEA NOT NULL,
    UNIQUE (pipeline, stream, sequence)
""",
)

_COLUMNS = tuple(field.name for field in fields(Receipt))


def superseded_before(work: Statements, receipt: Receipt) -> bytes | None:
    """What the batch's receipt says was superseded; None where the batch is yet to be written.

    Raises StopError when another batch has the sequence: the ledger is older than the target. No
    other writer can come between this and `write_receipt`: the transaction holds the owner row.
    """
    rows = work.run(
        f"SELECT batch_id, superseded FROM {work.own(RECEIPTS.name)} WHERE batch_id = ? "
        f"OR (pipeline = ? AND stream = ? AND sequence = ?)",
        [receipt.batch_id, receipt.pipeline, receipt.stream, receipt.sequence],
    )
    for batch_id, superseded in rows:
        if batch_id == receipt.batch_id:
            return bytes(superseded)
    if rows:
        raise StopError(
            f"Batch {receipt.batch_id} of stream {receipt.stream} would be its number "
            f"{receipt.sequence}, which the target has already had from another batch: the ledger "
            f"is behind the target. Nothing was written; start a new run, which compares the two."
        )
    return None


def row_numbers(mask: npt.NDArray[np.bool_]) -> bytes:
    """The rows that a mask chooses, as a receipt holds them."""
    return np.flatnonzero(mask).astype("<u4").tobytes()


def row_mask(numbers: bytes, length: int) -> pa.Array:
    """The bool array that a receipt's row numbers stand for."""
    mask = np.zeros(length, dtype=np.bool_)
    mask[np.frombuffer(numbers, dtype="<u4")] = True
    return pa.array(mask)


def write_receipt(work: Statements, receipt: Receipt, superseded: bytes) -> None:
    """Adds the receipt and drops the stream's oldest ones."""
    table = work.own(RECEIPTS.name)
    values: dict[str, object] = {name: getattr(receipt, name) for name in _COLUMNS}
    values["superseded"] = superseded
    marks = ", ".join("?" for _ in _COLUMNS)
    work.run(f"INSERT INTO {table} ({', '.join(_COLUMNS)}) VALUES ({marks})", list(values.values()))
    if receipt.sequence > KEPT:
        work.run(
            f"DELETE FROM {table} WHERE pipeline = ? AND stream = ? AND sequence <= ?",
            [receipt.pipeline, receipt.stream, receipt.sequence - KEPT],
        )


def newest_receipts(work: Statements, pipeline: str | None) -> list[Receipt]:
    """The receipt of the highest sequence of each stream, of one pipeline or of all."""
    columns = ", ".join(_COLUMNS)
    rows = work.run(
        f"SELECT {columns} FROM (SELECT {columns}, row_number() OVER ("
        f"PARTITION BY pipeline, stream ORDER BY sequence DESC) AS age "
        f"FROM {work.own(RECEIPTS.name)} WHERE coalesce(pipeline = CAST(? AS VARCHAR), true)"
        f") AS ranked WHERE age = 1 ORDER BY pipeline, stream",
        [pipeline],
    )
    return [_receipt(dict(zip(_COLUMNS, row, strict=True))) for row in rows]


def rename_stream(
    work: Statements, pipeline: str, table: str, old: str, new: str, records: Mapping[str, str]
) -> None:
    """Gives all that is known of a pipeline's stream to another name; see `RenamesStreams`."""
    for known in (RECEIPTS, CLAIMS):
        work.run(
            f"UPDATE {work.own(known.name)} SET stream = ? WHERE pipeline = ? AND stream = ?",
            [new, pipeline, old],
        )
    rename_gaps(work, table, records)


def _receipt(row: dict[str, Any]) -> Receipt:
    changed = {
        "written_at": row["written_at"].astimezone(UTC),
        "superseded": bytes(row["superseded"]),
    }
    return Receipt(**{**row, **changed})
