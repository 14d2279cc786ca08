"""Hashes of rows, by which a read finds out what it has seen before."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

HASH_COLUMN = "_rowtrail_hash"
Hashes = npt.NDArray[np.uint64]


@contextmanager
def scratch() -> Iterator[duckdb.DuckDBPyConnection]:
    """An engine in memory for set operations on Arrow data; it holds nothing between calls."""
    with _engine(os.getpid()).cursor() as engine:
        yield engine


@cache
def _engine(process: int) -> duckdb.DuckDBPyConnection:
    """One for all streams, since to begin one takes 20 ms of a processor; not for a process that
    was forked off, in which the engine's threads are missing."""
    return duckdb.connect(":memory:")


def row_hashes(engine: duckdb.DuckDBPyConnection, rows: pa.RecordBatch) -> Hashes:
    """One 64-bit hash per row over all columns and their names, NULLs included.

    Floats count by their bits, so that -0.0 and 0.0 differ. DuckDB's hash() may change with its
    version; all that follows is that every row is reported once more.
    """
    columns = [_hashable(column) for column in rows.columns]
    names = [f"c{number}" for number in range(len(columns))]
    engine.register("hashed", pa.Table.from_arrays(columns, names=names))
    try:
        query = f"SELECT hash({_seed(rows.schema.names)}, {', '.join(names)}) AS h FROM hashed"
        found = engine.sql(query).to_arrow_table().column("h")
    finally:
        engine.unregister("hashed")
    hashes: Hashes = found.to_numpy().astype(np.uint64, copy=False)
    return hashes


def _seed(names: Sequence[str]) -> str:
    """Of the names, so that rows of which a column was renamed are not what they were."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return f"{int.from_bytes(digest[:8])}::UBIGINT"


def _hashable(column: pa.Array) -> pa.Array:
    if pa.types.is_float64(column.type):
        return column.view(pa.int64())
    if pa.types.is_float32(column.type):
        return column.view(pa.int32())
    return column
