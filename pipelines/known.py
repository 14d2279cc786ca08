"""What the target and the ledger know of a stream, as captures that compare ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from rowtrail.checkpoints.states import HeldBack
from rowtrail.connectors.base import Destination, Target
from rowtrail.pipelines.record_keys import held_keys

if TYPE_CHECKING:
    from rowtrail.checkpoints.ledger import Ledger

Key = tuple[object, ...]


class HeldRecords:
    """The records of a stream that are held back, asked of the ledger when they have changed.

    Only the holder of the lease changes them, so that it knows when.
    """

    def __init__(self, ledger: Ledger, stream: str) -> None:
        self._ledger = ledger
        self._stream = stream
        self._records: tuple[HeldBack, ...] | None = None

    def all(self) -> tuple[HeldBack, ...]:
        if self._records is None:
            self._records = tuple(self._ledger.failures.held_back(self._stream))
        return self._records

    @property
    def are_none(self) -> bool:
        """Whether it is known just now, without asking the ledger, that there are none."""
        return self._records == ()

    def changed(self) -> None:
        """They are not what they were: to be called whenever a batch has failures or ends some."""
        self._records = None


class StreamKnown:
    """`Known` over a destination and a ledger.

    A record that is held back counts as present although the target may lack it: it is not read
    again as if it were new, and its delete at the source is still a change. One whose key the
    target cannot hold is told to nobody: no read could meet it by that key, so it would seem gone.
    """

    def __init__(
        self, destination: Destination, ledger: Ledger, target: Target, held: HeldRecords
    ) -> None:
        self._destination = destination
        self._ledger = ledger
        self._target = target
        self._held = held

    def keys(self, after: Key | None, upto: Key | None, limit: int) -> pa.Table:
        at_target = self._destination.keys(self._target, after, upto, limit)
        held = held_keys(self._held.all(), self._target.schema)
        if held is None:
            return at_target
        return _union(at_target, _within(held, after, upto)).slice(0, limit)

    def pages(self) -> Iterator[pa.RecordBatch]:
        return self._ledger.streams.pages(self._target.stream)


def _within(held: pa.Table, after: Key | None, upto: Key | None) -> pa.Table:
    """The held keys in (after, upto], compared as Python values: there are few."""
    keys = zip(*(column.to_pylist() for column in held.select(_names(held)).columns), strict=True)
    inside = [(after is None or key > after) and (upto is None or key <= upto) for key in keys]
    return held.filter(pa.array(inside))


def _names(held: pa.Table) -> list[str]:
    return [name for name in held.schema.names if name != "_held"]


def _union(at_target: pa.Table, held: pa.Table) -> pa.Table:
    if not len(held):
        return at_target
    names = _names(held)
    extra = held.select(names).append_column("present", pa.array([True] * len(held)))
    others = at_target.join(extra.select(names), keys=names, join_type="left anti")
    table = pa.concat_tables([others.select(at_target.schema.names), extra.cast(at_target.schema)])
    return table.sort_by([(name, "ascending") for name in names])
