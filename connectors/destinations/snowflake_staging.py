"""The staging table: a batch's rows at the server, before they are merged.

Rows go as Parquet files to a stage and from there by COPY into a table of this object's own. Names
of users are not in either: the stream's columns are C0, C1, … in the order of its schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from snowflake.connector import errors as driver

from rowtrail.connectors.base import Deletes, Load, LoadRows
from rowtrail.connectors.changes import OPERATION_TYPE, Operation
from rowtrail.connectors.destinations.history import times_at
from rowtrail.connectors.destinations.snowflake_sql import Connected
from rowtrail.connectors.destinations.snowflake_types import INSTANT, column_type
from rowtrail.connectors.errors import TransientError

VERSION = ("E", "P", "O", "R")
GONE, FILTERED, ROW = "GONE", "FILTERED", "N"
AT, COMMITTED = "SINCE", "COMMITTED"

_ROWS_LOADED = 3
"""Its place in each row of COPY's answer, which is one text where there was no file to load."""
_FORMAT = "TYPE = PARQUET USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE"


PART_BYTES = 32 << 20
"""Of Arrow, in one file: a warehouse loads files side by side, but none of them by parts. What
Snowflake advises, 100 to 250 MB compressed, is for loads of far more than one batch."""


def put(work: Connected, folder: str, rows: LoadRows, read_at: datetime) -> None:
    """Uploads the rows as Parquet files to a folder of the stage, for SQL; see `parts`."""
    for number, part in enumerate(parts(to_parquet(rows, read_at))):
        work.put(f"{number:04}.parquet", folder, write_parquet(part))


def remove(work: Connected, folder: str) -> None:
    """Removes all files of the folder; where that fails, the next claim of the schema does it."""
    with suppress(driver.Error):
        work.run(f"REMOVE {folder}/")


def parts(table: pa.Table) -> Iterator[pa.Table]:
    """The rows in parts of PART_BYTES or less; a single row may have more."""
    rows = max(1, len(table) * PART_BYTES // max(1, table.nbytes))
    for start in range(0, len(table), rows):
        yield table.slice(start, rows)


def write_parquet(part: pa.Table) -> BytesIO:
    """One file."""
    data = BytesIO()
    # Of numbers and times too few are alike: a dictionary of them is begun, and given up.
    alike = [one.name for one in part.schema if one.name in VERSION or _is_text(one.type)]
    pq.write_table(part, data, compression="zstd", use_dictionary=alike)
    return data


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def to_parquet(rows: LoadRows, read_at: datetime) -> pa.Table:
    """The columns of the staging table, in types that Parquet and Snowflake read alike."""
    deletes = pc.equal(rows.operations, pa.scalar(int(Operation.DELETE), OPERATION_TYPE))
    columns = {f"C{place}": _plain(one) for place, one in enumerate(rows.rows.columns)}
    columns |= dict(zip(VERSION, rows.versions.columns, strict=True))
    columns |= {GONE: deletes, FILTERED: rows.filtered}
    columns[ROW] = pa.array(np.arange(len(rows.rows), dtype=np.int64))
    if rows.target.deletes is Deletes.HISTORY:
        times = times_at(rows, read_at)
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


def copy(work: Connected, table: str, folder: str, rows: int) -> None:
    """Brings the rows from a folder of the stage into the staging table.

    Raises TransientError unless that were so many: to COPY a file that is gone is none too few.
    """
    done = work.run(
        f"COPY INTO {table} FROM {folder}/ FILE_FORMAT = ({_FORMAT}) "
        f"MATCH_BY_COLUMN_NAME = CASE_SENSITIVE ON_ERROR = ABORT_STATEMENT"
    )
    loaded = sum(int(row[_ROWS_LOADED]) for row in done if len(row) > _ROWS_LOADED)
    if loaded != rows:
        raise TransientError(
            f"COPY has loaded {loaded:,} of {rows:,} rows from {folder}: somebody may have removed "
            f"files there. Nothing was written; try again, and leave what is in that stage alone."
        )
