"""Single values of two databases: whether they are the same, and how they are written down."""

from __future__ import annotations

import math

import pyarrow as pa


def are_equal(one: pa.Array, other: pa.Array) -> bool:
    """Whether two arrays of one value each hold the same value, whatever types they have it in.

    NULL equals NULL and NaN equals NaN. A number is never equal to a text, unless the text is what
    is written for it.
    """
    if one.null_count or other.null_count:
        return bool(one.null_count and other.null_count)
    if pa.types.is_floating(one.type) and pa.types.is_floating(other.type):
        a, b = float(one[0].as_py()), float(other[0].as_py())
        return a == b or (math.isnan(a) and math.isnan(b))
    if one.type == other.type:
        return bool(one.equals(other))
    if _is_text(one.type) or _is_text(other.type):
        return bool(_text(one) == _text(other))
    return _fits(one, other) or _fits(other, one)


def _fits(one: pa.Array, other: pa.Array) -> bool:
    """Whether `one` becomes `other` when it is cast to its type without loss."""
    try:
        return bool(one.cast(other.type).equals(other))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _text(array: pa.Array) -> str | None:
    value = plain(array[0])
    return value if value is None or isinstance(value, str) else str(value)


def plain(value: pa.Scalar) -> object:
    """None, a bool, an int, a finite float or a str: what JSON has; all else as a text."""
    if not value.is_valid:
        return None
    kind = value.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or _is_text(kind):
        return value.as_py()
    if pa.types.is_floating(kind):
        number = float(value.as_py())
        return number if math.isfinite(number) else str(number)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "\\x" + value.as_py().hex()
    if pa.types.is_fixed_size_binary(kind):
        return "\\x" + value.as_py().hex()
    try:
        return value.cast(pa.string()).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return str(value.as_py())
