"""Gaps and watermarks: how far whoever queries the warehouse may trust each table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa

from rowtrail.connectors.base import Gap, Load
from rowtrail.connectors.destinations.duckdb_sql import Transaction, fetch_arrow

GAPS_TABLE = "_rowtrail_gaps"
WATERMARKS_TABLE = "_rowtrail_watermarks"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

GAPS_DDL = f"""
CREATE TABLE IF NOT EXISTS {GAPS_TABLE} (
    table_name VARCHAR NOT NULL,
    record VARCHAR NOT NULL,
    stage VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (table_name, record)
)
"""
WATERMARKS_DDL = f"""
CREATE TABLE IF NOT EXISTS {WATERMARKS_TABLE} (
    table_name VARCHAR PRIMARY KEY,
    loaded_up_to TIMESTAMPTZ,
    gaps BIGINT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
)
"""


def update_gaps(work: Transaction, load: Load) -> None:
    """Closes and opens the load's gaps, and brings the table's watermark up to date."""
    table = load.target.table
    opened = _since_the_first(work, load)
    touched = [*load.gaps_closed, *(gap.record for gap in load.gaps_opened)]
    if touched:
        records = work.view("_rowtrail_touched", pa.table({"record": pa.array(touched)}))
        work.run(
            f"DELETE FROM {GAPS_TABLE} WHERE table_name = ? "
            f"AND record IN (SELECT record FROM {records})",
            [table],
        )
    if opened:
        work.insert_rows(GAPS_TABLE, _rows(table, opened))
    work.run(
        f"INSERT INTO {WATERMARKS_TABLE} "
        f"SELECT ?, ?, count(*), ? FROM {GAPS_TABLE} WHERE table_name = ? "
        "ON CONFLICT DO UPDATE SET loaded_up_to = coalesce(excluded.loaded_up_to, loaded_up_to), "
        "gaps = excluded.gaps, updated_at = excluded.updated_at",
        [table, load.watermark, load.receipt.written_at, table],
    )


def _since_the_first(work: Transaction, load: Load) -> tuple[Gap, ...]:
    """The gaps to open; a record that failed again is missing since it first failed."""
    if not load.gaps_opened:
        return ()
    found = work.run(
        f"SELECT record, epoch_us(since) FROM {GAPS_TABLE} WHERE table_name = ? "
        f"AND list_contains(?, record)",
        [load.target.table, [gap.record for gap in load.gaps_opened]],
    )
    closed = set(load.gaps_closed)
    before = {
        record: _EPOCH + timedelta(microseconds=since)
        for record, since in found
        if record not in closed
    }
    return tuple(
        replace(gap, since=min(gap.since, before.get(gap.record, gap.since)))
        for gap in load.gaps_opened
    )


def forget_table(work: Transaction, table: str) -> None:
    """Nothing is known of the table any more."""
    for known in (GAPS_TABLE, WATERMARKS_TABLE):
        work.run(f"DELETE FROM {known} WHERE table_name = ?", [table])


def rename_gaps(work: Transaction, table: str, records: Mapping[str, str]) -> None:
    """Gives the gaps of these records the new texts of their ids."""
    if not records:
        return
    texts = pa.table({"old": pa.array(records.keys()), "new": pa.array(records.values())})
    renamed = work.view("_rowtrail_renamed", texts)
    work.run(
        f"UPDATE {GAPS_TABLE} SET record = new FROM {renamed} AS r "
        f"WHERE table_name = ? AND record = r.old",
        [table],
    )


def read_gaps(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[Gap, ...]:
    """The open gaps of one table, the oldest first."""
    found = fetch_arrow(
        connection,
        f"SELECT record, stage, reason, since FROM {GAPS_TABLE} WHERE table_name = ? "
        "ORDER BY since, record",
        [table],
    )
    return tuple(Gap(**{**row, "since": row["since"].astimezone(UTC)}) for row in found.to_pylist())


def _rows(table: str, gaps: tuple[Gap, ...]) -> pa.Table:
    return pa.table(
        {
            "table_name": pa.repeat(pa.scalar(table), len(gaps)),
            "record": pa.array([gap.record for gap in gaps], pa.string()),
            "stage": pa.array([str(gap.stage) for gap in gaps], pa.string()),
            "reason": pa.array([gap.reason for gap in gaps], pa.string()),
            "since": pa.array([gap.since for gap in gaps], pa.timestamp("us", tz="UTC")),
        }
    )
