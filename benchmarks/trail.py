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
from benchmarks.report import Limit, Report, spread
from benchmarks.settings import Settings
from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.checkpoints.record_id import KeyValue, RecordId

BATCHES = 200
LOOKUPS = 15
MOST = 100.0
"""Milliseconds that the trail of one record may take."""


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


def measure(settings: Settings, keys: Keys) -> tuple[float, float, list[float]]:
    """Milliseconds of the first look-up of a fresh ledger, of an absent key, and of others."""
    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        path = Path(folder) / "ledger.db"
        ledger = open_ledger(path, "benchmark")
        fill(ledger, keys, _batches(settings), rising=True)
        ledger.close()
        wanted = some_keys(keys, LOOKUPS + 1)
        ledger = open_ledger(path, "benchmark")
        first = lookup(ledger, wanted[0])
        others = [lookup(ledger, key) for key in wanted[1:]]
        begin = time.perf_counter()
        assert ledger.trail(RecordId("records", ("no such key",))) == []
        absent = (time.perf_counter() - begin) * 1000
        ledger.close()
        return first, absent, others


def main(settings: Settings) -> Report:
    """Each kind of key: its ledger is filled once and asked many times."""
    rows: list[tuple[str, ...]] = []
    limits: list[Limit] = []
    raw: dict[str, list[float]] = {}
    for keys in (ordered_integers, random_integers, random_uuids):
        name = keys.__name__.replace("_", " ")
        first, absent, others = measure(settings, keys)
        rows.append((name, f"{first:.1f}", *spread(others, 1), f"{absent:.1f}"))
        figure = max(first, statistics.median(others))
        limits.append(Limit(what=f"trail, {name}", figure=figure, most=MOST, unit=" ms"))
        raw[name] = [first, *others]
    records = _batches(settings) * BATCH_ROWS
    return Report(
        title=f"Trail of one record among {records:,} checkpoints, {LOOKUPS} look-ups (ms)",
        columns=("keys", "first", "median", "min-max", "absent key"),
        rows=rows,
        limits=limits,
        raw=raw,
    )


def _batches(settings: Settings) -> int:
    return max(1, round(BATCHES * settings.scale))
