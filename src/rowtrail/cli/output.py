"""How answers are printed: a JSON document, tables of 80 columns, paragraphs that wrap."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rowtrail.checkpoints.record_id import RecordId
    from rowtrail.checkpoints.states import Failure


def print_json(value: object) -> None:
    """One JSON document; times as ISO 8601, values of databases as text."""
    unicode = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    print(json.dumps(value, default=_plain, ensure_ascii=not unicode, indent=2))


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def say(text: str = "", *, indent: str = "", hanging: str = "", to: TextIO | None = None) -> None:
    """Prints text; its lines are wrapped on a terminal, and left whole in a file.

    The variable COLUMNS, if set, is the width of both.
    """
    stream = to or sys.stdout
    wrap = stream.isatty() or "COLUMNS" in os.environ
    width = shutil.get_terminal_size().columns if wrap else sys.maxsize
    for line in text.split("\n"):
        own = line[: len(line) - len(line.lstrip())]
        wrapped = textwrap.fill(
            line.lstrip(),
            width,
            initial_indent=indent + own,
            subsequent_indent=indent + own + hanging,
            break_long_words=False,
            break_on_hyphens=False,
        )
        print(wrapped, file=stream)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], numbers: int = 0) -> None:
    """A table as wide as the terminal, or 80 columns in a file; long cells wrap.

    The last `numbers` columns are set flush right and are never wrapped.
    """
    from rich.box import Box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Columns two blanks apart, and one line below their names.
    underlined = Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
    table = Table(box=underlined, show_edge=False, pad_edge=False, header_style="bold")
    table.collapse_padding = True
    for index, column in enumerate(columns):
        right = index >= len(columns) - numbers
        table.add_column(
            column, justify="right" if right else "left", overflow="fold", no_wrap=right
        )
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def when(moment: datetime | None) -> str:
    """A time as a person reads it, in UTC to the second."""
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")


def clock(moment: datetime) -> str:
    """The time of day alone, in UTC to the thousandth of a second."""
    return moment.strftime("%H:%M:%S.%f")[:-3]


def version_text(version: Sequence[int] | None) -> str:
    """`1.4711.3.0`: epoch, position, ordinal, revision; compared from the left."""
    return "" if version is None else ".".join(map(str, version))


def minute(moment: datetime) -> str:
    """The same to the minute, where room is short."""
    return moment.strftime("%Y-%m-%d %H:%M")


_SPANS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def duration(span: timedelta) -> str:
    """`3 days`, `1 hour`, `under a minute`: the largest unit alone, rounded down."""
    seconds = span.total_seconds()
    for unit, length in _SPANS:
        if seconds >= length:
            return count(int(seconds // length), unit)
    return "under a minute"


def count(number: int, noun: str) -> str:
    """`1 record`, `1,200 records`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def cause(stage: str, error_class: str, message: str) -> str:
    """Why a record failed; an exception of a transform by its class too, said once."""
    from_user = stage == "transform" and error_class != "RecordError"
    named = not from_user or message.startswith(f"{error_class}: ")
    return message if named else f"{error_class}: {message}"


def is_are(number: int) -> str:
    return "is" if number == 1 else "are"


def command(verb: str, record_id: RecordId, options: str = "") -> str:
    """A command for one record, as it is typed: `rowtrail retry orders 42 --from extract`."""
    key = str(record_id).removeprefix(f"{record_id.stream}:")
    name = f"{shlex.quote(record_id.stream)} {shlex.quote(key)}"
    # Behind two dashes nothing is an option any more.
    words = (verb, options, f"-- {name}") if key.startswith("-") else (verb, name, options)
    return " ".join(("rowtrail", *filter(None, words)))


def failure_document(failure: Failure) -> dict[str, object]:
    """A failure as --json prints it, with record ids as people write them."""
    waits_for = None if failure.waits_for is None else str(failure.waits_for)
    return {**asdict(failure), "record_id": str(failure.record_id), "waits_for": waits_for}
