"""Tuples of many messages, walked in step: where each value lies, column after column.

A tuple is the number of its columns (2 bytes), then for each of them `n` (NULL), `u` (TOASTed and
not changed, so not sent) or `t`, a length (4) and the text. `b` would be a value in binary form,
which is not asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rowtrail.connectors.capture.pgoutput import Relation
from rowtrail.connectors.capture.pgoutput_wire import Ints, Mask, Messages, refuse

NULL, UNCHANGED, TEXT, BINARY = b"nutb"


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where one column lies in each of some messages; a value that is not there is empty."""

    status: npt.NDArray[np.uint8]  # NULL, UNCHANGED or TEXT
    first: Ints
    last: Ints


@dataclass(frozen=True, kw_only=True)
class Walked:
    """One tuple in each of the messages `rows`, which rise."""

    rows: Ints
    columns: list[Places]

    def spread(self, column: int, count: int) -> Places:
        """The column's places for messages 0 to `count`; status 0 where there is no tuple."""
        places = self.columns[column]
        status = np.zeros(count, np.uint8)
        first, last = np.zeros(count, np.int64), np.zeros(count, np.int64)
        status[self.rows], first[self.rows], last[self.rows] = (
            places.status,
            places.first,
            places.last,
        )
        return Places(status=status, first=first, last=last)


def walk(
    messages: Messages, relation: Relation, rows: Ints, places: Ints, ends: Ints
) -> tuple[Walked, Ints]:
    """One tuple of each of `rows`, which begins at `places`; also where it ends.

    `ends` are the ends of the messages, which no tuple passes. Raises BrokenMessageError.
    """
    wanted = len(relation.columns)
    refuse(places + 2 > ends, "ends before the number of its columns", rows)
    refuse(
        messages.words(places) >> 48 != wanted,
        f"does not have the {wanted} columns that the log has told of",
        rows,
    )
    places = places + 2
    columns = []
    for column in relation.columns:
        refuse(places >= ends, f"ends before its column {column.name}", rows)
        words = messages.words(places)
        status = (words >> 56).astype(np.uint8)
        lengths = (words >> 24 & 0xFFFFFFFF).view(np.int64)
        is_text = status == TEXT
        if is_text.all():
            first = places + 5
        else:
            refuse(status == BINARY, f"has column {column.name} in binary form", rows)
            known = is_text | (status == NULL) | (status == UNCHANGED)
            refuse(~known, f"has an unknown kind of value in column {column.name}", rows)
            lengths *= is_text
            first = places + np.where(is_text, 5, 1)
        places = first + lengths
        refuse(places > ends, f"ends within its column {column.name}", rows)
        columns.append(Places(status=status, first=first, last=places))
    return Walked(rows=rows, columns=columns), places


def filled(new: Places, rows: Ints, old: Places, old_is_whole: Mask) -> Places:
    """What is unchanged in the new tuple, from the old one where that tells it.

    `old` is spread over all messages. In an old key (where `old_is_whole` is false) a NULL says
    that the column is not part of the key.
    """
    status = old.status[rows]
    told = (status == TEXT) | ((status == NULL) & old_is_whole[rows])
    told &= new.status == UNCHANGED
    return Places(
        status=np.where(told, status, new.status),
        first=np.where(told, old.first[rows], new.first),
        last=np.where(told, old.last[rows], new.last),
    )


def gather(messages: Messages, rows: Ints, places: Places, count: int) -> Any:
    """A binary array of `count` values: those at the places for `rows`, NULL for all else.

    The message buffer is given to Arrow as an array in which values and what lies between them take
    turns, and every second one is taken. That is one copy, made by Arrow.
    """
    kind = pa.large_binary() if messages.large else pa.binary()
    valid = places.status == TEXT
    found = len(rows)
    if not valid.any():
        return pa.nulls(count, kind)
    edges = np.empty((found, 2), np.int64 if messages.large else np.int32)
    edges[:, 0], edges[:, 1] = places.first, places.last
    source = pa.Array.from_buffers(
        kind, 2 * found - 1, [None, pa.py_buffer(edges), messages.content]
    )
    if found == count and valid.all():
        return source.take(pa.array(np.arange(0, 2 * count, 2, dtype=np.int32)))
    taken, missing = np.zeros(count, np.int32), np.ones(count, np.bool_)
    taken[rows] = np.arange(0, 2 * found, 2, dtype=np.int32)
    missing[rows] = ~valid
    return source.take(pa.array(taken, mask=missing))
