"""Keys from a file or from standard input, one on each line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rowtrail.checkpoints.record_id import RecordId

TOLD = 5
"""So many mistakes are told at once."""


def read_ids(file: str, read: Callable[[str], RecordId]) -> tuple[RecordId, ...]:
    """The records of all lines, `-` being standard input; lines without anything are left out.

    Nothing is trimmed but the end of the line. Raises ConfigurationError, which names the lines,
    when `read` raises it; BadParameter for a file that cannot be read or holds no key.
    """
    from rowtrail.connectors.errors import ConfigurationError

    found: list[RecordId] = []
    mistakes: list[str] = []
    for number, text in _lines(file):
        try:
            found.append(read(text))
        except ConfigurationError as error:
            mistakes.append(f"Line {number}: {error}")
    if mistakes:
        more = f" And {len(mistakes) - TOLD:,} lines more." if len(mistakes) > TOLD else ""
        where = "standard input" if file == "-" else file
        raise ConfigurationError(
            f"Nothing was done, for {where} has lines that are no keys. "
            f"{' '.join(mistakes[:TOLD])}{more}"
        )
    if not found:
        raise typer.BadParameter("there is no key in it", param_hint="--keys-from")
    return tuple(found)


def _lines(file: str) -> Iterator[tuple[int, str]]:
    """The numbered lines that hold something."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        words = error.strerror or str(error)
        raise typer.BadParameter(
            f"{file} cannot be read: {words}", param_hint="--keys-from"
        ) from error
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            text = line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise typer.BadParameter(
                f"line {number} of {file} is no text in UTF-8", param_hint="--keys-from"
            ) from error
        if text:
            yield number, text
