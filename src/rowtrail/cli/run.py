"""`rowtrail run`: one run of the pipeline."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable
from dataclasses import asdict
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from rowtrail.cli.common import (
    COMPLETE_EXCEPT,
    DEFAULT_FILE,
    FAILED,
    Json,
    PipelineFile,
    read_pipeline,
)
from rowtrail.cli.output import cause, count, print_json, print_table, say
from rowtrail.pipelines.sizes import size_text

if TYPE_CHECKING:
    from rowtrail.pipelines.results import CheckWarning, RunResult, StreamResult

NAMED = 10
"""So many failed records of a stream are told; `rowtrail failures` tells the others."""


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail run orders customers")(run)


def run(
    streams: Annotated[
        list[str] | None, typer.Argument(help="Only these streams.", metavar="STREAM")
    ] = None,
    pipeline: PipelineFile = DEFAULT_FILE,
    resnapshot: Annotated[
        list[str] | None,
        typer.Option(help="Read this stream's table anew; can be repeated.", metavar="STREAM"),
    ] = None,
    allow_deletes: Annotated[
        str | None,
        typer.Option(help="Share of a target's rows that this run may delete.", metavar="PERCENT"),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Go on as changes are committed, until SIGTERM or Ctrl-C."),
    ] = False,
    json: Json = False,
) -> None:
    """Loads what changed since the last run."""
    from rowtrail.checkpoints.states import RunState
    from rowtrail.cli.reporter import reporter_for
    from rowtrail.pipelines.run import RunOptions, run_pipeline

    share = None if allow_deletes is None else _share(allow_deletes)
    definition = read_pipeline(pipeline, with_transforms=True)
    options = RunOptions(
        streams=tuple(streams or ()),
        resnapshot=tuple(resnapshot or ()),
        allow_deletes=share,
        follow=stop_on_signal() if follow else None,
    )
    for name in (*options.streams, *options.resnapshot) if not definition.patterns else ():
        definition.stream(name)
    with reporter_for(json=json) as reporter:
        result = run_pipeline(definition, options, reporter=reporter)
    if json:
        print_json({**asdict(result), "state": result.state.value, "complete": result.complete})
    else:
        tell(result)
    if result.state is RunState.FAILED:
        raise typer.Exit(FAILED)
    if not result.complete:
        raise typer.Exit(COMPLETE_EXCEPT)


def stop_on_signal() -> Callable[[], bool]:
    """Whether SIGTERM or Ctrl-C has come: the batch under way is ended, and nothing begun. Either
    coming again ends the process as usual."""
    asked = Event()

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return asked.is_set


def _share(text: str) -> float:
    number = text.removesuffix("%")
    try:
        share = float(number) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise typer.BadParameter(
            f"{text!r} is no share from 0% to 100%", param_hint="--allow-deletes"
        )
    return share


def tell(result: RunResult) -> None:
    """The result for a person: a table, what failed, and the last word."""
    print_table(
        ("stream", "state", "loaded", "deleted", "filtered", "failed"),
        [
            (
                stream.name,
                _state(stream),
                f"{stream.counts.loaded:,}",
                f"{stream.counts.deleted:,}",
                f"{stream.counts.filtered:,}",
                f"{stream.counts.failed:,}",
            )
            for stream in result.streams.values()
        ],
        numbers=4,
    )
    say()
    for stream in result.streams.values():
        _tell_stream(stream)
    for table, why in {**result.left_out, **result.new_tables}.items():
        say(f"Table {table} is left out: {why}\n")
    for name, why in result.given_up.items():
        if name not in result.streams:
            say(f"{why}\n")
    _tell_cost(result)
    say(_last_word(result))


def _tell_cost(result: RunResult) -> None:
    """Of a warehouse that is billed by its use."""
    costs = {name: one.cost for name, one in result.streams.items() if one.cost is not None}
    if not costs:
        return
    print_table(
        ("cost of", "statements", "warehouse seconds", "staged"),
        [
            (name, f"{one.statements:,}", f"{one.seconds:,.1f}", size_text(one.staged_bytes))
            for name, one in costs.items()
        ],
        numbers=3,
    )
    say()


def _state(stream: StreamResult) -> str:
    """The summary less the reason, which follows below the table."""
    return stream.summary.partition(";")[0].partition(":")[0]


def _tell_stream(stream: StreamResult) -> None:
    if stream.error:
        say(f"{stream.name}: {stream.error}\n")
    if stream.skipped:
        say(f"{stream.name}: {stream.skipped}\n")
    for failed in stream.failed_records[:NAMED]:
        why = cause(failed.stage, failed.error_class, failed.message)
        say(f"{failed.record} failed at {failed.stage}: {why}", hanging="  ")
    for warned in stream.warnings:
        say(f"{stream.name}: {warning_words(warned)}", hanging="  ")
    if stream.held_back > NAMED:
        say(f"… `rowtrail failures {stream.name}` lists all {stream.held_back:,}.")


def warning_words(warned: CheckWarning) -> str:
    """What was warned of, as a line."""
    if warned.record is None:
        return f"warning: {warned.check}: the rows of a batch have {warned.observed}"
    example = "" if warned.rows == 1 else "for example "
    return (
        f"warning: {warned.check}: broken by {count(warned.rows, 'row')}, {example}{warned.record}"
    )


def _last_word(result: RunResult) -> str:
    streams = result.streams.values()
    stopped = sum(stream.error is not None or stream.needs_snapshot for stream in streams)
    if stopped:
        others = " The others are as the table says." if len(streams) > stopped else ""
        return f"Failed: {count(stopped, 'stream')} stopped, as told above.{others}"
    held_back = sum(stream.held_back for stream in streams)
    if held_back:
        first = next(stream.failed_records[0].record for stream in streams if stream.held_back)
        return (
            f"Complete except {count(held_back, 'record')}, in {result.seconds:.1f} s. "
            f"`rowtrail record {shlex.quote(first)}` tells why, and what to do."
        )
    if not result.complete:
        return "Not complete: something was left out or given up, as told above."
    return f"Complete, in {result.seconds:.1f} s."
