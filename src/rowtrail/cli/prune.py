"""`rowtrail prune`: drops images and trails that are older than somebody needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from rowtrail.cli.common import (
    DEFAULT_FILE,
    Json,
    PipelineFile,
    Yes,
    confirm,
    ledger_of,
    read_known_pipeline,
)
from rowtrail.cli.output import print_json, print_table, say, when

if TYPE_CHECKING:
    from rowtrail.checkpoints.ledger import Ledger
    from rowtrail.checkpoints.states import Prunable, PruneCount
    from rowtrail.pipelines.definition import PipelineDefinition


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail prune --older-than 90d --trails --images")(prune)


def prune(
    streams: Annotated[
        list[str] | None, typer.Argument(help="Only these streams.", metavar="STREAM")
    ] = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    older_than: Annotated[
        str | None, typer.Option(help="What ended longer ago, such as 90d.", metavar="AGE")
    ] = None,
    images: Annotated[
        bool, typer.Option("--images", help="Rows of failures that have ended.")
    ] = False,
    open_ones: Annotated[
        bool, typer.Option("--open", help="Rows of failures that are still held back, too.")
    ] = False,
    trails: Annotated[
        bool, typer.Option("--trails", help="What was loaded, ended failures, decisions.")
    ] = False,
    shrink: Annotated[
        bool, typer.Option("--shrink", help="Make the ledger's file smaller, then.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go; change nothing.")
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Drops old images and trails from the ledger; without a choice, as the settings say."""
    from rowtrail.pipelines.retention import prune as prune_one

    definition = read_known_pipeline(pipeline)
    names = [definition.stream(name).name for name in streams or ()] or None
    cuts = _cuts(definition, older_than, images=images, trails=trails, shrink=shrink)
    if open_ones and not images:
        raise typer.BadParameter("goes with --images", param_hint="--open")
    with ledger_of(definition) as ledger:
        counts: list[PruneCount] = []
        for what, before in cuts.items():
            counts += prune_one(
                ledger, what, before, of_streams=names, open_ones=open_ones, dry_run=True
            )
        if not json and cuts:
            _show(cuts, counts)
        if dry_run:
            if json:
                print_json(_document(cuts, counts, dry_run=True))
            return
        if counts:
            confirm("Drop it from the ledger? It cannot be brought back.", yes=yes, json=json)
            counts = []
            for what, before in cuts.items():
                counts += prune_one(ledger, what, before, of_streams=names, open_ones=open_ones)
        sizes = _settle(ledger, shrink=shrink)
        if json:
            document = _document(cuts, counts, dry_run=False)
            print_json(document if sizes is None else {**document, "file_bytes": sizes[1]})
        else:
            _tell_end(counts, sizes)


def _cuts(
    definition: PipelineDefinition,
    older_than: str | None,
    *,
    images: bool,
    trails: bool,
    shrink: bool,
) -> Mapping[Prunable, datetime]:
    """What is pruned, and before when it ended."""
    from rowtrail.checkpoints.states import Prunable
    from rowtrail.pipelines.ages import parse_age

    chosen = {Prunable.IMAGES: images, Prunable.TRAILS: trails}
    settings = definition.retention
    kept = {Prunable.IMAGES: settings.images, Prunable.TRAILS: settings.trails}
    ages: dict[Prunable, timedelta | None]
    if older_than is not None:
        if not any(chosen.values()):
            raise typer.BadParameter("say what: --images, --trails or both", param_hint="--images")
        try:
            age = parse_age(older_than)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--older-than") from None
        ages = {what: age for what, wanted in chosen.items() if wanted}
    else:
        ages = {what: kept[what] for what, wanted in chosen.items() if wanted} or {
            what: age for what, age in kept.items() if age is not None
        }
    if not ages and not shrink:
        raise typer.BadParameter(
            "say from what age on, as in --older-than 90d; the pipeline file has no [retention]",
            param_hint="--older-than",
        )
    now = datetime.now(UTC)
    cuts = {}
    for what, length in ages.items():
        if length is None:
            raise typer.BadParameter(
                f"say from what age on: the pipeline file has no retention.{what}",
                param_hint="--older-than",
            )
        cuts[what] = _before(now, length)
    return cuts


def _before(now: datetime, age: timedelta) -> datetime:
    try:
        return now - age
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _show(cuts: Mapping[Prunable, datetime], counts: Sequence[PruneCount]) -> None:
    from rowtrail.pipelines.sizes import size_text

    for what, before in cuts.items():
        say(f"{what.capitalize()} of what ended before {when(before)} UTC")
    if not counts:
        say("There are none.")
        return
    say()
    rows = [
        (
            one.stream,
            one.what,
            f"{one.number:,}",
            size_text(one.size) if one.size else "",
        )
        for one in counts
    ]
    print_table(("stream", "what", "number", "size"), rows, numbers=2)
    say()


def _settle(ledger: Ledger, *, shrink: bool) -> tuple[int, int] | None:
    from rowtrail.checkpoints.errors import LedgerBusyError

    if shrink:
        return ledger.shrink()
    with suppress(LedgerBusyError):  # whoever is in the way does it when it closes the ledger
        ledger.settle_files()
    return None


def _tell_end(counts: Sequence[PruneCount], sizes: tuple[int, int] | None) -> None:
    from rowtrail.pipelines.sizes import size_text

    if counts:
        say("Pruned; `rowtrail record` says so of each record that it may concern.")
    if sizes is not None:
        say(f"The ledger's file had {size_text(sizes[0])} and has {size_text(sizes[1])} now.")
    elif counts:
        say("The ledger's file keeps its size and uses the room again; --shrink makes it smaller.")


def _document(
    cuts: Mapping[Prunable, datetime], counts: Sequence[PruneCount], *, dry_run: bool
) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "before": {what.value: before for what, before in cuts.items()},
        "pruned": [asdict(one) for one in counts],
    }
