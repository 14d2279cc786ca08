"""`retry`, `replay` and `ignore`: what a person decides about single records."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from rowtrail.cli.archive import AllStreams, ArchiveOptions, replay_from_archive
from rowtrail.cli.choose import KeysFrom, Run, Since, Until, Wanted, Where, named
from rowtrail.cli.common import (
    DEFAULT_FILE,
    Group,
    Json,
    PipelineFile,
    ledger_of,
    read_known_pipeline,
)
from rowtrail.cli.output import command, count, print_json, say
from rowtrail.cli.requests import carry_out

if TYPE_CHECKING:
    from rowtrail.checkpoints.record_id import RecordId
    from rowtrail.checkpoints.selections import Origin
    from rowtrail.checkpoints.states import Decision, Stage
    from rowtrail.pipelines.definition import PipelineDefinition

FromStage = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="Go on from `transform`, or from `extract`: read the row anew.",
        metavar="STAGE",
    ),
]
FromOrigin = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="Take the rows from the `source`, as they are now, from the `image` that was "
        "captured when a record failed, or from the `archive`.",
        metavar="ORIGIN",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")]
Reason = Annotated[str | None, typer.Option(help="Why; it stands in the trail.", metavar="TEXT")]
Keys = Annotated[list[str] | None, typer.Argument(help="The records' keys.", metavar="KEY")]


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
    keys_from: KeysFrom = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    group: Group = None,
    from_stage: FromStage = None,
    dry_run: DryRun = False,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Tries failed records again, from the stage at which each failed."""
    from rowtrail.checkpoints.states import DecisionKind
    from rowtrail.pipelines.groups import find_group
    from rowtrail.pipelines.requests import Request, failed_streams

    chosen = Wanted(keys=keys or (), keys_from=keys_from)
    chosen.check()
    if stream is None and keys_from is not None:
        raise typer.BadParameter("say of which stream the keys are", param_hint="STREAM")
    stage = _stage(from_stage)
    definition = read_known_pipeline(pipeline, with_transforms=True)
    wanted: dict[str, tuple[RecordId, ...]] = {}
    fingerprint = None
    if group is not None:
        _refuse_keys(keys)
        found = find_group(definition, group, _stream(definition, stream))
        wanted[found.stream], fingerprint = (), found.fingerprint
    elif stream is None:
        wanted |= dict.fromkeys(failed_streams(definition), ())
    else:
        name, ids = named(definition, stream, chosen)
        wanted[name] = ids
        _note_ignored(definition, name, ids)
    requests = [
        Request(
            kind=DecisionKind.RETRY,
            stream=name,
            record_ids=ids,
            group=fingerprint,
            from_stage=stage,
            reason=reason,
        )
        for name, ids in wanted.items()
    ]
    carry_out(definition, requests, dry_run=dry_run, json=json)


def replay(
    stream: Annotated[str | None, typer.Argument(help="The stream.", metavar="STREAM")] = None,
    keys: Keys = None,
    keys_from: KeysFrom = None,
    run: Run = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    group: Group = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    origin: FromOrigin = None,
    all_streams: AllStreams = False,
    dry_run: DryRun = False,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Takes records through all stages again, loaded or not: by key, run, time, condition or group;
    or, with `--from archive`, whole streams."""
    from rowtrail.checkpoints.selections import Origin
    from rowtrail.checkpoints.states import DecisionKind
    from rowtrail.pipelines.groups import find_group
    from rowtrail.pipelines.requests import Request

    wanted = Wanted(
        keys=keys or (),
        keys_from=keys_from,
        run=run,
        since=since,
        until=until,
        where=where,
        group=group,
    )
    taken_from = _origin(origin)
    if taken_from is Origin.ARCHIVE:
        options = ArchiveOptions(
            names=(stream, *(keys or ())) if stream else tuple(keys or ()),
            all_streams=all_streams,
            wanted=wanted,
            reason=reason,
            dry_run=dry_run,
        )
        replay_from_archive(options, pipeline, json=json)
        return
    if all_streams:
        raise typer.BadParameter("is only for --from archive", param_hint="--all")
    wanted.check()
    selection = wanted.selection()
    definition = read_known_pipeline(pipeline, with_transforms=True)
    ids: tuple[RecordId, ...] = ()
    fingerprint = None
    if group is not None:
        found = find_group(definition, group, _stream(definition, stream))
        name, fingerprint = found.stream, found.fingerprint
    elif stream is None:
        raise typer.BadParameter("name the stream", param_hint="STREAM")
    else:
        name, ids = named(definition, stream, wanted)
        if not ids and selection is None:
            raise typer.BadParameter(
                "name the records by their keys, or choose them by --keys-from, --run, --since, "
                "--where or --group",
                param_hint="KEY",
            )
    request = Request(
        kind=DecisionKind.REPLAY,
        stream=name,
        record_ids=ids,
        group=fingerprint,
        origin=taken_from,
        selection=selection,
        reason=reason,
    )
    carry_out(definition, [request], dry_run=dry_run, json=json)


def ignore(
    stream: Annotated[
        str | None, typer.Argument(help="The stream; need not be given with --group.")
    ] = None,
    keys: Keys = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    group: Group = None,
    reason: Reason = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the decision back.")] = False,
    json: Json = False,
) -> None:
    """Stops counting failed records as missing: a decision, with its reason, that can be undone."""
    from rowtrail.pipelines import groups

    if not undo and not reason:
        raise typer.BadParameter("say why: it stands in the trail", param_hint="--reason")
    definition = read_known_pipeline(pipeline)
    if group is not None:
        _refuse_keys(keys)
        name = _stream(definition, stream)
        if undo:
            decision = groups.unignore_group(definition, group, reason, name)
        else:
            decision = groups.ignore_group(definition, group, reason or "", name)
    elif stream is None:
        raise typer.BadParameter("name the records, or a group with --group", param_hint="STREAM")
    else:
        name, ids = named(definition, stream, Wanted(keys=keys or ()))
        _require_keys(ids)
        if undo:
            decision = groups.unignore_records(definition, name, ids, reason)
        else:
            decision = groups.ignore_records(definition, name, ids, reason or "")
    _tell_ignored(decision, undo=undo, json=json)


def _tell_ignored(decision: Decision, *, undo: bool, json: bool) -> None:
    if json:
        print_json(
            {
                "decision": decision.id,
                "records": [str(one) for one in decision.record_ids],
                "state": "failed" if undo else "ignored",
                "group": decision.group,
            }
        )
        return
    if decision.group is None:
        which = _list(decision.record_ids)
    else:
        number = count(len(decision.record_ids), "record")
        which = f"{decision.stream}, {number} of group {decision.group}"
    if undo:
        say(f"{which}: no longer ignored, so failed again (decision {decision.id}).")
    else:
        say(f"{which}: ignored from now on (decision {decision.id}); --undo takes it back.")


def _stream(definition: PipelineDefinition, stream: str | None) -> str | None:
    """Raises ConfigurationError for an unknown stream."""
    return None if stream is None else definition.stream(stream).name


def _refuse_keys(keys: Sequence[str] | None) -> None:
    if keys:
        raise typer.BadParameter("a group has its records: name either", param_hint="--group")


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


def _origin(text: str | None) -> Origin | None:
    from rowtrail.checkpoints.selections import Origin
    from rowtrail.pipelines.requests import EARLIER_NAMES

    if text is None:
        return None
    try:
        return EARLIER_NAMES.get(text) or Origin(text)
    except ValueError:
        words = " nor ".join(one.value for one in Origin)
        raise typer.BadParameter(f"{text!r} is neither {words}", param_hint="--from") from None
