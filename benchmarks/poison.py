"""A first sync of which some rows are bad, against the same one in which none is."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from benchmarks.child import import_all, measure
from benchmarks.report import Limit, Report, ratios, spread
from benchmarks.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from rowtrail.pipelines.definition import PipelineDefinition
    from rowtrail.pipelines.results import RunResult

ROWS = 1_000_000
BAD = (0, 10, 1_000, 100_000)
ATTEMPTS = 20_000
"""The budget of a batch, as it is by default; a smaller table has a smaller one."""
_FEWEST = 40  # attempts: what naming one bad row of the smallest table takes, and some more
MOST = 1.10
"""Ten bad rows may cost 10% more wall time."""
KINDS = {
    "transform": "a transform raises",
    "check": "a value does not fit its declared type",
    "target": "a rule at the target refuses it",
}
_FITS, _DOES_NOT = 1, 40_000  # the latter is beyond int16, and beyond the rule at the target


def main(settings: Settings) -> Report:
    """Rounds of all kinds, each a process of its own that syncs once for each number of bad rows.

    Every other round goes backwards, so that each number follows each.
    """
    rows = settings.rows(ROWS)
    bad = {count: _scaled(settings, count) for count in BAD}
    attempts = max(_FEWEST, round(ATTEMPTS * settings.scale))
    source = settings.folder / "poison.db"
    measure("benchmarks.sync:prepare", source=str(source), rows=rows)
    rounds: list[dict[str, dict[int, Any]]] = []
    for number in range(settings.rounds):
        order = list(BAD) if number % 2 else list(reversed(BAD))
        found: dict[str, dict[int, Any]] = {}
        for kind in KINDS:
            done = measure(
                "benchmarks.poison:syncs",
                source=str(source),
                kind=kind,
                rows=rows,
                bad=list(dict.fromkeys(bad[count] for count in order)),
                attempts=attempts,
            )
            by_number = {one["bad"]: one for one in done["syncs"]}
            found[kind] = {count: by_number[bad[count]] for count in order}
        rounds.append(found)
    return _report(settings, rows, attempts, rounds)


def _scaled(settings: Settings, count: int) -> int:
    return count and max(1, round(count * settings.scale))


def _report(
    settings: Settings, rows: int, attempts: int, rounds: Sequence[Mapping[str, Any]]
) -> Report:
    lines: list[tuple[str, ...]] = []
    limits: list[Limit] = []
    for kind, words in KINDS.items():
        clean, clean_cpu = (
            [one[kind][0][which] for one in rounds] for which in ("seconds", "cpu_seconds")
        )
        for count in BAD:
            some = [one[kind][count] for one in rounds]
            seconds = [one["seconds"] for one in some]
            cost = ratios(seconds, clean)
            cpu = ratios([one["cpu_seconds"] for one in some], clean_cpu)
            lines.append(
                (
                    f"{words}: {_scaled(settings, count):,}",
                    *spread(seconds),
                    *spread(cost),
                    spread(cpu)[0],
                    f"{some[-1]['attempts']:,}",
                    _end(some[-1]),
                )
            )
            if count == 10:
                limits.append(
                    Limit(what=f"10 bad rows / none, {words}", figure=median(cost), most=MOST)
                )
    last = rounds[-1]
    return Report(
        title=f"First sync of {rows:,} orders, SQLite to DuckDB, of which some are bad (seconds)",
        columns=("", "wall", "min-max", "to none", "min-max", "its CPU", "attempts", "ended"),
        rows=lines,
        limits=[
            *limits,
            Limit(
                what="attempts at 100,000 values that do not fit, against none that is bad",
                figure=last["check"][100_000]["attempts"] / last["check"][0]["attempts"],
                most=1,
            ),
            Limit(
                what="attempts at a batch of 100,000 rows on which a transform raises",
                figure=last["transform"][100_000]["attempts"],
                most=attempts,
            ),
        ],
        notes=[
            "Bad rows are spread evenly, so that each batch has its share. An attempt is a call of",
            "the transform, or a load that is rolled back; a clean batch with a transform is one.",
            "Stopped: the budget of attempts for one batch is spent, and the run says so.",
        ],
        raw={"rows": rows, "rounds": rounds},
    )


def _end(one: Mapping[str, Any]) -> str:
    return "stopped" if one["error"] else f"{one['failed']:,} held back"


def syncs(source: str, kind: str, rows: int, bad: Sequence[int], attempts: int) -> dict[str, Any]:
    """What one sync after another took, with so many bad rows each, in this process."""
    import_all()
    folder = Path(source).parent
    small = folder / "small.db"
    _sync(_small_source(small), kind, 100, 1, attempts)  # all is imported and has run once
    found = [_sync(Path(source), kind, rows, count, attempts) for count in bad]
    small.unlink()
    return {"syncs": found}


def _small_source(path: Path) -> Path:
    from benchmarks.sync import prepare

    path.unlink(missing_ok=True)
    prepare(str(path), 100)
    return path


def _sync(source: Path, kind: str, rows: int, bad: int, attempts: int) -> dict[str, Any]:
    from rowtrail.pipelines.run import RunOptions, run_pipeline

    folder = Path(tempfile.mkdtemp(dir=source.parent))
    try:
        definition = _definition(source, folder, kind, rows, bad, attempts)
        options = RunOptions()
        if kind == "target":
            _make_rule(definition, folder)
            options = RunOptions(resnapshot=("orders",))
        started, cpu_started = perf_counter(), process_time()
        result = run_pipeline(definition, options)
        seconds, cpu_seconds = perf_counter() - started, process_time() - cpu_started
        spent = {"bad": bad, "seconds": seconds, "cpu_seconds": cpu_seconds}
        return {**spent, **_checked(result, rows, bad)}
    finally:
        shutil.rmtree(folder)


def _definition(
    source: Path, folder: Path, kind: str, rows: int, bad: int, attempts: int
) -> PipelineDefinition:
    from benchmarks.orders import pipeline
    from rowtrail import Breakers, transform
    from rowtrail.pipelines.transforms import from_function

    every = rows // bad if bad else rows + 1

    def raises(orders: pd.DataFrame) -> pd.DataFrame:
        if (orders["id"].to_numpy() % every == 0).any():
            raise ValueError("an order that nobody can price")
        return orders

    @transform(adds={"mark": "int16" if kind == "check" else "int32"})
    def marks(orders: pd.DataFrame) -> pd.DataFrame:
        is_bad = orders["id"].to_numpy() % every == 0
        return orders.assign(mark=is_bad * (_DOES_NOT - _FITS) + _FITS)

    definition = pipeline(source, folder)
    (orders,) = definition.streams
    step = from_function(raises if kind == "transform" else marks)
    return replace(
        definition,
        streams=(replace(orders, transforms=(step,)),),
        breakers=Breakers(failed_records=rows, attempts=attempts),
    )


def _make_rule(definition: PipelineDefinition, folder: Path) -> None:
    """The target's table, empty, with a CHECK, as somebody might have put it there."""
    import duckdb

    from benchmarks.orders import make_source
    from rowtrail.pipelines.run import run_pipeline

    make_source(folder / "empty.db", 0)
    run_pipeline(replace(definition, source=f"sqlite:///{folder / 'empty.db'}"))
    with duckdb.connect(str(folder / "target.duckdb")) as target:
        found = target.execute("SELECT sql FROM duckdb_tables() WHERE table_name = 'orders'")
        ((made,),) = found.fetchall()
        target.execute("DROP TABLE orders")
        target.execute(f"{made.rstrip(';').rstrip(')')}, CHECK (mark < {_DOES_NOT}))")


def _checked(result: RunResult, rows: int, bad: int) -> dict[str, Any]:
    """Raises RuntimeError unless each bad row was named and each other one loaded, or the breaker
    has spoken."""
    stream = result.streams["orders"]
    if stream.error is not None:
        spent = "attempts to find the bad records of one batch were not enough"
        if spent not in stream.error:
            raise RuntimeError(stream.error)
        attempts = int(stream.error.partition(spent)[0].rpartition(", ")[2].replace(",", ""))
        return {"error": stream.error, "attempts": attempts, "failed": 0}
    counts = stream.counts
    if (counts.loaded, counts.failed) != (rows - bad, bad):
        raise RuntimeError(f"not {bad:,} of {rows:,} rows failed and all others loaded: {counts}")
    return {
        "error": None,
        "attempts": stream.attempts,
        "failed": counts.failed,
        "stages": {str(stage): spent for stage, spent in stream.seconds.items()},
    }
