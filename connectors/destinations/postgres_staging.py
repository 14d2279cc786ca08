"""The staging table: a batch's rows at the server, before they are merged."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.base import Deletes, Load
from rowtrail.connectors.changes import OPERATION_TYPE, Operation
from rowtrail.connectors.destinations.history import AT, COMMITTED, times_of
from rowtrail.connectors.destinations.names import (
    FILTERED,
    IS_CURRENT,
    ROW,
    VALID_FROM,
    VALID_TO,
    VERSION_COLUMNS,
    quote,
    quoted,
)
from rowtrail.connectors.destinations.postgres_copy import copy_bytes
from rowtrail.connectors.destinations.postgres_sql import PostgresName, Transaction
from rowtrail.connectors.destinations.postgres_types import TIMESTAMPTZ, column_type

DELETE = "_rowtrail_delete"
STAGING = "_rowtrail_staging"

_TEMPORARY = "pg_temp"


def stage(work: Transaction, load: Load) -> str:
    """Brings all rows to the server; returns the table's name, for SQL.

    Its columns are those of the stream, VERSION_COLUMNS, DELETE, FILTERED, the row's number as ROW,
    and for a history AT and COMMITTED. A temporary table is not logged and no other session sees
    it. It is made once for each shape, since every table made and dropped leaves dead rows in the
    server's catalogues.
    """
    schema = load.target.schema
    deletes = pc.equal(load.operations, pa.scalar(int(Operation.DELETE), OPERATION_TYPE))
    columns = []
    for column in schema.columns:
        kind = column_type(load.target.table, column)
        key = column.name in schema.key
        collation = ' COLLATE "C"' if key and kind == "text" else ""
        columns.append(f"{quote(column.name)} {kind}{collation}{' NOT NULL' if key else ''}")
    columns += [f"{name} bigint NOT NULL" for name in VERSION_COLUMNS]
    columns += [f"{name} boolean NOT NULL" for name in (DELETE, FILTERED)]
    more = {DELETE: deletes, FILTERED: load.filtered}
    if load.target.deletes is Deletes.HISTORY:
        columns += [f"{AT} {TIMESTAMPTZ} NOT NULL", f"{COMMITTED} boolean NOT NULL"]
        times = times_of(load)
        more |= {AT: times.at, COMMITTED: times.committed}
    shape = ", ".join([*columns, f"{ROW} integer NOT NULL"])
    digest = hashlib.sha256(shape.encode()).hexdigest()[:16]
    table = f"{_TEMPORARY}.{quote(f'{STAGING}_{digest}')}"
    # A transaction that was rolled back has left dead rows, hence the TRUNCATE.
    work.run(
        f"CREATE TEMP TABLE IF NOT EXISTS {table} ({shape}) ON COMMIT DELETE ROWS; TRUNCATE {table}"
    )
    rows = with_versions(load)
    more[ROW] = pa.array(np.arange(len(rows), dtype=np.int32))
    for name, values in more.items():
        rows = rows.append_column(name, values)
    work.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)", copy_bytes(rows))
    return table


def append(work: Transaction, table: PostgresName, load: Load) -> None:
    """Brings all rows straight into their table. None of them is a delete."""
    rows = with_versions(load)
    if load.target.deletes is Deletes.HISTORY:
        at = times_of(load).at
        for name, values in (
            (VALID_FROM, at),
            (VALID_TO, pa.nulls(len(rows), at.type)),
            (IS_CURRENT, pa.array(np.ones(len(rows), dtype=np.bool_))),
        ):
            rows = rows.append_column(name, values)
    into = quoted(rows.schema.names)
    work.copy(f"COPY {table.sql} ({into}) FROM STDIN (FORMAT BINARY)", copy_bytes(rows))


def with_versions(load: Load) -> pa.RecordBatch:
    """The load's rows with VERSION_COLUMNS."""
    rows = load.rows
    for name, column in zip(VERSION_COLUMNS, load.versions.columns, strict=True):
        rows = rows.append_column(name, column)
    return rows
