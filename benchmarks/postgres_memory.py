"""Peak memory of a first sync from PostgreSQL: the table's size must not matter."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.child import measure
from benchmarks.postgres_database import note, server
from benchmarks.postgres_full_sync import first_sync
from benchmarks.postgres_orders import ROWS
from benchmarks.report import Limit, Report, apart, ratios, spread
from benchmarks.settings import Settings

LARGE = 4 * ROWS
MOST_MEGABYTES = 450.0
MOST_APART = 0.15

_MB = 10**6


def main(settings: Settings) -> Report:
    """In each round both tables are synced to fresh targets."""
    sizes = [settings.rows(rows) for rows in (ROWS, LARGE)]
    with (
        server() as postgres,
        postgres.database("small") as small,
        postgres.database("large") as large,
    ):
        tables = list(zip((small, large), sizes, strict=True))
        for url, rows in tables:
            measure("benchmarks.postgres_orders:make_table", url=url, rows=rows)
        rounds = [
            {f"{rows:,} rows": first_sync(settings, url) for url, rows in tables}
            for _ in range(settings.rounds)
        ]
        return _report(rounds, note(small))


def _report(rounds: list[dict[str, dict[str, Any]]], server: str) -> Report:
    names = list(rounds[0])
    peaks = [[one[name]["peak_bytes"] / _MB for one in rounds] for name in names]
    seconds = [[one[name]["process_seconds"] for one in rounds] for name in names]
    small, large = peaks
    return Report(
        title="Peak memory of a first sync from PostgreSQL, the whole process (MB)",
        columns=("", "peak", "min-max", "seconds", "min-max"),
        rows=[
            *(
                (name, *spread(peak, 0), *spread(spent, 1))
                for name, peak, spent in zip(names, peaks, seconds, strict=True)
            ),
            ("large / small", *spread(ratios(large, small)), *spread(ratios(*reversed(seconds)))),
        ],
        limits=[
            *(
                Limit(what=f"peak at {name}", figure=median(peak), most=MOST_MEGABYTES, unit=" MB")
                for name, peak in zip(names, peaks, strict=True)
            ),
            Limit(
                what="difference between the tables",
                figure=100 * apart(large, small),
                most=100 * MOST_APART,
                unit="%",
            ),
        ],
        notes=[server],
        raw={"rounds": rounds},
    )
