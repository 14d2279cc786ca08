"""The staging table: a batch's rows at the server, before they are merged.

Rows go as one Parquet file to a stage and from there by COPY into a table of this session's own.
Names of users are not in either: the stream's columns are C0, C1, … in the order of its schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from snowflake.connector import errors as driver

from rowtrail.connectors.base import Deletes, Load
from rowtrail.connectors.changes import OPERATION_TYPE, Operation
from rowtrail.connectors.destinations.history import times_of
from rowtrail.connectors.destinations.snowflake_own import STAGE
from rowtrail.connectors.destinations.snowflake_sql import Connected
from rowtrail.connectors.destinations.snowflake_types import INSTANT, column_type

VERSION = ("E", "P", "O", "R")
GONE, FILTERED, ROW = "GONE", "FILTERED", "N"
AT, COMMITTED = "SINCE", "COMMITTED"

_FORMAT = "TYPE = PARQUET USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE"


@contextmanager
def uploaded(work: Connected, load: Load) -> Iterator[str]:
    """The rows as a file in the stage, for SQL, under a name that no other file has had.

    It is removed in the end, whatever became of it: by itself a COPY removes only what it has
    loaded, and not what it has refused.
    """
    folder, name = f"@{work.own(STAGE)}/{load.receipt.batch_id}", f"{uuid4().hex}.parquet"
    work.put(name, folder, write_parquet(load))
    try:
        yield f"{folder}/{name}"
    finally:
        with suppress(driver.Error):
            work.run(f"REMOVE {folder}/{name}")


def write_parquet(load: Load) -> BytesIO:
    """The file that is uploaded."""
    data = BytesIO()
    rows = to_parquet(load)
    # No two numbers of rows are alike: a dictionary of them would be written in vain.
    with_dictionary = [name for name in rows.schema.names if name != ROW]
    pq.write_table(rows, data, compression="zstd", use_dictionary=with_dictionary)
    return data


def to_parquet(load: Load) -> pa.Table:
    """The columns of the staging table, in types that Parquet and Snowflake read alike."""
    deletes = pc.equal(load.operations, pa.scalar(int(Operation.DELETE), OPERATION_TYPE))
    columns = {f"C{place}": _plain(one) for place, one in enumerate(load.rows.columns)}
    columns |= dict(zip(VERSION, load.versions.columns, strict=True))
    columns |= {GONE: deletes, FILTERED: load.filtered}
    columns[ROW] = pa.array(np.arange(len(load.rows), dtype=np.int64))
    if load.target.deletes is Deletes.HISTORY:
        times = times_of(load)
        columns |= {AT: times.at, COMMITTED: times.committed}
    return pa.table(columns)


def _plain(values: pa.Array) -> pa.Array:
    """Parquet marks the narrow and the unsigned integers, which not every reader minds."""
    kind = values.type
    if pa.types.is_uint64(kind):
        return values.cast(pa.decimal128(20, 0))
    if pa.types.is_integer(kind):
        return values.cast(pa.int64())
    if pa.types.is_float32(kind):
        return values.cast(pa.float64())
    if pa.types.is_fixed_size_binary(kind):
        return values.cast(pa.binary())
    if pa.types.is_string_view(kind):
        return values.cast(pa.large_string())
    if pa.types.is_time(kind):
        return values.cast(pa.time64("us"))
    if pa.types.is_timestamp(kind):
        return values.cast(pa.timestamp("us", tz=kind.tz and "UTC"))
    return values


def make_table(work: Connected, name: str, load: Load) -> str:
    """An empty staging table for the load; returns it for SQL. DDL: before the transaction."""
    schema = load.target.schema
    shape = [
        f'"C{place}" {column_type(load.target.table, one)}'
        for place, one in enumerate(schema.columns)
    ]
    shape += [f'"{part}" NUMBER(19,0)' for part in (*VERSION, ROW)]
    shape += [f'"{part}" BOOLEAN' for part in (GONE, FILTERED)]
    if load.target.deletes is Deletes.HISTORY:
        shape += [f'"{AT}" {INSTANT}', f'"{COMMITTED}" BOOLEAN']
    table = work.own(name)
    work.run(f"CREATE OR REPLACE TRANSIENT TABLE {table} ({', '.join(shape)})")
    return table


def copy(work: Connected, table: str, file: str) -> None:
    """Brings the rows from the stage into the staging table."""
    work.run(
        f"COPY INTO {table} FROM {file} FILE_FORMAT = ({_FORMAT}) "
        f"MATCH_BY_COLUMN_NAME = CASE_SENSITIVE ON_ERROR = ABORT_STATEMENT"
    )
