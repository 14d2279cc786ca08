"""Arrow types as DuckDB types: what maps without loss, and which column takes which values."""

from __future__ import annotations

import re

import pyarrow as pa

from rowtrail.connectors.destinations.column_types import (
    EXACT_INTEGERS,
    Range,
    check_ranges,
    checked_type,
    decimal_size,
    decimal_takes,
    decimal_takes_integers,
)
from rowtrail.connectors.schema import Column

TYPES: tuple[tuple[pa.DataType, str], ...] = (
    (pa.bool_(), "BOOLEAN"),
    (pa.int8(), "TINYINT"),
    (pa.int16(), "SMALLINT"),
    (pa.int32(), "INTEGER"),
    (pa.int64(), "BIGINT"),
    (pa.uint8(), "UTINYINT"),
    (pa.uint16(), "USMALLINT"),
    (pa.uint32(), "UINTEGER"),
    (pa.uint64(), "UBIGINT"),
    (pa.float32(), "FLOAT"),
    (pa.float64(), "DOUBLE"),
    (pa.string(), "VARCHAR"),
    (pa.large_string(), "VARCHAR"),
    (pa.string_view(), "VARCHAR"),
    (pa.binary(), "BLOB"),
    (pa.large_binary(), "BLOB"),
    (pa.date32(), "DATE"),
    (pa.time32("s"), "TIME"),
    (pa.time32("ms"), "TIME"),
    (pa.time64("us"), "TIME"),
    (pa.time64("ns"), "TIME_NS"),
    (pa.timestamp("s"), "TIMESTAMP_S"),
    (pa.timestamp("ms"), "TIMESTAMP_MS"),
    (pa.timestamp("us"), "TIMESTAMP"),
    (pa.timestamp("ns"), "TIMESTAMP_NS"),
    (pa.timestamp("s", tz="UTC"), "TIMESTAMP WITH TIME ZONE"),
    (pa.timestamp("ms", tz="UTC"), "TIMESTAMP WITH TIME ZONE"),
    (pa.timestamp("us", tz="UTC"), "TIMESTAMP WITH TIME ZONE"),
    (pa.timestamp("ns", tz="UTC"), "TIMESTAMPTZ_NS"),
)
_BY_TYPE = dict(TYPES)

_INTEGERS = {
    "TINYINT": (-(2**7), 2**7 - 1),
    "SMALLINT": (-(2**15), 2**15 - 1),
    "INTEGER": (-(2**31), 2**31 - 1),
    "BIGINT": (-(2**63), 2**63 - 1),
    "HUGEINT": (-(2**127), 2**127 - 1),
    "UTINYINT": (0, 2**8 - 1),
    "USMALLINT": (0, 2**16 - 1),
    "UINTEGER": (0, 2**32 - 1),
    "UBIGINT": (0, 2**64 - 1),
    "UHUGEINT": (0, 2**128 - 1),
}
_FLOATS = {"FLOAT": EXACT_INTEGERS[4], "DOUBLE": EXACT_INTEGERS[8]}
_WIDER = {
    ("DOUBLE", "FLOAT"),
    ("TIMESTAMP", "TIMESTAMP_S"),
    ("TIMESTAMP", "TIMESTAMP_MS"),
    ("TIMESTAMP_MS", "TIMESTAMP_S"),
    ("TIME_NS", "TIME"),
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")

# DuckDB keeps the outermost integers for its infinities, and its timestamps begin with a whole day;
# a value beyond would come back as another one.
_DAYS = (-(2**31) + 2, 2**31 - 2)
_MICROSECONDS = (-9_223_372_022_400_000_000, 2**63 - 2)
_LIMITS = {
    "s": (-9_223_372_022_400, 9_223_372_036_854),
    "ms": (-9_223_372_022_400_000, 9_223_372_036_854_775),
    "us": _MICROSECONDS,
    "ns": (-9_223_286_400_000_000_000, 2**63 - 2),
}


def duckdb_type(arrow: pa.DataType) -> str | None:
    """The DuckDB type that holds every value of an Arrow type; None where there is none."""
    if pa.types.is_decimal(arrow):
        size = decimal_size(arrow)
        return f"DECIMAL({size[0]},{size[1]})" if size else None
    if pa.types.is_fixed_size_binary(arrow):
        return "BLOB"
    if pa.types.is_timestamp(arrow) and arrow.tz is not None:
        arrow = pa.timestamp(arrow.unit, tz="UTC")  # the instant is the value; its zone is not kept
    return _BY_TYPE.get(arrow)


def column_type(table: str, column: Column) -> str:
    """Likewise for a column; raises ConfigurationError, naming it, where there is none."""
    return checked_type(table, column, duckdb_type(column.type), "DuckDB")


def takes(existing: str, wanted: str) -> bool:
    """Whether a column of the DuckDB type `existing` takes every value of `wanted`, unchanged."""
    if existing == wanted or (existing, wanted) in _WIDER:
        return True
    have, want = _size(existing), _size(wanted)
    if wanted in _INTEGERS:
        low, high = _INTEGERS[wanted]
        if existing in _INTEGERS:
            return _INTEGERS[existing][0] <= low and high <= _INTEGERS[existing][1]
        if have:
            return decimal_takes_integers(have, low, high)
        return max(-low, high) <= _FLOATS.get(existing, -1)
    return have is not None and want is not None and decimal_takes(have, want)


def widens(existing: str, wanted: str, in_key: bool) -> bool:
    """Whether a column of the type `existing` can become `wanted` and no value changes its meaning.

    From a narrower type of the same kind, or from an integer to a decimal, but not in a key: a
    record's id tells them apart. A float holds many integers, which would be exact no more.
    """
    if wanted in _FLOATS or (in_key and existing in _INTEGERS and wanted not in _INTEGERS):
        return (wanted, existing) in _WIDER
    return wanted != existing and takes(wanted, existing)


def integer_range(name: str) -> Range | None:
    """The least and the greatest value of a type of integers."""
    return _INTEGERS.get(name)


def _size(name: str) -> Range | None:
    """Digits and scale of a decimal type."""
    match = _DECIMAL.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def check_limits(table: str, rows: pa.RecordBatch) -> None:
    """Raises RecordError, with the column, for a date or time outside what DuckDB can hold."""
    check_ranges(table, rows, _limits, duckdb_type, "DuckDB")


def _limits(arrow: pa.DataType) -> Range | None:
    if pa.types.is_date32(arrow):
        return _DAYS
    return _LIMITS[arrow.unit] if pa.types.is_timestamp(arrow) else None
