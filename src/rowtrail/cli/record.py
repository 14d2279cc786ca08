"""`rowtrail record`: why one record is missing or stale, its trail, and what to do."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rowtrail.cli.common import (
    DEFAULT_FILE,
    FAILED,
    Json,
    PipelineFile,
    ledger_of,
    read_known_pipeline,
)
from rowtrail.cli.compare import comparison_json, tell_comparison
from rowtrail.cli.output import (
    cause,
    command,
    count,
    failure_document,
    print_json,
    say,
    version_text,
    when,
)
from rowtrail.cli.records import record_ids, split
from rowtrail.cli.timeline import at_target, circumstances, image_words

if TYPE_CHECKING:
    from rowtrail.checkpoints.ledger import Ledger
    from rowtrail.checkpoints.record_id import RecordId
    from rowtrail.checkpoints.states import Failure, FailureGroup, Pruned, StreamRecord, TrailEntry
    from rowtrail.pipelines.compare import Comparison
    from rowtrail.pipelines.definition import PipelineDefinition

DELETE = 3
_OPERATIONS = {1: "insert", 2: "update", DELETE: "delete"}
_OUTCOMES = ("loaded", "filtered")  # those that changed what the target holds


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail record order_lines 42,3")(record)


def record(
    stream: Annotated[str, typer.Argument(help="The record's stream.", metavar="STREAM")],
    key: Annotated[
        str | None,
        typer.Argument(help="Its key; parts of a composite key with commas.", metavar="KEY"),
    ] = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    compare: Annotated[
        bool, typer.Option("--compare", help="Read it at the source and at the target now.")
    ] = False,
    json: Json = False,
) -> None:
    """Says whether a record is in the warehouse and if not why, with all that happened to it."""
    definition = read_known_pipeline(pipeline)
    name, keys = split(definition, stream, [] if key is None else [key])
    if len(keys) != 1:
        raise typer.BadParameter("name one record, as in: rowtrail record orders 42")
    with ledger_of(definition) as ledger:
        (record_id,) = record_ids(definition, ledger, name, keys)
        held = _held_back(ledger, record_id)
        known = ledger.streams.get(name)
        trail = ledger.trail(record_id) if known is not None else []
        group = None if held is None else ledger.failures.group_of(held)
        pruned = ledger.pruning.pruned(name)
    state = _state(held, trail)
    compared = _compare(definition, record_id, known) if compare else None
    if json:
        failure = None if held is None else failure_document(held)
        print_json(
            {
                "record": str(record_id),
                "state": state,
                "failure": failure,
                "trail": [asdict(entry) for entry in trail],
                "pruned": [asdict(one) for one in pruned],
                **({} if compared is None else {"comparison": comparison_json(compared)}),
            }
        )
    elif trail:
        _tell(record_id, state, held, trail, group, trails_pruned(pruned))
    else:
        _tell_unknown(definition, record_id, known, trails_pruned(pruned))
    if compared is not None and not json:
        say()
        tell_comparison(compared, held_back=held is not None)
    if not trail or (compared is not None and not _was_read(compared)):
        raise typer.Exit(FAILED)


def _compare(
    definition: PipelineDefinition, record_id: RecordId, known: StreamRecord | None
) -> Comparison:
    from rowtrail.pipelines.compare import compare_record

    return compare_record(definition, record_id, known)


def _was_read(compared: Comparison) -> bool:
    return "unread" not in (compared.source.state.value, compared.target.state.value)


def _held_back(ledger: Ledger, record_id: RecordId) -> Failure | None:
    from rowtrail.checkpoints.states import HELD_BACK

    found = ledger.failures.list(record_id.stream, HELD_BACK, [record_id])
    return found[-1] if found else None


def _state(held: Failure | None, trail: Sequence[TrailEntry]) -> str:
    """failed, waiting, ignored, loaded, deleted, filtered, `in flight` or unknown."""
    if held is not None:
        return held.state.value
    last = _last_outcome(trail)
    if last is None:
        return trail[-1].event if trail else "unknown"
    return "deleted" if last.event == "loaded" and last.operation == DELETE else last.event


def _last_outcome(trail: Sequence[TrailEntry]) -> TrailEntry | None:
    return next((entry for entry in reversed(trail) if entry.event in _OUTCOMES), None)


def trails_pruned(pruned: Sequence[Pruned]) -> Pruned | None:
    """What is no longer known of the stream's records; None where all of it is."""
    return next((one for one in pruned if one.what.value == "trails"), None)


def _tell(
    record_id: RecordId,
    state: str,
    held: Failure | None,
    trail: Sequence[TrailEntry],
    group: FailureGroup | None,
    pruned: Pruned | None,
) -> None:
    if held is None:
        say(f"{record_id} {_WORDS.get(state, 'is not settled yet; its trail tells more')}.")
        say()
        say(f"Target  {at_target(trail, pruned)}", indent="  ", hanging=" " * 8)
    else:
        _tell_held_back(record_id, held, trail, group, pruned)
    say()
    say("What happened (UTC):")
    if pruned is not None:
        say(
            f"before {when(pruned.upto)}: pruned on {when(pruned.at)}; there may have been more",
            indent="  ",
            hanging=" " * 21,
        )
    for entry in trail:
        say(f"{when(entry.at)}  {_sentence(entry)}", indent="  ", hanging=" " * 21)
        if more := circumstances(entry):
            say(more, indent=" " * 23)
    steps = list(_next_steps(held, group)) if held is not None else []
    if steps:
        say()
        say("What to do:")
    for condition, step in steps:
        say(f"{condition}:", indent="  ")
        say(step, indent="    ", hanging="  ")


