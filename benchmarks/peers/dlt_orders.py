"""dlt's jobs, set up as its documentation does: a table of PostgreSQL into a DuckDB file.

Runs in dlt's own environment, where nothing of Rowtrail is installed.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import dlt
from dlt.sources.sql_database import sql_table


def replace(url: str, folder: str, backend: str) -> dict[str, Any]:
    """The whole table, in the place of what is there."""
    return _run(_orders(url, backend), folder, write_disposition="replace")


def merge(url: str, folder: str, backend: str) -> dict[str, Any]:
    """What changed since the last run by `updated_at`; everything in the first run."""
    orders = _orders(url, backend, incremental=dlt.sources.incremental("updated_at"))
    return _run(orders, folder, write_disposition="merge", primary_key="id")


def _orders(url: str, backend: str, **more: Any) -> Any:
    # Its own documentation asks for a stream where a table has more rows than a chunk.
    kwargs = {"return_type": "arrow_stream"} if backend == "connectorx" else None
    credentials = url.replace("postgresql://", "postgresql+psycopg2://", 1)
    return sql_table(
        credentials=credentials, table="orders", backend=backend, backend_kwargs=kwargs, **more
    )


def _run(orders: Any, folder: str, **how: Any) -> dict[str, Any]:
    started = perf_counter()
    pipeline = dlt.pipeline(
        pipeline_name="orders",
        pipelines_dir=str(Path(folder, "pipelines")),
        destination=dlt.destinations.duckdb(str(Path(folder, "target.duckdb"))),
        dataset_name="shop",
    )
    pipeline.run(orders, **how)
    return {"seconds": perf_counter() - started}
