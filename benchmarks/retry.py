"""Retry of one failed record, in a small table and in a large one: it must take the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from benchmarks.child import import_all, measure
from benchmarks.report import Limit, Report, apart, ratios, spread
from benchmarks.settings import Settings

SMALL = 10_000
LARGE = 1_000_000
MOST_APART = 0.30
MOST_MILLISECONDS = 150.0

_PIPELINE = """
[pipeline]
name = "benchmark"
source = "sqlite:///source.db"
destination = "duckdb:///target.duckdb"
ledger = "ledger.db"
install_capture = true

[streams.orders]
capture = "trigger"
transforms = ["checks:known_status"]
"""
_BROKEN = """
def known_status(orders):
    if (orders["status"] == "on hold").any():
        raise ValueError("an order has a status that is not known")
    return orders
"""
_MENDED = """
def known_status(orders):
    return orders
"""


def main(settings: Settings) -> Report:
    """In each round a record fails and is retried, twice in each table: as work and as command."""
    sizes = [settings.rows(SMALL), settings.rows(LARGE)]
    tables = {f"{rows:,} rows": _prepared(settings, rows) for rows in sizes}
    rounds = [
        {name: _one_round(folder, number) for name, folder in tables.items()}
        for number in range(settings.rounds)
    ]
    return _report(list(tables), rounds)


def _report(names: list[str], rounds: list[dict[str, dict[str, float]]]) -> Report:
    work = [[one[name]["work"] for one in rounds] for name in names]
    cpu = [[one[name]["work_cpu"] for one in rounds] for name in names]
    command = [[one[name]["command"] for one in rounds] for name in names]
    return Report(
        title="Retry of one failed record (milliseconds)",
        columns=("", "work", "min-max", "its CPU", "min-max", "command", "min-max"),
        rows=[
            *(
                (name, *spread(inside, 0), *spread(busy, 0), *spread(whole, 0))
                for name, inside, busy, whole in zip(names, work, cpu, command, strict=True)
            ),
            (
                "large / small",
                *(cell for small, large in (work, cpu, command) for cell in _ratio(large, small)),
            ),
        ],
        limits=[
            Limit(
                what="difference between the tables, work",
                figure=100 * apart(*work),
                most=100 * MOST_APART,
                unit="%",
            ),
            *(
                Limit(
                    what=f"work at {name}", figure=median(one), most=MOST_MILLISECONDS, unit=" ms"
                )
                for name, one in zip(names, work, strict=True)
            ),
        ],
        notes=[
            "Work is all but interpreter start and imports: ledger, source and target opened, the",
            "stages, the merge, all closed. The command is `rowtrail retry orders KEY` as a whole.",
        ],
        raw={"rounds": rounds},
    )


def _ratio(large: list[float], small: list[float]) -> tuple[str, str]:
    return spread(ratios(large, small))


def _prepared(settings: Settings, rows: int) -> Path:
    folder = settings.folder / f"retry-{rows}"
    folder.mkdir()
    (folder / "rowtrail.toml").write_text(_PIPELINE)
    measure("benchmarks.retry:prepare", folder=str(folder), rows=rows)
    return folder


def _one_round(folder: Path, number: int) -> dict[str, float]:
    """Each time another record fails, and its transform is mended before the retry."""
    milliseconds: dict[str, float] = {}
    for retry in (_work, _command):
        (folder / "checks.py").write_text(_BROKEN)
        failed = measure("benchmarks.retry:let_one_fail", folder=str(folder), number=number)
        (folder / "checks.py").write_text(_MENDED)
        milliseconds |= retry(folder, failed["key"])
    return milliseconds


def _work(folder: Path, key: int) -> dict[str, float]:
    found = measure("benchmarks.retry:retry_one", folder=str(folder), key=key)
    return {name: found[name] for name in ("work", "work_cpu")}


def _command(folder: Path, key: int) -> dict[str, float]:
    command = [sys.executable, "-m", "rowtrail", "retry", "orders", str(key), "--json"]
    os.sync()
    started = perf_counter()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True, text=True)
    seconds = perf_counter() - started
    _check_loaded(str(json.loads(done.stdout)), key)
    return {"command": seconds * 1000}


def prepare(folder: str, rows: int) -> None:
    """A source of so many orders, all of them loaded."""
    from benchmarks.orders import make_source
    from rowtrail import Pipeline

    make_source(Path(folder, "source.db"), rows)
    Path(folder, "checks.py").write_text(_MENDED)
    result = Pipeline.from_file(Path(folder, "rowtrail.toml")).run()
    if not result.complete or result.streams["orders"].loaded != rows:
        raise RuntimeError(f"the first sync did not load {rows:,} rows: {result}")


def let_one_fail(folder: str, number: int) -> Mapping[str, Any]:
    """Gives an order in the middle of the table a value that the transform refuses."""
    import sqlite3
    from contextlib import closing

    from rowtrail import Pipeline

    with closing(sqlite3.connect(Path(folder, "source.db"))) as connection, connection:
        (last,) = connection.execute("SELECT max(id) FROM orders").fetchone()
        key = last // 2 + number
        connection.execute("UPDATE orders SET status = 'on hold' WHERE id = ?", (key,))
    result = Pipeline.from_file(Path(folder, "rowtrail.toml")).run()
    if [one.record for one in result.failed_records] != [f"orders:{key}"]:
        raise RuntimeError(f"not order {key} alone failed: {result}")
    return {"key": key}


def retry_one(folder: str, key: int) -> Mapping[str, Any]:
    """Milliseconds of one retry, in this process."""
    from rowtrail import Pipeline

    import_all()
    started, cpu_started = perf_counter(), process_time()
    (result,) = Pipeline.from_file(Path(folder, "rowtrail.toml")).retry("orders", key)
    seconds, cpu_seconds = perf_counter() - started, process_time() - cpu_started
    _check_loaded(result.text, key)
    return {"work": seconds * 1000, "work_cpu": cpu_seconds * 1000}


def _check_loaded(text: str, key: int) -> None:
    if "1 loaded" not in text:
        raise RuntimeError(f"order {key} was not loaded by its retry: {text}")
