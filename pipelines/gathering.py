"""Gathers what a source gives into batches as large as the destination would have them.

Where each batch costs a merge that is billed, a few large ones are cheaper than many small ones.
What has been gathered and is not yet a batch is nowhere but in memory: if the process dies, it is
read again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import pyarrow.compute as pc

from rowtrail.connectors.base import Capabilities, Gathering
from rowtrail.connectors.changes import Changes, gathered
from rowtrail.pipelines.definition import StreamDefinition
from rowtrail.pipelines.key_extent import Extent, UnknownExtentError, extent_of


def gathering_of(can: Capabilities, stream: StreamDefinition) -> Gathering | None:
    """How far a stream's changes are gathered; None: each item of a read is a batch."""
    if can.gathering is None or stream.batch_rows is None:
        return can.gathering
    return replace(can.gathering, rows=min(can.gathering.rows, stream.batch_rows))


@dataclass
class Gatherer:
    """The changes of one stream that are not yet a batch, in the order in which they came.

    One item of a source is always a batch by itself, whatever its size. An item is put beside
    others only where the batch that they make means what they would mean one after the other:

    - of one shape, and either all with times or all without;
    - without rejected rows, which a newer row of their record puts to an end in the next batch, and
      not in their own;
    - with `once`, for a target that keeps the history: a row as it was read is set beside what the
      target has, not beside the same record in its own batch. So each comes once.
    """

    upto: Gathering | None
    once: bool = False
    follows: bool = False  # the end of what was read is not the end of a read
    _parts: list[Changes] = field(default_factory=list)
    _rows: int = 0
    _size: int = 0
    _timed: bool | None = None  # whether those with rows have times; None: there are none yet
    _extent: Extent | None = None  # of rows as they were read, with `once`
    _can_tell: bool = True  # whether `_extent` is of all of them
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
            and self._rows + len(changes) <= self.upto.rows
            and self._size + _size(changes) <= self.upto.size
            and not changes.rejected
            and not self._parts[-1].rejected
            and (not len(changes) or self._timed in (None, changes.times is not None))
            and changes.schema == self._parts[0].schema
            and (not self.once or self._is_apart(changes))
        )

    def add(self, changes: Changes) -> None:
        now = time.monotonic()
        if not self._parts:
            self._since = now
        self._parts.append(changes)
        if self.upto is None:
            return
        if not self._rows and len(changes):
            self._since = now
        self._rows += len(changes)
        self._size += _size(changes)
        if len(changes):
            self._timed = changes.times is not None
        if self.once and not _are_events(changes):
            self._note(changes)

    @property
    def is_due(self) -> bool:
        """Whether the parts should be a batch now."""
        if not self._parts:
            return False
        last = self._parts[-1]
        if self.upto is None or last.rejected or (last.read_complete and not self.follows):
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
        self._parts, self._rows, self._size = [], 0, 0
        self._timed, self._extent, self._can_tell = None, None, True
        return taken

    def _note(self, changes: Changes) -> None:
        """`takes` has compared them with the others, or they are the first."""
        try:
            found = extent_of(changes)
            if found is not None:
                self._extent = found if self._extent is None else self._extent.with_others(found)
        except UnknownExtentError:
            self._can_tell = False

    def _is_apart(self, changes: Changes) -> bool:
        """Whether none of these records is among the parts already, as far as can be told."""
        if _are_events(changes):
            return True
        try:
            found = extent_of(changes)
            if found is None or (self._can_tell and self._extent is None):
                return True
            if self._extent is None or not self._can_tell:
                return False
            return found.least > self._extent.greatest or found.greatest < self._extent.least
        except (UnknownExtentError, TypeError):
            return False


def _are_events(changes: Changes) -> bool:
    """Whether each of them is an event of its own, whatever is beside it; see `Times`."""
    if not len(changes):
        return True
    return changes.times is not None and pc.all(changes.times.committed).as_py() is True


def _size(changes: Changes) -> int:
    return int(changes.rows.nbytes) + (0 if changes.page is None else int(changes.page.nbytes))