_WORDS = {
    "loaded": "is in the warehouse: its newest known change was loaded",
    "deleted": "was deleted at the source, and its delete was loaded",
    "filtered": "is not in the warehouse: a transform left it out",
    "in flight": "is on its way: its batch is not finished",
}


def _tell_held_back(
    record_id: RecordId,
    held: Failure,
    trail: Sequence[TrailEntry],
    group: FailureGroup | None,
    pruned: Pruned | None,
) -> None:
    last = _last_outcome(trail)
    there = last is not None and last.event == "loaded" and last.operation != DELETE
    place = "out of date in" if there else "missing from"
    if last is None and pruned is not None:
        place = "missing from, or out of date in,"
    operation = _OPERATIONS.get(held.operation, "change")
    if held.state.value == "ignored":
        say(f"{record_id} is {place} the warehouse on purpose: a person chose to ignore it.")
    else:
        say(f"{record_id} is {place} the warehouse: its {operation} {held.state.value}.")
    say()
    tries = f", tried {count(held.attempts, 'time')}" if held.attempts > 1 else ""
    why = cause(held.stage.value, held.error_class, held.message)
    lines = [
        ("Stage", held.stage.value),
        ("Cause", why),
        ("Since", f"{when(held.first_at)} UTC{tries}"),
        ("Version", version_text(held.version)),
        ("Image", image_words(held)),
        ("Target", at_target(trail, pruned)),
    ]
    if group is not None and group.count > 1:
        lines.append(("Group", f"{group.group}, of {count(group.count, 'record')} with this cause"))
    for name, text in lines:
        say(f"{name:<7} {text}", indent="  ", hanging=" " * 8)


def _sentence(entry: TrailEntry) -> str:
    """What happened, with what kind of change it happened to."""
    if entry.event in ("failure ended", "filtered"):  # noted as a delete, whatever it was
        return entry.detail
    if entry.operation is not None:
        return f"{_OPERATIONS.get(entry.operation, 'change')}: {entry.detail}"
    kind, _, done = entry.event.partition(" ")
    if done in ("done", "failed"):
        return f"{entry.event}: {entry.detail.removeprefix(f'{kind} ')}"
    return f"{entry.event} {entry.detail}"


def _next_steps(held: Failure, group: FailureGroup | None) -> Iterator[tuple[str, str]]:
    """(when, the command to type) for a record that is held back."""
    one = held.record_id
    if held.state.value == "ignored":
        yield "If it is to be loaded after all", command("ignore", one, "--undo")
        return
    if group is not None and group.failed > 1:
        stream = shlex.quote(one.stream)
        yield "To see all that failed so", f"rowtrail failures {stream} --group {group.group}"
    if held.stage.value != "extract":
        yield "If the transform or the target was mended", command("retry", one)
    yield "If the row was mended at the source", command("retry", one, "--from extract")
    yield "If it is to stay out", command("ignore", one, "--reason 'why'")


def _tell_unknown(
    definition: PipelineDefinition,
    record_id: RecordId,
    known: StreamRecord | None,
    pruned: Pruned | None,
) -> None:
    if pruned is None:
        say(f"The ledger has never seen {record_id}.")
    else:
        say(
            f"The ledger knows nothing of {record_id} now. What happened to records of "
            f"{record_id.stream} before {when(pruned.upto)} UTC was pruned on {when(pruned.at)}: "
            f"it may have been seen before."
        )
    there = _is_at_source(definition, record_id)
    if there is None:
        say("The source could not be asked whether it has such a row. Check the key.")
    elif there:
        if pruned is not None:
            say("The source has this row now: it was loaded by then, or came after the last run.")
        else:
            say(f"The source has this row now. {_why_not_read(record_id.stream, known)}")
    else:
        say("The source has no such row either. Check the key, and the stream's table.")


def _why_not_read(stream: str, known: StreamRecord | None) -> str:
    if known is None or known.position is None:
        return f"Stream {stream} has yet to be read from the start: `rowtrail run {stream}`."
    if known.state_reason:
        return f"Stream {stream} is {known.state.value}: {known.state_reason}"
    if known.watermark is None:
        return (
            f"The first read of stream {stream} has not come to its end: `rowtrail run {stream}` "
            f"goes on with it."
        )
    return (
        f"It came after the last run, at {when(known.updated_at)} UTC, and `rowtrail run {stream}` "
        f"loads it; or it was loaded under a ledger that was lost."
    )


def _is_at_source(definition: PipelineDefinition, record_id: RecordId) -> bool | None:
    """Whether the source has the row now; None when it cannot tell."""
    from rowtrail.connectors.errors import RowtrailError
    from rowtrail.pipelines.look import is_at_source

    try:
        return is_at_source(definition, record_id)
    except RowtrailError:
        return None
