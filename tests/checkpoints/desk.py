"""Short words for what the tests of ledgers do over and over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.record_id import KeyValue, RecordId
from rowtrail.checkpoints.states import (
    BatchKind,
    BatchRecord,
    FailureEnd,
    FailureState,
    Manifest,
    NewFailure,
    Outcome,
    Stage,
    VersionTuple,
)

NOTHING = pa.array([], pa.uint32())
NOON = datetime(2024, 1, 31, 12, tzinfo=UTC)


@dataclass
class FakeClock:
    """Moves a millisecond with each look, and as far as it is told."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def record(*key: KeyValue, stream: str = "orders") -> RecordId:
    return RecordId(stream, key)


def version(position: int) -> VersionTuple:
    return (1, position, 0, 0)


def failure(
    key: int,
    position: int,
    *,
    state: FailureState = FailureState.FAILED,
    stage: Stage = Stage.TRANSFORM,
    message: str = "no such country",
    extracted: bytes | None = b"extracted",
    transformed: bytes | None = None,
    **more: Any,
) -> NewFailure:
    values: dict[str, Any] = {
        "record_id": record(key),
        "operation": 2,
        "version": version(position),
        "stage": stage,
        "error_class": "ValueError",
        "message": message,
        "fingerprint": f"{stage}/{message}",
        "code_fingerprint": "code",
        "extracted": extracted,
        "transformed": transformed,
        "state": state,
    }
    return NewFailure(**values | more)


def end(
    failure_id: int,
    state: FailureState = FailureState.LOADED,
    decision_id: int | None = None,
) -> FailureEnd:
    return FailureEnd(failure_id=failure_id, state=state, decision_id=decision_id)


def manifest(
    batch_id: str,
    keys: Sequence[int],
    position: int,
    *,
    load: Sequence[int] | None = None,
    **more: Any,
) -> Manifest:
    """All keys at one position, loaded in the order given unless `load` says otherwise."""
    rows = len(keys)
    parts = np.zeros((4, rows), dtype=np.int64)
    parts[0], parts[1] = 1, position
    load = range(rows) if load is None else load
    values: dict[str, Any] = {
        "keys": pa.RecordBatch.from_arrays([pa.array(keys, pa.int64())], names=["id"]),
        "operations": pa.array(np.full(rows, 2, dtype=np.uint8)),
        "versions": pa.RecordBatch.from_arrays(
            [pa.array(part) for part in parts],
            names=["epoch", "position", "ordinal", "revision"],
        ),
        "outcomes": pa.array(np.full(rows, Outcome.LOADED, dtype=np.uint8)),
        "load_rows": pa.array(load, pa.uint32()),
        "position_after": f"after {position}",
    }
    return Manifest(batch_id=batch_id, **values | more)


@dataclass
class Desk:
    """A ledger with a run and the stream `orders`."""

    ledger: Ledger
    run: str = field(init=False)

    def __post_init__(self) -> None:
        self.run = self.ledger.runs.start()
        if self.ledger.streams.get("orders") is None:
            self.ledger.streams.begin_epoch("orders", "cursor", "orders")

    def open(self, kind: BatchKind = BatchKind.CAPTURE, stream: str = "orders") -> BatchRecord:
        record = self.ledger.streams.get(stream)
        assert record is not None
        return self.ledger.batches.open(self.run, stream, kind, record.epoch)

    def prepare(self, keys: Sequence[int], position: int, **more: Any) -> BatchRecord:
        batch = self.open()
        self.ledger.batches.prepare(manifest(batch.batch_id, keys, position, **more))
        return batch

    def close(
        self, keys: Sequence[int], position: int, superseded: Sequence[int] = (), **more: Any
    ) -> BatchRecord:
        """Opens, prepares and closes one batch; `superseded` are rows of the load."""
        batch = self.prepare(keys, position, **more)
        self.ledger.batches.close(batch.batch_id, pa.array(superseded, pa.uint32()))
        return self.ledger.batches.get(batch.batch_id)

    def fail(self, key: int, position: int, **more: Any) -> int:
        """A batch with one failure; returns the number of what holds the record back then."""
        self.close([], position, failures=(failure(key, position, **more),))
        (held,) = [h for h in self.held() if h.record_id == record(key)]
        return int(held.failure_id)

    def fail_again(self, key: int, position: int) -> int:
        """Another attempt at one change of a record of which several are held back."""
        self.close([], position, failures=(failure(key, position),))
        (held,) = [h for h in self.held() if h.version == version(position)]
        return int(held.failure_id)

    def prepare_in(self, batch: BatchRecord, **more: Any) -> None:
        """Prepares and closes a batch, of any stream, without rows."""
        self.ledger.batches.prepare(manifest(batch.batch_id, [], 1, **more))
        self.ledger.batches.close(batch.batch_id, NOTHING)

    def held(self) -> list[Any]:
        return self.ledger.failures.held_back("orders")

    def states(self) -> dict[int, FailureState]:
        """All failures there ever were, by number."""
        found = self.ledger.failures.list(states=tuple(FailureState))
        return {one.id: one.state for one in found}

    def events(self, *key: KeyValue) -> list[str]:
        return [entry.event for entry in self.ledger.trail(record(*key))]
