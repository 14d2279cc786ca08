"""Arrow types as Snowflake types: what maps without loss, and which column takes which values.

https://docs.snowflake.com/en/sql-reference/intro-summary-data-types
"""

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
)
from rowtrail.connectors.errors import RecordError
from rowtrail.connectors.schema import Column

LONGEST_TEXT = 16_777_216
"""Bytes of UTF-8 in one VARCHAR, and characters in one of the type that Rowtrail makes."""
LONGEST_BINARY = 8_388_608
"""Bytes in one BINARY."""
TEXT = "VARCHAR"
BINARY = "BINARY"
INSTANT = "TIMESTAMP_TZ(6)"

TYPES: tuple[tuple[pa.DataType, str], ...] = (
    (pa.bool_(), "BOOLEAN"),
    (pa.int8(), "NUMBER(3,0)"),
    (pa.int16(), "NUMBER(5,0)"),
    (pa.int32(), "NUMBER(10,0)"),
    (pa.int64(), "NUMBER(19,0)"),
    (pa.uint8(), "NUMBER(3,0)"),
    (pa.uint16(), "NUMBER(5,0)"),
    (pa.uint32(), "NUMBER(10,0)"),
    (pa.uint64(), "NUMBER(20,0)"),
    (pa.float32(), "FLOAT"),
    (pa.float64(), "FLOAT"),
    (pa.string(), TEXT),
    (pa.large_string(), TEXT),
    (pa.string_view(), TEXT),
    (pa.binary(), BINARY),
    (pa.large_binary(), BINARY),
    (pa.date32(), "DATE"),
    (pa.time32("s"), "TIME(6)"),
    (pa.time32("ms"), "TIME(6)"),
    (pa.time64("us"), "TIME(6)"),
    (pa.timestamp("s"), "TIMESTAMP_NTZ(6)"),
    (pa.timestamp("ms"), "TIMESTAMP_NTZ(6)"),
    (pa.timestamp("us"), "TIMESTAMP_NTZ(6)"),
    (pa.timestamp("s", tz="UTC"), INSTANT),
    (pa.timestamp("ms", tz="UTC"), INSTANT),
    (pa.timestamp("us", tz="UTC"), INSTANT),
)
"""Snowflake has nanoseconds, but its connector gives timestamps as 64 bits of them, which end in
the year 2262, or in microseconds. Times that need nanoseconds are refused rather than cut off when
they are read back."""
_BY_TYPE = dict(TYPES)

_INTEGERS = frozenset(name for kind, name in TYPES if pa.types.is_integer(kind))

_KIND = re.compile(r"([A-Z_]+)(?:\((\d+)(?:,\s*(\d+))?\))?")
_LENGTHS = {"VARCHAR": LONGEST_TEXT, "BINARY": LONGEST_BINARY}
_TIMES = ("TIME", "TIMESTAMP_NTZ", "TIMESTAMP_TZ", "TIMESTAMP_LTZ")
_EXACT_DIGITS = len(str(EXACT_INTEGERS[8])) - 1
"""Each integer of so many digits is in a FLOAT as it is."""

# Years 1 to 9999: what every part of Snowflake and its connector reads and writes alike.
_DAYS = (-719_162, 2_932_896)
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6}


def snowflake_type(arrow: pa.DataType) -> str | None:
    """The Snowflake type that holds every value of an Arrow type; None where there is none."""
    if pa.types.is_decimal(arrow):
        size = decimal_size(arrow)
        return f"NUMBER({size[0]},{size[1]})" if size and size[1] < 38 else None
    if pa.types.is_fixed_size_binary(arrow):
        return BINARY
    if pa.types.is_timestamp(arrow) and arrow.tz is not None:
        arrow = pa.timestamp(arrow.unit, tz="UTC")  # the instant is the value; its zone is not kept
    return _BY_TYPE.get(arrow)


def column_type(table: str, column: Column) -> str:
    """The type of a column; raises ConfigurationError, naming it, where there is none."""
    return checked_type(table, column, snowflake_type(column.type), "Snowflake")


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type of a column's values; text for types that Rowtrail itself never makes."""
    kind, size, scale = _parts(name)
    if kind == "NUMBER":
        return _number(size, scale)
    return {
        "BOOLEAN": pa.bool_(),
        "FLOAT": pa.float64(),
        "BINARY": pa.binary(),
        "DATE": pa.date32(),
        "TIME": pa.time64("us"),
        "TIMESTAMP_NTZ": pa.timestamp("us"),
        "TIMESTAMP_TZ": pa.timestamp("us", tz="UTC"),
        "TIMESTAMP_LTZ": pa.timestamp("us", tz="UTC"),
    }.get(kind, pa.string())


