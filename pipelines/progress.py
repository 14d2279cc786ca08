"""Whom a run tells what it does."""

from __future__ import annotations

from typing import Protocol

from rowtrail.pipelines.results import BatchResult, StreamResult


class Reporter(Protocol):
    """Told of progress; must not raise."""

    def stream_started(self, name: str, capture: str) -> None: ...

    def batch_done(self, name: str, batch: BatchResult) -> None: ...

    def stream_done(self, result: StreamResult) -> None: ...

    def note(self, text: str) -> None:
        """Something a person should read: recovery, a request carried out."""
        ...


class Silent:
    """Tells nobody; the result says it all."""

    def stream_started(self, name: str, capture: str) -> None: ...

    def batch_done(self, name: str, batch: BatchResult) -> None: ...

    def stream_done(self, result: StreamResult) -> None: ...

    def note(self, text: str) -> None: ...
