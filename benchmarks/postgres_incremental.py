"""A later run: 1% of PostgreSQL's orders updated, 1% inserted, 0.5% deleted, beside dlt's merge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.child import measure
from benchmarks.peers.environments import peer
from benchmarks.postgres_database import note, server
from benchmarks.postgres_orders import ROWS
from benchmarks.report import Limit, Report, ratios, spread
from benchmarks.settings import Settings

LEAST_FASTER = 2.0
WRONG = ("ghosts", "missing", "stale")

_OURS, _THEIRS = "rowtrail", "dlt, merge"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A target that is kept up to date over all rounds."""

    run: Callable[..., dict[str, Any]]  # the first run loads everything, a later one the changes
    url: str
    folder: Path

    def __call__(self) -> dict[str, Any]:
        return self.run(url=self.url, folder=str(self.folder))

    def wrong_rows(self) -> dict[str, int]:
        target = str(self.folder / "target.duckdb")
        found = measure("benchmarks.postgres_compare:compare", url=self.url, target=target)
        return {kind: found[kind] for kind in WRONG}


def main(settings: Settings) -> Report:
    """In each round other rows change, and each target is brought up to date, by turns first."""
    rows = settings.rows(ROWS) // 100 * 100
    with server() as postgres, postgres.database("shop") as url:
        measure("benchmarks.postgres_orders:make_table", url=url, rows=rows)
        variants = _variants(settings, url)
        for variant in variants.values():
            variant.folder.mkdir()
            variant()
        rounds = [_one_round(variants, url, rows, number) for number in range(settings.rounds)]
        return _report(rows, list(variants), rounds, note(url))


def _variants(settings: Settings, url: str) -> dict[str, Variant]:
    sync = partial(measure, "benchmarks.postgres_orders:sync")
    runs: dict[str, Callable[..., dict[str, Any]]] = {_OURS: sync}
    if settings.peers:
        merge = partial(measure, "benchmarks.peers.dlt_orders:merge", interpreter=peer("dlt"))
        runs[_THEIRS] = partial(merge, backend="connectorx")
    return {
        name: Variant(run=run, url=url, folder=settings.folder / f"incremental-{number}")
        for number, (name, run) in enumerate(runs.items())
    }


def _one_round(
    variants: dict[str, Variant], url: str, rows: int, number: int
) -> dict[str, dict[str, Any]]:
    """What was deleted in this round and is still there afterwards is a ghost of this round."""
    changed = measure("benchmarks.postgres_changes:increment", url=url, rows=rows, number=number)
    names = list(variants) if number % 2 else list(reversed(variants))
    measured = {name: variants[name]() for name in names}
    measure("benchmarks.postgres_orders:vacuum", url=url)
    return {
        "changed": changed,
        **{name: {**measured[name], **variants[name].wrong_rows()} for name in variants},
    }


def _report(
    rows: int, names: list[str], rounds: list[dict[str, dict[str, Any]]], server: str
) -> Report:
    def figures(name: str, kind: str) -> list[float]:
        return [one[name][kind] for one in rounds]

    whole = {name: figures(name, "process_seconds") for name in names}
    inside = {name: figures(name, "seconds") for name in names}
    changed = rounds[0]["changed"]
    faster = {name: ratios(whole[name], whole[_OURS]) for name in names if name == _THEIRS}
    return Report(
        title=f"A run after {changed['updated']:,} updates, {changed['inserted']:,} inserts and "
        f"{changed['deleted']:,} deletes in {rows:,} orders, PostgreSQL to DuckDB (seconds)",
        columns=("", "process", "min-max", "work", "min-max", "ghosts", "missing", "stale"),
        rows=[
            *(
                (
                    name,
                    *spread(whole[name]),
                    *spread(inside[name]),
                    *(f"{rounds[0][name][kind]:,}" for kind in WRONG),
                )
                for name in names
            ),
            *(
                (
                    f"{name} / {_OURS}",
                    *spread(ratio),
                    *spread(ratios(inside[name], inside[_OURS])),
                    *("", "", ""),
                )
                for name, ratio in faster.items()
            ),
        ],
        limits=[
            Limit(
                what=f"wrong rows in the target of {_OURS}, of all rounds",
                figure=sum(max(figures(_OURS, kind)) for kind in WRONG),
                most=0,
            ),
            *(
                Limit(
                    what=f"{name} / {_OURS}, whole processes",
                    figure=median(ratio),
                    least=LEAST_FASTER,
                )
                for name, ratio in faster.items()
            ),
        ],
        notes=[
            server,
            "Ghosts are rows that the source no longer has, after the first round. dlt looks for",
            "changes by `updated_at`, which says nothing of deletes.",
        ],
        raw={"rows": rows, "rounds": rounds},
    )
