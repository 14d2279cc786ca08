"""`replay --from archive`: streams, or records of one, as the archive has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rowtrail.cli.choose import Wanted, named
from rowtrail.cli.common import COMPLETE_EXCEPT, ledger_of, read_known_pipeline
from rowtrail.cli.output import count, print_json, say
from rowtrail.cli.records import record_ids, split

if TYPE_CHECKING:
    from rowtrail.checkpoints.record_id import RecordId
    from rowtrail.pipelines.archive_replay import ArchiveReplayed, ArchiveRequest
    from rowtrail.pipelines.definition import PipelineDefinition

AllStreams = Annotated[bool, typer.Option("--all", help="From the archive: all streams.")]

NAMED = 10
"""So many records that failed are named."""


@dataclass(frozen=True, kw_only=True)
class ArchiveOptions:
    """What stands on the command line."""

    names: tuple[str, ...]  # streams, or a stream and keys
    all_streams: bool
    wanted: Wanted  # of which a run and a condition mean nothing here
    reason: str | None
    dry_run: bool


def replay_from_archive(options: ArchiveOptions, pipeline: Path, *, json: bool) -> None:
    """Replays, and tells of each stream what became of it."""
    from rowtrail.cli.reporter import Notes
    from rowtrail.pipelines.archive_replay import replay_archive

    definition = read_known_pipeline(pipeline, with_transforms=True)
    request = _request(definition, options)
    results = replay_archive(definition, request, dry_run=options.dry_run, reporter=Notes())
    if json:
        print_json({"streams": [{**asdict(one), "complete": one.complete} for one in results]})
    else:
        for one in results:
            _tell(one)
    if not all(one.complete for one in results):
        raise typer.Exit(COMPLETE_EXCEPT)


def _request(definition: PipelineDefinition, options: ArchiveOptions) -> ArchiveRequest:
    from rowtrail.pipelines.archive_replay import ArchiveRequest

    wanted = options.wanted
    for option, given in (("--run", wanted.run), ("--where", wanted.where)):
        if given is not None:
            raise typer.BadParameter("the archive is not asked so", param_hint=option)
    since, until = wanted.span()
    names, reason = options.names, options.reason
    if wanted.keys_from is not None or wanted.group is not None:
        name, ids = _listed(definition, options)
        return ArchiveRequest(
            streams=(name,), record_ids=ids, since=since, until=until, reason=reason
        )
    if options.all_streams == bool(names):
        raise typer.BadParameter("name streams, or add --all for all of them", param_hint="STREAM")
    streams = {one.name for one in definition.streams}
    # Without a ledger the streams of patterns are known from the archive, once it is open.
    unknown = bool(definition.patterns) and not definition.ledger.exists()
    if unknown or set(names) <= streams:
        return ArchiveRequest(streams=names, since=since, until=until, reason=reason)
    name, texts = split(definition, names[0], names[1:])
    both = [one for one in names[1:] if one in streams]
    if both:
        raise typer.BadParameter(
            f"{', '.join(both)} names a stream, and the others do not: name streams, or one stream "
            f"and the keys of its records",
            param_hint="STREAM",
        )
    with ledger_of(definition) as ledger:
        ids = tuple(record_ids(definition, ledger, name, texts))
    return ArchiveRequest(streams=(name,), record_ids=ids, since=since, until=until, reason=reason)


def _listed(
    definition: PipelineDefinition, options: ArchiveOptions
) -> tuple[str, tuple[RecordId, ...]]:
    """The stream, and the records of a file or of a group."""
    from rowtrail.pipelines.groups import group_records

    wanted = replace(options.wanted, since=None, until=None)
    wanted.check()
    if options.all_streams:
        raise typer.BadParameter("are records of one stream", param_hint=wanted.ways()[0])
    stream = options.names[0] if options.names else None
    if wanted.group is not None:
        name = None if stream is None else definition.stream(stream).name
        return group_records(definition, wanted.group, name)
    if stream is None:
        raise typer.BadParameter("say of which stream the keys are", param_hint="STREAM")
    return named(definition, stream, wanted)


def _tell(result: ArchiveReplayed) -> None:
    number = "Dry run" if result.decision_id is None else f"Request {result.decision_id}"
    say(f"{number}, {result.stream}: {result.text}")
    for one in result.lost:
        say(one, hanging="  ")
    for record in result.failed[:NAMED]:
        say(f"{record} failed; `rowtrail record {record}` tells why.", hanging="  ")
    if len(result.failed) > NAMED:
        left = count(len(result.failed) - NAMED, "record")
        say(f"… and {left} more; `rowtrail failures {result.stream}` lists them.")
    if result.needs_snapshot:
        say(result.needs_snapshot)
