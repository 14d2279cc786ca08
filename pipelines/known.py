"""What the target and the ledger know of a stream, as captures that compare ask for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from rowtrail.checkpoints.states import HeldBack
from rowtrail.connectors.base import Destination, Target
from rowtrail.pipelines.plan import held_keys

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

    def changed(self) -> None:
        """They are not what they were: to be called whenever a batch has failures or ends some."""
        self._records = None


class StreamKnown:
    """`Known` over a destination and a ledger.

    A record that is held back counts as present although the target may lack it: it is not read
    again as if it were new, and its delete at the source is still a change.
    """

    def __init__(
        self, destination: Destination, ledger: Ledger, target: Target, held: HeldRecords
    ) -> None:
        self._destination = destination
        self._ledger = ledger
        self._target = target
        self._held = held

    def keys(self, after: Key | None, upto: Key | None) -> pa.Table:
        at_target = self._destination.keys(self._target, after, upto)
        held = [one for one in self._held.all() if _within(one.record_id.key, after, upto)]
        return _union(at_target, held, self._target) if held else at_target

    def pages(self) -> Iterator[pa.RecordBatch]:
        return self._ledger.streams.pages(self._target.stream)


def _within(key: Sequence[object], after: Key | None, upto: Key | None) -> bool:
    """Whether a key lies in (after, upto]; one that does not compare with them lies nowhere."""
    try:
        return (after is None or tuple(key) > after) and (upto is None or tuple(key) <= upto)
    except TypeError:
        return False


def _union(at_target: pa.Table, held: Sequence[HeldBack], target: Target) -> pa.Table:
    extra = held_keys(held, target.schema)
    if extra is None:
        return at_target
    names = list(target.schema.key)
    extra = extra.select(names).append_column("present", pa.array([True] * len(extra)))
    others = at_target.join(extra.select(names), keys=names, join_type="left anti")
    table = pa.concat_tables([others.select(at_target.schema.names), extra.cast(at_target.schema)])
    return table.sort_by([(name, "ascending") for name in names])
