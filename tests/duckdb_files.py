"""Opens DuckDB files beside Rowtrail.

To begin with, an engine of DuckDB takes 20 ms of a processor; one more file in it takes one.
All tests of a process therefore share an engine, to which a file is attached while it is open.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import duckdb

_numbers = count(1)


@contextmanager
def look_into(path: Path | str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose tables are those of the file, which it only reads; times in UTC."""
    with _attached(path, "READ_ONLY") as connection:
        yield connection


@contextmanager
def write_into(path: Path | str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Likewise, as somebody else would who changes it."""
    with _attached(path, "READ_WRITE") as connection:
        yield connection


@contextmanager
def _attached(path: Path | str, mode: str) -> Iterator[duckdb.DuckDBPyConnection]:
    name, quoted = f"file_{next(_numbers)}", str(path).replace("'", "''")
    with _engine(os.getpid()).cursor() as connection:
        connection.execute(f"ATTACH '{quoted}' AS {name} ({mode})")
        try:
            connection.execute(f"USE {name}")
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
        finally:
            connection.execute("USE memory")
            connection.execute(f"DETACH {name}")


@cache
def _engine(process: int) -> duckdb.DuckDBPyConnection:
    """The threads of an engine stay behind when a process forks: each process has its own."""
    return duckdb.connect(":memory:")
