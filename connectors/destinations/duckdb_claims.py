"""Which stream fills which table: two streams in one table would delete each other's rows."""

from __future__ import annotations

import duckdb

from rowtrail.connectors.base import Target
from rowtrail.connectors.destinations.duckdb_gaps import forget_table
from rowtrail.connectors.destinations.duckdb_layout import read_layout
from rowtrail.connectors.destinations.duckdb_sql import TableName, Transaction, fold, run
from rowtrail.connectors.errors import ConfigurationError

CLAIMS_TABLE = "_rowtrail_tables"

CLAIMS_DDL = f"""
CREATE TABLE IF NOT EXISTS {CLAIMS_TABLE} (
    table_schema VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    pipeline VARCHAR NOT NULL,
    stream VARCHAR NOT NULL,
    claimed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (table_schema, table_name)
)
"""
"""Schemas and names are folded, so that each table has one row however it is spelled."""

_FIND = f"SELECT pipeline, stream FROM {CLAIMS_TABLE} WHERE table_schema = ? AND table_name = ?"


def check_claim(connection: duckdb.DuckDBPyConnection, pipeline: str, target: Target) -> None:
    """Raises ConfigurationError when another stream, or another pipeline's, fills the table.

    A table that was dropped belongs to nobody any more. One that an older version made, without
    writing down for whom, goes to the first that asks.
    """
    table = TableName.parse(target.table)
    claims = run(connection, _FIND, _place(table, connection))
    if claims in ([], [(pipeline, target.stream)]) or read_layout(connection, table) is None:
        return
    ((other_pipeline, other_stream),) = claims
    raise ConfigurationError(
        f"Stream {target.stream} of pipeline {pipeline} cannot fill table {target.table}, since "
        f"stream {other_stream} of pipeline {other_pipeline} does: each would delete the other's "
        f"rows. Name another `target` for the stream. If the other stream is no more, drop its "
        f"table at the target instead."
    )


def claim_table(
    work: Transaction, connection: duckdb.DuckDBPyConnection, pipeline: str, target: Target
) -> None:
    """Writes down who fills the table; to be called before it is made.

    What another stream has left of a table that was dropped is cleared away: its tombstones would
    fence out rows of this one.
    """
    table = TableName.parse(target.table)
    place = _place(table, connection)
    mine = (pipeline, target.stream)
    claims = work.run(_FIND, place)
    if claims == [mine]:
        return
    if claims:
        work.run(f"DROP TABLE IF EXISTS {table.tombstones.sql}")
        forget_table(work, target.table)
    work.run(f"INSERT OR REPLACE INTO {CLAIMS_TABLE} VALUES (?, ?, ?, ?, now())", [*place, *mine])


def _place(table: TableName, connection: duckdb.DuckDBPyConnection) -> tuple[str, str]:
    """Schema and name as they are compared. The database's own name before a table's name stands
    for the schema `main`, as does none."""
    database = run(connection, "SELECT current_database()")[0][0]
    schema = fold(table.schema or "main")
    return ("main" if schema == fold(database) else schema, fold(table.name))
