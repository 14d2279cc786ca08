"""`rowtrail ledger`: keeping the checkpoints safe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rowtrail.cli.common import DEFAULT_FILE, Json, PipelineFile, ledger_of, read_pipeline
from rowtrail.cli.output import print_json, say

app = typer.Typer(help="Backs the ledger up, or rebuilds it.", no_args_is_help=True)


@app.command(epilog="Example: rowtrail ledger backup /backups/shop.ledger")
def backup(
    file: Annotated[
        Path, typer.Argument(help="The new file; must not be there yet.", metavar="FILE")
    ],
    pipeline: PipelineFile = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Copies the ledger to a file, while in use if need be."""
    definition = read_pipeline(pipeline)
    with ledger_of(definition) as ledger:
        ledger.backup(file)
    if json:
        print_json({"file": str(file)})
    else:
        say(f"The ledger was copied to {file}.")


@app.command(epilog="Example: rowtrail ledger rebuild")
def rebuild(pipeline: PipelineFile = DEFAULT_FILE, json: Json = False) -> None:
    """Makes a lost ledger anew from the target's receipts: positions and gaps, not old trails."""
    from rowtrail.pipelines.rebuild import rebuild_ledger

    definition = read_pipeline(pipeline)
    notes = rebuild_ledger(definition)
    if json:
        print_json({"file": str(definition.ledger), "notes": notes})
        return
    for note in notes:
        say(note)
    say(f"The ledger is at {definition.ledger} again. `rowtrail status` shows what it knows.")
