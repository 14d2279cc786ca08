"""`rowtrail run`: one run of the pipeline."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rowtrail.cli.common import (
    COMPLETE_EXCEPT,
    DEFAULT_FILE,
    Json,
    PipelineFile,
    print_json,
    print_table,
    read_pipeline,
)

if TYPE_CHECKING:
    from rowtrail.pipelines.results import RunResult


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail run orders customers")(run)


def run(
    streams: Annotated[
        list[str] | None, typer.Argument(help="Only these streams.", metavar="[STREAM]...")
    ] = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    resnapshot: Annotated[
        list[str] | None, typer.Option(help="Read this stream anew.", metavar="STREAM")
    ] = None,
    allow_deletes: Annotated[
        str | None,
        typer.Option(help="Share of a target's rows that this run may delete.", metavar="PERCENT"),
    ] = None,
    json: Json = False,
) -> None:
    """Loads what changed since the last run."""
    from rowtrail.checkpoints.states import RunState
    from rowtrail.cli.reporter import reporter_for
    from rowtrail.pipelines.run import RunOptions, run_pipeline

    definition = read_pipeline(pipeline)
    options = RunOptions(
        streams=tuple(streams or ()),
        resnapshot=tuple(resnapshot or ()),
        allow_deletes=None if allow_deletes is None else _share(allow_deletes),
    )
    with reporter_for(json=json) as reporter:
        result = run_pipeline(definition, options, reporter=reporter)
    if json:
        print_json({**asdict(result), "state": result.state.value, "complete": result.complete})
    else:
        tell(result)
    if result.state is RunState.FAILED:
        raise typer.Exit(1)
    if not result.complete:
        raise typer.Exit(COMPLETE_EXCEPT)


def _share(text: str) -> float:
    number = text.removesuffix("%")
    try:
        share = float(number) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"{text!r} is not a share such as 30%", param_hint="allow-deletes")
    return share


def tell(result: RunResult) -> None:
    """The result for a person: a table, what failed, and the last word."""
    rows = [
        (
            stream.name,
            stream.summary,
            f"{stream.counts.loaded:,}",
            f"{stream.counts.deleted:,}",
            f"{stream.counts.filtered:,}",
            f"{stream.counts.failed:,}",
            f"{sum(stream.seconds.values()):.2f}",
        )
        for stream in result.streams.values()
    ]
    columns = ("stream", "state", "loaded", "deleted", "filtered", "failed", "seconds")
    print_table(columns, rows, numbers=5)
    for stream in result.streams.values():
        if stream.error:
            print(f"{stream.name}: {stream.error}\n")
        for failed in stream.failed_records[:10]:
            print(f"  {failed.record} failed at {failed.stage}: {failed.message}")
        if len(stream.failed_records) > 10:
            print(f"  … see `rowtrail failures {stream.name}` for all {stream.held_back:,}")
    held_back = sum(stream.held_back for stream in result.streams.values())
    if any(stream.error for stream in result.streams.values()):
        print("Failed: at least one stream stopped; see above. The others are as the table says.")
    elif held_back:
        records = "record" if held_back == 1 else "records"
        print(
            f"Complete except {held_back:,} {records}, in {result.seconds:.1f} s. "
            f"`rowtrail record STREAM KEY` tells the story of one."
        )
    elif not result.complete:
        print("Not complete: some streams were not run; see the table.")
    else:
        print(f"Complete, in {result.seconds:.1f} s.")
