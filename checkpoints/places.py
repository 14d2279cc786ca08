"""The place of a key: one int64 by which a blob is sorted and a look-up finds its segment.

A single integer column (or the first half of a single UUID column) is its own place, so that keys
which come in order compress to almost nothing. All other keys have a hash as their place: a key has
the same place in every process and on every platform, and two keys may share one.

Mixing is the finaliser of SplitMix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number
Generators, OOPSLA 2014). Of long values the first 64 bytes, the last 8 and the length count.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import types

from rowtrail.checkpoints.key_layout import Codec, KeyColumns, KeyLayout
from rowtrail.checkpoints.packing import Integers

Words = NDArray[np.uint64]

_WORDS_READ = 8
_NULL = np.uint64(0x9E3779B97F4A7C15)
# Keeps the first n bytes of a little-endian word.
_KEEP = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)


def places(layout: KeyLayout, columns: KeyColumns) -> Integers:
    """The place of each key."""
    if layout.codecs in ((Codec.INTEGER,), (Codec.UUID,)):
        return columns.integers[0]
    rows = len(columns.integers[0]) if columns.integers else columns.rest.num_rows
    hashed: Words = np.zeros(rows, dtype=np.uint64)
    for values in columns.integers:
        hashed = _mix(hashed ^ values.view(np.uint64))
    for column in columns.rest.columns:
        hashed = _mix(hashed ^ _column_hash(column))
    return hashed.view(np.int64)


def _mix(words: Words) -> Words:
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _column_hash(column: pa.Array) -> Words:
    hashed = _bytes_hash(_as_bytes(column))
    if column.null_count:
        nulls = column.is_null().to_numpy(zero_copy_only=False)
        hashed[nulls] = _NULL
    return hashed


def _as_bytes(column: pa.Array) -> pa.Array:
    """The values as bytes: their own, or those of their text."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if types.is_integer(column.type) or types.is_temporal(column.type):
        column = column.cast(pa.string())
    if types.is_floating(column.type):
        # Equal zeros, equal places.
        column = pa.array(column.to_numpy(zero_copy_only=False) + 0.0, mask=_nulls(column))
    textual = types.is_large_unicode(column.type) or types.is_unicode(column.type)
    if not (textual or types.is_binary(column.type) or types.is_fixed_size_binary(column.type)):
        column = column.cast(pa.string())
    return column.cast(pa.large_binary())


def _nulls(column: pa.Array) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
    return mask


def _bytes_hash(column: pa.Array) -> Words:
    """A hash of each value of a large_binary column."""
    starts, lengths, words = _words(column)
    hashed = _mix(lengths.view(np.uint64))
    longest = int(lengths.max(initial=0))
    for offset in range(0, min(longest, 8 * _WORDS_READ), 8):
        rows = np.flatnonzero(lengths > offset)
        kept = _KEEP[np.minimum(lengths[rows] - offset, 8)]
        hashed[rows] = _mix(hashed[rows] ^ (words[starts[rows] + offset] & kept))
    if longest > 8 * _WORDS_READ:
        rows = np.flatnonzero(lengths > 8 * _WORDS_READ)
        hashed[rows] = _mix(hashed[rows] ^ words[starts[rows] + lengths[rows] - 8])
    return hashed


def _words(column: pa.Array) -> tuple[Integers, Integers, Words]:
    """Starts and lengths of the values, and the word that begins at each byte of all of them."""
    _, offset_buffer, data = column.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[column.offset :][: len(column) + 1]
    first, end = int(offsets[0]), int(offsets[-1])
    text = np.frombuffer(data, np.uint8)[first:end] if data is not None else np.empty(0, np.uint8)
    padded = np.concatenate([text, np.zeros(8, np.uint8)])  # the last word reads past the end
    words: Words = np.ndarray(len(text) + 1, np.dtype("<u8"), padded, strides=(1,))
    return offsets[:-1] - first, np.diff(offsets), words
