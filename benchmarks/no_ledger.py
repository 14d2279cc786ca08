"""A stand-in for the ledger that keeps nothing: what a run costs without checkpoints.

It answers what a first sync asks. No blob is made, nothing is written to a disk; what a run does
with the target (versions, receipt, owner row) stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import uuid4

from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.states import (
    BatchKind,
    BatchRecord,
    BatchState,
    Decision,
    Failure,
    FailureState,
    HeldBack,
    Manifest,
    RunKind,
    RunState,
    StreamRecord,
    StreamState,
)

if TYPE_CHECKING:
    import pyarrow as pa


def open_no_ledger(path: Path, pipeline: str) -> Ledger:
    """To be given to a run in the place of `open_ledger`."""
    return cast("Ledger", NoLedger(pipeline))


class NoLedger:
    """Has the methods of a ledger that a run without failures and requests calls."""

    def __init__(self, pipeline: str) -> None:
        self.id = str(uuid4())
        self.pipeline = pipeline
        self.leases = _Leases()
        self.runs = _Runs()
        self.streams = _Streams()
        self.batches = _Batches(self.streams)
        self.failures = _Failures()
        self.decisions = _Decisions()

    def close(self) -> None: ...


class _Leases:
    def acquire(self, holder: str) -> int:
        return 1

    def renew(self, generation: int) -> None: ...

    def release(self, generation: int) -> None: ...


class _Runs:
    def start(self, kind: RunKind = RunKind.RUN) -> str:
        return str(uuid4())

    def finish(self, run_id: str, state: RunState, message: str | None = None) -> None: ...

    def abandon_running(self) -> list[str]:
        return []


class _Streams:
    """Keeps positions, since a run goes on from them; only for as long as it lasts."""

    def __init__(self) -> None:
        self._records: dict[str, StreamRecord] = {}

    def get(self, name: str) -> StreamRecord | None:
        return self._records.get(name)

    def all(self) -> list[StreamRecord]:
        return list(self._records.values())

    def begin_epoch(self, name: str, capture: str, target: str) -> StreamRecord:
        self._records[name] = StreamRecord(
            name=name,
            capture=capture,
            target=target,
            epoch=1,
            position=None,
            read_number=0,
            sequence=0,
            last_batch_id=None,
            state=StreamState.ACTIVE,
            state_reason=None,
            watermark=None,
            updated_at=datetime.now(UTC),
        )
        return self._records[name]

    def next_read(self, name: str) -> int:
        number = self._records[name].read_number + 1
        self._records[name] = replace(self._records[name], read_number=number)
        return number

    def set_state(self, name: str, state: StreamState, reason: str | None = None) -> None: ...

    def pages(self, name: str) -> Iterator[pa.RecordBatch]:
        return iter(())

    def advance(self, name: str, sequence: int, position: str | None) -> None:
        record = self._records[name]
        self._records[name] = replace(
            record, sequence=sequence, position=position or record.position
        )


class _Batches:
    def __init__(self, streams: _Streams) -> None:
        self._streams = streams
        self._open: dict[str, BatchRecord] = {}

    def open(self, run_id: str, stream: str, kind: BatchKind, epoch: int) -> BatchRecord:
        record = self._streams.get(stream)
        batch = BatchRecord(
            batch_id=str(uuid4()),
            run_id=run_id,
            stream=stream,
            kind=kind,
            state=BatchState.OPEN,
            sequence=(record.sequence if record else 0) + 1,
            epoch=epoch,
            opened_at=datetime.now(UTC),
            closed_at=None,
            position_after=None,
            manifest_digest=None,
            records=0,
        )
        self._open[batch.batch_id] = batch
        return batch

    def prepare(self, manifest: Manifest) -> str:
        batch = self._open[manifest.batch_id]
        self._open[manifest.batch_id] = replace(batch, position_after=manifest.position_after)
        return "0" * 64

    def close(self, batch_id: str, superseded: pa.Array) -> None:
        batch = self._open.pop(batch_id)
        self._streams.advance(batch.stream, batch.sequence, batch.position_after)

    def abandon(self, batch_id: str) -> None:
        self._open.pop(batch_id)

    def unfinished(self) -> list[BatchRecord]:
        return []


class _Failures:
    def held_back(self, stream: str) -> list[HeldBack]:
        return []

    def counts(self, stream: str) -> dict[FailureState, int]:
        return {}

    def records(self, stream: str) -> int:
        return 0

    def list(self, **_: object) -> list[Failure]:
        return []


class _Decisions:
    def pending(self) -> list[Decision]:
        return []
