"""`rowtrail status`: of each stream, whether its target is complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import typer

from rowtrail.cli.common import (
    COMPLETE_EXCEPT,
    DEFAULT_FILE,
    FAILED,
    Json,
    PipelineFile,
    ledger_of,
    read_known_pipeline,
)
from rowtrail.cli.output import count, is_are, print_json, print_table, say, when

if TYPE_CHECKING:
    from rowtrail.checkpoints.ledger import Ledger
    from rowtrail.checkpoints.states import LeaseRecord, RunRecord, StreamRecord
    from rowtrail.pipelines.definition import PipelineDefinition

NEVER_LOADED = "never loaded"
HALF_LOADED = "half loaded"


@dataclass(frozen=True, kw_only=True)
class StreamStatus:
    """What a person wants to know of one stream."""

    stream: str
    state: str
    held_back: int = 0  # failed or waiting
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
    def exit_code(self) -> int:
        if any(stream.state in ("stopped", "needs snapshot") for stream in self.streams):
            return FAILED
        complete = all(stream.state == "complete" for stream in self.streams)
        return 0 if complete else COMPLETE_EXCEPT


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail status --json")(status)


def status(pipeline: PipelineFile = DEFAULT_FILE, json: Json = False) -> None:
    """Says of each stream whether its target is complete, and up to when it is loaded."""
    definition = read_known_pipeline(pipeline)
    if definition.ledger.exists():
        with ledger_of(definition) as ledger:
            found = _look(ledger, definition)
    else:
        found = PipelineStatus(
            pipeline=definition.name,
            streams=[
                StreamStatus(stream=name, state=NEVER_LOADED)
                for name in (
                    *(stream.name for stream in definition.streams),
                    *_without_streams(definition),
                )
            ],
        )
    if json:
        print_json({**asdict(found), "exit_code": found.exit_code})
    else:
        _tell(found)
    raise typer.Exit(found.exit_code)


def _look(ledger: Ledger, definition: PipelineDefinition) -> PipelineStatus:
    from rowtrail.checkpoints.states import RunKind

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
    from rowtrail.checkpoints.states import FailureState, StreamState

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
        ignored=counts.get(FailureState.IGNORED, 0),
        capture=record.capture,
        epoch=record.epoch,
        batches=record.sequence,
        loaded_up_to=record.watermark,
        reason=record.state_reason,
    )


def _tell(found: PipelineStatus) -> None:
    print_table(
        ("stream", "state", "loaded up to (UTC)", "capture", "batches"),
        [
            (one.stream, one.state, when(one.loaded_up_to), one.capture, f"{one.batches:,}")
            for one in found.streams
        ],
        numbers=1,
    )
    say()
    for one in found.streams:
        _tell_stream(one)
    if found.requests:
        say(f"{count(found.requests, 'request')} to be carried out by the next run.")
    if found.running is not None:
        since = when(found.running.since)
        say(f"A run is under way since {since} UTC; its lease is held by {found.running.holder}.")
    if found.last_run is not None and found.running is None:
        _tell_run(found.last_run)
    if found.last_run is None:
        say("The pipeline has never been run. `rowtrail run` loads it.")


def _tell_stream(one: StreamStatus) -> None:
    if one.reason:
        say(f"{one.stream} is {_STATES.get(one.state, one.state)}: {one.reason}")
    if one.state == HALF_LOADED:
        say(
            f"{one.stream} is half loaded: its first read has not come to its end; `rowtrail run` "
            f"goes on with it."
        )
    if one.held_back:
        say(
            f"{one.stream}: {count(one.held_back, 'record')} {is_are(one.held_back)} held back; "
            f"`rowtrail failures {one.stream}` says why."
        )
    if one.ignored:
        say(
            f"{one.stream}: {count(one.ignored, 'record')} {is_are(one.ignored)} left out on "
            f"purpose; `rowtrail failures {one.stream} --ignored` lists them."
        )


_STATES = {"needs snapshot": "in need of a snapshot"}


def _tell_run(run: RunRecord) -> None:
    if run.ended_at is None:
        say(
            f"The last run, at {when(run.started_at)} UTC, was cut off. What it had committed "
            f"stays; `rowtrail run` goes on from there."
        )
        return
    seconds = (run.ended_at - run.started_at).total_seconds()
    state = {"complete": "complete", "complete except": "complete except some records"}
    word = state.get(run.state.value, run.state.value)
    say(f"The last run, at {when(run.started_at)} UTC, took {seconds:,.1f} s and was {word}.")
    if run.message:
        say(f"It ended with: {run.message}")
