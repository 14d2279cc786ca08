"""History (SCD2): every version of a record stays, with the time for which it was the current one.

The table has a row for each version of a record that was there, its tombstones one for each time
that it was gone. All of them together, in the order of their versions, are the record's events. An
event holds from its own time to that of the next one; what is the newest and no tombstone is
current. A version that comes late is put at its place, and what stands before it ends there.

A change whose commit the source tells is an event of its own. A row as it was read is one only if
it differs from what is current: if not, what is current gets its version, and stays.

Both databases judge alike, in the SQL of `judge`, by two tables without any column of the user's:

- `asked`: the rows of the batch. Their number `n`; the record, by the number `k` of one of its rows
  in the batch; the version `e, p, o, r`; `since`, its time; `committed`, it is an event of its
  own; `gone` and `filtered` as in a tombstone; `same`, it is as the current row.
- `there`: the events of these records. `k`; `e, p, o, r`; `since`; `upto`, the time to which the
  table says it holds; `gone`; `filtered`; `place`, where it is in its table.
"""

from __future__ import annotations

import pyarrow as pa

from rowtrail.connectors.base import Load
from rowtrail.connectors.changes import Times
from rowtrail.connectors.destinations.layout import Layout
from rowtrail.connectors.destinations.names import VERSION_COLUMNS, quote, quoted
from rowtrail.connectors.errors import StopError
from rowtrail.connectors.schema import RESERVED_PREFIX

AT = f"{RESERVED_PREFIX}at"
COMMITTED = f"{RESERVED_PREFIX}committed"

IDENTITY = VERSION_COLUMNS[:3]
"""What tells the versions of a record apart: another revision replaces what was there."""

_VERSION = "e, p, o, r"


def times_of(load: Load) -> Times:
    return load.times or Times.of_read(load.receipt.written_at, len(load.rows))


def check_versions_are_unique(load: Load) -> None:
    """Raises StopError when the load has a version of a key twice."""
    names = list(load.target.schema.key)
    rows = pa.Table.from_batches([load.rows.select(names)])
    for name, column in zip(IDENTITY, load.versions.columns, strict=False):
        rows = rows.append_column(name, column)
    twice = len(rows) - len(rows.group_by([*names, *IDENTITY], use_threads=False).aggregate([]))
    if twice:
        raise StopError(
            f"Batch {load.receipt.batch_id} of stream {load.target.stream} has {twice} rows whose "
            f"key and version come twice, which a merge does not take. This is an error of "
            f"Rowtrail or of a connector, not of the records; report it."
        )


def judge(asked: str, there: str) -> str:
    """A query for what becomes of the rows of `asked`, and for what changes with them.

    Its columns: `n`, the row of the batch, or NULL for an event that is there and now ends at
    another time; `late`, the target has this version or knows better; `place` and `was_gone`, the
    event that the row takes the place of or, without a row, the one that ends at another time;
    `starts` and `ends`, the time for which it holds, `ends` NULL for ever.
    """
    ordered = f"PARTITION BY k ORDER BY {_VERSION}"
    return f"""
WITH newest AS (
    SELECT * FROM (
        SELECT *, row_number() OVER (PARTITION BY k ORDER BY e DESC, p DESC, o DESC, r DESC) AS rank
        FROM {there}) AS ranked
    WHERE rank = 1),
compared AS (
    SELECT a.*, s.k IS NOT NULL AS again, n.k IS NOT NULL AS known,
        s.r AS s_r, s.place AS s_place, s.gone AS s_gone, s.since AS s_at,
        n.place AS n_place, n.gone AS n_gone, n.since AS n_at,
        (n.e, n.p, n.o) > (a.e, a.p, a.o) AS behind,
        NOT a.committed AND a.turn = 1
            AND (a.same OR (a.gone AND n.gone AND a.filtered = n.filtered)) AS confirms
    FROM (SELECT *, row_number() OVER ({ordered}) AS turn FROM {asked}) AS a
    LEFT JOIN {there} AS s ON s.k = a.k AND s.e = a.e AND s.p = a.p AND s.o = a.o
    LEFT JOIN newest AS n ON n.k = a.k),
judged AS (
    SELECT n, k, {_VERSION}, since, gone,
        CASE WHEN again THEN s_r >= r ELSE known AND NOT committed AND behind END AS late,
        CASE WHEN again THEN s_place WHEN known AND confirms THEN n_place END AS old_place,
        CASE WHEN again THEN s_gone WHEN known AND confirms THEN n_gone END AS old_gone,
        CASE WHEN again THEN s_at WHEN known AND confirms THEN n_at END AS old_at
    FROM compared),
events AS (
    SELECT t.k, t.e, t.p, t.o, t.r, t.since, true AS fixed, CAST(NULL AS integer) AS n, t.place,
        t.gone, t.upto
    FROM {there} AS t LEFT JOIN judged AS j
        ON j.k = t.k AND j.old_place = t.place AND j.old_gone = t.gone AND NOT j.late
    WHERE j.k IS NULL
    UNION ALL
    SELECT k, {_VERSION}, coalesce(old_at, since), old_at IS NOT NULL, n, NULL, gone, NULL
    FROM judged WHERE NOT late),
bounded AS (
    SELECT *, CASE WHEN fixed THEN since ELSE least(since, min(CASE WHEN fixed THEN since END)
        OVER ({ordered} ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)) END AS bound
    FROM events),
timed AS (
    SELECT *, CASE WHEN fixed THEN since
        ELSE max(bound) OVER ({ordered} ROWS UNBOUNDED PRECEDING) END AS starts
    FROM bounded),
ended AS (SELECT *, lead(starts) OVER ({ordered}) AS ends FROM timed)
SELECT n, false AS late, place, false AS was_gone, starts, ends FROM ended
WHERE n IS NULL AND NOT gone AND ends IS DISTINCT FROM upto
UNION ALL
SELECT j.n, false, j.old_place, j.old_gone, t.starts, t.ends FROM ended AS t JOIN judged AS j
    ON j.n = t.n
UNION ALL
SELECT n, true, NULL, NULL, NULL, NULL FROM judged WHERE late
"""


def last_gone(layout: Layout, key: tuple[str, ...], tombstone: str) -> str:
    """The condition that this alias of a tombstone is what is newest of its record: further
    conditions where a record may have several of them, else none."""
    if not layout.keeps_history:
        return ""
    same = " AND ".join(f"o.{quote(name)} = {tombstone}.{quote(name)}" for name in key)
    newer = f"({quoted(VERSION_COLUMNS, 'o.')}) > ({quoted(VERSION_COLUMNS, f'{tombstone}.')})"
    return "".join(
        f" AND NOT EXISTS (SELECT 1 FROM {table.sql} AS o WHERE {same} AND {newer})"
        for table in (layout.table, layout.table.tombstones)
    )
