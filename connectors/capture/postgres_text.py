"""PostgreSQL's text output of values, as Arrow columns: `cast_text`.

The text is that of the session settings in `postgres_client.SETTINGS` (ISO dates, time zone UTC,
bytea in hex, shortest exact floats). Arrow casts whole columns; where it fails, only texts of the
usual form are given to it again. It is lenient, so that each cast has a guard before or after it:
'0x1F' would be 31, 39 nines a negative decimal(38,0), and 1e400 infinite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.capture.postgres_text_casts import (
    Mask,
    UnfitError,
    bools,
    dates,
    decimals,
    floats,
    hex_bytes,
    integers,
    read_decimal,
    read_integer,
    times,
    timestamps,
    whole_numbers,
)

_INTEGERS = ("int2", "int4", "int8", "oid")
_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
_ZONE = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)"


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """How texts of some types of PostgreSQL become values of one Arrow type.

    `fast` casts a column, or raises ArrowInvalid or UnfitError. Then those of the form `plain` are
    given to it alone, and the others to `slow`; without it they cannot be held.
    """

    kinds: tuple[str, ...]
    fast: Callable[[Any], Any]
    plain: str
    slow: Callable[[str], object] | None = None


def cast_text(values: Any, data_type: Any, kind: str) -> tuple[Any, Mask | None]:
    """A string or large_string array, cast to an Arrow type, and which values it cannot hold.

    `kind` is the name of the column's base type in PostgreSQL, such as `int4`. What cannot be held
    is NULL in the result and true in the mask, which is None when there is none: numbers that would
    be rounded, NaN and infinities other than of floats, 24:00:00, and dates and times outside the
    years 1 to 9999, as from a read of the table. Raises TypeError for types that do not go
    together.
    """
    if pa.types.is_string(data_type) or pa.types.is_large_string(data_type):
        return values.cast(data_type), None
    reader = _reader(data_type, kind)
    if reader is None or kind not in reader.kinds:
        raise TypeError(f"a text of PostgreSQL's type {kind} is not cast to {data_type}")
    try:
        cast = reader.fast(values)
    except (pa.ArrowInvalid, UnfitError):
        cast = _split(values, data_type, reader)
    if cast.null_count == values.null_count:
        return cast, None
    return cast, pc.and_(cast.is_null(), values.is_valid()).to_numpy(zero_copy_only=False)


def _reader(data_type: Any, kind: str) -> _Reader | None:
    types = pa.types
    if types.is_boolean(data_type):
        return _Reader(kinds=("bool",), fast=bools, plain="^[tf]$")
    if types.is_signed_integer(data_type):
        fast = whole_numbers if kind == "numeric" else integers
        return _Reader(
            kinds=(*_INTEGERS, "numeric"),
            fast=partial(fast, data_type),
            plain=r"^-?[0-9]{1,19}(\.0{0,19})?$",
            slow=partial(read_integer, data_type.bit_width),
        )
    if types.is_float32(data_type) or types.is_float64(data_type):
        return _Reader(
            kinds=("float4", "float8"),
            fast=partial(floats, data_type, pa.float32() if kind == "float4" else pa.float64()),
            plain=f"^({_NUMBER}|NaN|-?Infinity)$",
        )
    if types.is_decimal128(data_type):
        before, scale = data_type.precision - data_type.scale, data_type.scale
        return _Reader(
            kinds=(*_INTEGERS, "numeric"),
            fast=partial(decimals, data_type),
            plain=rf"^-?{f'[0-9]{{1,{before}}}' if before else '0'}(\.[0-9]{{0,{scale}}})?$",
            slow=partial(read_decimal, data_type.precision, scale),
        )
    if types.is_date32(data_type):
        return _Reader(kinds=("date",), fast=dates, plain=f"^{_DAY}$")
    if data_type == pa.time64("us"):
        return _Reader(kinds=("time",), fast=times, plain=f"^{_CLOCK}$")
    if data_type == pa.timestamp("us"):
        return _Reader(
            kinds=("timestamp",),
            fast=partial(timestamps, data_type),
            plain=f"^{_DAY}[ T]{_CLOCK}$",
        )
    if types.is_timestamp(data_type) and data_type.unit == "us":
        return _Reader(
            kinds=("timestamptz",),
            fast=partial(timestamps, data_type),
            plain=f"^{_DAY}[ T]{_CLOCK}{_ZONE}$",
        )
    if types.is_binary(data_type):
        return _Reader(kinds=("bytea",), fast=hex_bytes, plain=r"^\\x([0-9a-fA-F]{2})*$")
    return None


def _split(values: Any, data_type: Any, reader: _Reader) -> Any:
    """The texts of the usual form together, the others as `slow` reads them."""
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    plain = pc.fill_null(pc.match_substring_regex(values, reader.plain), False)
    plain = plain.to_numpy(zero_copy_only=False)
    odd = values.filter(pa.array(valid & ~plain))
    rest = _one_by_one(odd, data_type, reader)
    cast = pa.concat_arrays([*_plain(values.filter(pa.array(plain)), data_type, reader), rest])
    order = np.zeros(len(values), np.int64)
    order[plain] = np.arange(plain.sum())
    order[valid & ~plain] = np.arange(plain.sum(), valid.sum())
    return cast.take(pa.array(order, mask=~valid))


def _plain(texts: Any, data_type: Any, reader: _Reader) -> list[Any]:
    """All at once; where that fails, by halves, so that few casts find few that cannot be held."""
    try:
        return [reader.fast(texts)]
    except (pa.ArrowInvalid, UnfitError):
        if len(texts) == 1:
            return [_one_by_one(texts, data_type, reader)]
    middle = len(texts) // 2
    return [
        *_plain(texts.slice(0, middle), data_type, reader),
        *_plain(texts.slice(middle), data_type, reader),
    ]


def _one_by_one(texts: Any, data_type: Any, reader: _Reader) -> Any:
    if reader.slow is None:
        return pa.nulls(len(texts), data_type)
    return pa.array([reader.slow(text) for text in texts.to_pylist()], type=data_type)
