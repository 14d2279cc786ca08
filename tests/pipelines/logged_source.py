"""A source with capture `log` for the engine's decisions alone: SQLite's triggers under that name.

It says how much log it keeps as a test tells it to, and remembers what it may forget. What a real
log does is for the tests of the sources that have one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rowtrail import Pipeline, Stream
from rowtrail.connectors import registry
from rowtrail.connectors.base import Capture, Problem, ReadState, StreamSpec
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.errors import RowtrailError
from rowtrail.connectors.schema import TableSchema
from rowtrail.connectors.sources.sqlite import SqliteSource


@dataclass
class Server:
    """What the log's server does and is told, seen from outside; for one test."""

    kept: dict[str, int] = field(default_factory=dict)  # stream -> bytes
    error: RowtrailError | None = None  # raised instead of telling
    asked: list[set[str]] = field(default_factory=list)
    acknowledged: list[set[str]] = field(default_factory=list)
    released: list[set[str]] = field(default_factory=list)


SERVER = Server()


def _by_trigger(stream: StreamSpec) -> StreamSpec:
    return replace(stream, capture=Capture.TRIGGER) if stream.capture is Capture.LOG else stream


class LoggedSource(SqliteSource):
    """Cannot release its log."""

    def describe(self, stream: StreamSpec) -> TableSchema:
        return super().describe(_by_trigger(stream))

    def read(self, stream: StreamSpec, state: ReadState) -> Iterator[Changes]:
        return super().read(_by_trigger(stream), state)

    def fetch(self, stream: StreamSpec, keys: pa.RecordBatch, state: ReadState) -> Changes:
        return super().fetch(_by_trigger(stream), keys, state)

    def acknowledge(self, streams: Mapping[str, tuple[StreamSpec, str]]) -> None:
        SERVER.acknowledged.append(set(streams))

    def preflight(self, streams: Sequence[StreamSpec]) -> list[Problem]:
        return super().preflight([_by_trigger(stream) for stream in streams])

    def capture_plan(self, streams: Sequence[StreamSpec]) -> list[str]:
        return super().capture_plan([_by_trigger(stream) for stream in streams])

    def retained(self, streams: Mapping[str, tuple[StreamSpec, str]]) -> Mapping[str, int]:
        SERVER.asked.append(set(streams))
        if SERVER.error is not None:
            raise SERVER.error
        return {name: SERVER.kept[name] for name in streams if name in SERVER.kept}


class ReleasingSource(LoggedSource):
    def release(self, streams: Sequence[StreamSpec]) -> None:
        SERVER.released.append({stream.name for stream in streams})


def use(monkeypatch: pytest.MonkeyPatch) -> Server:
    """Makes `logged:///file` and `releasing:///file` known; a server of which nothing is known."""
    global SERVER
    SERVER = Server()
    known = {
        **registry._BUILT_IN["source"],
        "logged": (__name__, "OpenedLogged", None),
        "releasing": (__name__, "OpenedReleasing", None),
    }
    monkeypatch.setattr(registry, "_BUILT_IN", {**registry._BUILT_IN, "source": known})
    return SERVER


class OpenedLogged(LoggedSource):
    def __init__(self, url: str) -> None:
        super().__init__(url.replace("logged:", "sqlite:"))


class OpenedReleasing(ReleasingSource):
    def __init__(self, url: str) -> None:
        super().__init__(url.replace("releasing:", "sqlite:"))


def pipeline(
    folder: Path, *streams: Stream | str, scheme: str = "logged", **settings: Any
) -> Pipeline:
    """Over the source.db of a folder; a text is a stream with capture `log`."""
    return Pipeline(
        name="test",
        source=f"{scheme}:///{folder / 'source.db'}",
        destination=f"duckdb:///{folder / 'target.duckdb'}",
        ledger=folder / "ledger.db",
        streams=[
            Stream(one, capture="log") if isinstance(one, str) else one
            for one in streams or ("orders", "lines")
        ],
        install_capture=True,
        **settings,
    )
