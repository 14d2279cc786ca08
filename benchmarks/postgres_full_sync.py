"""A first sync of PostgreSQL's orders into a DuckDB file, beside dlt and a bare copy by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.child import measure
from benchmarks.peers.environments import peer
from benchmarks.postgres_database import note, server
from benchmarks.postgres_orders import ROWS
from benchmarks.report import Limit, Report, ratios, spread
from benchmarks.settings import Settings

LEAST_FASTER = {"dlt, pyarrow": 4.0, "dlt, connectorx": 2.0}
MOST_OVER_BARE_COPY = 1.3

_OURS, _BARE = "rowtrail", "bare copy"
_MIB = 2**20

Variant = Callable[..., dict[str, Any]]  # is told url and folder, leaves target.duckdb there


def main(settings: Settings) -> Report:
    """Rounds of all variants, each a process of its own with a fresh target.

    Every other round goes through them backwards, so that each follows each.
    """
    rows = settings.rows(ROWS)
    variants = _variants(settings)
    with server() as postgres, postgres.database("shop") as url:
        made = measure("benchmarks.postgres_orders:make_table", url=url, rows=rows)
        rounds = []
        for number in range(settings.rounds):
            names = list(variants) if number % 2 else list(reversed(variants))
            rounds.append({name: _once(settings, variants[name], url) for name in names})
        return _report(rows, made["bytes"], list(variants), rounds, note(url))


def _variants(settings: Settings) -> dict[str, Variant]:
    variants: dict[str, Variant] = {
        _OURS: _first_sync,
        _BARE: partial(measure, "benchmarks.postgres_full_sync:copy"),
    }
    if settings.peers:
        replace = partial(measure, "benchmarks.peers.dlt_orders:replace", interpreter=peer("dlt"))
        for backend in ("connectorx", "pyarrow"):
            variants[f"dlt, {backend}"] = partial(replace, backend=backend)
    return variants


def first_sync(settings: Settings, url: str) -> dict[str, Any]:
    """One first sync of the orders there, with nothing left behind but its figures."""
    return _once(settings, _first_sync, url)


def _once(settings: Settings, variant: Variant, url: str) -> dict[str, Any]:
    folder = settings.folder / "first"
    folder.mkdir()
    try:
        measured = variant(url=url, folder=str(folder))
        target = str(folder / "target.duckdb")
        measure("benchmarks.postgres_compare:check_same", url=url, target=target)
    finally:
        shutil.rmtree(folder)
    return measured


def _first_sync(url: str, folder: str) -> dict[str, Any]:
    """Publication and slot are made before, and taken away after: they are made but once."""
    measure("benchmarks.postgres_orders:install", url=url, folder=folder)
    try:
        return measure("benchmarks.postgres_orders:sync", url=url, folder=folder)
    finally:
        measure("benchmarks.postgres_orders:remove", url=url, folder=folder)


def copy(url: str, folder: str) -> dict[str, Any]:
    """Seconds that the drivers need to bring the rows over as they come, one stream of them."""
    import adbc_driver_postgresql.dbapi as postgres
    import duckdb

    started = perf_counter()
    with (
        postgres.connect(url) as connection,
        connection.cursor() as cursor,
        duckdb.connect(f"{folder}/target.duckdb") as target,
    ):
        cursor.execute("SELECT * FROM orders")
        target.register("read", cursor.fetch_record_batch())
        # ADBC has numeric as text; to cast it takes next to nothing.
        target.execute(
            "CREATE TABLE orders AS SELECT * REPLACE (total::DECIMAL(12, 2) AS total) FROM read"
        )
    return {"seconds": perf_counter() - started}


def _report(
    rows: int, size: int, names: list[str], rounds: list[dict[str, dict[str, Any]]], server: str
) -> Report:
    def figures(name: str, kind: str) -> list[float]:
        return [one[name][kind] for one in rounds]

    whole = {name: figures(name, "process_seconds") for name in names}
    inside = {name: figures(name, "seconds") for name in names}
    cells = [
        (
            name,
            *spread(whole[name]),
            *spread(inside[name]),
            *spread(figures(name, "process_cpu_seconds")),
            f"{max(figures(name, 'peak_bytes')) / _MIB:,.0f}",
        )
        for name in names
    ]
    faster = {name: ratios(whole[name], whole[_OURS]) for name in names if name in LEAST_FASTER}
    over = ratios(whole[_OURS], whole[_BARE])
    return Report(
        title=f"First sync of {rows:,} orders of 9 columns, {size / _MIB:,.0f} MiB, PostgreSQL to "
        "DuckDB (seconds)",
        columns=("", "process", "min-max", "work", "min-max", "its CPU", "min-max", "peak MiB"),
        rows=[
            *cells,
            _ratio_cells(f"{_OURS} / {_BARE}", over, ratios(inside[_OURS], inside[_BARE])),
            *(
                _ratio_cells(f"{name} / {_OURS}", ratio, ratios(inside[name], inside[_OURS]))
                for name, ratio in faster.items()
            ),
        ],
        limits=[
            Limit(
                what=f"{_OURS} / {_BARE}, whole processes",
                figure=median(over),
                most=MOST_OVER_BARE_COPY,
            ),
            *(
                Limit(
                    what=f"{name} / {_OURS}, whole processes",
                    figure=median(ratio),
                    least=LEAST_FASTER[name],
                )
                for name, ratio in faster.items()
            ),
        ],
        notes=[
            server,
            "The bare copy is one ADBC cursor into CREATE TABLE AS; it tracks nothing. Work is the",
            "process without its start: no interpreter, but what is imported when it is used.",
        ],
        raw={"rows": rows, "rounds": rounds},
    )


def _ratio_cells(name: str, whole: list[float], inside: list[float]) -> tuple[str, ...]:
    return (name, *spread(whole), *spread(inside), "", "", "")
