"""PostgreSQL's text output of values, as Arrow columns: `cast_text`.

The text is that of the session settings in `postgres_client.SETTINGS` (ISO dates, time zone UTC,
bytea in hex, shortest exact floats). Arrow casts whole columns where its own reading of a text is
PostgreSQL's; what it would read otherwise, or cannot read, goes one by one through
`postgres_values`. Arrow is lenient: it takes '0x1F' for 31, and 39 nines as a decimal(38,0) for a
negative number; each cast has a guard before it.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.capture.postgres_values import (
    read_boolean,
    read_bytes,
    read_date,
    read_decimal,
    read_float,
    read_integer,
    read_time,
    read_timestamp,
)

Mask = npt.NDArray[np.bool_]

_PIECE = 256
_FLOAT_DIGITS = {pa.float32(): 6, pa.float64(): 15}  # any decimal of so many survives
_FLOATS = {pa.float32(): "float4", pa.float64(): "float8"}
_FIRST_DAY = -719_162  # 0001-01-01; PostgreSQL writes years before as BC, Arrow as 0000


class _UnfitError(ValueError):
    """The fast way would not be exact for some of these values."""


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """How texts become values of one type.

    `fast` casts a column and raises ArrowInvalid or _UnfitError when any value is not for it;
    `plain` is a regular expression of the texts that are. `slow` reads one text, None if it cannot
    be held.
    """

    fast: Callable[[Any], Any]
    plain: str
    slow: Callable[[str], object]


def cast_text(values: Any, data_type: Any, kind: str) -> tuple[Any, Mask | None]:
    """A string or large_string array, cast to an Arrow type, and which values it cannot hold.

    `kind` is the name of the column's base type in PostgreSQL, such as `int4`. Those values are
    NULL in the result and true in the mask, which is None when there are none. No value is rounded,
    except that a float4, float8 or short numeric becomes the float it stands for. Raises TypeError
    for a type that nothing is cast to.
    """
    if pa.types.is_string(data_type) or pa.types.is_large_string(data_type):
        return values.cast(data_type), None
    if pa.types.is_binary(data_type) and kind != "bytea":
        return values.cast(data_type), None
    reader = _reader(data_type, kind)
    try:
        return reader.fast(values), None
    except (pa.ArrowInvalid, _UnfitError):
        return _split(values, data_type, reader)


def _reader(data_type: Any, kind: str) -> _Reader:
    types = pa.types
    if types.is_boolean(data_type):
        return _Reader(fast=_booleans, plain="^[tf]$", slow=read_boolean)
    if types.is_signed_integer(data_type):
        return _Reader(
            fast=partial(_integers, data_type),
            plain="^-?[0-9]{1,19}$",
            slow=partial(read_integer, data_type.bit_width),
        )
    if data_type in _FLOATS:
        return _float_reader(data_type, kind)
    if types.is_decimal128(data_type):
        whole, scale = data_type.precision - data_type.scale, data_type.scale
        return _Reader(
            fast=partial(_decimals, data_type),
            plain=rf"^-?[0-9]{{1,{max(whole, 1)}}}(\.[0-9]{{0,{scale}}})?$",
            slow=partial(read_decimal, data_type.precision, scale),
        )
    if types.is_date32(data_type):
        return _Reader(fast=_dates, plain=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", slow=read_date)
    if types.is_time64(data_type) and data_type.unit == "us":
        return _Reader(fast=_times, plain=r"^[0-9:.]{8,15}$", slow=read_time)
    if types.is_timestamp(data_type) and data_type.unit == "us":
        zoned = data_type.tz is not None
        return _Reader(
            fast=partial(_timestamps, data_type),
            plain=r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]{8,15}" + (r"\+00$" if zoned else "$"),
            slow=partial(read_timestamp, zoned),
        )
    if types.is_binary(data_type):
        return _Reader(fast=_bytes, plain=r"^\\x([0-9a-f]{2})*$", slow=read_bytes)
    raise TypeError(f"a text of PostgreSQL's type {kind} is not cast to {data_type}")


def _split(values: Any, data_type: Any, reader: _Reader) -> tuple[Any, Mask | None]:
    """The plain texts the fast way, the others one by one."""
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    plain = pc.match_substring_regex(values, reader.plain).fill_null(False)
    plain = plain.to_numpy(zero_copy_only=False)
    cast: list[Any] = []
    rows: list[Any] = []
    easy = np.flatnonzero(plain)
    texts = values.filter(pa.array(plain))
    try:
        cast.append(reader.fast(texts))
        rows.append(easy)
    except (pa.ArrowInvalid, _UnfitError):  # a date such as 2023-02-30, from a text column
        for start in range(0, len(easy), _PIECE):
            piece = texts.slice(start, _PIECE)
            try:
                cast.append(reader.fast(piece))
            except (pa.ArrowInvalid, _UnfitError):
                cast.append(_one_by_one(piece, data_type, reader))
            rows.append(easy[start : start + _PIECE])
    odd = valid & ~plain
    cast.append(_one_by_one(values.filter(pa.array(odd)), data_type, reader))
    rows.append(np.flatnonzero(odd))
    order = np.zeros(len(values), np.int64)
    order[np.concatenate(rows)] = np.arange(valid.sum())
    array = pa.concat_arrays(cast).take(pa.array(order, mask=~valid))
    bad = valid & array.is_null().to_numpy(zero_copy_only=False)
    return array, bad if bad.any() else None


def _one_by_one(texts: Any, data_type: Any, reader: _Reader) -> Any:
    return pa.array([reader.slow(text) for text in texts.to_pylist()], type=data_type)


def _booleans(values: Any) -> Any:
    true = pc.equal(values, "t")
    if not pc.all(pc.or_(true, pc.equal(values, "f")), min_count=0).as_py():
        raise _UnfitError
    return true


def _integers(data_type: Any, values: Any) -> Any:
    _require(values, b"0123456789-")
    return values.cast(data_type)


def _float_reader(data_type: Any, kind: str) -> _Reader:
    """A float4 is read as one even where it becomes a double: 0.1 is then 0.100000001490…"""
    if kind == "float4" or kind == _FLOATS[data_type]:
        return _Reader(
            fast=partial(_floats, data_type, pa.float32() if kind == "float4" else data_type),
            plain=r"^(-?[0-9][0-9.e+-]*|NaN|-?Infinity)$",
            slow=partial(read_float, data_type.bit_width, kind),
        )
    digits = _FLOAT_DIGITS[data_type]
    return _Reader(
        fast=partial(_short_floats, data_type, digits),
        plain=rf"^-?[0-9.]{{1,{digits}}}$",
        slow=partial(read_float, data_type.bit_width, kind),
    )


def _floats(data_type: Any, read_as: Any, values: Any) -> Any:
    cast = values.cast(read_as)
    odd = pc.fill_null(pc.invert(pc.is_finite(cast)), False)
    if pc.any(odd, min_count=0).as_py():  # 1e400 would be infinite, 'inf' and 'nan' be taken
        names = values.filter(odd)
        if not pc.all(pc.is_in(names, _special(values.type)), min_count=0).as_py():
            raise _UnfitError
    return cast.cast(data_type)


def _special(text: Any) -> Any:
    return pa.array(["NaN", "Infinity", "-Infinity"], type=text)


def _short_floats(data_type: Any, digits: int, values: Any) -> Any:
    """Decimals that are the only one of their length at the float next to them."""
    _require(values, b"0123456789-.")
    if _longest(values) > digits:
        raise _UnfitError
    return values.cast(data_type)


def _decimals(data_type: Any, values: Any) -> Any:
    """Arrow's own reading overflows without a word past 38 digits."""
    _require(values, b"0123456789-.")
    if _longest(values) > 38:
        raise _UnfitError
    return values.cast(data_type)


