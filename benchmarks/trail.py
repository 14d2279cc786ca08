"""The time to find the trail of one record among ten million checkpoints (200 batches)."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.ledger_size import (
    BATCH_ROWS,
    SEED,
    Keys,
    fill,
    ordered_integers,
    random_integers,
    random_uuids,
)
from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.checkpoints.record_id import KeyValue, RecordId

BATCHES = 200
ROUNDS = 15


def some_keys(keys: Keys, count: int) -> list[KeyValue]:
    """Keys of the first batch, spread over it: `fill` draws the same ones."""
    values = keys(np.random.default_rng(SEED), 0)
    return [values[number].as_py() for number in range(0, BATCH_ROWS, BATCH_ROWS // count)][:count]


def lookup(ledger: Ledger, key: KeyValue) -> float:
    """Milliseconds."""
    begin = time.perf_counter()
    entries = ledger.trail(RecordId("records", (key,)))
    seconds = time.perf_counter() - begin
    assert [entry.event for entry in entries] == ["loaded"]
    return seconds * 1000


def measure(keys: Keys) -> tuple[float, float, list[float]]:
    """Milliseconds of the first look-up of a fresh ledger, of an absent key, and of others."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        ledger = open_ledger(path, "benchmark")
        fill(ledger, keys, BATCHES, rising=True)
        ledger.close()
        wanted = some_keys(keys, ROUNDS + 1)
        ledger = open_ledger(path, "benchmark")
        first = lookup(ledger, wanted[0])
        others = sorted(lookup(ledger, key) for key in wanted[1:])
        begin = time.perf_counter()
        assert ledger.trail(RecordId("records", ("no such key",))) == []
        absent = (time.perf_counter() - begin) * 1000
        ledger.close()
        return first, absent, others


def main() -> None:
    print(f"Trail of one record in {BATCHES * BATCH_ROWS:,} checkpoints, {ROUNDS} look-ups, ms")
    print(f"{'keys':<18}{'first':>10}{'median':>10}{'spread':>16}{'absent':>10}")
    for keys in (ordered_integers, random_integers, random_uuids):
        first, absent, others = measure(keys)
        print(
            f"{keys.__name__.replace('_', ' '):<18}{first:>10.1f}"
            f"{statistics.median(others):>10.1f}"
            f"{f'{others[0]:.1f} to {others[-1]:.1f}':>16}{absent:>10.1f}"
        )


if __name__ == "__main__":
    main()
