"""Reads ranges of keys from a target, for captures that compare."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from rowtrail.connectors.base import Target, known_schema
from rowtrail.connectors.destinations.duckdb_sql import fetch_arrow
from rowtrail.connectors.destinations.duckdb_types import column_type
from rowtrail.connectors.destinations.history import last_gone
from rowtrail.connectors.destinations.layout import Layout
from rowtrail.connectors.destinations.names import FILTERED, quote, quoted

Key = tuple[object, ...]


def read_keys(
    connection: duckdb.DuckDBPyConnection,
    layout: Layout,
    target: Target,
    after: Key | None,
    upto: Key | None,
    limit: int,
) -> pa.Table:
    """The first keys in (after, upto] and `present`, in binary order. One query; no row is looked
    at twice.

    Texts compare by their UTF-8 bytes, DuckDB's default; column by column, as in SQL.
    """
    key = target.schema.key
    range_sql, bounds = _range(target, after, upto)
    table = fetch_arrow(
        connection,
        f"SELECT {quoted(key)}, true AS present FROM {layout.table.sql} "
        f"WHERE {layout.is_live} AND {range_sql} "
        f"UNION ALL SELECT {quoted(key)}, false FROM {layout.table.tombstones.sql} AS t "
        f"WHERE {FILTERED} AND {range_sql}{last_gone(layout, key, 't')} "
        f"ORDER BY {quoted(key)} LIMIT ?",
        [*bounds, *bounds, limit],
    )
    schema = known_schema(target.schema)  # which may spell a name in another case than the table
    return table.rename_columns(schema.names).cast(schema)


def _range(target: Target, after: Key | None, upto: Key | None) -> tuple[str, list[object]]:
    """The condition and its values. It is spelled out column by column, as DuckDB skips row groups
    for comparisons of single columns only."""
    conditions, values = ["true"], []
    for bound, strict, last in ((after, ">", ">"), (upto, "<", "<=")):
        if bound is not None:
            sql, bound_values = _beyond(target, bound, strict, last)
            conditions.append(sql)
            values += bound_values
    return " AND ".join(conditions), values


def _beyond(target: Target, bound: Key, strict: str, last: str) -> tuple[str, list[object]]:
    """`(a, b) > (x, y)` as `a >= x AND (a > x OR (a = x AND b > y))`."""
    columns = [
        (quote(name), f"CAST(? AS {column_type(target.table, target.schema.column(name))})")
        for name in target.schema.key
    ]
    (name, value), *_ = columns
    alternatives, values = [], [bound[0]]
    for index, (column, mark) in enumerate(columns):
        equal = [f"{before} = {before_mark}" for before, before_mark in columns[:index]]
        comparison = last if index == len(columns) - 1 else strict
        alternatives.append(" AND ".join([*equal, f"{column} {comparison} {mark}"]))
        values += [*bound[:index], bound[index]]
    spelled = " OR ".join(f"({alternative})" for alternative in alternatives)
    return f"{name} {strict}= {value} AND ({spelled})", values
