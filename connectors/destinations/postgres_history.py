"""The merge of a batch into a table that keeps the history; see `history`."""

from __future__ import annotations

import numpy as np

from rowtrail.connectors.base import Load
from rowtrail.connectors.changes import Operation, are_distinct
from rowtrail.connectors.destinations.history import (
    AT,
    COMMITTED,
    beside_them,
    check_versions_are_unique,
    judge,
    times_of,
)
from rowtrail.connectors.destinations.names import (
    DELETED_AT,
    FILTERED,
    HISTORY_COLUMNS,
    IS_CURRENT,
    ROW,
    VALID_FROM,
    VALID_TO,
    VERSION_COLUMNS,
    quote,
    quoted,
)
from rowtrail.connectors.destinations.postgres_apply import same_key
from rowtrail.connectors.destinations.postgres_layout import PostgresLayout
from rowtrail.connectors.destinations.postgres_merge import Mask, are_all_new, same_types
from rowtrail.connectors.destinations.postgres_sql import Transaction
from rowtrail.connectors.destinations.postgres_staging import DELETE, append, stage
from rowtrail.connectors.destinations.postgres_types import TIMESTAMPTZ

_EVENT = (
    f"k integer, e bigint, p bigint, o bigint, r bigint, since {TIMESTAMPTZ}, gone boolean, "
    f"filtered boolean"
)
_ASKED = "pg_temp._rowtrail_asked"
_ALIKE = "pg_temp._rowtrail_alike"
_THERE = "pg_temp._rowtrail_there"
_BESIDE = "pg_temp._rowtrail_beside"
_VERDICTS = "pg_temp._rowtrail_verdicts"
# Made once for each session: none of them has a column of the user's.
_TABLES = {
    _ASKED: f"n integer, committed boolean, {_EVENT}",
    _BESIDE: "n integer, place tid, gone boolean, filtered boolean",
    _ALIKE: "n integer",
    _THERE: f"{_EVENT}, upto {TIMESTAMPTZ}, place tid",
    _VERDICTS: f"n integer, late boolean, place tid, was_gone boolean, starts {TIMESTAMPTZ}, "
    f"ends {TIMESTAMPTZ}",
}
# Where each row is looked up by an index or its place: the planner, which knows nothing of the
# batch, would rather read all of the table.
_LOOK_UP = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
_JOIN = "SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on"


def merge_history(work: Transaction, layout: PostgresLayout, load: Load) -> Mask:
    """Merges the load and returns, per row, whether it was superseded and changed nothing.

    Raises StopError when the load has a version of a key twice.
    """
    superseded = np.zeros(len(load.rows), dtype=np.bool_)
    if not len(superseded):
        return superseded
    deletes = load.operations.to_numpy(zero_copy_only=False) == Operation.DELETE
    distinct = are_distinct(load.rows.select(load.target.schema.key))
    if not distinct:
        check_versions_are_unique(load)
    if (
        distinct
        and not deletes.any()
        and same_types(layout, load.target)
        and are_all_new(work, layout, load)
    ):
        append(work, layout.table, load)
    else:
        rows = stage(work, load)
        _judge(work, layout, load, rows)
        ((late,),) = work.run(
            f"SELECT string_agg(int4send(n), ''::bytea) FROM {_VERDICTS} WHERE late"
        )
        superseded[np.frombuffer(late or b"", dtype=">i4").astype(np.int64)] = True
        _apply(work, layout, load, rows)
    work.run("SET CONSTRAINTS ALL IMMEDIATE")  # as `postgres_merge` says why
    return superseded


