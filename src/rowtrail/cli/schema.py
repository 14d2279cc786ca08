"""`schema`: source and target side by side, before the night."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rowtrail.cli.common import DEFAULT_FILE, FAILED, Json, PipelineFile, read_pipeline
from rowtrail.cli.output import count, print_json, print_table, say

if TYPE_CHECKING:
    from rowtrail.pipelines.definition import PipelineDefinition
    from rowtrail.pipelines.schema_comparison import SchemaComparison
    from rowtrail.pipelines.schema_verdicts import ColumnVerdict


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail schema orders --report schema.html")(schema)


def schema(
    streams: Annotated[
        list[str] | None, typer.Argument(help="The streams; all if none is named.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write a report too: .md for Markdown, .html for a page.", metavar="FILE"
        ),
    ] = None,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept", help="Instead: write the source's shapes of today into the lock file."
        ),
    ] = False,
    pipeline: PipelineFile = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Compares the columns of source and target, and tells what a run would do to the target."""
    if accept:
        if report is not None:
            raise typer.BadParameter("it does not go with --accept", param_hint="--report")
        _accept(read_pipeline(pipeline), streams or (), json=json)
        return
    from rowtrail.pipelines.schema_comparison import compare_schemas

    if report is not None and report.suffix.lower() not in (".md", ".html"):
        raise typer.BadParameter("it ends in .md or .html", param_hint="--report")
    definition = read_pipeline(pipeline, with_transforms=True)
    found = compare_schemas(definition, streams or ())
    losing = [one for one in found if one.loses]
    if report is not None:
        from rowtrail.cli.schema_report import html_report, markdown_report

        write = html_report if report.suffix.lower() == ".html" else markdown_report
        report.write_text(write(definition.name, found), encoding="utf-8")
    if json:
        print_json(
            {"agree": not losing, "streams": [{**asdict(one), "loses": one.loses} for one in found]}
        )
    else:
        for one in found:
            _tell(one)
        if report is not None:
            say(f"The report is in {report}.")
        say(_summary(found, losing))
    if losing:
        raise typer.Exit(FAILED)


def _accept(definition: PipelineDefinition, streams: Sequence[str], *, json: bool) -> None:
    from rowtrail.pipelines.schema_acceptance import accept_schemas

    accepted = accept_schemas(definition, streams)
    if json:
        print_json({"written": bool(accepted), **asdict(accepted)})
        return
    for name in accepted.new:
        say(f"{name}: the shape of its table is new.")
    for name, words in accepted.changed:
        say(f"{name}: {words}.")
    for name in accepted.gone:
        say(f"{name}: is no stream any more.")
    if accepted:
        say(f"{accepted.path.name} was written. Keep it with the pipeline file.")
    else:
        say(f"{accepted.path.name} says the same already.")


def _tell(found: SchemaComparison) -> None:
    say(heading(found))
    if found.columns:
        say()
        print_table(COLUMNS, [cells(one) for one in found.columns])
    for line in notes(found):
        say(line, indent="  ", hanging="  ")
    for line in drifts(found):
        say(line, indent="  ", hanging="  ")
    for statement in found.plan:
        say(f"A run would: {statement}", indent="  ", hanging="  ")
    if found.problem:
        say(f"Problem: {found.problem}", indent="  ", hanging="  ")
    say()


def heading(found: SchemaComparison) -> str:
    """`orders: source table orders, target table orders: 4 same, 1 missing.`"""
    verdicts = Counter(one.verdict.value for one in found.columns)
    told = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
    where = f"table {found.table} at the source, {found.target} at the target"
    if not found.is_there and not found.problem:
        return f"{found.stream}: {where}, which the first run makes."
    return f"{found.stream}: {where}: {told}." if told else f"{found.stream}: {where}."


COLUMNS = ("column", "source", "target", "NULL", "key", "verdict")


def cells(one: ColumnVerdict) -> tuple[str, ...]:
    """One row of the table; where the sides differ, `source / target`."""
    sides = [side for side in (one.source, one.target) if side is not None]
    nulls = dict.fromkeys("yes" if side.nullable else "no" for side in sides)
    keys = dict.fromkeys("" if side.key is None else str(side.key) for side in sides)
    return (
        one.name,
        "" if one.source is None else one.source.type,
        "" if one.target is None else one.target.type,
        " / ".join(nulls),
        " / ".join(key or "-" for key in keys) if len(keys) > 1 else next(iter(keys)),
        one.verdict.value,
    )


def notes(found: SchemaComparison) -> list[str]:
    """What is to be said of single columns."""
    return [f"{one.name}: {one.why}." for one in found.columns if one.why]


def drifts(found: SchemaComparison) -> list[str]:
    """What has changed since the lock file was written."""
    return [f"Changed since it was agreed on: {one.words}." for one in found.drift]


def _summary(found: Sequence[SchemaComparison], losing: Sequence[SchemaComparison]) -> str:
    if not losing:
        return f"Source and target agree: {count(len(found), 'stream')}."
    names = ", ".join(one.stream for one in losing)
    return f"Source and target do not agree: a run would fail on, or lose something of, {names}."
