"""`rowtrail failures`: the records that are held back, one by one or by cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rowtrail.cli.common import DEFAULT_FILE, Json, PipelineFile, ledger_of, read_known_pipeline
from rowtrail.cli.output import cause, command, count, is_are, minute, print_json, print_table, say

if TYPE_CHECKING:
    from rowtrail.checkpoints.states import Failure, FailureGroup, FailureState


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail failures orders --causes")(failures)


def failures(
    stream: Annotated[
        str | None, typer.Argument(help="Only this stream.", metavar="STREAM")
    ] = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    causes: Annotated[bool, typer.Option("--causes", help="One line a cause.")] = False,
    ignored: Annotated[bool, typer.Option("--ignored", help="Ignored records too.")] = False,
    limit: Annotated[int, typer.Option(help="Show at most so many.", min=1)] = 100,
    json: Json = False,
) -> None:
    """Lists the records that are held back, the oldest first, with stage and cause."""
    from rowtrail.checkpoints.states import HELD_BACK, OPEN_FAILURES

    definition = read_known_pipeline(pipeline)
    if stream is not None:
        definition.stream(stream)
    states = HELD_BACK if ignored else OPEN_FAILURES
    with ledger_of(definition) as ledger:
        groups = ledger.failures.groups(stream, states)
        found = [] if causes else ledger.failures.list(stream, states, limit=limit)
    total = sum(group.count for group in groups)
    if json:
        shown = [_group(one) for one in groups[:limit]] if causes else [_failure(f) for f in found]
        print_json({"total": total, "causes" if causes else "failures": shown})
    elif not total:
        say("No record is held back." if stream is None else f"{stream}: no record is held back.")
    elif causes:
        _tell_causes(groups[:limit])
    else:
        _tell(found, total, states)


def _failure(one: Failure) -> dict[str, object]:
    return {**asdict(one), "record_id": str(one.record_id)}


def _group(one: FailureGroup) -> dict[str, object]:
    return {**asdict(one), "examples": [str(example) for example in one.examples]}


def _tell(found: Sequence[Failure], total: int, states: Sequence[FailureState]) -> None:
    rows = [
        (
            one.record_id,
            _what(one),
            minute(one.first_at),
            cause(one.stage.value, one.error_class, one.message),
        )
        for one in found
    ]
    print_table(("record", "failed at", "since (UTC)", "cause"), rows)
    say()
    if total > len(found):
        say(
            f"These are the oldest {len(found):,} of {total:,}: --limit shows more, --causes one "
            f"line a cause."
        )
    else:
        say(f"{count(total, 'record')} {is_are(total)} held back.")
    say("The whole story of one, and what to do:", hanging="  ")
    say(f"  {command('record', found[0].record_id)}")


def _what(one: Failure) -> str:
    """The stage; a state other than failed, and how often it was tried, where that is news."""
    notes = [] if one.state.value == "failed" else [one.state.value]
    if one.attempts > 1:
        notes.append(f"{one.attempts} times")
    return f"{one.stage.value} ({', '.join(notes)})" if notes else one.stage.value


def _tell_causes(groups: Sequence[FailureGroup]) -> None:
    rows = [
        (
            one.stream,
            one.stage.value,
            cause(one.stage.value, one.error_class, one.message),
            one.examples[0],
            f"{one.count:,}",
        )
        for one in groups
    ]
    columns = ("stream", "failed at", "cause (of the newest)", "for example", "records")
    print_table(columns, rows, numbers=1)
