"""`retry`, `replay` and `ignore`: what a person decides about single records."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rowtrail.cli.archive import (
    FROM_ARCHIVE,
    AllStreams,
    ArchiveOptions,
    Since,
    Until,
    refuse_archive_options,
    replay_from_archive,
)
from rowtrail.cli.common import (
    COMPLETE_EXCEPT,
    DEFAULT_FILE,
    Json,
    PipelineFile,
    ledger_of,
    read_known_pipeline,
)
from rowtrail.cli.output import cause, command, count, print_json, say
from rowtrail.cli.records import record_ids, split

if TYPE_CHECKING:
    from rowtrail.checkpoints.record_id import RecordId
    from rowtrail.checkpoints.states import Stage
    from rowtrail.pipelines.definition import PipelineDefinition
    from rowtrail.pipelines.requests import Request, RequestResult

FromStage = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="Go on from `transform`, or from `extract`: read the row anew.",
        metavar="STAGE",
    ),
]
ReplayFrom = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="Go on from `transform`; from `extract`: read the row anew; or from the `archive`.",
        metavar="WHERE",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")]
Reason = Annotated[str | None, typer.Option(help="Why; it stands in the trail.", metavar="TEXT")]
Keys = Annotated[list[str] | None, typer.Argument(help="The records' keys.", metavar="KEY")]

NAMED = 10
"""So many records that failed again are told."""


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail retry orders 42")(retry)
    app.command(epilog="Example: rowtrail replay orders 42 --reason 'rate table mended'")(replay)
    app.command(epilog="Example: rowtrail ignore orders 42 --reason 'test order'")(ignore)


def retry(
    stream: Annotated[
        str | None, typer.Argument(help="Only this stream.", metavar="STREAM")
    ] = None,
    keys: Annotated[
        list[str] | None, typer.Argument(help="Only these records.", metavar="KEY")
    ] = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    from_stage: FromStage = None,
    dry_run: DryRun = False,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Tries failed records again, from the stage at which each failed."""
    from rowtrail.checkpoints.states import DecisionKind
    from rowtrail.pipelines.requests import Request, failed_streams

    stage = _stage(from_stage)
    definition = read_known_pipeline(pipeline, with_transforms=True)
    wanted: dict[str, tuple[RecordId, ...]] = {}
    if stream is None:
        wanted |= dict.fromkeys(failed_streams(definition), ())
    else:
        name, ids = _named(definition, stream, keys or ())
        wanted[name] = ids
        _note_ignored(definition, name, ids)
    requests = [
        Request(
            kind=DecisionKind.RETRY, stream=name, record_ids=ids, from_stage=stage, reason=reason
        )
        for name, ids in wanted.items()
    ]
    _submit(definition, requests, dry_run=dry_run, json=json)