def _judge(work: Transaction, layout: PostgresLayout, load: Load, rows: str) -> None:
    """Fills the tables `asked` and `there`, and `_VERDICTS` with what `judge` makes of them."""
    for table, columns in _TABLES.items():
        work.run(
            f"CREATE TEMP TABLE IF NOT EXISTS {table.removeprefix('pg_temp.')} ({columns}) "
            f"ON COMMIT DELETE ROWS; TRUNCATE {table}"
        )
    for table in (_BESIDE, _VERDICTS):
        index = f"{table.removeprefix('pg_temp.')}_n"
        work.run(f"CREATE INDEX IF NOT EXISTS {index} ON {table} (n)")
    schema = load.target.schema
    keys, found = quoted(schema.key), same_key(layout, schema)
    same = "".join(
        f" AND t.{quote(name)} IS NOT DISTINCT FROM s.{quote(name)}"
        for name in schema.names
        if name not in schema.key
    )
    version = ", ".join(VERSION_COLUMNS)
    event = ", ".join(f"t.{name}" for name in VERSION_COLUMNS)
    work.run(_LOOK_UP)
    work.run(
        f"INSERT INTO {_ASKED} (n, k, e, p, o, r, since, committed, gone, filtered) "
        f"SELECT {ROW}, min({ROW}) OVER (PARTITION BY {keys}), {version}, {AT}, {COMMITTED}, "
        f"{DELETE}, {FILTERED} FROM {rows}"
    )
    records = f"(SELECT min({ROW}) AS k, {keys} FROM {rows} GROUP BY {keys}) AS s"
    work.run(
        f"INSERT INTO {_THERE} (k, e, p, o, r, since, upto, gone, filtered, place) "
        f"SELECT s.k, {event}, t.{VALID_FROM}, t.{VALID_TO}, false, false, t.ctid "
        f"FROM {records} JOIN {layout.table.sql} AS t ON {found} UNION ALL "
        f"SELECT s.k, {event}, t.{DELETED_AT}, NULL, true, t.{FILTERED}, t.ctid "
        f"FROM {records} JOIN {layout.table.tombstones.sql} AS t ON {found}"
    )
    work.run(_JOIN)
    work.run(f"INSERT INTO {_BESIDE} {beside_them(_ASKED, _THERE)}")
    work.run(_LOOK_UP)
    work.run(
        f"INSERT INTO {_ALIKE} (n) SELECT b.n FROM {rows} AS s JOIN {_BESIDE} AS b "
        f"ON b.n = s.{ROW} AND NOT b.gone AND NOT s.{DELETE} "
        f"JOIN {layout.table.sql} AS t ON t.ctid = b.place{same}"
    )
    work.run(_JOIN)
    verdicts = judge(
        _ASKED, _THERE, _BESIDE, _ALIKE, fresh=times_of(load).fresh, replaces=load.replaces
    )
    work.run(f"INSERT INTO {_VERDICTS} {verdicts}")
    work.run(_LOOK_UP)


def _apply(work: Transaction, layout: PostgresLayout, load: Load, rows: str) -> None:
    """Old rows end before new ones come, so that an index may keep current ones unique."""
    schema, table = load.target.schema, layout.table.sql
    tombstones = layout.table.tombstones.sql
    chosen = f"{rows} AS s JOIN {_VERDICTS} AS v ON v.n = s.{ROW}"
    ends = f"{VALID_TO} = v.ends, {IS_CURRENT} = v.ends IS NULL"
    work.run(
        f"UPDATE {table} AS t SET {ends} FROM {_VERDICTS} AS v "
        f"WHERE v.n IS NULL AND NOT v.late AND t.ctid = v.place"
    )
    work.run(
        f"DELETE FROM {tombstones} AS t USING {_VERDICTS} AS v "
        f"WHERE v.n IS NOT NULL AND v.was_gone AND t.ctid = v.place"
    )
    old_row = "t.ctid = v.place AND NOT v.was_gone"
    work.run(f"DELETE FROM {table} AS t USING {chosen} WHERE {old_row} AND s.{DELETE}")
    columns = [*schema.names, *VERSION_COLUMNS]
    values = ", ".join(
        f"{quote(name)} = s.{quote(name)}" for name in columns if name not in schema.key
    )
    # In place, so that columns of others keep what they hold.
    work.run(
        f"UPDATE {table} AS t SET {values}, {VALID_FROM} = v.starts, {ends} "
        f"FROM {chosen} WHERE {old_row} AND NOT s.{DELETE}"
    )
    work.run(
        f"INSERT INTO {table} ({quoted([*columns, *HISTORY_COLUMNS])}) "
        f"SELECT {quoted(columns, 's.')}, v.starts, v.ends, v.ends IS NULL FROM {chosen} "
        f"WHERE NOT s.{DELETE} AND NOT v.late AND (v.place IS NULL OR v.was_gone)"
    )
    kept = [*schema.key, *VERSION_COLUMNS, FILTERED]
    work.run(
        f"INSERT INTO {tombstones} ({quoted(kept)}, {DELETED_AT}) "
        f"SELECT {quoted(kept, 's.')}, v.starts FROM {chosen} WHERE s.{DELETE} AND NOT v.late"
    )
