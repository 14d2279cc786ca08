"""`rowtrail stream`: what a person decides about a whole stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rowtrail.cli.common import (
    DEFAULT_FILE,
    Json,
    PipelineFile,
    Yes,
    confirm,
    read_known_pipeline,
    read_pipeline,
)
from rowtrail.cli.output import print_json, say
from rowtrail.cli.requests import carry_out

app = typer.Typer(
    help="Pauses, resumes, re-reads, fills, renames or drops a stream.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="The stream.", metavar="STREAM")]


@app.command(epilog="Example: rowtrail stream pause orders")
def pause(stream: Name, pipeline: PipelineFile = DEFAULT_FILE, json: Json = False) -> None:
    """Leaves the stream out of runs until it is resumed."""
    _do("pause", stream, pipeline, json, f"{stream} is paused: runs leave it out.")


@app.command(epilog="Example: rowtrail stream resume orders")
def resume(stream: Name, pipeline: PipelineFile = DEFAULT_FILE, json: Json = False) -> None:
    """Lets a paused or stopped stream go on from its position."""
    _do("resume", stream, pipeline, json, f"{stream} goes on with the next run.")


@app.command(epilog="Example: rowtrail stream resnapshot orders")
def resnapshot(stream: Name, pipeline: PipelineFile = DEFAULT_FILE, json: Json = False) -> None:
    """Has the next run read the whole table anew; rows gone from the source go at the target."""
    _do("resnapshot", stream, pipeline, json, f"The next run reads {stream} anew.")


@app.command(epilog="Example: rowtrail stream rename orders sales_orders")
def rename(
    old: Annotated[str, typer.Argument(help="The name it had.", metavar="STREAM")],
    new: Annotated[str, typer.Argument(help="Its name in the file now.", metavar="NEW")],
    pipeline: PipelineFile = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Goes on with a stream that got another name in the file, from where it is."""
    from rowtrail.pipelines.stream_actions import rename as carry_out

    carry_out(read_pipeline(pipeline), old, new)
    if json:
        print_json({"stream": new, "done": "rename"})
    else:
        say(f"{old} is {new} from now on; the next run goes on from its position.")


@app.command(epilog="Example: rowtrail stream drop orders --yes")
def drop(
    stream: Name,
    pipeline: PipelineFile = DEFAULT_FILE,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Forgets a stream that is no longer in the file; its target table stays."""
    confirm(f"Forget the position and the trails of {stream}?", yes=yes, json=json)
    _do("drop", stream, pipeline, json, f"{stream} is forgotten; its target table stays.")


@app.command(epilog="Example: rowtrail stream backfill orders place --dry-run")
def backfill(
    stream: Name,
    column: Annotated[str, typer.Argument(help="The column.", metavar="COLUMN")],
    pipeline: PipelineFile = DEFAULT_FILE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Fills a column of rows that were loaded before it was there, from the source."""
    from rowtrail.pipelines.backfill import backfill_request

    definition = read_known_pipeline(pipeline, with_transforms=True)
    request = backfill_request(definition, stream, column)
    carry_out(definition, [request], dry_run=dry_run, json=json)


def _do(action: str, stream: str, path: Path, json: bool, words: str) -> None:
    from rowtrail.pipelines.stream_actions import ACTIONS

    definition = read_known_pipeline(path)
    if action != "drop":
        definition.stream(stream)
    ACTIONS[action](definition, stream)
    if json:
        print_json({"stream": stream, "done": action})
    else:
        say(words)