def replay(
    stream: Annotated[str | None, typer.Argument(help="The stream.", metavar="STREAM")] = None,
    keys: Keys = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    from_stage: ReplayFrom = None,
    since: Since = None,
    until: Until = None,
    all_streams: AllStreams = False,
    dry_run: DryRun = False,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Takes records through all stages again, loaded or not: read anew at the source, or, with
    `--from archive`, whole streams as the archive has them."""
    from rowtrail.checkpoints.states import DecisionKind
    from rowtrail.pipelines.requests import Request

    if from_stage == FROM_ARCHIVE:
        replay_from_archive(
            ArchiveOptions(
                names=(stream, *(keys or ())) if stream else tuple(keys or ()),
                all_streams=all_streams,
                since=since,
                until=until,
                reason=reason,
                dry_run=dry_run,
            ),
            pipeline,
            json=json,
        )
        return
    refuse_archive_options(since, until, all_streams=all_streams)
    stage = _stage(from_stage)
    if stream is None:
        raise typer.BadParameter("name the stream", param_hint="STREAM")
    definition = read_known_pipeline(pipeline, with_transforms=True)
    name, ids = _named(definition, stream, keys or ())
    _require_keys(ids)
    request = Request(
        kind=DecisionKind.REPLAY, stream=name, record_ids=ids, from_stage=stage, reason=reason
    )
    _submit(definition, [request], dry_run=dry_run, json=json)


def ignore(
    stream: Annotated[str, typer.Argument(help="The stream.", metavar="STREAM")],
    keys: Keys = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    reason: Reason = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the decision back.")] = False,
    json: Json = False,
) -> None:
    """Stops counting failed records as missing: a decision, with its reason, that can be undone."""
    from rowtrail.pipelines.requests import actor

    if not undo and not reason:
        raise typer.BadParameter("say why: it stands in the trail", param_hint="--reason")
    definition = read_known_pipeline(pipeline)
    name, ids = _named(definition, stream, keys or ())
    _require_keys(ids)
    with ledger_of(definition) as ledger:
        if undo:
            decision = ledger.decisions.unignore(name, ids, actor(), reason)
        else:
            decision = ledger.decisions.ignore(name, ids, actor(), reason or "")
    state = "failed" if undo else "ignored"
    if json:
        print_json({"decision": decision.id, "records": [str(one) for one in ids], "state": state})
    elif undo:
        say(f"{_list(ids)}: no longer ignored, so failed again (decision {decision.id}).")
    else:
        say(f"{_list(ids)}: ignored from now on (decision {decision.id}); --undo takes it back.")


def _named(
    definition: PipelineDefinition, stream: str, keys: Sequence[str]
) -> tuple[str, tuple[RecordId, ...]]:
    name, texts = split(definition, stream, keys)
    with ledger_of(definition) as ledger:
        return name, tuple(record_ids(definition, ledger, name, texts))


def _note_ignored(definition: PipelineDefinition, stream: str, ids: Sequence[RecordId]) -> None:
    """A retry leaves ignored records out; whoever names one should know."""
    from rowtrail.checkpoints.states import FailureState

    if not ids:
        return
    with ledger_of(definition) as ledger:
        ignored = ledger.failures.list(stream, (FailureState.IGNORED,), ids)
    for one in ignored:
        undo = command("ignore", one.record_id, "--undo")
        say(f"{one.record_id} is ignored and stays so; `{undo}` comes first.", to=sys.stderr)


def _require_keys(ids: Sequence[RecordId]) -> None:
    if not ids:
        raise typer.BadParameter("name the records by their keys", param_hint="KEY")


def _list(ids: Sequence[RecordId]) -> str:
    return ", ".join(map(str, ids))


def _stage(text: str | None) -> Stage | None:
    from rowtrail.pipelines.requests import FROM_STAGES

    if text is None:
        return None
    for stage in FROM_STAGES:
        if text == stage.value:
            return stage
    raise typer.BadParameter(f"{text!r} is neither extract nor transform", param_hint="--from")


def _submit(
    definition: PipelineDefinition, requests: Sequence[Request], *, dry_run: bool, json: bool
) -> None:
    from rowtrail.cli.reporter import Notes
    from rowtrail.pipelines.requests import submit

    results = submit(definition, requests, dry_run=dry_run, reporter=Notes()) if requests else []
    if json:
        print_json({"requests": [asdict(result) for result in results]})
    elif not results:
        say("Nothing to retry: no record is failed.")
    else:
        for result in results:
            _tell(definition, result)
    if any(result.failed for result in results):
        raise typer.Exit(COMPLETE_EXCEPT)


def _tell(definition: PipelineDefinition, result: RequestResult) -> None:
    number = "Dry run" if result.decision_id is None else f"Request {result.decision_id}"
    say(f"{number}, {result.stream}: {result.text}{'' if result.text.endswith('.') else '.'}")
    if result.failed and result.decision_id is not None:
        _tell_causes(definition, result)


def _tell_causes(definition: PipelineDefinition, result: RequestResult) -> None:
    """Why records failed again; a dry run notes no causes."""
    from rowtrail.checkpoints.record_id import RecordId

    ids = [RecordId.parse(text) for text in result.failed[:NAMED]]
    with ledger_of(definition) as ledger:
        found = ledger.failures.list(result.stream, record_ids=ids)
    for one in found:
        why = cause(one.stage.value, one.error_class, one.message)
        say(f"{one.record_id} failed at {one.stage.value}: {why}", hanging="  ")
    if len(result.failed) > NAMED:
        left = count(len(result.failed) - NAMED, "record")
        say(f"… and {left} more; `rowtrail failures {result.stream}` lists them.")
