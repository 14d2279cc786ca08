"""What an archive costs a first sync, and how fast a target is rebuilt from it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from benchmarks.child import import_all, measure
from benchmarks.report import Limit, Report, ratios, spread
from benchmarks.settings import Settings

ROWS = 1_000_000
MOST = 1.5
"""An archive may cost half a first sync more."""

_VARIANTS = {"with archive": True, "without": False}


def main(settings: Settings) -> Report:
    """Rounds of both, each a process of its own; every other one backwards. Each archive that was
    made is replayed into a new target, while the source is not asked."""
    rows = settings.rows(ROWS)
    source = settings.folder / "archive.db"
    measure("benchmarks.sync:prepare", source=str(source), rows=rows)
    rounds = []
    for number in range(settings.rounds):
        names = list(_VARIANTS) if number % 2 else list(reversed(_VARIANTS))
        rounds.append({name: _once(settings, source, rows, _VARIANTS[name]) for name in names})
    return _report(rows, rounds)


def _once(settings: Settings, source: Path, rows: int, archive: bool) -> dict[str, Any]:
    folder = settings.folder / "archived"
    folder.mkdir()
    told = {"source": str(source), "folder": str(folder), "rows": rows}
    try:
        synced = measure("benchmarks.archive:sync", archive=archive, **told)
        if archive:
            synced["rebuild"] = measure("benchmarks.archive:rebuild", **told)
        return synced
    finally:
        shutil.rmtree(folder)


def sync(source: str, folder: str, rows: int, archive: bool) -> dict[str, Any]:
    """Seconds of a first sync, and the bytes of its archive."""
    from benchmarks.orders import pipeline
    from rowtrail.pipelines.run import run_pipeline

    import_all()
    import pyarrow.parquet  # noqa: F401

    place = Path(folder)
    definition = pipeline(Path(source), place)
    if archive:
        definition = replace(definition, archive=str(place / "archive"))
    started, cpu_started = perf_counter(), process_time()
    result = run_pipeline(definition)
    seconds, cpu_seconds = perf_counter() - started, process_time() - cpu_started
    if result.streams["orders"].counts.loaded != rows:
        raise RuntimeError(f"the sync did not load {rows:,} rows: {result}")
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "writing": result.streams["orders"].seconds.get("archive", 0.0),
        "bytes": sum(path.stat().st_size for path in place.rglob("*.parquet")),
    }


def rebuild(source: str, folder: str, rows: int) -> dict[str, Any]:
    """Seconds until a new target is complete."""
    from benchmarks.orders import pipeline
    from rowtrail.pipelines.archive_replay import ArchiveRequest, replay_archive

    import_all()
    import pyarrow.parquet  # noqa: F401

    place = Path(folder)
    definition = replace(pipeline(Path(source), place), archive=str(place / "archive"))
    (place / "target.duckdb").unlink()
    started, cpu_started = perf_counter(), process_time()
    (result,) = replay_archive(definition, ArchiveRequest())
    seconds, cpu_seconds = perf_counter() - started, process_time() - cpu_started
    if not result.complete or result.counts.loaded != rows:
        raise RuntimeError(f"the rebuild did not load {rows:,} rows: {result}")
    return {"seconds": seconds, "cpu_seconds": cpu_seconds}


def _report(rows: int, rounds: list[dict[str, dict[str, Any]]]) -> Report:
    wall = {name: [one[name]["seconds"] for one in rounds] for name in _VARIANTS}
    cpu = {name: [one[name]["cpu_seconds"] for one in rounds] for name in _VARIANTS}
    writing = [one["with archive"]["writing"] for one in rounds]
    rebuilt = [one["with archive"]["rebuild"] for one in rounds]
    size = median(one["with archive"]["bytes"] for one in rounds)
    cost = ratios(wall["with archive"], wall["without"])
    seconds, cpu_seconds = ([one[key] for one in rebuilt] for key in ("seconds", "cpu_seconds"))
    return Report(
        title=f"First sync of {rows:,} orders of 9 columns, SQLite to DuckDB (seconds of work)",
        columns=("", "wall", "min-max", "rows/s", "CPU", "min-max"),
        rows=[
            *(
                (name, *spread(wall[name]), f"{rows / median(wall[name]):,.0f}", *spread(cpu[name]))
                for name in _VARIANTS
            ),
            (
                "ratio",
                *spread(cost),
                "",
                *spread(ratios(cpu["with archive"], cpu["without"])),
            ),
            ("of it, writing the archive", *spread(writing), "", "", ""),
            (
                "rebuild of a new target",
                *spread(seconds),
                f"{rows / median(seconds):,.0f}",
                *spread(cpu_seconds),
            ),
        ],
        limits=[Limit(what="with archive / without, wall time", figure=median(cost), most=MOST)],
        notes=[f"The archive has {size / 1e6:.1f} MB, {size / rows:.0f} bytes a row."],
        raw={"rows": rows, "rounds": rounds},
    )
