"""What stands between the engine and real connectors, and loses answers on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

from rowtrail.connectors.base import Fence, Load, ReadState, Source, StreamSpec
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.errors import TransientError
from rowtrail.connectors.registry import open_destination, open_source
from rowtrail.pipelines import opening

Failing = Callable[[int], Exception | None]
"""What is raised instead of the n-th answer (1 is the first); None: the answer comes through."""

PATIENCE = 20
"""Reads after which a source is no longer cut, so that a test which goes wrong comes to an end."""


def cut() -> TransientError:
    return TransientError("The connection was cut.")


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error


@dataclass
class Wire:
    """Passes everything on to a destination, except what the functions say about writes."""

    behind: Any
    before_write: Failing = lambda number: None
    after_write: Failing = lambda number: None
    refuses: Callable[[Load], None] = lambda load: None  # of probes as well
    writes: int = 0
    probes: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)

    def write(self, load: Load, *, probe: bool = False) -> pa.Array:
        if probe:
            self.probes += 1
            self.refuses(load)
            return self.behind.write(load, probe=True)
        self.writes += 1
        _raise(self.before_write(self.writes))
        self.refuses(load)
        superseded = self.behind.write(load)
        _raise(self.after_write(self.writes))
        return superseded


def wire_destination(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[Wire]:
    """Puts a wire in front of every destination that is opened from now on."""
    opened: list[Wire] = []

    def wired(url: str, fence: Fence | None = None) -> Any:
        opened.append(Wire(open_destination(url, fence), **settings))
        return opened[-1]

    monkeypatch.setattr(opening, "open_destination", wired)
    return opened


@dataclass
class SourceWire:
    """A source whose connection is cut after every so many items of a read."""

    behind: Source
    items: int | None = None  # None: never
    acknowledging: Failing = lambda number: None
    started_from: list[str | None] = field(default_factory=list)
    acknowledged: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)

    def read(self, stream: StreamSpec, state: ReadState) -> Iterator[Changes]:
        self.started_from.append(state.position)
        for number, changes in enumerate(self.behind.read(stream, state)):
            if number == self.items and len(self.started_from) < PATIENCE:
                raise cut()
            yield changes

    def acknowledge(self, streams: Any) -> None:
        self.acknowledged += 1
        _raise(self.acknowledging(self.acknowledged))
        self.behind.acknowledge(streams)


def wire_source(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[SourceWire]:
    """Puts a wire in front of every source that is opened from now on."""
    opened: list[SourceWire] = []

    def wired(url: str) -> Any:
        opened.append(SourceWire(open_source(url), **settings))
        return opened[-1]

    monkeypatch.setattr(opening, "open_source", wired)
    return opened