def _number(digits: int, scale: int) -> pa.DataType:
    if scale == 0 and digits <= 18:
        return pa.int64()
    return pa.decimal128(digits, scale)


def usual(name: str) -> str:
    """A type as Rowtrail writes it, where DESCRIBE adds the size that it has anyway."""
    kind, size, _ = _parts(name)
    return kind if _LENGTHS.get(kind) == size else name


def takes(existing: str, wanted: str) -> bool:
    """Whether a column of the type `existing` takes every value of `wanted`, unchanged."""
    if existing == wanted:
        return True
    have, want = _parts(existing), _parts(wanted)
    if want[0] == "NUMBER":
        if have[0] == "NUMBER":
            return decimal_takes(have[1:], want[1:])
        return have[0] == "FLOAT" and want[2] == 0 and want[1] <= _EXACT_DIGITS
    return have[0] == want[0] and have[1] >= want[1]


def widens(existing: str, wanted: str, in_key: bool) -> bool:
    """Whether a column of the type `existing` can become `wanted` and no value changes its meaning.

    Snowflake takes more digits of the same scale and longer texts, without rewriting the table:
    https://docs.snowflake.com/en/sql-reference/sql/alter-table-column
    """
    have, want = _parts(existing), _parts(wanted)
    alike = have[0] == want[0] and have[0] in ("NUMBER", *_LENGTHS) and have[2] == want[2]
    if in_key and existing in _INTEGERS and wanted not in _INTEGERS:
        return False  # a record's id tells integers and decimals apart
    return alike and takes(wanted, existing) and not takes(existing, wanted)


def _parts(name: str) -> tuple[str, int, int]:
    """Kind, size and scale; sizes that are not written are those that Snowflake gives."""
    match = _KIND.fullmatch(name)
    if match is None:
        return name, 0, 0
    kind = match[1]
    default = 38 if kind == "NUMBER" else 9 if kind in _TIMES else _LENGTHS.get(kind, 0)
    return kind, int(match[2] or default), int(match[3] or 0)


def greatest(name: str) -> int | None:
    """The greatest integer of a NUMBER without decimals."""
    kind, digits, scale = _parts(name)
    return 10**digits - 1 if kind == "NUMBER" and scale == 0 else None


def check_limits(table: str, rows: pa.RecordBatch) -> None:
    """Raises RecordError, with the column, for a value that Snowflake's types do not have.

    These are dates and times outside their ranges, texts and blobs that are too long, and texts
    that are no UTF-8.
    """
    check_ranges(table, rows, _limits, snowflake_type, "Snowflake")
    for column, field in zip(rows.columns, rows.schema, strict=True):
        kind = _parts(snowflake_type(field.type) or "")[0]
        if kind == "VARCHAR":
            _check_utf8(table, field.name, column)
        if kind in _LENGTHS and _longest(column) > _LENGTHS[kind]:
            raise RecordError(
                f"Column {field.name} of table {table} has a value of more than "
                f"{_LENGTHS[kind]:,} bytes, which no {kind} in Snowflake can hold. Shorten it at "
                f"the source or in a transform, or leave the column out with `exclude`.",
                column=field.name,
            )


def _longest(column: pa.Array) -> int:
    return int(pc.max(pc.binary_length(_plain(column))).as_py() or 0)


def _check_utf8(table: str, name: str, column: pa.Array) -> None:
    try:
        _plain(column).validate(full=True)
    except pa.ArrowInvalid:
        raise RecordError(
            f"Column {name} of table {table} has a text that is not UTF-8, which Snowflake does "
            f"not take. Correct it at the source or in a transform.",
            column=name,
        ) from None


def _plain(column: pa.Array) -> pa.Array:
    return column.cast(pa.large_string()) if pa.types.is_string_view(column.type) else column


def _limits(arrow: pa.DataType) -> Range | None:
    if pa.types.is_date32(arrow):
        return _DAYS
    if pa.types.is_timestamp(arrow) and arrow.unit in _PER_SECOND:
        per_day = 86_400 * _PER_SECOND[arrow.unit]
        return _DAYS[0] * per_day, (_DAYS[1] + 1) * per_day - 1
    if pa.types.is_time(arrow) and arrow.unit in _PER_SECOND:
        return 0, 86_400 * _PER_SECOND[arrow.unit] - 1
    return None
