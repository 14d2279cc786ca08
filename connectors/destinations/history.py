"""History (SCD2): every version of a record stays, with the time for which it was the current one.

The table has a row for each version of a record that was there, its tombstones one for each time
that it was gone. All of them together, in the order of their versions, are the record's events. An
event holds from its own time to that of the next one; what is the newest and no tombstone is
current. A version that comes late is put at its place, and what stands before it ends there.

A change whose commit the source tells is an event of its own. A row as it was read is one only if
it differs from the events beside it: if not, nothing is added. What was read just now says nothing
of its place among events that are newer than it, and gives way to them.

All databases judge alike, in the SQL of `judge`, by tables without any column of the user's:

- `asked`: the rows of the batch. Their number `n`; the record, by the number `k` of one of its rows
  in the batch; the version `e, p, o, r`; `since`, its time; `committed`, it is an event of its own;
  `gone` and `filtered` as in a tombstone.
- `there`: the events of these records. `k`; `e, p, o, r`; `since`; `upto`, the time to which the
  table says it holds; `gone`; `filtered`; `place`, where it is in its table.
- `beside`: for each row `n` that was read, not committed, the events before and after it: their
  `place`, `gone` and `filtered`.
- `alike`: the rows `n` that have the values of a row beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pyarrow as pa

from rowtrail.connectors.base import Load, LoadRows
from rowtrail.connectors.changes import Times
from rowtrail.connectors.destinations.layout import Layout
from rowtrail.connectors.destinations.names import VERSION_COLUMNS
from rowtrail.connectors.errors import StopError
from rowtrail.connectors.schema import RESERVED_PREFIX

AT = f"{RESERVED_PREFIX}at"
COMMITTED = f"{RESERVED_PREFIX}committed"

_VERSION = "e, p, o, r"

Newer = Callable[[str, str], str]
"""The condition that the first of two aliases of events is the newer one."""


def newer_tuple(one: str, other: str) -> str:
    """`Newer` where SQL compares tuples."""
    mine, theirs = (", ".join(f"{alias}.{part}" for part in "epor") for alias in (one, other))
    return f"({mine}) > ({theirs})"


def times_of(load: Load) -> Times:
    """Of each row; where the load tells none, all were read when it is written."""
    return times_at(load, load.receipt.written_at)


def times_at(rows: LoadRows, read_at: datetime) -> Times:
    """Likewise, of rows that have no receipt yet."""
    return rows.times or Times.of_read(read_at, len(rows.rows))


def check_versions_are_unique(load: Load) -> None:
    """Raises StopError when the load has a version of a key twice."""
    names = list(load.target.schema.key)
    rows = pa.Table.from_batches([load.rows.select(names)])
    for name, column in zip(VERSION_COLUMNS, load.versions.columns, strict=True):
        rows = rows.append_column(name, column)
    versions = rows.group_by([*names, *VERSION_COLUMNS], use_threads=False).aggregate([])
    twice = len(rows) - len(versions)
    if twice:
        raise StopError(
            f"Batch {load.receipt.batch_id} of stream {load.target.stream} has {twice} rows whose "
            f"key and version come twice, which a merge does not take. This is an error of "
            f"Rowtrail or of a connector, not of the records; report it."
        )


def beside_them(asked: str, there: str, newer: Newer = newer_tuple) -> str:
    """The query for `beside`. Between two rows of one record in the batch there is no other."""
    return " UNION ALL ".join(
        f"""
