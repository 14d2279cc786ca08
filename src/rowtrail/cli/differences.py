"""What a dry run says of the target: now and after, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rowtrail.cli.output import cause, count, say

if TYPE_CHECKING:
    from rowtrail.pipelines.differences import ColumnDifference, Differences, RecordDifference

LONGEST = 40
COLUMNS = 12
"""So many characters of a value and columns of a record are told; the JSON document has all."""


def tell_differences(found: Differences) -> None:
    total = sum(found.counts.values())
    if not total:
        return
    parts = [f"{number:,} {kind}" for kind, number in found.counts.items() if number]
    say(f"At the target: {', '.join(parts)}.")
    for record in found.examples:
        _tell(record)
    if total > len(found.examples):
        say(f"… and {count(total - len(found.examples), 'record')} more.")


def _tell(record: RecordDifference) -> None:
    from rowtrail.pipelines.differences import Becomes

    if record.becomes is Becomes.FAILED:
        why = cause(record.stage or "", record.error_class or "", record.message or "")
        say(f"{record.record} would fail at {record.stage}: {why}", hanging="  ")
    elif record.becomes is Becomes.INSERTED:
        values = _some([f"{one.column} = {_value(one.after)}" for one in record.columns])
        say(f"{record.record} would be inserted: {values}", hanging="  ")
    elif record.becomes is Becomes.UPDATED:
        values = _some([_change(one) for one in record.columns])
        say(f"{record.record} would be updated: {values}", hanging="  ")
    else:
        say(f"{record.record} {_WORDS[record.becomes.value]}", hanging="  ")


_WORDS = {
    "deleted": "would be deleted: the source has it no more",
    "filtered": "would be deleted: a transform drops it",
    "superseded": "would stay: the target has this version or a newer one",
    "unchanged": "would stay as it is",
}


def _some(columns: Sequence[str]) -> str:
    more = len(columns) - COLUMNS
    return ", ".join(columns[:COLUMNS]) + (
        f", and {count(more, 'column')} more" if more > 0 else ""
    )


def _change(column: ColumnDifference) -> str:
    return f"{column.column} {_value(column.now)} → {_value(column.after)}"


def _value(text: str | None) -> str:
    if text is None:
        return "NULL"
    short = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return short if short.isprintable() and short else repr(short)
