"""Columns of 64-bit integers as few bytes, by numpy alone.

Three forms, of which the shortest is taken: a constant step from a base; distance from the least
value; distance from the least difference of neighbours. Distances take as many bits as the largest
needs ("frame of reference" and "delta" of Zukowski et al., Super-Scalar RAM-CPU Cache Compression,
ICDE 2006, without exceptions). All arithmetic is modulo 2**64, so every int64 can be stored.

Bytes: form (1), width in bits (1), base (8, signed), step or least difference (8, signed), then the
distances: per value the whole bytes of its width, then the remaining bits of all values, packed.
Everything is little-endian.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_HEAD = struct.Struct("<BBqq")
_COUNT = struct.Struct("<q")
_STEP, _DISTANCE, _DELTA = range(3)


def pack(values: Integers) -> bytes:
    """The values as bytes; `unpack` needs their number."""
    if len(values) == 0:
        return _HEAD.pack(_STEP, 0, 0, 0)
    first = int(values[0])
    deltas = np.diff(values)
    step = int(deltas[0]) if len(deltas) else 0
    if (deltas == step).all():
        return _HEAD.pack(_STEP, 0, first, step)
    least, spread = _spread(values)
    least_delta, delta_spread = _spread(deltas)
    if delta_spread.bit_length() < spread.bit_length():
        width = delta_spread.bit_length()
        return _HEAD.pack(_DELTA, width, first, least_delta) + _bits(deltas - least_delta, width)
    width = spread.bit_length()
    return _HEAD.pack(_DISTANCE, width, least, 0) + _bits(values - least, width)


def unpack(data: bytes | memoryview, count: int) -> Integers:
    """The `count` values that `pack` was given."""
    form, width, base, step = _HEAD.unpack_from(data)
    body = memoryview(data)[_HEAD.size :]
    values: Integers
    if form == _STEP:
        values = np.arange(count, dtype=np.int64) * step + base
        return values
    if form == _DISTANCE:
        values = _from_bits(body, width, count) + base
        return values
    values = np.empty(count, dtype=np.int64)
    values[0] = base
    values[1:] = _from_bits(body, width, count - 1) + step
    return np.cumsum(values, out=values)


def _spread(values: Integers) -> tuple[int, int]:
    least = int(values.min())
    return least, int(values.max()) - least


def _bits(distances: Integers, width: int) -> bytes:
    """The low `width` bits of each value."""
    whole, rest = divmod(width, 8)
    columns = distances.astype("<i8", copy=False).view(np.uint8).reshape(-1, 8)
    packed = columns[:, :whole].tobytes()
    if rest:
        bits = np.unpackbits(columns[:, whole : whole + 1], axis=1, count=rest, bitorder="little")
        packed += np.packbits(bits, bitorder="little").tobytes()
    return packed


def _from_bits(packed: memoryview, width: int, count: int) -> Integers:
    whole, rest = divmod(width, 8)
    # Each value is read as a word that begins at its first byte; the last ones read past the end.
    padded = bytes(packed) + bytes(8)
    words = np.ndarray(count, np.dtype("<u8"), padded, strides=(whole,))
    values = words & np.uint64((1 << 8 * whole) - 1)
    if rest:
        bits = np.arange(count) * rest
        pairs = np.ndarray(len(packed) - count * whole, "<u2", padded, count * whole, (1,))
        last = pairs[bits >> 3] >> (bits & 7).astype(np.uint16) & np.uint16((1 << rest) - 1)
        values |= last.astype(np.uint64) << np.uint64(8 * whole)
    return values.view(np.int64)


def pack_counted(values: Integers) -> bytes:
    """Like `pack`, with the number of values before it (8 bytes)."""
    return _COUNT.pack(len(values)) + pack(values)


def unpack_counted(data: bytes) -> Integers:
    """The inverse of `pack_counted`."""
    return unpack(data[_COUNT.size :], _COUNT.unpack_from(data)[0])
