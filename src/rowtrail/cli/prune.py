"""`rowtrail prune`: drops images, trails and archived batches that are too old to be needed."""

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
    archive: Annotated[
        bool, typer.Option("--archive", help="Batches in the archive, but the last of each stream.")
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
    """Drops old images, trails and archived batches; without a choice, as the settings say."""
    from rowtrail.checkpoints.states import Prunable
    from rowtrail.pipelines.retention import prune as prune_one

    definition = read_known_pipeline(pipeline)
    names = [definition.stream(name).name for name in streams or ()] or None
    chosen = {Prunable.IMAGES: images, Prunable.TRAILS: trails, Prunable.ARCHIVE: archive}
    cuts = _cuts(definition, older_than, [what for what, wanted in chosen.items() if wanted])
    if not cuts and not shrink:
        raise typer.BadParameter(
            "say from what age on, as in --older-than 90d; the pipeline file has no [retention]",
            param_hint="--older-than",
        )
    if open_ones and not images:
        raise typer.BadParameter("goes with --images", param_hint="--open")
    with ledger_of(definition) as ledger:
        counts: list[PruneCount] = []
        for what, before in cuts.items():
            counts += prune_one(
                definition,
                ledger,
                what,
                before,
                of_streams=names,
                open_ones=open_ones,
                dry_run=True,
            )
        if not json and cuts:
            _show(cuts, counts)
        if dry_run:
            if json:
                print_json(_document(cuts, counts, dry_run=True))
            return
        if counts:
            confirm("Drop it? It cannot be brought back.", yes=yes, json=json)
            counts = []
            for what, before in cuts.items():
                counts += prune_one(
                    definition, ledger, what, before, of_streams=names, open_ones=open_ones
                )
        sizes = _settle(ledger, shrink=shrink)
        if json:
            document = _document(cuts, counts, dry_run=False)
            print_json(document if sizes is None else {**document, "file_bytes": sizes[1]})
        else:
            _tell_end(counts, sizes)


def _cuts(
    definition: PipelineDefinition, older_than: str | None, chosen: Sequence[Prunable]
) -> Mapping[Prunable, datetime]:
    """What is pruned, and before when it ended."""
    from rowtrail.checkpoints.states import Prunable
    from rowtrail.pipelines.ages import parse_age

    kept: dict[Prunable, timedelta | None] = {
        what: getattr(definition.retention, what) for what in Prunable
    }
    ages: dict[Prunable, timedelta | None]
    if older_than is not None:
        if not chosen:
            raise typer.BadParameter(
                "say what: --images, --trails, --archive or several of them", param_hint="--images"
            )
        try:
            age = parse_age(older_than)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--older-than") from None
        ages = dict[Prunable, timedelta | None].fromkeys(chosen, age)
    else:
        set_ones = [what for what, length in kept.items() if length is not None]
        ages = {what: kept[what] for what in chosen or set_ones}
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
        from_then = "of what ended" if what != "archive" else "of batches read"
        say(f"{what.capitalize()} {from_then} before {when(before)} UTC")
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
    for remark in (one.remark for one in counts if one.remark):
        say(f"Note: {remark}")


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
