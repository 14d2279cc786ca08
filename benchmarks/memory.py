"""Peak memory of a first sync and of an incremental run: the table's size must not matter."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.child import measure
from benchmarks.report import Limit, Report, apart, ratios, spread
from benchmarks.settings import Settings

SMALL = 1_000_000
LARGE = 5_000_000
MOST_APART = 0.15
SHARE = 0.01
"""Of the rows, changed before the incremental run."""

_MIB = 2**20


def main(settings: Settings) -> Report:
    """In each round both tables are synced to fresh targets, changed, and synced again."""
    sizes = {f"{rows:,} rows": rows for rows in (settings.rows(SMALL), settings.rows(LARGE))}
    sources = {name: settings.folder / f"memory-{rows}.db" for name, rows in sizes.items()}
    for name, rows in sizes.items():
        measure("benchmarks.memory:prepare", source=str(sources[name]), rows=rows)
    rounds = [
        {name: _one_round(settings, source, number) for name, source in sources.items()}
        for number in range(settings.rounds)
    ]
    return _report(list(sizes), rounds)


def _one_round(settings: Settings, source: Path, number: int) -> dict[str, Any]:
    folder = settings.folder / "memory"
    folder.mkdir()
    try:
        first = measure("benchmarks.memory:sync", source=str(source), folder=str(folder))
        measure("benchmarks.memory:change", source=str(source), share=SHARE, number=number)
        again = measure("benchmarks.memory:sync", source=str(source), folder=str(folder))
    finally:
        shutil.rmtree(folder)
    return {"first": first, "again": again}


def _report(names: list[str], rounds: list[dict[str, Any]]) -> Report:
    peaks = {
        run: [[one[name][run]["peak_bytes"] / _MIB for one in rounds] for name in names]
        for run in ("first", "again")
    }
    (small, large), (small_again, large_again) = peaks["first"], peaks["again"]
    changes = [[one[name]["again"]["changes"] for one in rounds] for name in names]
    rows = [
        (name, *spread(first, 0), *spread(again, 0), f"{median(some):,.0f}")
        for name, first, again, some in zip(
            names, peaks["first"], peaks["again"], changes, strict=True
        )
    ]
    over = (*spread(ratios(large, small)), *spread(ratios(large_again, small_again)), "")
    return Report(
        title="Peak memory of a whole process (MiB)",
        columns=("", "first sync", "min-max", f"{SHARE:.0%} changed", "min-max", "changes"),
        rows=[*rows, ("large / small", *over)],
        limits=[
            Limit(
                what="difference between the tables, first sync",
                figure=100 * apart(large, small),
                most=100 * MOST_APART,
                unit="%",
            )
        ],
        raw={"rounds": rounds},
    )


def prepare(source: str, rows: int) -> None:
    """A source of so many orders."""
    from benchmarks.orders import make_source

    make_source(Path(source), rows)


def change(source: str, share: float, number: int) -> Mapping[str, Any]:
    """Changes a share of the rows."""
    from benchmarks.orders import change_source

    return {"changes": change_source(Path(source), share, number)}


def sync(source: str, folder: str) -> Mapping[str, Any]:
    """One run, the first one or a later one."""
    from benchmarks.orders import pipeline
    from rowtrail.pipelines.run import run_pipeline

    started = perf_counter()
    result = run_pipeline(pipeline(Path(source), Path(folder)))
    seconds = perf_counter() - started
    if not result.complete:
        raise RuntimeError(f"the sync was not complete: {result}")
    counts = result.streams["orders"].counts
    return {"seconds": seconds, "changes": counts.total, "deleted": counts.deleted}