SELECT n, place, gone, filtered FROM (
    SELECT a.n, t.place, t.gone, t.filtered, row_number() OVER (
        PARTITION BY a.n ORDER BY t.e {order}, t.p {order}, t.o {order}, t.r {order}) AS rank
    FROM (
        SELECT *, row_number() OVER (
            PARTITION BY k ORDER BY e {outer}, p {outer}, o {outer}, r {outer}) AS turn
        FROM {asked}
    ) AS a JOIN {there} AS t ON t.k = a.k AND {than}
    WHERE NOT a.committed AND a.turn = 1
) AS ranked WHERE rank = 1"""
        for than, order, outer in (
            (newer("a", "t"), "DESC", "ASC"),
            (newer("t", "a"), "ASC", "DESC"),
        )
    )


def judge(
    asked: str,
    there: str,
    beside: str,
    alike: str,
    *,
    fresh: bool,
    replaces: bool,
    newer: Newer = newer_tuple,
) -> str:
    """A query for what becomes of the rows of `asked`, and for what changes with them.

    Its columns: `n`, the row of the batch, or NULL for an event that is there and now ends at
    another time; `late`, the target has this version or knows better; `place` and `was_gone`, the
    event that the row takes the place of or, without a row, the one that ends at another time;
    `starts` and `ends`, the time for which it holds, `ends` NULL for ever. A row that adds nothing
    is not among them. `fresh` is of `Times`, `replaces` of the load.
    """
    ordered = f"PARTITION BY k ORDER BY {_VERSION}"
    newest = "e DESC, p DESC, o DESC, r DESC"
    until_here = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
    return f"""
WITH newest AS (
    SELECT * FROM (
        SELECT *, row_number() OVER (PARTITION BY k ORDER BY {newest}) AS rank FROM {there}
    ) AS ranked WHERE rank = 1),
alike AS (
    SELECT n FROM {alike} UNION
    SELECT a.n FROM {asked} AS a JOIN {beside} AS b
        ON b.n = a.n AND a.gone AND b.gone AND a.filtered = b.filtered),
judged AS (
    SELECT a.n, a.k, a.e, a.p, a.o, a.r, a.since, a.gone, s.k IS NOT NULL AS again,
        s.place AS old_place, s.gone AS old_gone, s.since AS old_since,
        CASE WHEN s.k IS NOT NULL THEN NOT {replaces}
            ELSE {fresh} AND NOT a.committed AND n.k IS NOT NULL
                AND {newer("n", "a")} END AS late,
        s.k IS NULL AND l.n IS NOT NULL AS same
    FROM {asked} AS a
    LEFT JOIN {there} AS s ON s.k = a.k AND s.e = a.e AND s.p = a.p AND s.o = a.o AND s.r = a.r
    LEFT JOIN newest AS n ON n.k = a.k
    LEFT JOIN alike AS l ON l.n = a.n),
written AS (SELECT * FROM judged WHERE NOT late AND NOT same),
events AS (
    SELECT t.k, t.e, t.p, t.o, t.r, t.since, true AS fixed, CAST(NULL AS integer) AS n, t.place,
        t.gone, t.gone AS was_gone, t.upto
    FROM {there} AS t LEFT JOIN written AS w
        ON w.k = t.k AND w.old_place = t.place AND w.old_gone = t.gone
    WHERE w.k IS NULL
    UNION ALL
    SELECT k, {_VERSION}, coalesce(old_since, since), again, n, old_place, gone, old_gone, NULL
    FROM written),
bounded AS (
    SELECT *, CASE WHEN fixed THEN since ELSE least(since, coalesce(
        min(CASE WHEN fixed THEN since END) OVER (PARTITION BY k ORDER BY {newest} {until_here}),
        since)) END AS bound
    FROM events),
timed AS (
    SELECT *, CASE WHEN fixed THEN since
        ELSE max(bound) OVER ({ordered} {until_here}) END AS starts
    FROM bounded),
ended AS (SELECT *, lead(starts) OVER ({ordered}) AS ends FROM timed)
SELECT n, false AS late, place, was_gone, starts, ends FROM ended
WHERE n IS NOT NULL OR (NOT gone AND ends IS DISTINCT FROM upto)
UNION ALL
SELECT n, true, NULL, NULL, NULL, NULL FROM judged WHERE late
"""


def last_gone(layout: Layout, key: tuple[str, ...], tombstone: str) -> str:
    """The condition that this alias of a tombstone is what is newest of its record: further
    conditions where a record may have several of them, else none."""
    if not layout.keeps_history:
        return ""
    columns = [layout.column(name) for name in key]
    same = " AND ".join(f"o.{column} = {tombstone}.{column}" for column in columns)
    newer = layout.newer("o", tombstone)
    return "".join(
        f" AND NOT EXISTS (SELECT 1 FROM {table.sql} AS o WHERE {same} AND {newer})"
        for table in (layout.table, layout.table.tombstones)
    )
