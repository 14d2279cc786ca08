"""Follows a source as a target would: folds changes by version, and can lose its process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import count
from typing import Any

import pyarrow as pa

from rowtrail.connectors.base import ReadState, Source, StreamSpec
from rowtrail.connectors.changes import Changes, Operation, Rejected, Version, version_at

Key = tuple[Any, ...]
Row = dict[str, Any]


MANY = 1_000_000
"""More than any test has in a batch, or in a range of the source's keys."""


class DictKnown:
    """`Known` over dictionaries, in the order that the protocol promises."""

    def __init__(self, follower: Follower, key: pa.Schema) -> None:
        self._follower = follower
        self._key = key

    def keys(self, after: Key | None, upto: Key | None, limit: int) -> pa.Table:
        present = {*self._follower.live(), *self._follower.rejected}
        assert 0 < limit < MANY, "what is asked for is bounded by the batch, or by the source"
        chosen = sorted(
            key
            for key in filter(self._fits, present | self._follower.filtered)
            if (after is None or key > after) and (upto is None or key <= upto)
        )[:limit]
        arrays = [
            pa.array([key[number] for key in chosen], field.type)
            for number, field in enumerate(self._key)
        ]
        flags = pa.array([key not in self._follower.filtered for key in chosen], pa.bool_())
        return pa.Table.from_arrays([*arrays, flags], names=[*self._key.names, "present"])

    def _fits(self, key: Key) -> bool:
        """A rejected row's key may have values of other types, or none."""
        try:
            typed = [
                pa.scalar(value, field.type).as_py()
                for value, field in zip(key, self._key, strict=True)
            ]
        except pa.ArrowException:
            return False
        return None not in key and tuple(typed) == key

    def pages(self) -> Iterator[pa.RecordBatch]:
        return iter(list(self._follower.last_pages))


class Follower:
    """All that a ledger and a target hold of one stream, in dictionaries."""

    def __init__(self, stream: StreamSpec, *, epoch: int = 1) -> None:
        self.stream = stream
        self.epoch = epoch
        self.position: str | None = None
        self.rows: dict[Key, tuple[Version, Row | None]] = {}
        self.rejected: dict[Key, Rejected] = {}
        self.filtered: set[Key] = set()
        self.last_pages: list[pa.RecordBatch] = []
        self._pages: list[pa.RecordBatch] = []
        self._reads = count(1)

    def live(self) -> dict[Key, Row]:
        return {key: row for key, (_, row) in self.rows.items() if row is not None}

    def state(self, source: Source) -> ReadState:
        return ReadState(
            epoch=self.epoch,
            position=self.position,
            read_number=next(self._reads),
            known=DictKnown(self, source.describe(self.stream).arrow_key()),
        )

    def read(self, source: Source) -> list[Changes]:
        """One whole read; each item is durable before the next one is asked for."""
        items = []
        for item in source.read(self.stream, self.state(source)):
            self.apply(item)
            items.append(item)
        return items

    def read_until(self, source: Source, items: int, *, lost: bool = False) -> bool:
        """A read that ends with the process after so many items, the last one durable or lost.

        False when the read came to its own end before, or with that item.
        """
        with closing(source.read(self.stream, self.state(source))) as reading:
            for number, item in enumerate(reading, start=1):
                if number < items or not lost:
                    self.apply(item)
                if number == items:
                    return lost or not item.read_complete
        return False

    def apply(self, item: Changes) -> None:
        """One transaction at the target: an older version changes nothing."""
        assert len(item) <= self.stream.batch_rows
        for number, row in enumerate(item.rows.to_pylist()):
            key = tuple(row[name] for name in item.schema.key)
            operation = Operation(item.operations[number].as_py())
            version = version_at(item.versions, number)
            if key not in self.rows or version > self.rows[key][0]:
                self.rows[key] = (version, None if operation is Operation.DELETE else row)
                self.rejected.pop(key, None)
                self.filtered.discard(key)
        for rejected in item.rejected:
            if rejected.key not in self.rows or rejected.version > self.rows[rejected.key][0]:
                self.rejected[rejected.key] = rejected
        self.position = item.position
        if item.page is not None:
            self._pages.append(item.page)
        if item.read_complete:
            self.last_pages, self._pages = self._pages, []


def reported(items: list[Changes]) -> list[tuple[Operation, Row]]:
    """Operations and rows, in the order in which they came."""
    return [
        (Operation(operation), row)
        for item in items
        for operation, row in zip(item.operations.to_pylist(), item.rows.to_pylist(), strict=True)
    ]


def reported_keys(items: list[Changes]) -> list[Key]:
    return [
        tuple(row[name] for name in item.schema.key)
        for item in items
        for row in item.rows.to_pylist()
    ]
