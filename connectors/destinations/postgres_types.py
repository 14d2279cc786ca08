"""Arrow types as PostgreSQL types: what maps without loss, and which column takes which values."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.destinations.column_types import (
    EXACT_INTEGERS,
    Range,
    check_ranges,
    checked_type,
    decimal_size,
    decimal_takes,
    decimal_takes_integers,
)
from rowtrail.connectors.errors import RecordError
from rowtrail.connectors.schema import Column

TIMESTAMP = "timestamp without time zone"
TIMESTAMPTZ = "timestamp with time zone"
_TIME = "time without time zone"

TYPES: tuple[tuple[pa.DataType, str], ...] = (
    (pa.bool_(), "boolean"),
    (pa.int8(), "smallint"),
    (pa.int16(), "smallint"),
    (pa.int32(), "integer"),
    (pa.int64(), "bigint"),
    (pa.uint8(), "smallint"),
    (pa.uint16(), "integer"),
    (pa.uint32(), "bigint"),
    (pa.uint64(), "numeric(20,0)"),
    (pa.float32(), "real"),
    (pa.float64(), "double precision"),
    (pa.string(), "text"),
    (pa.large_string(), "text"),
    (pa.string_view(), "text"),
    (pa.binary(), "bytea"),
    (pa.large_binary(), "bytea"),
    (pa.date32(), "date"),
    (pa.time32("s"), _TIME),
    (pa.time32("ms"), _TIME),
    (pa.time64("us"), _TIME),
    (pa.timestamp("s"), TIMESTAMP),
    (pa.timestamp("ms"), TIMESTAMP),
    (pa.timestamp("us"), TIMESTAMP),
    (pa.timestamp("s", tz="UTC"), TIMESTAMPTZ),
    (pa.timestamp("ms", tz="UTC"), TIMESTAMPTZ),
    (pa.timestamp("us", tz="UTC"), TIMESTAMPTZ),
)
"""PostgreSQL counts microseconds, so that it has nothing for times in nanoseconds."""
_BY_TYPE = dict(TYPES)

# The widest Arrow type that a column of each type holds, for `describe`.
_ARROW = {name: arrow for arrow, name in TYPES if str(arrow) not in ("uint8", "uint16", "uint32")}
_ARROW |= {"text": pa.string(), "bytea": pa.binary()}

_INTEGERS = {
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}
_FLOATS = {"real": EXACT_INTEGERS[4], "double precision": EXACT_INTEGERS[8]}
_WIDER = {
    ("double precision", "real"),
    ("character varying", "text"),
    ("text", "character varying"),
}
_SHORTENED = re.compile(r"(character varying|timestamp|time)\(\d+\)(.*)")
_SHORTENED_TO = {"character varying": "text"} | {
    name: name for name in (TIMESTAMP, TIMESTAMPTZ, _TIME)
}
_NUMERIC = re.compile(r"numeric\((\d+),(\d+)\)")

# From 4714-11-24 BC on: https://www.postgresql.org/docs/current/datatype-datetime.html
_DAYS = (-2_440_588, 2_145_042_905)
_FIRST_SECOND = _DAYS[0] * 86_400
_LIMITS = {
    # Beyond the last number of microseconds that Arrow has, PostgreSQL has room still.
    "s": (_FIRST_SECOND, (2**63 - 1) // 10**6),
    "ms": (_FIRST_SECOND * 10**3, (2**63 - 1) // 10**3),
    "us": (_FIRST_SECOND * 10**6, 2**63 - 1),
}
_DAY = {"s": (0, 86_400), "ms": (0, 86_400_000), "us": (0, 86_400_000_000)}


def postgres_type(arrow: pa.DataType) -> str | None:
    """The PostgreSQL type that holds every value of an Arrow type; None where there is none."""
    if pa.types.is_decimal(arrow):
        size = decimal_size(arrow)
        return f"numeric({size[0]},{size[1]})" if size else None
    if pa.types.is_fixed_size_binary(arrow):
        return "bytea"
    if pa.types.is_timestamp(arrow) and arrow.tz is not None:
        arrow = pa.timestamp(arrow.unit, tz="UTC")  # the instant is the value; its zone is not kept
    return _BY_TYPE.get(arrow)


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type of a column's values; text for types that Rowtrail itself never makes."""
    size = _size(name)
    if size is not None and size[0] <= 38:
        return pa.decimal128(*size)
    return _ARROW.get(name, pa.string())


def column_type(table: str, column: Column) -> str:
    """The type of a column; raises ConfigurationError, naming it, where there is none."""
    return checked_type(table, column, postgres_type(column.type), "PostgreSQL")


def takes(existing: str, wanted: str) -> bool:
    """Whether a column of the type `existing` takes every value of `wanted`, unchanged."""
    if existing == wanted or (existing, wanted) in _WIDER:
        return True
    have, want = _size(existing), _size(wanted)
    if wanted in _INTEGERS:
        low, high = _INTEGERS[wanted]
        if existing in _INTEGERS:
            return _INTEGERS[existing][0] <= low and high <= _INTEGERS[existing][1]
        if have:
            return decimal_takes_integers(have, low, high)
        return existing == "numeric" or max(-low, high) <= _FLOATS.get(existing, -1)
    if want is None:
        return False
    return existing == "numeric" or (have is not None and decimal_takes(have, want))


def widens(existing: str, wanted: str, in_key: bool) -> bool:
    """Whether a column of the type `existing` can become `wanted` and no value changes its meaning.

    From a narrower type of the same kind, or from an integer to a numeric, but not in a key: a
    record's id tells them apart. A float holds many integers, which would be exact no more, and
    `character(n)` would lose its blanks.
    """
    if shortened := _SHORTENED.fullmatch(existing):
        return _SHORTENED_TO.get(shortened[1] + shortened[2]) == wanted
    if wanted in _FLOATS or (in_key and existing in _INTEGERS and wanted not in _INTEGERS):
        return (wanted, existing) in _WIDER
    return wanted != existing and takes(wanted, existing)


def integer_range(name: str) -> Range | None:
    """The least and the greatest value of a type of integers."""
    return _INTEGERS.get(name)


def _size(name: str) -> Range | None:
    """Digits and scale of a numeric that has both."""
    match = _NUMERIC.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def check_limits(table: str, rows: pa.RecordBatch) -> None:
    """Raises RecordError, with the column, for a value that PostgreSQL's types do not have.

    These are dates and times outside their ranges, and texts with a zero byte.
    """
    check_ranges(table, rows, _limits, postgres_type, "PostgreSQL")
    for column, field in zip(rows.columns, rows.schema, strict=True):
        if postgres_type(field.type) == "text" and _has_zero_byte(column):
            raise RecordError(
                f"Column {field.name} of table {table} has a text with a zero byte (U+0000), which "
                f"no text in PostgreSQL can hold. Take it out at the source or in a transform, or "
                f"give the column the type `blob` under `types` of the stream.",
                column=field.name,
            )


def _limits(arrow: pa.DataType) -> Range | None:
    if pa.types.is_date32(arrow):
        return _DAYS
    if pa.types.is_timestamp(arrow):
        return _LIMITS.get(arrow.unit)
    return _DAY.get(arrow.unit) if pa.types.is_time(arrow) else None


def _has_zero_byte(column: pa.Array) -> bool:
    return bool(pc.any(pc.match_substring(column, "\0")).as_py())
