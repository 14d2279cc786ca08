"""`retry`, `replay` and `ignore`: what a person decides about single records."""

from __future__ import annotations

from collections.abc import Sequence
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
    read_pipeline,
    record_id_of,
    stream_of,
)

if TYPE_CHECKING:
    from rowtrail.pipelines.requests import RequestResult

FromStage = Annotated[
    str | None,
    typer.Option("--from", help="Go on from `transform` or `extract`.", metavar="STAGE"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")]
Reason = Annotated[str | None, typer.Option(help="Why; it stands in the trail.", metavar="TEXT")]


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail retry orders 42")(retry)
    app.command(epilog="Example: rowtrail replay orders 42 --reason 'rate table mended'")(replay)
    app.command(epilog="Example: rowtrail ignore orders 42 --reason 'test order'")(ignore)


def retry(
    stream: Annotated[str | None, typer.Argument(help="Only this stream.")] = None,
    keys: Annotated[list[str] | None, typer.Argument(help="Only these records.")] = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    from_stage: FromStage = None,
    dry_run: DryRun = False,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Tries failed records again, from the stage at which each failed."""
    from rowtrail.checkpoints.states import DecisionKind
    from rowtrail.pipelines.requests import Request, failed_streams, submit

    definition = read_pipeline(pipeline)
    if stream is not None:
        stream_of(definition, stream)
    names = [stream] if stream is not None else failed_streams(definition)
    requests = [
        Request(
            kind=DecisionKind.RETRY,
            stream=name,
            record_ids=tuple(record_id_of(definition, name, key) for key in keys or ()),
            from_stage=_stage(from_stage),
            reason=reason,
        )
        for name in names
    ]
    _tell(submit(definition, requests, dry_run=dry_run), json=json, nothing="No record is failed.")


def replay(
    stream: Annotated[str, typer.Argument(help="The stream.")],
    keys: Annotated[list[str], typer.Argument(help="The records.")],
    pipeline: PipelineFile = DEFAULT_FILE,
    from_stage: FromStage = None,
    dry_run: DryRun = False,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Reads records anew at the source and takes them through all stages, loaded or not."""
    from rowtrail.checkpoints.states import DecisionKind
    from rowtrail.pipelines.requests import Request, submit

    definition = read_pipeline(pipeline)
    request = Request(
        kind=DecisionKind.REPLAY,
        stream=stream_of(definition, stream).name,
        record_ids=tuple(record_id_of(definition, stream, key) for key in keys),
        from_stage=_stage(from_stage),
        reason=reason,
    )
    _tell(submit(definition, [request], dry_run=dry_run), json=json, nothing="")


def ignore(
    stream: Annotated[str, typer.Argument(help="The stream.")],
    keys: Annotated[list[str], typer.Argument(help="The records.")],
    pipeline: PipelineFile = DEFAULT_FILE,
    reason: Reason = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the decision back.")] = False,
    json: Json = False,
) -> None:
    """Stops counting failed records as missing: a decision, with its reason, that can be undone."""
    from rowtrail.pipelines.requests import actor

    if not undo and not reason:
        raise typer.BadParameter("say why: it stands in the trail", param_hint="--reason")
    definition = read_pipeline(pipeline)
    stream_of(definition, stream)
    ids = [record_id_of(definition, stream, key) for key in keys]
    with ledger_of(definition) as ledger:
        if undo:
            decision = ledger.decisions.unignore(stream, ids, actor(), reason)
        else:
            decision = ledger.decisions.ignore(stream, ids, actor(), reason or "")
    word = "no longer ignored" if undo else "ignored"
    if json:
        print_json({"decision": decision.id, "records": [str(one) for one in ids], "state": word})
    else:
        print(f"{', '.join(map(str, ids))}: {word} (decision {decision.id}).")


def _stage(text: str | None):  # type: ignore[no-untyped-def]
    from rowtrail.checkpoints.states import Stage

    if text is None:
        return None
    if text not in (Stage.TRANSFORM, Stage.EXTRACT):
        raise typer.BadParameter(f"{text!r} is neither transform nor extract", param_hint="--from")
    return Stage(text)


def _tell(results: Sequence[RequestResult], *, json: bool, nothing: str) -> None:
    if json:
        print_json([asdict(result) for result in results])
    elif not results:
        print(nothing)
    for result in results if not json else ():
        number = "Dry run" if result.decision_id is None else f"Request {result.decision_id}"
        print(f"{number}, {result.stream}: {result.text}.")
        for failed in result.failed[:10]:
            print(f"  {failed} failed again; `rowtrail record` tells why")
    if any(result.failed for result in results):
        raise typer.Exit(COMPLETE_EXCEPT)
