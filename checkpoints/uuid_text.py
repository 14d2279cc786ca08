"""Columns of UUIDs as text (36 characters, lower case, RFC 9562) as two integers each, and back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rowtrail.checkpoints.packing import Integers

_LENGTH = 36
_HYPHENS = [8, 13, 18, 23]
_DIGITS = [place for place in range(_LENGTH) if place not in _HYPHENS]
_CHARACTER_OF = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)

Bytes = NDArray[np.uint8]


def is_canonical(column: pa.Array) -> bool:
    """Whether a string column without NULL holds nothing but UUIDs in lower case."""
    characters = _characters(column)
    if characters is None or (characters[:, _HYPHENS] != ord("-")).any():
        return False
    digits = _digits(characters)
    decimal = digits - np.uint8(ord("0")) < 10  # what is below wraps to a large number
    letter = digits - np.uint8(ord("a")) < 6
    return bool((decimal | letter).all())


def halves(column: pa.Array) -> tuple[Integers, Integers]:
    """The first and the last eight bytes of each UUID as big-endian integers."""
    characters = _characters(column)
    assert characters is not None  # `is_canonical` said so
    digits = _digits(characters)
    # In ASCII the low bits of 0 to 9 are the digit, and a to f are 1 to 6 with bit 6 set.
    digits = (digits & 15) + 9 * (digits >> 6)
    values = (digits[0::2] << 4 | digits[1::2]).view(">i8").astype(np.int64)
    return values[0::2], values[1::2]


def _digits(characters: Bytes) -> Bytes:
    """The 32 hexadecimal digits of each, one after the other, without the hyphens."""
    bounds = zip([-1, *_HYPHENS], [*_HYPHENS, _LENGTH], strict=True)
    parts = [characters[:, left + 1 : right] for left, right in bounds]
    return np.concatenate(parts, axis=1).ravel()  # numpy is slow along short rows


def array(high: Integers, low: Integers, data_type: pa.DataType) -> pa.Array:
    """The inverse of `halves`."""
    octets = np.stack([high, low], axis=1).astype(">i8").view(np.uint8)
    characters = np.full((len(high), _LENGTH), ord("-"), dtype=np.uint8)
    characters[:, _DIGITS[0::2]] = _CHARACTER_OF[octets >> 4]
    characters[:, _DIGITS[1::2]] = _CHARACTER_OF[octets & 15]
    offsets = np.arange(len(high) + 1, dtype=np.int32) * _LENGTH
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(characters)]
    return pa.Array.from_buffers(data_type, len(high), buffers)


def _characters(column: pa.Array) -> Bytes | None:
    """One row of 36 bytes per value, or None when a value has another length."""
    if len(column) == 0:
        return None
    _, offset_buffer, data = column.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[column.offset :][: len(column) + 1]
    if (np.diff(offsets) != _LENGTH).any():
        return None
    characters = np.frombuffer(data, np.uint8, len(column) * _LENGTH, int(offsets[0]))
    return characters.reshape(-1, _LENGTH)
