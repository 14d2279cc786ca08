"""The application: its commands, its exit codes, and how errors are told."""

from __future__ import annotations

import json
import sys
import traceback

import typer

from rowtrail.cli import decide, demo, inspect_, ledger, run, setup, stream

app = typer.Typer(
    name="rowtrail",
    help="Copies changed rows and deletes into a warehouse, and knows what became of each record.",
    epilog="Exit codes: 0 complete, 1 failed, 2 wrong usage or configuration, 3 complete except N.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for part in (setup, run, inspect_, decide):
    part.register(app)
app.add_typer(stream.app, name="stream")
app.add_typer(ledger.app, name="ledger")
demo.register(app)

FAILED = 1
USAGE = 2


def main() -> None:
    """The console script. Errors are one paragraph on standard error; a traceback with --debug."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) != len(sys.argv) - 1
    try:
        code = app(arguments, standalone_mode=False)
    except typer.Exit as stop:
        code = stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = _tell("Stopped. What was committed stays; the next run goes on from there.", FAILED)
    except Exception as error:  # noqa: BLE001 - the last resort: told as our own fault
        if debug:
            traceback.print_exc()
        code = _tell(*_words(error), as_json="--json" in arguments)
    sys.exit(code if isinstance(code, int) else 0)


def _words(error: Exception) -> tuple[str, int]:
    """The paragraph and the exit code of an error."""
    show = getattr(error, "format_message", None)
    if callable(show):  # wrong usage, as the argument parser found it
        context = getattr(error, "ctx", None)
        usage = f"\n{context.get_usage()}" if context is not None else ""
        return f"{show()}{usage}", USAGE
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


def _tell(message: str, code: int, *, as_json: bool = False) -> int:
    if as_json:
        print(json.dumps({"error": message, "exit_code": code}))
    else:
        print(f"Error: {message}" if code else message, file=sys.stderr)
    return code
