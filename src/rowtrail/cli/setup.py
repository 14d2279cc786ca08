"""`init` and `check`: before the first run, and before every night."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rowtrail.cli.common import (
    DEFAULT_FILE,
    FAILED,
    Json,
    PipelineFile,
    Yes,
    confirm,
    read_pipeline,
)
from rowtrail.cli.output import count, print_json, say


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail init sqlite:///shop.db duckdb:///warehouse.duckdb")(init)
    app.command(epilog="Example: rowtrail check --expectations orders")(check)


def init(
    source: Annotated[
        str | None, typer.Argument(help="URL of the database to read.", metavar="SOURCE")
    ] = None,
    destination: Annotated[
        str | None, typer.Argument(help="URL of the warehouse.", metavar="DESTINATION")
    ] = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    name: Annotated[
        str | None, typer.Option(help="The pipeline's name; the source's if not set.")
    ] = None,
    capture: Annotated[
        bool,
        typer.Option(
            "--capture",
            help="Make what captures need at the source: publication and slot, or triggers.",
        ),
    ] = False,
    remove_capture: Annotated[
        bool, typer.Option("--remove-capture", help="Remove them from the source.")
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Writes a pipeline file for a source's tables, or sets up capture at the source."""
    both = source is not None and destination is not None
    one = source is not None or destination is not None
    if [one, capture, remove_capture].count(True) != 1 or one != both:
        raise typer.BadParameter(
            "give one of these: SOURCE and DESTINATION, or --capture, or --remove-capture"
        )
    if source is not None and destination is not None:
        _write_file(pipeline, name or _name_of(source), source, destination, json=json)
    else:
        _change_source(pipeline, remove=remove_capture, yes=yes, json=json)


def _name_of(source: str) -> str:
    """The database's name, as far as a pipeline may have it."""
    # Without the part that may hold a password.
    path = source.partition("://")[2].partition("?")[0].partition("/")[2]
    last = Path(path).stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", last).strip("_") or "pipeline"


def _write_file(path: Path, name: str, source: str, destination: str, *, json: bool) -> None:
    from rowtrail.pipelines.scaffold import write_pipeline_file

    written = write_pipeline_file(path, name=name, source=source, destination=destination)
    if json:
        print_json({"file": str(path), **asdict(written)})
        return
    listed = ", ".join(written.streams)
    say(f"{path} was written with {count(len(written.streams), 'stream')}: {listed}.")
    for table, why in written.left_out.items():
        say(f"Left out: {table}. {why}", hanging="  ")
    if written.variables:
        say(
            f"No password is in the file. Export {' and '.join(written.variables)} first, each as "
            f"it stood in the URL."
        )
    # The others need nothing in the source.
    install = "then `rowtrail init --capture`, " if written.capture in ("log", "trigger") else ""
    say(f"Next: `rowtrail check`, {install}then `rowtrail run`.")


def _change_source(path: Path, *, remove: bool, yes: bool, json: bool) -> None:
    from rowtrail.pipelines.capture import capture_plan, execute_at_source, removal_plan

    definition = read_pipeline(path)
    plan = (removal_plan if remove else capture_plan)(definition)
    if not json:
        for statement in plan:
            say(f"{statement.rstrip(';')};\n", hanging="    ")
    if plan:
        question = f"Run {'this' if len(plan) == 1 else 'these'} {count(len(plan), 'statement')}"
        confirm(f"{question} at the source?", yes=yes, json=json)
        execute_at_source(definition, plan)
    if json:
        print_json({"executed": plan})
    elif plan:
        say(f"Done: {count(len(plan), 'statement')} ran at the source, in one transaction.")
    else:
        say("Nothing to do at the source: all is as it should be.")


def check(
    streams: Annotated[
        list[str] | None,
        typer.Argument(help="With --expectations: only these streams.", metavar="STREAM"),
    ] = None,
    expectations: Annotated[
        bool,
        typer.Option(
            "--expectations",
            help="Instead: ask the checks and suites of the source's rows and of the target's.",
        ),
    ] = False,
    rows: Annotated[
        int | None,
        typer.Option(help="With --expectations: look at so many rows at most.", min=1),
    ] = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Looks for what would stop a run, without changing anything."""
    if expectations:
        from rowtrail.cli.expectations import compare

        compare(pipeline, streams or (), rows, json=json)
        return
    if streams or rows is not None:
        raise typer.BadParameter("streams and --rows go with --expectations")
    from rowtrail.pipelines.check import check_pipeline

    definition = read_pipeline(pipeline, with_transforms=True)
    checked = check_pipeline(definition)
    fatal = sum(problem.fatal for problem in checked.problems)
    if json:
        print_json({"ready": not fatal, **asdict(checked)})
    for problem in checked.problems if not json else ():
        word = "Problem" if problem.fatal else "Note"
        say(f"{word}: {problem.stream or definition.name}: {problem.message}", hanging="  ")
        say(f"{problem.remedy}\n" if problem.remedy else "", indent="  ")
    if not json:
        _tell_log(checked.retained_log, definition.retained_log)
    if fatal:
        if not json:
            say(f"Not ready: {count(fatal, 'problem')} would stop a run.")
        raise typer.Exit(FAILED)
    if not json:
        say(f"Ready: {count(len(checked.streams), 'stream')} can be run.")


def _tell_log(kept: Mapping[str, int], limit: int) -> None:
    """The stream that is furthest behind: the others' log is part of what is kept for it."""
    from rowtrail.pipelines.sizes import size_text

    if kept:
        name = max(kept, key=lambda one: kept[one])
        say(
            f"The source keeps {size_text(kept[name])} of its log, back to where stream {name} is; "
            f"`retained_log` is {size_text(limit)}."
        )
