"""The orders of `benchmarks.orders` in PostgreSQL: 1.5 million rows take about 197 MiB there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from rowtrail import Pipeline

ROWS = 1_500_000
SLOT = "rowtrail_benchmark"
"""Of the slot and of the publication."""

_TABLE = """
CREATE TABLE orders (
    id bigint NOT NULL,
    customer_id integer NOT NULL,
    quantity integer NOT NULL,
    total numeric(12, 2) NOT NULL,
    weight double precision,
    status text NOT NULL,
    note text,
    ordered_on date NOT NULL,
    updated_at timestamptz NOT NULL
)
"""

# Multiplying by primes scatters the values; the same rows come out on every machine.
_ROWS = """
INSERT INTO orders
SELECT
    n,
    n * 7919 %% 50021,
    1 + n %% 9,
    n * 104729 %% 10000000 / 100.0,
    CASE WHEN n %% 11 <> 0 THEN n * 15485863 %% 1000003 / 997.0 END,
    (ARRAY['new', 'paid', 'shipped', 'returned'])[1 + n %% 4],
    CASE WHEN n %% 3 <> 0 THEN
        'please ring at door ' || n * 31 %% 1009 || ' and leave it with a neighbour if nobody is in'
    END,
    date '2024-01-01' + (n %% 700)::integer,
    timestamptz '2024-01-01 00:00:00Z' + n * 61 %% 60000000 * interval '1 second'
FROM generate_series(1, %s::bigint) AS n
"""


def make_table(url: str, rows: int) -> Mapping[str, Any]:
    """The table `orders` with this many rows, their ids from 1 on; returns its size in bytes.

    It is vacuumed, so that no measured run is the first to find out which rows are visible.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TABLE)
        connection.execute(_ROWS, [rows])
        connection.execute("ALTER TABLE orders ADD PRIMARY KEY (id)")
        connection.execute("VACUUM (FREEZE, ANALYZE) orders")
        (size,) = connection.execute("SELECT pg_table_size('orders')").fetchone() or (0,)
    return {"bytes": size}


def vacuum(url: str) -> None:
    """Clears what changes left behind, so that later rounds find the table as the first did."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) orders")


def pipeline(url: str, folder: Path, capture: str = "log") -> Pipeline:
    """From the table into a DuckDB file in `folder`, the ledger beside it; rows go with deletes."""
    from rowtrail import Pipeline, Stream

    return Pipeline(
        name="benchmark",
        source=url,
        destination=f"duckdb:///{folder / 'target.duckdb'}",
        ledger=folder / "ledger.db",
        streams=[
            Stream(
                "orders",
                capture=capture,
                cursor="updated_at" if capture == "cursor" else None,
            )
        ],
        install_capture=True,
        slot=SLOT,
    )


def install(url: str, folder: str) -> None:
    """What is done once and not measured: publication and slot."""
    pipeline(url, Path(folder)).install_capture()


def sync(url: str, folder: str, capture: str = "log") -> Mapping[str, Any]:
    """One run, the first one or a later one; raises RuntimeError when it is not complete."""
    from time import perf_counter

    from rowtrail.pipelines.pandas_import import put_off_pandas

    put_off_pandas()  # as the command does
    orders = pipeline(url, Path(folder), capture)
    started = perf_counter()
    result = orders.run()
    seconds = perf_counter() - started
    if not result.complete:
        raise RuntimeError(f"the sync was not complete: {result}")
    stream = result.streams["orders"]
    return {
        "seconds": seconds,
        "changes": stream.counts.total,
        "loaded": stream.counts.loaded,
        "stages": {str(stage): spent for stage, spent in stream.seconds.items()},
    }


def remove(url: str, folder: str) -> None:
    """Takes publication and slot away again, for the next first sync."""
    pipeline(url, Path(folder)).remove_capture()
