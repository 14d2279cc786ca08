"""Gaps and watermarks: how far whoever queries the warehouse may trust each table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC

from rowtrail.connectors.base import Gap, Load
from rowtrail.connectors.destinations.statements import OwnTable, Statements

GAPS = OwnTable(
    name="_rowtrail_gaps",
    columns="""
    table_name VARCHAR NOT NULL,
    record VARCHAR NOT NULL,
    stage VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (table_name, record)
""",
)
WATERMARKS = OwnTable(
    name="_rowtrail_watermarks",
    columns="""
    table_name VARCHAR PRIMARY KEY,
    loaded_up_to TIMESTAMPTZ,
    gaps BIGINT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
""",
)


def update_gaps(work: Statements, load: Load) -> None:
    """Closes and opens the load's gaps, and brings the table's watermark up to date."""
    table = load.target.table
    opened = _since_the_first(work, load)
    touched = [*load.gaps_closed, *(gap.record for gap in load.gaps_opened)]
    gaps = work.own(GAPS.name)
    if touched:
        records, values = work.table_of({"record": touched})
        work.run(
            f"DELETE FROM {gaps} WHERE table_name = ? "
            f"AND record IN (SELECT record FROM {records} AS r)",
            [table, *values],
        )
    if opened:
        fresh, values = work.table_of(
            {
                "record": [gap.record for gap in opened],
                "stage": [str(gap.stage) for gap in opened],
                "reason": [gap.reason for gap in opened],
                "since": [gap.since for gap in opened],
            }
        )
        work.run(
            f"INSERT INTO {gaps} (table_name, record, stage, reason, since) "
            f"SELECT CAST(? AS VARCHAR), record, stage, reason, since FROM {fresh} AS r",
            [table, *values],
        )
    _set_watermark(work, load)


def _set_watermark(work: Statements, load: Load) -> None:
    """Not by ON CONFLICT: it takes DuckDB 7 ms, the UPDATE that is nearly always enough 2."""
    table, watermarks = load.target.table, work.own(WATERMARKS.name)
    count = f"(SELECT count(*) FROM {work.own(GAPS.name)} WHERE table_name = ?)"
    there = work.changed(
        f"UPDATE {watermarks} SET loaded_up_to = coalesce(CAST(? AS TIMESTAMPTZ), loaded_up_to), "
        f"gaps = {count}, updated_at = ? WHERE table_name = ?",
        [load.watermark, table, load.receipt.written_at, table],
    )
    if not there:
        work.run(
            f"INSERT INTO {watermarks} (table_name, loaded_up_to, gaps, updated_at) "
            f"VALUES (?, ?, {count}, ?)",
            [table, load.watermark, table, load.receipt.written_at],
        )


def _since_the_first(work: Statements, load: Load) -> Sequence[Gap]:
    """The gaps to open; a record that failed again is missing since it first failed."""
    if not load.gaps_opened:
        return ()
    records, values = work.table_of({"record": [gap.record for gap in load.gaps_opened]})
    found = work.run(
        f"SELECT record, since FROM {work.own(GAPS.name)} WHERE table_name = ? "
        f"AND record IN (SELECT record FROM {records} AS r)",
        [load.target.table, *values],
    )
    closed = set(load.gaps_closed)
    before = {record: since.astimezone(UTC) for record, since in found if record not in closed}
    return [
        replace(gap, since=min(gap.since, before.get(gap.record, gap.since)))
        for gap in load.gaps_opened
    ]


def forget_table(work: Statements, table: str) -> None:
    """Nothing is known of the table any more."""
    for known in (GAPS, WATERMARKS):
        work.run(f"DELETE FROM {work.own(known.name)} WHERE table_name = ?", [table])


def rename_gaps(work: Statements, table: str, records: Mapping[str, str]) -> None:
    """Gives the gaps of these records the new texts of their ids."""
    if records:
        texts, values = work.table_of(
            {"old_text": list(records.keys()), "new_text": list(records.values())}
        )
        gaps = work.own(GAPS.name)
        work.run(
            f"UPDATE {gaps} SET record = r.new_text FROM {texts} AS r "
            f"WHERE table_name = ? AND record = r.old_text",
            [*values, table],
        )


def read_gaps(work: Statements, table: str) -> tuple[Gap, ...]:
    """The open gaps of one table, the oldest first."""
    found = work.run(
        f"SELECT record, stage, reason, since FROM {work.own(GAPS.name)} WHERE table_name = ? "
        "ORDER BY since, record",
        [table],
    )
    return tuple(
        Gap(record=record, stage=stage, reason=reason, since=since.astimezone(UTC))
        for record, stage, reason, since in found
    )
