"""A first sync with the ledger on, with it off, and the bare copy that both rest on."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from benchmarks.child import import_all, measure
from benchmarks.report import Limit, Report, ratios, spread
from benchmarks.settings import Settings

if TYPE_CHECKING:
    from rowtrail.pipelines.opening import LedgerOpener

ROWS = 1_000_000
MOST = 1.05
"""The ledger may cost 5% more wall time."""

_VARIANTS = {
    "ledger on": "benchmarks.sync:with_ledger",
    "ledger off": "benchmarks.sync:without_ledger",
    "bare copy": "benchmarks.sync:bare_copy",
}


def main(settings: Settings) -> Report:
    """Rounds of all three variants, each a process of its own with a fresh target.

    What ran before changes what the kernel has at hand, by up to a tenth of the time: every other
    round goes through them backwards, so that each follows each.
    """
    rows = settings.rows(ROWS)
    source = settings.folder / "sync.db"
    measure("benchmarks.sync:prepare", source=str(source), rows=rows)
    rounds = []
    for number in range(settings.rounds):
        names = list(_VARIANTS) if number % 2 else list(reversed(_VARIANTS))
        rounds.append({name: _once(settings, source, rows, _VARIANTS[name]) for name in names})
    return _report(rows, rounds)


def _once(settings: Settings, source: Path, rows: int, function: str) -> dict[str, Any]:
    folder = settings.folder / "sync"
    folder.mkdir()
    try:
        return measure(function, source=str(source), folder=str(folder), rows=rows)
    finally:
        shutil.rmtree(folder)


def _report(rows: int, rounds: list[dict[str, dict[str, Any]]]) -> Report:
    seconds = {name: [one[name]["seconds"] for one in rounds] for name in _VARIANTS}
    cpu = {name: [one[name]["cpu_seconds"] for one in rounds] for name in _VARIANTS}
    on, off, bare = (seconds[name] for name in _VARIANTS)
    cpu_on, cpu_off, cpu_bare = (cpu[name] for name in _VARIANTS)
    cost = ratios(on, off)
    return Report(
        title=f"First sync of {rows:,} orders of 9 columns, SQLite to DuckDB (seconds of work)",
        columns=("", "wall", "min-max", "rows/s", "CPU", "min-max"),
        rows=[
            *(
                (name, *spread(wall), f"{rows / median(wall):,.0f}", *spread(cpu[name]))
                for name, wall in seconds.items()
            ),
            ("ledger on / off", *spread(cost, 3), "", *spread(ratios(cpu_on, cpu_off), 3)),
            (
                "ledger on / bare copy",
                *spread(ratios(on, bare)),
                "",
                *spread(ratios(cpu_on, cpu_bare)),
            ),
        ],
        limits=[Limit(what="ledger on / off, wall time", figure=median(cost), most=MOST)],
        notes=[
            "The bare copy casts and inserts the same rows, and tracks nothing. CPU is that of all",
            "threads; where other work shares the machine, its ratio is the steadier one.",
        ],
        raw={"rows": rows, "rounds": rounds},
    )


def prepare(source: str, rows: int) -> None:
    """Makes the source, its change log and its triggers."""
    from benchmarks.orders import make_source, pipeline
    from rowtrail.pipelines.capture import capture_plan, execute_at_source

    make_source(Path(source), rows)
    definition = pipeline(Path(source), Path(source).parent)
    execute_at_source(definition, capture_plan(definition, definition.streams))


def with_ledger(source: str, folder: str, rows: int) -> dict[str, Any]:
    """Seconds of a first sync as users run it."""
    from rowtrail.checkpoints.ledger import open_ledger

    return _sync(source, folder, rows, open_ledger)


def without_ledger(source: str, folder: str, rows: int) -> dict[str, Any]:
    """Seconds of the same sync with a ledger that keeps nothing."""
    from benchmarks.no_ledger import open_no_ledger

    return _sync(source, folder, rows, open_no_ledger)


def _sync(source: str, folder: str, rows: int, ledger_opener: LedgerOpener) -> dict[str, Any]:
    from benchmarks.orders import pipeline
    from rowtrail.pipelines.run import run_pipeline

    import_all()
    definition = pipeline(Path(source), Path(folder))
    started, cpu_started = perf_counter(), process_time()
    result = run_pipeline(definition, ledger_opener=ledger_opener)
    seconds, cpu_seconds = perf_counter() - started, process_time() - cpu_started
    stream = result.streams["orders"]
    if not stream.complete or stream.counts.loaded != rows:
        raise RuntimeError(f"the sync did not load {rows:,} rows: {stream}")
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "stages": {str(stage): spent for stage, spent in stream.seconds.items()},
    }


def bare_copy(source: str, folder: str, rows: int) -> dict[str, Any]:
    """Seconds that the drivers need to bring the rows over, in the target's types."""
    import_all()
    import adbc_driver_sqlite.dbapi as sqlite
    import duckdb

    started, cpu_started = perf_counter(), process_time()
    with (
        sqlite.connect(source) as connection,
        connection.cursor() as cursor,
        duckdb.connect(f"{folder}/target.duckdb") as target,
    ):
        target.execute(
            "CREATE TABLE orders (id BIGINT, customer_id BIGINT, quantity BIGINT, "
            "total DECIMAL(10, 2), weight DOUBLE, status VARCHAR, note VARCHAR, "
            "ordered_on DATE, updated_at TIMESTAMP)"
        )
        cursor.execute("SELECT * FROM orders")
        orders = cursor.fetch_record_batch()
        target.register("read", orders)
        target.execute("INSERT INTO orders SELECT * FROM read")
    seconds, cpu_seconds = perf_counter() - started, process_time() - cpu_started
    with duckdb.connect(f"{folder}/target.duckdb") as target:
        found = target.execute("SELECT count(*) FROM orders").fetchone()
    if found != (rows,):
        raise RuntimeError(f"the bare copy brought {found} rows, not {rows:,}")
    return {"seconds": seconds, "cpu_seconds": cpu_seconds}
