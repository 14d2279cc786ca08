"""`status`, `failures` and `record`: what the ledger knows, for a person or as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rowtrail.cli.common import (
    COMPLETE_EXCEPT,
    DEFAULT_FILE,
    Json,
    PipelineFile,
    ledger_of,
    print_json,
    print_table,
    read_pipeline,
    record_id_of,
    stream_of,
    when,
)

if TYPE_CHECKING:
    from rowtrail.checkpoints.ledger import Ledger
    from rowtrail.checkpoints.states import StreamRecord


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail status --json")(status)
    app.command(epilog="Example: rowtrail failures orders")(failures)
    app.command(epilog="Example: rowtrail record order_lines 42,3")(record)


def status(pipeline: PipelineFile = DEFAULT_FILE, json: Json = False) -> None:
    """Says of each stream whether its target is complete, and up to when it is loaded."""
    definition = read_pipeline(pipeline)
    with ledger_of(definition) as ledger:
        known = {one.name: one for one in ledger.streams.all()}
        streams = [
            _state(ledger, known.get(stream.name), stream.name) for stream in definition.streams
        ]
        runs = ledger.runs.recent(1)
        lease = ledger.leases.current()
    if json:
        last = asdict(runs[0]) if runs else None
        held = asdict(lease) if lease else None
        print_json(
            {"pipeline": definition.name, "streams": streams, "last_run": last, "lease": held}
        )
    else:
        rows = [
            (
                one["stream"],
                one["state"],
                one["capture"],
                one["epoch"],
                when(one["loaded_up_to"]),  # type: ignore[arg-type]
                one["batches"],
            )
            for one in streams
        ]
        columns = ("stream", "state", "capture", "epoch", "loaded up to (UTC)", "batches")
        print_table(columns, rows, numbers=1)
        for one in streams:
            if one["reason"]:
                print(f"{one['stream']}: {one['reason']}")
        if lease:
            print(f"A run is under way: the lease is held by {lease.holder}.")
        if runs:
            print(f"Last run: {runs[0].state}, started {when(runs[0].started_at)}.")
    if any(one["held_back"] for one in streams):
        raise typer.Exit(COMPLETE_EXCEPT)


def _state(ledger: Ledger, record: StreamRecord | None, name: str) -> dict[str, object]:
    from rowtrail.checkpoints.states import OPEN_FAILURES, FailureState, StreamState

    counts = ledger.failures.counts(name)
    held_back = sum(counts.get(state, 0) for state in OPEN_FAILURES)
    if record is None or not record.sequence:
        state = "never loaded"
    elif record.state is not StreamState.ACTIVE:
        state = record.state.value
    else:
        state = f"complete except {held_back:,}" if held_back else "complete"
    return {
        "stream": name,
        "state": state,
        "held_back": held_back,
        "ignored": counts.get(FailureState.IGNORED, 0),
        "capture": record.capture if record else None,
        "epoch": record.epoch if record else None,
        "batches": record.sequence if record else 0,
        "loaded_up_to": record.watermark if record else None,
        "reason": record.state_reason if record else None,
    }


def failures(
    stream: Annotated[str | None, typer.Argument(help="Only this stream.")] = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    everything: Annotated[bool, typer.Option("--ignored", help="Ignored records too.")] = False,
    limit: Annotated[int, typer.Option(help="Show at most so many.", min=1)] = 100,
    json: Json = False,
) -> None:
    """Lists the records that are held back, newest first, with stage and cause."""
    from rowtrail.checkpoints.states import HELD_BACK, OPEN_FAILURES

    definition = read_pipeline(pipeline)
    if stream is not None:
        stream_of(definition, stream)
    with ledger_of(definition) as ledger:
        found = ledger.failures.list(
            stream=stream, states=HELD_BACK if everything else OPEN_FAILURES, limit=limit
        )
    if json:
        print_json([{**asdict(one), "record_id": str(one.record_id)} for one in found])
        return
    if not found:
        print("No record is held back.")
        return
    rows = [
        (one.record_id, one.state, one.stage, when(one.last_at), one.message, one.attempts)
        for one in found
    ]
    print_table(("record", "state", "stage", "since (UTC)", "cause", "attempts"), rows, numbers=1)
    first = found[0].record_id
    key = str(first).partition(":")[2]
    print(
        f"`rowtrail record {first.stream} {key}` tells the whole story; "
        f"`rowtrail retry {first.stream} {key}` tries it again."
    )


def record(
    stream: Annotated[str, typer.Argument(help="The record's stream.")],
    key: Annotated[str, typer.Argument(help="Its key; parts of a composite key with commas.")],
    pipeline: PipelineFile = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Prints the trail of one record: all that the ledger knows of it, in order."""
    definition = read_pipeline(pipeline)
    record_id = record_id_of(definition, stream, key)
    with ledger_of(definition) as ledger:
        trail = ledger.trail(record_id)
    if json:
        print_json({"record": str(record_id), "trail": [asdict(entry) for entry in trail]})
    elif not trail:
        print(f"The ledger has never seen {record_id}.")
    else:
        print(f"{record_id}")
        for entry in trail:
            print(f"  {when(entry.at)}  {entry.event:<12} {entry.detail}")
    if not trail:
        raise typer.Exit(1)
