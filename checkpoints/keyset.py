"""The outcomes of one batch as a compact columnar blob that one key is found in quickly.

Rows are sorted by the place of their key (see places.py) and cut into segments of SEGMENT_ROWS.
The header holds the columns that are constant in the whole batch and the place at which each
segment begins; a segment holds the other columns, integers packed (packing.py) and the rest as
Arrow, the whole compressed where that pays. A look-up reads the header and one segment, rarely two.

Columns: those of the key, then epoch, position, ordinal, revision, operation, outcome.
Header: rows (4 bytes), per column of integers a flag and, where it is constant, its value (8), then
the places, packed. Segment: a flag and the length before compression (4), then per column of
integers its length (4) and bytes, then an Arrow record batch. Little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rowtrail.checkpoints.key_layout import KeyColumns, KeyLayout, equal_values
from rowtrail.checkpoints.packing import Integers, pack, unpack
from rowtrail.checkpoints.places import places
from rowtrail.checkpoints.states import Outcome, VersionTuple

SEGMENT_ROWS = 8192

Rows = NDArray[np.intp]

_U32 = struct.Struct("<I")
_SEGMENT_HEAD = struct.Struct("<?I")
_CONSTANT = struct.Struct("<q")
_VALUE_COLUMNS = 6  # four of the version, operation, outcome
_CODEC = pa.Codec("zstd", compression_level=1)
_MUST_SAVE = 0.95


@dataclass(frozen=True)
class Keyset:
    """An encoded batch."""

    rows: int
    layout: KeyLayout
    header: bytes
    segments: tuple[bytes, ...]
    first_place: int
    last_place: int
    stored_row: Integers | None  # where each row given went; None: it stayed where it was


@dataclass(frozen=True)
class Header:
    """What is known of a batch without its segments."""

    rows: int
    constants: tuple[int | None, ...]
    starts: Integers  # the place at which each segment begins

    def segments(self, place: int) -> range:
        """The numbers of the segments that may hold keys of this place."""
        first = int(np.searchsorted(self.starts, place, side="left"))
        after = int(np.searchsorted(self.starts, place, side="right"))
        return range(max(first - 1, 0), after)

    def rows_of(self, segment: int) -> int:
        return min(SEGMENT_ROWS, self.rows - segment * SEGMENT_ROWS)


@dataclass(frozen=True)
class Found:
    """What the blob says of one change."""

    row: int  # its number in the blob
    version: VersionTuple
    operation: int
    outcome: Outcome


def encode(
    keys: pa.RecordBatch, versions: pa.RecordBatch, operations: pa.Array, outcomes: pa.Array
) -> Keyset:
    """Encodes aligned rows; there must be at least one."""
    layout = KeyLayout.of(keys)
    key = layout.columns(keys)
    values = [_int64(column) for column in (*versions.columns, operations, outcomes)]
    place = places(layout, key)
    constants = tuple(_constant(column) for column in (*key.integers, *values))
    stored_row = None
    if (place[1:] < place[:-1]).any():
        order = np.argsort(place)  # not a stable sort, which takes six times as long
        place, key = place[order], key.take(order)
        stored_row = np.empty(len(order), dtype=np.int64)
        stored_row[order] = np.arange(len(order))
        alike = constants[len(key.integers) :]  # as most are: in any order the same
        values = [
            column if constant is not None else column[order]
            for column, constant in zip(values, alike, strict=True)
        ]
    columns = zip((*key.integers, *values), constants, strict=True)
    varying = [column for column, constant in columns if constant is None]
    starts = range(0, len(place), SEGMENT_ROWS)
    return Keyset(
        rows=len(place),
        layout=layout,
        header=_header(len(place), constants, place[::SEGMENT_ROWS]),
        segments=tuple(_segment(varying, key.rest, start) for start in starts),
        first_place=int(place[0]),
        last_place=int(place[-1]),
        stored_row=stored_row,
    )


def read_header(layout: KeyLayout, data: bytes) -> Header:
    (rows,) = _U32.unpack_from(data)
    columns = layout.integer_columns + _VALUE_COLUMNS
    position = _U32.size
    constants: list[int | None] = []
    for _ in range(columns):
        known = data[position]
        position += 1
        constants.append(_CONSTANT.unpack_from(data, position)[0] if known else None)
        position += _CONSTANT.size * known
    segments = -(-rows // SEGMENT_ROWS)
    return Header(rows, tuple(constants), unpack(data[position:], segments))


def search(
    layout: KeyLayout, header: Header, number: int, body: bytes, row: KeyColumns
) -> list[Found]:
    """What the segment of that number says of the key (see `KeyLayout.row`), in stored order."""
    segment = _Segment(layout, header, number, body)
    rows = segment.rows_with(row)
    if not len(rows):
        return []
    values = np.stack([column[rows] for column in segment.values()], axis=1).tolist()
    return [
        Found(number * SEGMENT_ROWS + int(at), (e, p, o, r), operation, Outcome(outcome))
        for at, (e, p, o, r, operation, outcome) in zip(rows, values, strict=True)
    ]


def decode_keys(layout: KeyLayout, header: Header, bodies: Iterable[bytes]) -> pa.Table:
    """All keys in stored order."""
    batches = [
        layout.keys(_Segment(layout, header, number, body).key())
        for number, body in enumerate(bodies)
    ]
    return pa.Table.from_batches(batches, layout.schema)


def _int64(column: pa.Array) -> Integers:
    values: Integers = column.cast(pa.int64()).to_numpy(zero_copy_only=True)
    return values


def _constant(column: Integers) -> int | None:
    return int(column[0]) if (column == column[0]).all() else None


def _header(rows: int, constants: tuple[int | None, ...], starts: Integers) -> bytes:
    columns = [b"\0" if value is None else b"\1" + _CONSTANT.pack(value) for value in constants]
    return _U32.pack(rows) + b"".join(columns) + pack(starts)


def _segment(columns: list[Integers], rest: pa.RecordBatch, start: int) -> bytes:
    parts = []
    for column in columns:
        packed = pack(column[start : start + SEGMENT_ROWS])
        parts += [_U32.pack(len(packed)), packed]
    if rest.num_columns:
        parts.append(bytes(rest.slice(start, SEGMENT_ROWS).serialize()))
    plain = b"".join(parts)
    small: bytes = _CODEC.compress(plain, asbytes=True)
    if len(small) < len(plain) * _MUST_SAVE:
        return _SEGMENT_HEAD.pack(True, len(plain)) + small
    return _SEGMENT_HEAD.pack(False, len(plain)) + plain


class _Segment:
    """Reads the columns of a segment, each when it is asked for."""

    def __init__(self, layout: KeyLayout, header: Header, number: int, body: bytes) -> None:
        compressed, length = _SEGMENT_HEAD.unpack_from(body)
        self._plain = memoryview(body)[_SEGMENT_HEAD.size :]
        if compressed:
            self._plain = memoryview(_CODEC.decompress(self._plain, length, asbytes=True))
        self._layout = layout
        self._constants = header.constants
        self._rows = header.rows_of(number)
        self._parts: list[memoryview | None] = []
        position = 0
        for value in header.constants:
            if value is not None:
                self._parts.append(None)
                continue
            (size,) = _U32.unpack_from(self._plain, position)
            position += _U32.size
            self._parts.append(self._plain[position : position + size])
            position += size
        self._rest = position

    def rows_with(self, row: KeyColumns) -> Rows:
        """The numbers of the rows that have this key.

        Most segments hold it not: what the first column rules out costs no other column.
        """
        rows: Rows | None = None
        for number, wanted in enumerate(row.integers):
            rows = _among(rows, self._column(number) == wanted[0])
            if not len(rows):
                return rows
        for column, wanted in zip(self._rest_columns(), row.rest.columns, strict=True):
            rows = _among(rows, equal_values(column, wanted[0]))
        assert rows is not None  # a key has at least one column
        return rows

    def key(self) -> KeyColumns:
        layout = self._layout
        integers = tuple(map(self._column, range(layout.integer_columns)))
        rest = pa.RecordBatch.from_arrays(self._rest_columns(), schema=layout.rest_schema)
        return KeyColumns(integers, rest)

    def values(self) -> list[Integers]:
        first = self._layout.integer_columns
        return [self._column(number) for number in range(first, first + _VALUE_COLUMNS)]

    def _column(self, number: int) -> Integers:
        part, value = self._parts[number], self._constants[number]
        if part is not None:
            return unpack(part, self._rows)
        assert value is not None
        return np.full(self._rows, value, dtype=np.int64)

    def _rest_columns(self) -> list[pa.Array]:
        schema = self._layout.rest_schema
        if not len(schema):
            return []
        columns: list[pa.Array] = pa.ipc.read_record_batch(
            pa.py_buffer(self._plain[self._rest :]), schema
        ).columns
        return columns


def _among(rows: Rows | None, equal: NDArray[np.bool_]) -> Rows:
    return np.flatnonzero(equal) if rows is None else rows[equal[rows]]


def stored_rows(keyset: Keyset, rows: pa.Array) -> Integers:
    """Where the rows of these numbers are in the blob."""
    numbers: NDArray[np.int64] = _int64(rows)
    return numbers if keyset.stored_row is None else keyset.stored_row[numbers]
