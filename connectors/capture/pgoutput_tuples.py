"""The rows in Insert, Update and Delete messages of one layout, as Arrow columns of text.

A message is its kind, the table's oid (4 bytes) and then tuples, each headed by `N` (new row), `K`
(old key) or `O` (old row). Insert has `N`; Update has `N`, with `K` or `O` before it where the
replica identity asks for it; Delete has `K` or `O`.
https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html

Messages are taken in blocks that stay in the processor's cache: each is looked at once per column,
and memory is slower than all the rest (values of 300,000 messages of 9 columns: 54 ms, not 141).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rowtrail.connectors.capture.pgoutput import Relation
from rowtrail.connectors.capture.pgoutput_utf8 import as_text
from rowtrail.connectors.capture.pgoutput_walk import (
    UNCHANGED,
    Places,
    Walked,
    filled,
    gather,
    walk,
)
from rowtrail.connectors.capture.pgoutput_wire import (
    BrokenMessageError,
    Kinds,
    LogFormatError,
    Mask,
    Messages,
    refuse,
)

_BLOCK_BYTES = 2**20
_BLOCK_ROWS = (
    2048,
    8192,
)  # with fewer, what numpy costs by the call outweighs what the cache saves
_BLOCK_VALUES = 2**21  # of which the places are kept at a time, some 40 MB
_INSERT, _UPDATE, _DELETE = b"IUD"
_NEW, _KEY, _OLD = b"NKO"
_NAMES = {_INSERT: "an Insert", _UPDATE: "an Update", _DELETE: "a Delete"}
_SHORTEST = 8  # kind, table, kind of the tuple, number of its columns


@dataclass(frozen=True, kw_only=True)
class TextColumn:
    """One column of all messages. `values` is a string array, or large_string past 2 GiB.

    It is NULL where the value is NULL, unchanged, not UTF-8, or the message has no such tuple. The
    masks are None where nothing would be true. `octets` has the bytes as they came (binary), where
    some of them are not UTF-8.
    """

    values: Any
    unchanged: Mask | None = None  # the message does not tell the value
    broken: Mask | None = None  # not UTF-8
    octets: Any = None


@dataclass(frozen=True, kw_only=True)
class Tuples:
    """Rows of messages of one layout; every array has a value for each message."""

    kinds: Kinds  # ASCII: I, U, D
    old_kinds: Kinds  # ASCII: K (an old row with nothing but its identity), O, or 0: none
    has_new: Mask
    new: Mapping[str, TextColumn]
    old: Mapping[str, TextColumn]


def decode(
    relation: Relation,
    data: Any,
    *,
    columns: Collection[str] | None = None,
    old_columns: Collection[str] | None = None,
) -> Tuples:
    """The rows of Insert, Update and Delete messages of this layout.

    `data` is a binary, large_binary or chunked array. Only the named columns are given out (None:
    all); every byte is checked all the same. A value that is unchanged in the new row and told in
    the old one is taken from there. Raises LogFormatError, whose `row` is the message's number.
    """
    messages = Messages(data)
    try:
        return _Decoder(relation, messages, columns, old_columns).decode()
    except BrokenMessageError as broken:
        message = messages.message(broken.row)
        kind = _NAMES.get(message[0] if message else 0, "a message")
        raise LogFormatError(
            f"The log of PostgreSQL cannot be read: {kind} of {relation.name} ({len(message)} "
            f"bytes, number {broken.row + 1:,} of {len(messages):,}) {broken}.",
            row=broken.row,
        ) from None


class _Column:
    """One column, block by block."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._parts: list[Any] = []
        self._unchanged: Mask | None = None

    def add(self, messages: Messages, block: slice, walked: Walked, places: Places) -> None:
        count = block.stop - block.start
        self._parts.append(gather(messages, walked.rows, places, count))
        unchanged = places.status == UNCHANGED
        if unchanged.any():
            if self._unchanged is None:
                self._unchanged = np.zeros(self._count, np.bool_)
            self._unchanged[block][walked.rows] = unchanged

    def finish(self, large: bool) -> TextColumn:
        kind = pa.large_binary() if large else pa.binary()
        octets = pa.concat_arrays(self._parts) if self._parts else pa.nulls(0, kind)
        values, broken = as_text(octets)
        return TextColumn(
            values=values,
            unchanged=self._unchanged,
            broken=broken,
            octets=None if broken is None else octets,
        )


