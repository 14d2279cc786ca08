"""`rowtrail stream`: what a person decides about a whole stream."""

from __future__ import annotations

from typing import Annotated

import typer

from rowtrail.cli.common import (
    DEFAULT_FILE,
    Json,
    PipelineFile,
    print_json,
    read_pipeline,
    stream_of,
)

app = typer.Typer(help="Pauses, resumes, re-reads or drops a stream.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The stream.", metavar="STREAM")]


@app.command(epilog="Example: rowtrail stream pause orders")
def pause(stream: Name, pipeline: PipelineFile = DEFAULT_FILE, json: Json = False) -> None:
    """Leaves the stream out of runs until it is resumed."""
    _do("pause", stream, pipeline, json, f"{stream} is paused.")


@app.command(epilog="Example: rowtrail stream resume orders")
def resume(stream: Name, pipeline: PipelineFile = DEFAULT_FILE, json: Json = False) -> None:
    """Lets a paused or stopped stream go on from its position."""
    _do("resume", stream, pipeline, json, f"{stream} goes on with the next run.")


@app.command(epilog="Example: rowtrail stream resnapshot orders")
def resnapshot(stream: Name, pipeline: PipelineFile = DEFAULT_FILE, json: Json = False) -> None:
    """Has the next run read the whole table anew; rows gone from the source go at the target."""
    _do("resnapshot", stream, pipeline, json, f"{stream} is read anew by the next run.")


@app.command(epilog="Example: rowtrail stream drop orders")
def drop(
    stream: Name,
    pipeline: PipelineFile = DEFAULT_FILE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Forgets all that the ledger knows of the stream; its target table stays."""
    if not yes:
        typer.confirm(f"Forget the position and the trails of {stream}?", abort=True)
    _do("drop", stream, pipeline, json, f"{stream} is forgotten.")


def _do(action: str, stream: str, path, json: bool, words: str) -> None:  # type: ignore[no-untyped-def]
    from rowtrail.pipelines.stream_actions import ACTIONS

    definition = read_pipeline(path)
    stream_of(definition, stream)
    ACTIONS[action](definition, stream)
    if json:
        print_json({"stream": stream, "done": action})
    else:
        print(words)
