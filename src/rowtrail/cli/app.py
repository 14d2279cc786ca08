"""The application: its commands, its exit codes, and how errors are told."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from io import TextIOWrapper
from typing import Annotated

import typer

from rowtrail.cli import (
    decide,
    demo,
    failures,
    ledger,
    prune,
    record,
    run,
    schema,
    setup,
    status,
    stream,
)
from rowtrail.cli.common import FAILED, USAGE
from rowtrail.cli.output import print_json, say

app = typer.Typer(
    name="rowtrail",
    help="Copies changed rows and deletes into a warehouse, and knows what became of each record.",
    epilog="Exit codes: 0 complete, 1 failed, 2 wrong usage or configuration, 3 complete except N.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for part in (setup, schema, run, status, failures, record, decide, prune):
    part.register(app)
app.add_typer(stream.app, name="stream")
app.add_typer(ledger.app, name="ledger")
demo.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from rowtrail import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print the traceback of an error; anywhere on the line.")
    ] = False,
) -> None:
    """`--debug` stands here for the help alone: `execute` has taken it out of the line."""


_INTERRUPTED = 130
"""What the argument parser makes of Ctrl-C."""


def main() -> None:
    """The console script."""
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, TextIOWrapper):  # a key with an emoji, told in a terminal without
            output.reconfigure(errors="backslashreplace")
    code = execute(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `rowtrail failures | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def execute(line: Sequence[str]) -> int:
    """Carries out one command line and returns its exit code.

    An error is one paragraph on standard error; with --json a document on standard output instead.
    """
    before, dashes, after = _at_dashes(line)
    arguments = [one for one in before if one != "--debug"]
    as_json = "--json" in arguments
    if not arguments:
        arguments = ["--help"]
    try:
        code = _commands()(
            [*arguments, *dashes, *after], prog_name="rowtrail", standalone_mode=False
        )
    except typer.Exit as stop:
        code = stop.exit_code
    except typer.Abort:
        code = _tell("Nothing was changed.", FAILED, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last resort: told as our own fault
        if len(arguments) < len(before):
            print(_masked(traceback.format_exc()), end="", file=sys.stderr)
        code = _tell(*_words(error), as_json=as_json)
        if not as_json:
            _tell_usage(error)
    if code == _INTERRUPTED:
        words = "Stopped. What was committed stays; the next run goes on from there."
        code = _tell(words, FAILED, as_json=as_json)
    return code if isinstance(code, int) else 0


@cache
def _commands() -> Callable[..., object]:
    """The parser of `app`, which takes longer to make than most lines to parse."""
    return typer.main.get_command(app)


def _at_dashes(line: Sequence[str]) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """What follows `--` is never an option."""
    place = line.index("--") if "--" in line else len(line)
    return line[:place], line[place : place + 1], line[place + 1 :]


def _words(error: Exception) -> tuple[str, int]:
    """The paragraph and the exit code of an error."""
    show = getattr(error, "format_message", None)
    if callable(show):  # wrong usage, as the argument parser found it
        words = f"{str(show()).rstrip('.')}."
        if re.search(r"No such option: -\d", words):
            words += " A key that begins with a dash follows two: rowtrail record orders -- -42."
        return words, USAGE
    from rowtrail.checkpoints.errors import LedgerError
    from rowtrail.connectors.errors import ConfigurationError, RowtrailError

    if isinstance(error, ConfigurationError):
        return str(error), USAGE
    if isinstance(error, (RowtrailError, LedgerError)):
        return str(error), FAILED
    return (
        f"Rowtrail itself is at fault: {type(error).__name__}: {error}. What was committed stays. "
        f"Run the command again with --debug and report what it prints.",
        FAILED,
    )


def _tell_usage(error: Exception) -> None:
    context = getattr(error, "ctx", None)
    if context is not None:
        say(f"{context.get_usage()}\n`{context.command_path} --help` tells more.", to=sys.stderr)


def _masked(text: str) -> str:
    """Without passwords of URLs: a second net, below the rule that no message holds any."""
    return re.sub(r"(://[^/\s:@]*:)[^/\s]*@", r"\1…@", text)


def _tell(message: str, code: int, *, as_json: bool) -> int:
    message = _masked(message)
    if as_json:
        print_json({"error": message, "exit_code": code})
    else:
        say(f"Error: {message}", to=sys.stderr)
    return code
