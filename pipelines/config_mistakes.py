"""Collects the mistakes of a pipeline's definition, and finds their lines in the TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import NoReturn

from rowtrail.connectors.errors import ConfigurationError

Place = tuple[str, ...]
"""Where a setting is, from the outermost table in: ("streams", "orders", "capture")."""

_HEADER = re.compile(r"\s*\[[^\[].*\]\s*(#.*)?")
_SETTING = re.compile(r"\s*(\"[^\"]*\"|'[^']*'|[A-Za-z0-9_-]+)\s*=")


class Mistakes:
    """All that is wrong in one definition. `what` names it; `text` is its TOML, if it has one."""

    def __init__(self, what: str, text: str = "") -> None:
        self._what = what
        self._lines = dict(_places(text))
        self._found: dict[Place, list[str]] = {}

    def add(self, place: Place, message: str) -> None:
        self._found.setdefault(place, []).append(message)

    def at(self, *places: Place) -> bool:
        """Whether something is wrong at one of the places, or at a table that it is in.

        What follows from a mistake need not be told beside it.
        """
        return any(
            place[:length] in self._found for place in places for length in range(1, len(place) + 1)
        )

    def within(self, place: Place) -> bool:
        """Whether something is wrong at the place or inside it."""
        return any(found[: len(place)] == place for found in self._found)

    def raise_if_any(self) -> None:
        """Raises ConfigurationError with every mistake and its place."""
        if self._found:
            self._raise()

    def _raise(self) -> NoReturn:
        found = [
            (self._line(place) or 0, f"{self._where(place)}: {message}")
            for place, messages in self._found.items()
            for message in messages
        ]
        count = "one mistake" if len(found) == 1 else f"{len(found)} mistakes"
        listed = "\n".join(f"  - {told}" for _, told in sorted(found, key=lambda one: one[0]))
        raise ConfigurationError(f"{self._what} has {count}:\n{listed}")

    def _where(self, place: Place) -> str:
        line = self._line(place)
        dotted = ".".join(place)
        return dotted if line is None else f"line {line}, {dotted}"

    def _line(self, place: Place) -> int | None:
        """The line of the setting; of its table, where the setting itself is missing."""
        for length in range(len(place), 0, -1):
            if place[:length] in self._lines:
                return self._lines[place[:length]]
        return None


def _places(text: str) -> Iterator[tuple[Place, int]]:
    """Tables and settings with their lines, as far as the ordinary forms of TOML go."""
    table: Place = ()
    for number, line in enumerate(text.splitlines(), 1):
        if _HEADER.fullmatch(line):
            table = _path(line) or table
            yield table, number
        elif match := _SETTING.match(line):
            yield (*table, *_path(f"{match[1]} = 0")), number


def _path(line: str) -> Place:
    """The keys that one line of TOML goes through; empty when the line is not TOML by itself."""
    try:
        value: object = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        path.append(key)
    return tuple(path)
