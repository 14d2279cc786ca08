"""The time to find the trail of one record among ten million checkpoints."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.ledger_size import BATCH_ROWS, KINDS, SEED, Keys, fill
from benchmarks.report import Limit, Report, spread
from benchmarks.settings import Settings
from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.checkpoints.record_id import KeyValue, RecordId

RECORDS = 10_000_000
MOST_MILLISECONDS = 100


def main(settings: Settings) -> Report:
    """One ledger for each kind of key, and so many look-ups of other records in it."""
    batches = max(1, settings.rows(RECORDS) // BATCH_ROWS)
    found = {
        name: measure(keys, settings.folder, batches, settings.rounds)
        for name, (keys, _) in KINDS.items()
    }
    return Report(
        title=f"The trail of one record in {batches * BATCH_ROWS:,} checkpoints (milliseconds)",
        columns=("keys", "median", "min-max", "first", "unknown key"),
        rows=[
            (name, *spread(one["others"], 1), f"{one['first']:.1f}", f"{one['unknown']:.1f}")
            for name, one in found.items()
        ],
        limits=[
            Limit(what=name, figure=median(one["others"]), most=MOST_MILLISECONDS, unit=" ms")
            for name, one in found.items()
        ],
        notes=["The first look-up of a process also prepares the statements."],
        raw=found,
    )


def measure(keys: Keys, folder: Path, batches: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of the first look-up in a ledger, of others, and of a key that it lacks."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "ledger.db"
        ledger = open_ledger(path, "benchmark")
        fill(ledger, keys, batches, rising=True)
        ledger.close()
        wanted = some_keys(keys, rounds + 1)
        ledger = open_ledger(path, "benchmark")
        try:
            return {
                "first": lookup(ledger, wanted[0], 1),
                "others": [lookup(ledger, key, 1) for key in wanted[1:]],
                "unknown": lookup(ledger, unlike(wanted[0]), 0),
            }
        finally:
            ledger.close()


def some_keys(keys: Keys, count: int) -> list[KeyValue]:
    """Keys of the first batch, spread over it: `fill` draws the same ones."""
    values = keys(np.random.default_rng(SEED), 0)
    return [values[row].as_py() for row in np.linspace(0, BATCH_ROWS - 1, count).astype(int)]


def unlike(key: KeyValue) -> KeyValue:
    """A key of the same type that no batch holds."""
    return 2**62 + 1 if isinstance(key, int) else "00000000-0000-4000-8000-000000000000"


def lookup(ledger: Ledger, key: KeyValue, entries: int) -> float:
    """Milliseconds; raises RuntimeError when the trail has another number of entries."""
    started = perf_counter()
    trail = ledger.trail(RecordId("records", (key,)))
    seconds = perf_counter() - started
    if len(trail) != entries:
        raise RuntimeError(f"the trail of {key} has {len(trail)} entries, not {entries}")
    return seconds * 1000
