"""`init` and `check`: before the first run, and before every night."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rowtrail.cli.common import (
    DEFAULT_FILE,
    Json,
    PipelineFile,
    print_json,
    read_pipeline,
)


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail init sqlite:///shop.db duckdb:///warehouse.duckdb")(init)
    app.command(epilog="Example: rowtrail check --json")(check)


def init(
    source: Annotated[str | None, typer.Argument(help="URL of the database to read.")] = None,
    destination: Annotated[str | None, typer.Argument(help="URL of the warehouse.")] = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    name: Annotated[str, typer.Option(help="The pipeline's name.")] = "pipeline",
    capture: Annotated[
        bool, typer.Option("--capture", help="Make change logs and triggers at the source.")
    ] = False,
    remove_capture: Annotated[
        bool, typer.Option("--remove-capture", help="Remove them from the source.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Writes a pipeline file for a source's tables, or sets up capture at the source."""
    if capture or remove_capture:
        if source is not None or (capture and remove_capture):
            raise typer.BadParameter(
                "give either SOURCE and DESTINATION, or --capture, or --remove-capture"
            )
        _change_source(pipeline, remove=remove_capture, yes=yes, json=json)
        return
    if source is None or destination is None:
        raise typer.BadParameter("give SOURCE and DESTINATION, or --capture, or --remove-capture")
    from rowtrail.pipelines.scaffold import write_pipeline_file

    tables = write_pipeline_file(pipeline, name=name, source=source, destination=destination)
    if json:
        print_json({"file": str(pipeline), "streams": tables})
    else:
        print(f"{pipeline} has {len(tables)} streams: {', '.join(tables)}.")
        print("Next: `rowtrail check`, then `rowtrail init --capture`, then `rowtrail run`.")


def _change_source(path: Path, *, remove: bool, yes: bool, json: bool) -> None:
    from rowtrail.pipelines.capture import capture_plan, execute_at_source, removal_plan

    definition = read_pipeline(path)
    plan = (removal_plan if remove else capture_plan)(definition, definition.streams)
    if not json:
        for statement in plan:
            print(f"{statement.rstrip(';')};\n")
    if not plan and not json:
        print("Nothing to do at the source.")
    if plan and not yes and not json:
        typer.confirm(f"Run these {len(plan)} statements at the source?", abort=True)
    if plan and json and not yes:
        raise typer.BadParameter("with --json nobody can be asked: add --yes", param_hint="--json")
    execute_at_source(definition, plan)
    if json:
        print_json({"executed": plan})
    elif plan:
        print(f"Done: {len(plan)} statements ran at the source.")


def check(pipeline: PipelineFile = DEFAULT_FILE, json: Json = False) -> None:
    """Looks for what would stop a run, without changing anything."""
    from rowtrail.pipelines.check import check_pipeline

    definition = read_pipeline(pipeline)
    problems = check_pipeline(definition)
    if json:
        print_json([asdict(problem) for problem in problems])
    for problem in problems if not json else ():
        word = "problem" if problem.fatal else "note"
        print(f"{word}: {problem.stream}: {problem.message}")
        if problem.remedy:
            print(f"  {problem.remedy}")
    fatal = sum(problem.fatal for problem in problems)
    if fatal:
        raise typer.Exit(1)
    if not json:
        print(f"Ready: {len(definition.streams)} streams can be run.")
