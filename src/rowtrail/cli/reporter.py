"""How a run shows its progress: live on a terminal, one line a batch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rowtrail.cli.output import say
from rowtrail.pipelines.progress import Reporter, Silent
from rowtrail.pipelines.results import BatchResult, StreamResult

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


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


class Notes(Silent):
    """Only what a person should read, on standard error."""

    def note(self, text: str) -> None:
        say(text, to=sys.stderr)


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
            + (f" warned={sum(one.rows for one in batch.warnings)}" if batch.warnings else "")
        )

    def stream_done(self, result: StreamResult) -> None:
        why = f": {result.error}" if result.error else ""
        self._line(f"{result.name}: {result.summary}{why}")

    def note(self, text: str) -> None:
        self._line(text)

    def _line(self, text: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        print(f"{now} {text}", file=sys.stderr, flush=True)


@contextmanager
def _live() -> Iterator[Reporter]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[rows]:>12,} records"),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True, highlight=False)
    with Progress(*columns, console=console, transient=True) as progress:
        yield Live(progress)


@dataclass
class _Row:
    """One stream on the display."""

    task: TaskID
    rows: int = 0
    failed: int = 0


@dataclass
class Live:
    """A spinner a stream, with the records so far; it goes when the run ends."""

    progress: Progress
    _rows: dict[str, _Row] = field(default_factory=dict)

    def stream_started(self, name: str, capture: str) -> None:
        task = self.progress.add_task(f"{name} ({capture})", total=None, rows=0, failed="")
        self._rows[name] = _Row(task)

    def batch_done(self, name: str, batch: BatchResult) -> None:
        row = self._rows[name]
        row.rows += batch.counts.total
        row.failed += batch.counts.failed
        words = f"{row.failed:,} failed" if row.failed else ""
        self.progress.update(row.task, rows=row.rows, failed=words)

    def stream_done(self, result: StreamResult) -> None:
        self.progress.update(self._rows[result.name].task, total=1, completed=1)

    def note(self, text: str) -> None:
        self.progress.console.print(text, markup=False)
