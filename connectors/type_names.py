"""The names of types in configuration files, and the Arrow types they stand for."""

from __future__ import annotations

import re

import pyarrow as pa

_SIMPLE = {
    "boolean": pa.bool_(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "text": pa.string(),
    "blob": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
}
_DECIMAL = re.compile(r"decimal\((\d{1,2}),\s*(\d{1,2})\)")
KNOWN = (*_SIMPLE, "decimal(P,S)")


def parse_type(name: str) -> pa.DataType:
    """The Arrow type of a name such as `int64` or `decimal(12,2)`.

    Raises ValueError, which lists the known names; P is 1 to 38 and S at most P.
    """
    text = name.strip().lower()
    if text in _SIMPLE:
        return _SIMPLE[text]
    if match := _DECIMAL.fullmatch(text):
        precision, scale = int(match[1]), int(match[2])
        if 1 <= precision <= 38 and scale <= precision:
            return pa.decimal128(precision, scale)
    raise ValueError(f"{name!r} is not a type; known are {', '.join(KNOWN)}")


def type_name(data_type: pa.DataType) -> str:
    """The name of an Arrow type; types without a name of ours keep Arrow's."""
    for name, known in _SIMPLE.items():
        if known.equals(data_type):
            return name
    if pa.types.is_decimal(data_type):
        return f"decimal({data_type.precision},{data_type.scale})"
    return str(data_type)
