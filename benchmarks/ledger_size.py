"""Bytes per record in the ledger's file, and the time that the ledger takes, by kind of key.

Versions are constant, as cursor and snapshot captures give them, or rise by one with each change,
as a change log gives them. The whole file is counted: blobs, index, batches, free pages.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from benchmarks.report import Limit, Report, spread
from benchmarks.settings import Settings
from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.checkpoints.states import BatchKind, Manifest
from rowtrail.connectors.base import DEFAULT_BATCH_ROWS

BATCH_ROWS = DEFAULT_BATCH_ROWS
RECORDS = 1_000_000
SEED = 20_240_131

Keys = Callable[[np.random.Generator, int], pa.Array]


def ordered_integers(_random: np.random.Generator, batch: int) -> pa.Array:
    return pa.array(np.arange(batch * BATCH_ROWS, (batch + 1) * BATCH_ROWS))


def random_integers(random: np.random.Generator, _batch: int) -> pa.Array:
    return pa.array(random.integers(0, 2**63 - 1, BATCH_ROWS))


def random_uuids(random: np.random.Generator, _batch: int) -> pa.Array:
    """Version 4, as text of 36 characters."""
    octets = random.integers(0, 256, (BATCH_ROWS, 16), dtype=np.uint8)
    octets[:, 6] = octets[:, 6] & 0x0F | 0x40
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    digits = octets.tobytes().hex()
    starts = range(0, len(digits), 32)
    return pa.array([_hyphenated(digits[start : start + 32]) for start in starts])


def _hyphenated(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


MOST_BYTES: dict[Keys, float] = {ordered_integers: 8, random_integers: 8, random_uuids: 20}


KINDS: dict[str, tuple[Keys, float]] = {
    "ordered integers": (ordered_integers, 8),
    "random integers": (random_integers, 8),
    "random uuids": (random_uuids, 20),
}
"""Kinds of keys, and how many bytes a record may take."""


def manifest(batch_id: str, keys: pa.Array, first_position: int, *, rising: bool) -> Manifest:
    """All rows of the batch were updated and are going to be loaded."""
    rows = len(keys)
    zeros = np.zeros(rows, dtype=np.int64)
    positions = first_position + (np.arange(rows) if rising else zeros)
    versions = [zeros + 1, positions, zeros, zeros]
    ones = pa.array(np.ones(rows, dtype=np.uint8))
    return Manifest(
        batch_id=batch_id,
        keys=pa.RecordBatch.from_arrays([keys], names=["id"]),
        operations=ones,
        versions=pa.RecordBatch.from_arrays(
            [pa.array(part) for part in versions],
            names=["epoch", "position", "ordinal", "revision"],
        ),
        outcomes=ones,
        load_rows=pa.array(np.arange(rows, dtype=np.uint32)),
        position_after=str(first_position + rows),
    )


def fill(ledger: Ledger, keys: Keys, batches: int, *, rising: bool) -> float:
    """Checkpoints so many batches; returns the seconds that the ledger took, not the keys."""
    random = np.random.default_rng(SEED)
    run = ledger.runs.start()
    ledger.streams.begin_epoch("records", "cursor", "records")
    nothing = pa.array([], pa.uint32())
    seconds = 0.0
    for number in range(batches):
        values = keys(random, number)
        begin = time.perf_counter()
        batch = ledger.batches.open(run, "records", BatchKind.CAPTURE, 1)
        ledger.batches.prepare(
            manifest(batch.batch_id, values, 1 + number * BATCH_ROWS, rising=rising)
        )
        ledger.batches.close(batch.batch_id, nothing)
        seconds += time.perf_counter() - begin
    return seconds


def measure(keys: Keys, folder: Path, batches: int, *, rising: bool) -> tuple[float, float]:
    """Bytes per record and seconds per million records, of one ledger."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "ledger.db"
        ledger = open_ledger(path, "benchmark")
        seconds = fill(ledger, keys, batches, rising=rising)
        ledger.close()
        records = batches * BATCH_ROWS
        return path.stat().st_size / records, seconds / records * 1_000_000


def main(settings: Settings) -> Report:
    """Each round makes a ledger for every kind of key and of version."""
    batches = max(1, settings.rows(RECORDS) // BATCH_ROWS)
    rounds = [
        {
            f"{name}, versions {word}": measure(
                keys, settings.folder, batches, rising=word == "rising"
            )
            for name, (keys, _) in KINDS.items()
            for word in ("constant", "rising")
        }
        for _ in range(settings.rounds)
    ]
    sizes = {name: [one[name][0] for one in rounds] for name in rounds[0]}
    seconds = {name: [one[name][1] for one in rounds] for name in rounds[0]}
    return Report(
        title=f"The ledger of {batches * BATCH_ROWS:,} records in batches of {BATCH_ROWS:,}",
        columns=("keys", "bytes/record", "s/million", "min-max"),
        rows=[(name, f"{median(sizes[name]):.2f}", *spread(seconds[name], 3)) for name in sizes],
        limits=[
            Limit(
                what=f"{name}, bytes a record",
                figure=median(sizes[f"{name}, versions constant"]),
                most=most,
            )
            for name, (_, most) in KINDS.items()
        ],
        notes=[
            "Constant versions: cursor and snapshot captures. Rising by one: change logs.",
            "Random keys of 63 bits in the order of their changes hold 7.9 bytes of information.",
        ],
        raw={"bytes": sizes, "seconds": seconds},
    )
