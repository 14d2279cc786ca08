"""Replay of one record from PostgreSQL, in a small table and in one of ten million rows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from benchmarks.child import import_all, measure
from benchmarks.postgres_database import note, server
from benchmarks.postgres_statements import Statements
from benchmarks.report import Limit, Report, ratios, spread
from benchmarks.settings import Settings

SMALL = 10_000
LARGE = 10_000_000
MOST_MILLISECONDS = 150.0

_PIPELINE = """
[pipeline]
name = "benchmark"
source = "{url}"
destination = "duckdb:///target.duckdb"
ledger = "ledger.db"
install_capture = true
slot = "orders_{rows}"

[streams.orders]
capture = "log"
"""


def main(settings: Settings) -> Report:
    """In each round another record is replayed in each table, as work and as command."""
    sizes = [settings.rows(SMALL), settings.rows(LARGE)]
    with (
        server() as postgres,
        postgres.database("small") as small,
        postgres.database("large") as large,
    ):
        tables = {}
        for url, rows in zip((small, large), sizes, strict=True):
            folder = settings.folder / f"replay-{rows}"
            _prepare(folder, url, rows)
            tables[f"{rows:,} rows"] = (folder, Statements(postgres.folder / "log", url), rows)
        rounds = [
            {
                name: _one_round(folder, statements, rows // 2 + 2 * number)
                for name, (folder, statements, rows) in tables.items()
            }
            for number in range(settings.rounds)
        ]
        return _report(list(tables), rounds, note(small))


def _prepare(folder: Path, url: str, rows: int) -> None:
    folder.mkdir()
    (folder / "rowtrail.toml").write_text(_PIPELINE.format(url=url, rows=rows))
    measure("benchmarks.postgres_orders:make_table", url=url, rows=rows)
    measure("benchmarks.postgres_replay:load", folder=str(folder), rows=rows)


def _one_round(folder: Path, statements: Statements, key: int) -> dict[str, Any]:
    with statements.counted() as counts:
        work = measure("benchmarks.postgres_replay:replay_one", folder=str(folder), key=key)
    return {**work, **counts, "command": _command(folder, key + 1)}


def _command(folder: Path, key: int) -> float:
    """Milliseconds of the whole command."""
    command = [sys.executable, "-m", "rowtrail", "replay", "orders", str(key), "--json"]
    os.sync()
    started = perf_counter()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True, text=True)
    seconds = perf_counter() - started
    _check_loaded(done.stdout, key)
    return seconds * 1000


def load(folder: str, rows: int) -> None:
    """The first sync."""
    from rowtrail import Pipeline

    result = Pipeline.from_file(Path(folder, "rowtrail.toml")).run()
    if not result.complete or result.streams["orders"].loaded != rows:
        raise RuntimeError(f"the first sync did not load {rows:,} rows: {result}")


def replay_one(folder: str, key: int) -> Mapping[str, Any]:
    """Milliseconds of one replay, in this process."""
    from rowtrail import Pipeline

    import_all("postgres")
    started, cpu_started = perf_counter(), process_time()
    result = Pipeline.from_file(Path(folder, "rowtrail.toml")).replay("orders", key)
    seconds, cpu_seconds = perf_counter() - started, process_time() - cpu_started
    _check_loaded(result.text, key)
    return {"work": seconds * 1000, "work_cpu": cpu_seconds * 1000}


def _check_loaded(text: str, key: int) -> None:
    if "1 loaded" not in text:
        raise RuntimeError(f"order {key} was not loaded by its replay: {text}")


def _report(names: list[str], rounds: list[dict[str, dict[str, Any]]], server: str) -> Report:
    figures = {
        kind: [[one[name][kind] for one in rounds] for name in names]
        for kind in ("work", "work_cpu", "command", "reads", "scans", "statements")
    }
    timed = [figures[kind] for kind in ("work", "work_cpu", "command")]
    counted = [figures[kind] for kind in ("reads", "scans", "statements")]
    return Report(
        title="Replay of one record from PostgreSQL (milliseconds)",
        columns=(
            *("", "work", "min-max", "its CPU", "min-max", "command", "min-max"),
            *("reads", "scans", "statements"),
        ),
        rows=[
            *(
                (
                    name,
                    *(cell for kind in timed for cell in spread(kind[row], 0)),
                    *(f"{max(kind[row])}" for kind in counted),
                )
                for row, name in enumerate(names)
            ),
            (
                "large / small",
                *(cell for small, large in timed for cell in spread(ratios(large, small))),
                *("", "", ""),
            ),
        ],
        limits=[
            limit
            for row, name in enumerate(names)
            for limit in (
                Limit(
                    what=f"work at {name}",
                    figure=median(figures["work"][row]),
                    most=MOST_MILLISECONDS,
                    unit=" ms",
                ),
                Limit(
                    what=f"statements that read the table at {name}",
                    figure=max(figures["reads"][row]),
                    most=1,
                ),
            )
        ],
        notes=[
            server,
            "Work is all but interpreter start and imports. The command is `rowtrail replay orders",
            "KEY` as a whole. Reads are the statements that read the table, scans what the server",
            "did for them, both with the log of all statements on; the other statements are of",
            "catalogs and settings.",
        ],
        raw={"rounds": rounds},
    )
