"""Casts of whole columns of PostgreSQL's text output, by Arrow, with what Arrow does not check.

Each takes a string or large_string array. It raises ArrowInvalid or UnfitError when it cannot cast
all values together; what it has found not to be held by the type is NULL, as NULLs are.
"""

from __future__ import annotations

import binascii
import re
from datetime import date
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]

_DIGITS = 38  # of a decimal128
_DECIMAL = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)")
_EPOCH = date(1970, 1, 1)
_FIRST_DAY = (date.min - _EPOCH).days
_LAST_DAY = (date.max - _EPOCH).days
_DAY = 86_400_000_000  # µs


class UnfitError(ValueError):
    """Some of these values cannot be cast together without a change of meaning."""


def bools(values: Any) -> Any:
    true = pc.equal(values, "t")
    _require(pc.or_(true, pc.equal(values, "f")))
    return true


def integers(data_type: Any, values: Any) -> Any:
    """Arrow would also read '0x1F'."""
    _require_bytes(values, b"0123456789-")
    return values.cast(data_type)


def whole_numbers(data_type: Any, values: Any) -> Any:
    """A numeric such as 12.00 is the integer 12."""
    whole = decimals(pa.decimal128(_DIGITS, 0), values)
    limit = 2 ** (data_type.bit_width - 1)
    low, high = (pa.scalar(Decimal(bound), whole.type) for bound in (-limit, limit - 1))
    within = pc.and_(pc.greater_equal(whole, low), pc.less_equal(whole, high))
    return pc.if_else(within, whole, pa.scalar(None, whole.type)).cast(data_type)


def floats(data_type: Any, read_as: Any, values: Any) -> Any:
    """Read as what the column is: the double of a float4 0.1 is 0.10000000149011612.

    Arrow would also read 'inf' and 'nan', and makes 1e400 infinite.
    """
    cast = values.cast(read_as)
    odd = pc.fill_null(pc.invert(pc.is_finite(cast)), False)
    if pc.any(odd, min_count=0).as_py():
        names = pa.array(["NaN", "Infinity", "-Infinity"], type=values.type)
        _require(pc.is_in(values.filter(odd), names))
    if data_type == read_as:
        return cast
    changed = cast.cast(data_type, safe=False)
    same = pc.or_(pc.equal(changed.cast(read_as), cast), pc.is_nan(cast))
    return pc.if_else(same, changed, pa.scalar(None, data_type))


def decimals(data_type: Any, values: Any) -> Any:
    """Arrow overflows without a word where the digits, or those before the point and the scale
    together, are more than 38: 39 nines become a negative decimal(38,0)."""
    _require_bytes(values, b"0123456789-.")
    if _lengths(values).max(initial=0) > _DIGITS - data_type.scale:
        before, digits = _digits(values)
        _require(pc.less_equal(before, _DIGITS - data_type.scale))
        _require(pc.less_equal(digits, _DIGITS))
    return values.cast(data_type)


def _digits(values: Any) -> tuple[Any, Any]:
    """How many digits each has before the point, a single zero left out, and in all."""
    lengths = pc.binary_length(values)
    point = pc.find_substring(values, ".")
    has_point = pc.greater_equal(point, 0)
    without = pc.or_(pc.starts_with(values, "0."), pc.starts_with(values, "-0."))
    signs = pc.add(*(mask.cast(pa.int32()) for mask in (pc.starts_with(values, "-"), without)))
    before = pc.subtract(pc.if_else(has_point, point, lengths), signs)
    digits = pc.subtract(pc.subtract(lengths, signs), has_point.cast(pa.int32()))
    return before, digits


def read_decimal(precision: int, scale: int, text: str) -> Decimal | None:
    """One value of any length; None where it is not exactly one of these decimals."""
    if _DECIMAL.fullmatch(text) is None:
        return None
    exact = Context(prec=precision, traps=[Inexact, InvalidOperation])
    try:
        return Decimal(text).quantize(Decimal(1).scaleb(-scale), context=exact)
    except (Inexact, InvalidOperation):
        return None


