"""PostgreSQL's log, from the slot to the target, beside Debezium's engine that only reads it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from benchmarks.child import Interpreter, measure
from benchmarks.peers.environments import peer
from benchmarks.postgres_changes import CHANGES_PER_HUNDRED
from benchmarks.postgres_database import note, server
from benchmarks.postgres_orders import ROWS, SLOT
from benchmarks.report import Limit, Report, ratios, spread
from benchmarks.settings import Settings

LEAST_CHANGES_PER_SECOND = 50_000
LEAST_FASTER = 5.0

_OURS, _THEIRS = "rowtrail, applied", "Debezium, only read"
_THEIR_SLOT = "benchmark_beside"

Run = Callable[[], dict[str, Any]]


def main(settings: Settings) -> Report:
    """In each round 300,000 changes are committed, then read from two slots, by turns first."""
    rows = settings.rows(ROWS) // 100 * 100
    debezium = peer("debezium") if settings.peers else None
    folder = settings.folder / "log"
    folder.mkdir()
    with server() as postgres, postgres.database("shop") as url:
        measure("benchmarks.postgres_orders:make_table", url=url, rows=rows)
        measure("benchmarks.postgres_orders:sync", url=url, folder=str(folder))
        rounds = [
            _one_round(url, folder, rows, number, debezium) for number in range(settings.rounds)
        ]
        return _report(rows, rounds, note(url))


def _one_round(
    url: str, folder: Path, rows: int, number: int, debezium: Interpreter | None
) -> dict[str, dict[str, Any]]:
    """Rowtrail's slot has nothing to give when the other one is made: both then hold the same."""
    runs: dict[str, Run] = {_OURS: partial(_apply, url, folder)}
    measure("benchmarks.postgres_orders:sync", url=url, folder=str(folder))
    if debezium:
        _execute(url, f"SELECT pg_create_logical_replication_slot('{_THEIR_SLOT}', 'pgoutput')")
        runs[_THEIRS] = partial(_read, url, folder / "debezium", rows, debezium)
    measure("benchmarks.postgres_changes:traffic", url=url, rows=rows, number=number)
    names = list(runs) if number % 2 else list(reversed(runs))
    measured = {name: runs[name]() for name in names}
    if debezium:
        _execute(url, f"SELECT pg_drop_replication_slot('{_THEIR_SLOT}')")
    measure("benchmarks.postgres_orders:vacuum", url=url)
    return measured


def _apply(url: str, folder: Path) -> dict[str, Any]:
    measured = measure("benchmarks.postgres_orders:sync", url=url, folder=str(folder))
    target = str(folder / "target.duckdb")
    measure("benchmarks.postgres_compare:check_same", url=url, target=target)
    return measured


def _read(url: str, folder: Path, rows: int, debezium: Interpreter) -> dict[str, Any]:
    folder.mkdir()
    try:
        return measure(
            "benchmarks.peers.debezium_log:read_slot",
            interpreter=debezium,
            url=url,
            folder=str(folder),
            slot=_THEIR_SLOT,
            publication=SLOT,
            changes=rows // 100 * CHANGES_PER_HUNDRED,
        )
    finally:
        shutil.rmtree(folder)


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def _report(rows: int, rounds: list[dict[str, dict[str, Any]]], server: str) -> Report:
    changes = rows // 100 * CHANGES_PER_HUNDRED
    names = [name for name in (_OURS, _THEIRS) if name in rounds[0]]
    seconds = {
        name: {kind: [one[name][kind] for one in rounds] for kind in ("seconds", "process_seconds")}
        for name in names
    }
    speed = [changes / spent for spent in seconds[_OURS]["process_seconds"]]
    limits = [
        Limit(
            what="changes a second, whole process",
            figure=median(speed),
            least=LEAST_CHANGES_PER_SECOND,
        )
    ]
    rows_shown = [
        (
            name,
            *spread(spent["process_seconds"]),
            *spread(spent["seconds"]),
            f"{changes / median(spent['process_seconds']):,.0f}",
            f"{changes / median(spent['seconds']):,.0f}",
        )
        for name, spent in seconds.items()
    ]
    if _THEIRS in seconds:
        theirs, ours = seconds[_THEIRS], seconds[_OURS]
        whole = ratios(theirs["process_seconds"], ours["process_seconds"])
        inside = ratios(theirs["seconds"], ours["seconds"])
        rows_shown.append(("Debezium / rowtrail", *spread(whole), *spread(inside), "", ""))
        limits.append(
            Limit(
                what="Debezium / rowtrail, seconds of work",
                figure=median(inside),
                least=LEAST_FASTER,
            )
        )
    return Report(
        title=f"{changes:,} changes of PostgreSQL's log in {rows // 100:,} transactions, with "
        f"{rows:,} orders in the target (seconds)",
        columns=("", "process", "min-max", "work", "min-max", "changes/s", "of work"),
        rows=rows_shown,
        limits=limits,
        notes=[
            server,
            "Rowtrail reads, merges into DuckDB and checkpoints; Debezium's engine reads the same",
            "log from a slot of its own, and what it read goes nowhere. Its work is from the start",
            "of the engine to the last change.",
        ],
        raw={"rows": rows, "changes": changes, "rounds": rounds},
    )
