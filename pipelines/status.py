"""What the ledger says of a pipeline: of each stream, whether its target is complete."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.states import (
    FailureState,
    LeaseRecord,
    RunKind,
    RunRecord,
    StreamRecord,
    StreamState,
)
from rowtrail.pipelines.definition import PipelineDefinition
from rowtrail.pipelines.opening import existing_ledger

NEVER_LOADED = "never loaded"
HALF_LOADED = "half loaded"


@dataclass(frozen=True, kw_only=True)
class StreamStatus:
    """What a person wants to know of one stream."""

    stream: str
    state: str
    held_back: int = 0  # failed or waiting
    held_back_since: datetime | None = None  # the oldest of them, UTC; None: there are none
    ignored: int = 0
    capture: str | None = None
    epoch: int | None = None
    batches: int = 0
    loaded_up_to: datetime | None = None
    reason: str | None = None  # why it is stopped, paused or needs a snapshot


@dataclass(frozen=True, kw_only=True)
class PipelineStatus:
    """All that the ledger says at one moment; without a ledger nothing was ever loaded."""

    pipeline: str
    streams: Sequence[StreamStatus]
    last_run: RunRecord | None = None
    running: LeaseRecord | None = None  # the lease, while a run holds it
    requests: int = 0  # asked for and not carried out yet

    @property
    def is_stopped(self) -> bool:
        """Whether a stream goes on only after somebody has done something."""
        return any(stream.state in ("stopped", "needs snapshot") for stream in self.streams)

    @property
    def is_complete(self) -> bool:
        return all(stream.state == "complete" for stream in self.streams)


def read_status(definition: PipelineDefinition) -> PipelineStatus:
    """Asks the ledger, which is not made if there is none; neither source nor target is asked."""
    if not definition.ledger.exists():
        names = (*(stream.name for stream in definition.streams), *_without_streams(definition))
        return PipelineStatus(
            pipeline=definition.name,
            streams=[StreamStatus(stream=name, state=NEVER_LOADED) for name in names],
        )
    with closing(existing_ledger(definition)) as ledger:
        return _look(ledger, definition)


def _look(ledger: Ledger, definition: PipelineDefinition) -> PipelineStatus:
    lease = ledger.leases.current()
    runs = ledger.runs.recent(1, RunKind.RUN)
    return PipelineStatus(
        pipeline=definition.name,
        streams=[
            *(
                _stream_status(ledger, ledger.streams.get(stream.name), stream.name)
                for stream in definition.streams
            ),
            *(
                StreamStatus(stream=name, state=NEVER_LOADED)
                for name in _without_streams(definition)
            ),
        ],
        last_run=runs[0] if runs else None,
        running=lease if lease is not None and lease.live else None,
        requests=len(ledger.decisions.pending()),
    )


def _without_streams(definition: PipelineDefinition) -> list[str]:
    """The patterns of whose tables the ledger knows none: the next run asks the source for them."""
    known = {stream.pattern for stream in definition.streams}
    return [pattern.name for pattern in definition.patterns if pattern.name not in known]


def _stream_status(ledger: Ledger, record: StreamRecord | None, name: str) -> StreamStatus:
    if record is None:
        return StreamStatus(stream=name, state=NEVER_LOADED)
    counts = ledger.failures.counts(name)
    held_back = ledger.failures.records(name)
    if record.state is not StreamState.ACTIVE:
        state = record.state.value
    elif record.position is None:  # not read yet, or not since `stream resnapshot`
        state = "to be read anew" if record.sequence else NEVER_LOADED
    elif record.watermark is None:  # of this epoch no read has come to its end
        state = HALF_LOADED
    else:
        state = f"complete except {held_back:,}" if held_back else "complete"
    return StreamStatus(
        stream=name,
        state=state,
        held_back=held_back,
        held_back_since=ledger.failures.oldest(name) if held_back else None,
        ignored=counts.get(FailureState.IGNORED, 0),
        capture=record.capture,
        epoch=record.epoch,
        batches=record.sequence,
        loaded_up_to=record.watermark,
        reason=record.state_reason,
    )
