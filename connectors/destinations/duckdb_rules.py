"""The rows of a batch that a rule of their table in DuckDB refuses."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.base import Load
from rowtrail.connectors.changes import Operation
from rowtrail.connectors.destinations.duckdb_layout import place_of, spelled
from rowtrail.connectors.destinations.duckdb_sql import run, viewing
from rowtrail.connectors.destinations.layout import Layout
from rowtrail.connectors.destinations.names import ROW, TableName, fold, is_reserved, quote
from rowtrail.connectors.destinations.rules import Rules, UniqueRule, breaking

_CONSTRAINTS = """
SELECT schema_name, table_name, constraint_type, expression, constraint_column_names
FROM duckdb_constraints() WHERE database_name = current_database()
"""
_UNIQUE_INDEXES = """
SELECT schema_name, table_name, CAST(expressions AS VARCHAR[]) FROM duckdb_indexes()
WHERE is_unique AND NOT is_primary AND database_name = current_database()
"""


def refused_rows(connection: duckdb.DuckDBPyConnection, layout: Layout, load: Load) -> list[int]:
    """See `connectors.base.TellsRefused`. Not within a transaction, which an error would abort."""
    found: set[int] = set()
    with viewing(connection) as work:
        rows = load.rows.append_column(ROW, pa.array(np.arange(len(load.rows), dtype=np.uint32)))
        upserts = pc.not_equal(load.operations, pa.scalar(int(Operation.DELETE), pa.uint8()))
        fresh = rows if pc.all(upserts).as_py() else rows.filter(upserts)
        staged = work.view("_rowtrail_fresh", fresh)
        keys = work.view("_rowtrail_keys", rows.select(list(load.target.schema.key)))
        # As they will be in the table: an expression may mean something else of another type.
        columns = ", ".join(
            f"CAST({quote(name)} AS {layout.types[own]}) AS {quote(own)}"
            for name in load.target.schema.names
            if (own := spelled(layout, name))
        )
        for query in breaking(
            _rules(connection, layout.table),
            fresh=f"(SELECT {ROW}, {columns} FROM {staged})",
            keys=keys,
            table=layout.table.sql,
            key=load.target.schema.key,
        ):
            try:
                found.update(work.arrow(query).column(ROW).to_pylist())
            except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError):
                continue  # about columns that the stream does not bring, or it raises by itself
    return sorted(found)


def _rules(connection: duckdb.DuckDBPyConnection, table: TableName) -> Rules:
    required, checks, unique = [], [], []
    for kind, expression, names in _of(connection, table, _CONSTRAINTS):
        if kind == "NOT NULL":
            required += [name for name in names if not is_reserved(name)]
        elif kind == "CHECK":
            checks.append(expression)
        elif kind == "UNIQUE":
            unique.append(UniqueRule(expressions=tuple(map(quote, names))))
    unique += [
        UniqueRule(expressions=tuple(expressions))
        for (expressions,) in _of(connection, table, _UNIQUE_INDEXES)
    ]
    return Rules(required=tuple(required), checks=tuple(checks), unique=tuple(unique))


def _of(
    connection: duckdb.DuckDBPyConnection, table: TableName, query: str
) -> list[tuple[Any, ...]]:
    """What the query, whose first two columns are schema and table, says of this table."""
    place = place_of(connection, table)
    return [
        tuple(told)
        for schema, name, *told in run(connection, query)
        if (fold(schema), fold(name)) == place
    ]
