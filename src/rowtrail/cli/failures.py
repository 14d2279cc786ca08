"""`rowtrail failures`: the records that are held back, by cause or one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rowtrail.cli.common import (
    DEFAULT_FILE,
    Group,
    Json,
    PipelineFile,
    ledger_of,
    read_known_pipeline,
)
from rowtrail.cli.groups import tell_group, tell_groups
from rowtrail.cli.output import (
    cause,
    command,
    count,
    failure_document,
    is_are,
    minute,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from rowtrail.checkpoints.states import Failure, FailureGroup


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail failures orders --group 3f9a61c2")(failures)


def failures(
    stream: Annotated[
        str | None, typer.Argument(help="Only this stream.", metavar="STREAM")
    ] = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    group: Group = None,
    records: Annotated[
        bool, typer.Option("--records", help="The records one by one, whatever their cause.")
    ] = False,
    ignored: Annotated[bool, typer.Option("--ignored", help="Ignored records too.")] = False,
    limit: Annotated[int, typer.Option(help="Show at most so many.", min=1)] = 100,
    json: Json = False,
) -> None:
    """Shows what is held back, by cause, with what to type next; or the records of one cause."""
    from rowtrail.checkpoints.states import HELD_BACK, OPEN_FAILURES

    definition = read_known_pipeline(pipeline)
    if stream is not None:
        definition.stream(stream)
    states = HELD_BACK if ignored else OPEN_FAILURES
    with ledger_of(definition) as ledger:
        if group is None:
            groups = ledger.failures.groups(stream, states)
        else:
            groups = [ledger.failures.group(group, stream, states)]
        total = sum(one.count for one in groups)
        by_cause = group is None and not records and total > 1
        if by_cause and not json:
            found: Sequence[Failure] = ()
        elif group is None:
            found = ledger.failures.list(stream, states, limit=limit)
        else:
            found = ledger.failures.of_group(groups[0], states, limit)
    if json:
        print_json(
            {
                "total": total,
                "groups": [_group(one) for one in groups[:limit]],
                "failures": [failure_document(one) for one in found],
            }
        )
    elif not total:
        say("No record is held back." if stream is None else f"{stream}: no record is held back.")
    elif by_cause:
        tell_groups(groups, limit)
    else:
        if group is not None:
            tell_group(groups[0])
            say()
        _tell(found, total)


def _group(one: FailureGroup) -> dict[str, object]:
    return {**asdict(one), "examples": [str(example) for example in one.examples]}


def _tell(found: Sequence[Failure], total: int) -> None:
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
        say(f"These are the oldest {len(found):,} of {total:,}: --limit shows more.")
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
