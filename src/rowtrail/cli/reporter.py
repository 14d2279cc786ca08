"""How a run shows its progress: live on a terminal, one line a batch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rowtrail.pipelines.progress import Reporter, Silent
from rowtrail.pipelines.results import BatchResult, StreamResult


@contextmanager
def reporter_for(*, json: bool) -> Iterator[Reporter]:
    """With `json` standard output belongs to the document, and progress goes to no one."""
    if json:
        yield Silent()
    elif sys.stderr.isatty():
        with _live() as live:
            yield live
    else:
        yield Lines()


class Lines:
    """One line a batch on standard error, for log files."""

    def stream_started(self, name: str, capture: str) -> None:
        self._line(f"{name}: reading by {capture}")

    def batch_done(self, name: str, batch: BatchResult) -> None:
        counts = batch.counts
        self._line(
            f"{name}: batch {batch.batch_id} loaded={counts.loaded} deleted={counts.deleted} "
            f"filtered={counts.filtered} folded={counts.folded} superseded={counts.superseded} "
            f"failed={counts.failed}"
        )

    def stream_done(self, result: StreamResult) -> None:
        self._line(f"{result.name}: {result.summary}")

    def note(self, text: str) -> None:
        self._line(text)

    def _line(self, text: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        print(f"{now} {text}", file=sys.stderr, flush=True)


@contextmanager
def _live() -> Iterator[Reporter]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[rows]:>12,} records"),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Live(progress)


class _Live:
    """A spinner a stream, with the records so far."""

    def __init__(self, progress: object) -> None:
        from rich.progress import Progress

        assert isinstance(progress, Progress)
        self._progress = progress
        self._tasks: dict[str, tuple[int, int, int]] = {}

    def stream_started(self, name: str, capture: str) -> None:
        task = self._progress.add_task(f"{name} ({capture})", rows=0, failed="", total=None)
        self._tasks[name] = (int(task), 0, 0)

    def batch_done(self, name: str, batch: BatchResult) -> None:
        task, rows, failed = self._tasks[name]
        rows, failed = rows + batch.counts.total, failed + batch.counts.failed
        self._tasks[name] = (task, rows, failed)
        words = f"{failed:,} failed" if failed else ""
        self._progress.update(task, rows=rows, failed=words)  # type: ignore[arg-type]

    def stream_done(self, result: StreamResult) -> None:
        task, _, _ = self._tasks[result.name]
        self._progress.update(task, total=1, completed=1)  # type: ignore[arg-type]

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False)
