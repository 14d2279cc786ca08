"""Gathers what a source gives into batches as large as the destination would have them.

Where each batch costs a merge that is billed, a few large ones are cheaper than many small ones.
What has been gathered and is not yet a batch is nowhere but in memory: if the process dies, it is
read again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from rowtrail.connectors.base import Capabilities, Gathering
from rowtrail.connectors.changes import Changes, gathered
from rowtrail.pipelines.definition import StreamDefinition


def gathering_of(can: Capabilities, stream: StreamDefinition) -> Gathering | None:
    """How far a stream's changes are gathered; None: each item of a read is a batch."""
    if can.gathering is None or stream.batch_rows is None:
        return can.gathering
    return replace(can.gathering, rows=min(can.gathering.rows, stream.batch_rows))


@dataclass
class Gatherer:
    """The changes of one stream that are not yet a batch, in the order in which they came."""

    upto: Gathering | None
    _parts: list[Changes] = field(default_factory=list)
    _rows: int = 0  # and rejected ones
    _size: int = 0
    _timed: bool | None = None  # whether those with rows have times; None: there are none yet
    _since: float = 0.0  # time.monotonic() of the first of them, or of the first part

    @property
    def parts(self) -> tuple[Changes, ...]:
        return tuple(self._parts)

    def takes(self, changes: Changes) -> bool:
        """Whether they may be in one batch with the parts. If not, these are taken out first."""
        if not self._parts:
            return True
        return (
            self.upto is not None
            and self._rows + _weight(changes) <= self.upto.rows
            and (not len(changes) or self._timed in (None, changes.times is not None))
            and changes.schema == self._parts[0].schema
        )

    def add(self, changes: Changes) -> None:
        now = time.monotonic()
        if not self._parts:
            self._since = now
        self._parts.append(changes)
        if self.upto is None:
            return
        if not self._rows and _weight(changes):
            self._since = now
        self._rows += _weight(changes)
        self._size += changes.rows.nbytes
        if len(changes):
            self._timed = changes.times is not None

    @property
    def is_due(self) -> bool:
        """Whether the parts should be a batch now."""
        if not self._parts:
            return False
        if self.upto is None or self._parts[-1].read_complete:
            return True
        seconds = self.upto.seconds if self._rows else self.upto.quiet_seconds
        return (
            self._rows >= self.upto.rows
            or self._size >= self.upto.size
            or time.monotonic() - self._since >= seconds
        )

    def take(self) -> Changes | None:
        """The parts as one; None where there are none."""
        if not self._parts:
            return None
        taken = gathered(self._parts)
        self._parts, self._rows, self._size, self._timed = [], 0, 0, None
        return taken


def _weight(changes: Changes) -> int:
    return len(changes) + len(changes.rejected)