class _Decoder:
    def __init__(
        self,
        relation: Relation,
        messages: Messages,
        columns: Collection[str] | None,
        old_columns: Collection[str] | None,
    ) -> None:
        self._relation = relation
        self._messages = messages
        self._new = self._wanted(columns)
        self._old = self._wanted(old_columns)

    def _wanted(self, names: Collection[str] | None) -> dict[int, _Column]:
        return {
            number: _Column(len(self._messages))
            for number, column in enumerate(self._relation.columns)
            if names is None or column.name in names
        }

    def decode(self) -> Tuples:
        count = len(self._messages)
        kinds, old_kinds = np.zeros(count, np.uint8), np.zeros(count, np.uint8)
        step = self._block_rows()
        for start in range(0, count, step):
            block = slice(start, min(start + step, count))
            try:
                kinds[block], old_kinds[block] = self._block(block)
            except BrokenMessageError as broken:
                broken.row += start
                raise
        return Tuples(
            kinds=kinds,
            old_kinds=old_kinds,
            has_new=kinds != _DELETE,
            new=self._finished(self._new),
            old=self._finished(self._old),
        )

    def _block_rows(self) -> int:
        size = max(len(self._messages.octets) // max(len(self._messages), 1), 1)
        least, most = _BLOCK_ROWS
        rows = min(max(_BLOCK_BYTES // size, least), most)
        return max(min(rows, _BLOCK_VALUES // max(len(self._relation.columns), 1)), 1)

    def _finished(self, columns: Mapping[int, _Column]) -> dict[str, TextColumn]:
        return {
            self._relation.columns[number].name: column.finish(self._messages.large)
            for number, column in columns.items()
        }

    def _block(self, block: slice) -> tuple[Kinds, Kinds]:
        """Decodes these messages; returns their kinds and the kinds of their old tuples."""
        messages, relation = self._messages, self._relation
        starts, ends = messages.starts[block], messages.ends[block]
        refuse(ends - starts < _SHORTEST, "ends too early")
        heads = messages.words(starts)
        kinds: Kinds = (heads >> 56).astype(np.uint8)
        is_insert, is_update, is_delete = kinds == _INSERT, kinds == _UPDATE, kinds == _DELETE
        refuse(~(is_insert | is_update | is_delete), "does not change a row")
        refuse(heads >> 24 & 0xFFFFFFFF != relation.oid, "is about another table")
        marks: Kinds = (heads >> 16 & 0xFF).astype(np.uint8)
        has_old = (marks == _KEY) | (marks == _OLD)
        possible = (has_old & ~is_insert) | ((marks == _NEW) & ~is_delete)
        refuse(~possible, "begins with a kind of row that it cannot have")
        places = starts + 6

        old: Walked | None = None
        if has_old.any():
            rows = np.flatnonzero(has_old)
            old, places[rows] = walk(messages, relation, rows, places[rows], ends[rows])
            rows = np.flatnonzero(has_old & is_update)
            refuse(places[rows] >= ends[rows], "ends before its new row", rows)
            refuse(messages.words(places[rows]) >> 56 != _NEW, "lacks its new row", rows)
            places[rows] += 1
        rows = np.flatnonzero(~is_delete)
        new, places[rows] = walk(messages, relation, rows, places[rows], ends[rows])
        refuse(places != ends, "is longer than its columns")

        self._add(block, new, old, marks == _OLD)
        return kinds, np.where(has_old, marks, np.uint8(0))

    def _add(self, block: slice, new: Walked, old: Walked | None, old_is_whole: Mask) -> None:
        messages, count = self._messages, block.stop - block.start
        nothing = Walked(rows=np.zeros(0, np.int64), columns=[])
        none = Places(
            status=np.zeros(0, np.uint8), first=np.zeros(0, np.int64), last=np.zeros(0, np.int64)
        )
        for number, column in self._old.items():
            if old is None:
                column.add(messages, block, nothing, none)
            else:
                column.add(messages, block, old, old.columns[number])
        for number, column in self._new.items():
            places = new.columns[number]
            if old is not None and (places.status == UNCHANGED).any():
                places = filled(places, new.rows, old.spread(number, count), old_is_whole)
            column.add(messages, block, new, places)
