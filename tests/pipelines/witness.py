"""What the ledger and the target say of single records, for tests that compare the two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import HELD_BACK, BatchRecord, FailureState, TrailEntry
from tests.pipelines.world import World

OUTCOMES = ("loaded", "filtered", "folded", "superseded", "failed")
"""The events of a trail that say what became of a change."""
VERSION = "_rowtrail_epoch, _rowtrail_position, _rowtrail_ordinal, _rowtrail_revision"

Version = tuple[int, int, int, int]


@contextmanager
def ledger_of(world: World) -> Iterator[Ledger]:
    ledger = open_ledger(world.ledger, "test")
    try:
        yield ledger
    finally:
        ledger.close()


def record(key: int, stream: str = "orders") -> RecordId:
    return RecordId(stream, (key,))


def outcomes(ledger: Ledger, key: int, stream: str = "orders") -> list[TrailEntry]:
    """The trail of a record, less what people asked for and how failures ended."""
    trail = ledger.trail(record(key, stream))
    assert all(entry.event != "in flight" for entry in trail), "a batch was left unfinished"
    return [entry for entry in trail if entry.event in OUTCOMES]


def held_back(ledger: Ledger, stream: str = "orders") -> dict[int, FailureState]:
    found = ledger.failures.list(stream=stream, states=HELD_BACK)
    by_key = {failure.record_id.key[0]: failure.state for failure in found}
    assert len(by_key) == len(found), "a record is held back twice"
    return by_key


def batches(ledger: Ledger, stream: str = "orders") -> list[BatchRecord]:
    """All batches, the oldest first."""
    return ledger.batches.recent(stream, limit=100_000)[::-1]


def versions(world: World, table: str = "orders") -> dict[int, Version]:
    """The version of each key at the target, soft-deleted ones and tombstones included."""
    found: dict[int, Version] = {}
    for name in (table, f"_rowtrail_tombstones_{table}"):
        for key, *version in world.query(f"SELECT id, {VERSION} FROM {name}"):
            # A row that a transform dropped may have both, when deletes are soft.
            assert found.setdefault(key, tuple(version)) == tuple(version)
    return found