def read_integer(bits: int, text: str) -> int | None:
    """One value; None where it is not exactly an integer of so many bits."""
    value = read_decimal(_DIGITS, 0, text)
    limit = 2 ** (bits - 1)
    return int(value) if value is not None and -limit <= value < limit else None


def dates(values: Any) -> Any:
    cast = values.cast(pa.date32())
    _require_between(cast.cast(pa.int32()), _FIRST_DAY, _LAST_DAY)
    return cast


def times(values: Any) -> Any:
    """Arrow reads no times of day, but timestamps; and would read 12:34, which is none here."""
    _require_length(values, len("00:00:00"))
    day, space = (pa.scalar(text, type=values.type) for text in ("1970-01-01", " "))
    stamps = pc.binary_join_element_wise(day, values, space).cast(pa.timestamp("us"))
    return stamps.cast(pa.int64()).cast(pa.time64("us"))


def timestamps(data_type: Any, values: Any) -> Any:
    """Arrow would also read a timestamp without its minutes."""
    _require_length(values, len("2024-01-02 03:04:05" + ("+00" if data_type.tz else "")))
    cast = values.cast(data_type)
    _require_between(cast.cast(pa.int64()), _FIRST_DAY * _DAY, (_LAST_DAY + 1) * _DAY - 1)
    return cast


def hex_bytes(values: Any) -> Any:
    r"""`\xDEAD`: the digits of all values are turned at once."""
    _require(pc.starts_with(values, "\\x"))
    large = pa.types.is_large_string(values.type)
    digits = pc.binary_slice(values.view(pa.large_binary() if large else pa.binary()), 2)
    offsets = _offsets(digits)
    places = offsets - offsets[0]
    if (places % 2).any():
        raise UnfitError
    try:
        content = binascii.unhexlify(_octets(digits).data)
    except ValueError:
        raise UnfitError from None
    found = pa.Array.from_buffers(
        digits.type, len(values), [None, pa.py_buffer(places // 2), pa.py_buffer(content)]
    ).cast(pa.binary())
    if not values.null_count:
        return found
    return pc.if_else(values.is_valid(), found, pa.scalar(None, pa.binary()))


def _require(good: Any) -> None:
    """Raises UnfitError unless each is true or NULL."""
    if not pc.all(good, min_count=0).as_py():
        raise UnfitError


def _require_bytes(values: Any, allowed: bytes) -> None:
    """Raises UnfitError when a byte of any text is not one of these."""
    table = np.zeros(256, np.bool_)
    table[list(allowed)] = True
    if not table[_octets(values)].all():
        raise UnfitError


def _require_length(values: Any, least: int) -> None:
    found = pc.min(pc.binary_length(values)).as_py()
    if found is not None and found < least:
        raise UnfitError


def _require_between(numbers: Any, low: int, high: int) -> None:
    """The years 1 to 9999: Python, and so each transform, knows no others."""
    least, most = (bound.as_py() for bound in pc.min_max(numbers).values())
    if least is not None and not low <= least <= most <= high:
        raise UnfitError


def _octets(values: Any) -> npt.NDArray[np.uint8]:
    """All the bytes of an array's values."""
    content = values.buffers()[2]
    if content is None or not len(values):
        return np.zeros(0, np.uint8)
    offsets = _offsets(values)
    return np.frombuffer(content, np.uint8)[offsets[0] : offsets[-1]]


def _lengths(values: Any) -> npt.NDArray[Any]:
    return np.diff(_offsets(values))


def _offsets(values: Any) -> npt.NDArray[Any]:
    offsets = values.buffers()[1]
    large = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    if offsets is None or not len(values):
        return np.zeros(1, np.int64 if large else np.int32)
    found = np.frombuffer(offsets, np.int64 if large else np.int32)
    return found[values.offset : values.offset + len(values) + 1]