def _dates(values: Any) -> Any:
    cast = values.cast(pa.date32())
    first = pc.min(cast.cast(pa.int32())).as_py()
    if first is not None and first < _FIRST_DAY:
        raise _UnfitError
    return cast


def _times(values: Any) -> Any:
    if _shortest(values) < 8:  # Arrow also reads 12:34
        raise _UnfitError
    day = pa.scalar("1970-01-01", type=values.type)
    joined = pc.binary_join_element_wise(day, values, pa.scalar(" ", type=values.type))
    return joined.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.time64("us"))


def _timestamps(data_type: Any, values: Any) -> Any:
    zoned = data_type.tz is not None
    if _shortest(values) < (22 if zoned else 19):  # Arrow also reads 2024-01-02 03:04
        raise _UnfitError
    cast = values.cast(data_type)
    first = pc.min(cast.cast(pa.int64())).as_py()
    if first is not None and first < _FIRST_DAY * 86_400_000_000:
        raise _UnfitError
    return cast


def _bytes(values: Any) -> Any:
    """All of the column's hex digits are turned at once."""
    if not pc.all(pc.starts_with(values, "\\x"), min_count=0).as_py():
        raise _UnfitError
    large = pa.types.is_large_string(values.type)
    digits = pc.binary_slice(values.view(pa.large_binary() if large else pa.binary()), 2)
    places = _offsets(digits) - _offsets(digits)[0]
    if (places % 2).any():
        raise _UnfitError
    try:
        content = binascii.unhexlify(_octets(digits).data)
    except ValueError:
        raise _UnfitError from None
    halved = pa.py_buffer(places // 2)
    found = pa.Array.from_buffers(
        digits.type, len(values), [None, halved, pa.py_buffer(content)]
    ).cast(pa.binary())
    if not values.null_count:
        return found
    return pc.if_else(values.is_valid(), found, pa.scalar(None, pa.binary()))


def _octets(values: Any) -> npt.NDArray[np.uint8]:
    """All the text of an array, NULLs' too."""
    content = values.buffers()[2]
    if content is None or not len(values):
        return np.zeros(0, np.uint8)
    places = _offsets(values)
    return np.frombuffer(content, np.uint8)[places[0] : places[-1]]


def _offsets(values: Any) -> npt.NDArray[Any]:
    _, offsets, _ = values.buffers()
    large = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    size = np.int64 if large else np.int32
    if offsets is None:
        return np.zeros(1, size)
    return np.frombuffer(offsets, size)[values.offset : values.offset + len(values) + 1]


def _longest(values: Any) -> int:
    return int(np.diff(_offsets(values)).max(initial=0))


def _shortest(values: Any) -> int:
    found = pc.min(pc.binary_length(values)).as_py()
    return 2**31 if found is None else int(found)


def _require(values: Any, allowed: bytes) -> None:
    """Raises _UnfitError when a byte of any text is not one of these."""
    table = np.zeros(256, np.bool_)
    table[list(allowed)] = True
    if not table[_octets(values)].all():
        raise _UnfitError
