"""`rowtrail status`: of each stream, whether its target is complete."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from rowtrail.cli.common import (
    COMPLETE_EXCEPT,
    DEFAULT_FILE,
    FAILED,
    Json,
    PipelineFile,
    read_known_pipeline,
)
from rowtrail.cli.output import count, duration, is_are, print_json, print_table, say, when

if TYPE_CHECKING:
    from rowtrail.checkpoints.states import RunRecord
    from rowtrail.pipelines.status import PipelineStatus, StreamStatus


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail status --json")(status)


def status(pipeline: PipelineFile = DEFAULT_FILE, json: Json = False) -> None:
    """Says of each stream whether its target is complete, and up to when it is loaded."""
    definition = read_known_pipeline(pipeline)
    from rowtrail.pipelines.status import read_status

    found = read_status(definition)
    code = FAILED if found.is_stopped else 0 if found.is_complete else COMPLETE_EXCEPT
    if json:
        print_json({**asdict(found), "exit_code": code})
    else:
        _tell(found)
    raise typer.Exit(code)


def _tell(found: PipelineStatus) -> None:
    now = datetime.now(UTC)
    print_table(
        ("stream", "state", "loaded up to (UTC)", "capture", "batches"),
        [
            (one.stream, _state(one, now), when(one.loaded_up_to), one.capture, f"{one.batches:,}")
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


def _state(one: StreamStatus, now: datetime) -> str:
    if one.held_back_since is None:
        return one.state
    return f"{one.state}, oldest for {duration(now - one.held_back_since)}"


def _tell_stream(one: StreamStatus) -> None:
    if one.reason:
        say(f"{one.stream} is {_STATES.get(one.state, one.state)}: {one.reason}")
    if one.state == "half loaded":
        say(
            f"{one.stream} is half loaded: its first read has not come to its end; `rowtrail run` "
            f"goes on with it."
        )
    if one.held_back:
        say(
            f"{one.stream}: {count(one.held_back, 'record')} {is_are(one.held_back)} held back, "
            f"the oldest since {when(one.held_back_since)} UTC; `rowtrail failures {one.stream}` "
            f"says why."
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
