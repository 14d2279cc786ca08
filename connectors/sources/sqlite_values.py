"""How the values of one SQLite column are read as one Arrow type, without a change of meaning.

Any row of a SQLite column may hold any storage class. So each column is selected by expressions
that give NULL for a value that does not fit, and the Arrow conversion after it gives NULL for what
it cannot hold: a value that is not NULL at the source and NULL here does not fit, whatever the
cause. Comparing two counts of NULLs finds that out for a whole page at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.sources.casting import cast_or_null
from rowtrail.connectors.sources.sqlite_types import Affinity, Collation
from rowtrail.connectors.type_names import type_name

_EXACT = 2**53  # doubles hold every integer up to here
_CLASSES = ("integer", "real", "text")


@dataclass(frozen=True, kw_only=True)
class ValueReader:
    """Reads one column. In its SQL, `{c}` stands for the column's reference."""

    name: str
    declared: str
    type: pa.DataType
    selects: tuple[str, ...]
    convert: Callable[[list[pa.Array]], pa.Array]
    order: str = "{c}"  # what a key or cursor is compared and ordered by, byte for byte
    comparable: bool = True  # by the column's own collation too, which its index may have
    placeholder: str = "?"  # for a value of `bind`

    def select(self, reference: str) -> list[str]:
        return [expression.replace("{c}", reference) for expression in self.selects]

    def ordered(self, reference: str) -> str:
        """The SQL that sorts as the Arrow values do: text by code points, whatever its collation.

        It is the bare column where that is possible: only so an index serves a row comparison.
        """
        return self.order.replace("{c}", reference)

    def bind(self, array: pa.Array) -> pa.Array:
        """Arrow values as SQLite holds them, to be compared with the column by `=`."""
        kind = self.type
        if pa.types.is_timestamp(kind):
            text = array.cast(pa.string())
            return pc.replace_substring_regex(text, r"\.000000$", "")
        if pa.types.is_date(kind) or pa.types.is_decimal(kind):
            return array.cast(pa.string())
        if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
            return array.cast(pa.int64())
        return array.cast(pa.float64()) if pa.types.is_floating(kind) else array


def value_reader(
    name: str,
    declared: str,
    data_type: pa.DataType,
    affinity: Affinity,
    *,
    key: bool = False,
    collation: Collation = Collation.BINARY,
) -> ValueReader:
    """The reader of a column as this Arrow type. The collation matters for keys and cursors only.

    A key column of timestamps takes one spelling only, `2024-01-31 10:00:00[.ffffff]`: with several
    spellings of one instant two rows would share a key, and text would not sort as time does.
    """
    selects, convert = _reading(data_type, affinity, key=key)
    order = "{c}" if collation is Collation.BINARY else "{c} COLLATE BINARY"
    if selects == _RENDERED:
        order = f"({selects[0]}) COLLATE BINARY"
    return ValueReader(
        name=name,
        declared=declared,
        type=data_type,
        selects=selects,
        convert=convert,
        order=order,
        comparable=collation is not Collation.UNKNOWN,
        placeholder="CAST(? AS NUMERIC)" if pa.types.is_decimal(data_type) else "?",
    )


def raw_value(value: object) -> object:
    """A Python value of a key column as SQLite holds it, to be compared by `<` and `>`."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    return int(value) if isinstance(value, bool) else value


_THINGS = {"integer": "an integer", "real": "a real", "text": "text", "blob": "a blob"}
_ZONE = re.compile(r"(Z|[+-]\d\d(:?\d\d)?)$")


def describe_misfit(reader: ValueReader, storage: str, raw: bytes | None) -> str:
    """Why the value does not fit, and what to do; never the value itself."""
    declared = f"declared {reader.declared}" if reader.declared else "without a declared type"
    name = type_name(reader.type)
    if storage == "null":
        return (
            f"Key column {reader.name} is NULL, so that the row cannot be told from others. Give "
            f"it a value at the source."
        )
    subject = f"Column {reader.name}, {declared} and read as {name}, holds"
    kind = reader.type
    if pa.types.is_string(kind) and storage == "text":
        return f"{subject} text that is not valid UTF-8. Mend the row at the source."
    zoned = storage == "text" and _ZONE.search((raw or b"").decode(errors="replace")[10:])
    if zoned and pa.types.is_timestamp(kind) and kind.tz is None:
        return (
            f'{subject} a time with a zone. Set types."{reader.name}" = "timestamptz" (or '
            f'"text") for the stream, or mend the row at the source.'
        )
    other = f'set types."{reader.name}" for the stream to a type that takes it'
    return f"{subject} {_THINGS[storage]} that is no such value. Mend the row, or {other}."


_INTEGER = ("CASE typeof({c}) WHEN 'integer' THEN {c} END",)
_TEXT = ("CASE typeof({c}) WHEN 'text' THEN {c} END",)
_BLOB = ("CASE typeof({c}) WHEN 'blob' THEN {c} END",)
# quote() writes a real so that it reads back as the same double. No text in a column of numeric
# affinity looks like a number (it would have become one), so that this is one-to-one.
_RENDERED = (
    "CASE typeof({c}) WHEN 'text' THEN {c} WHEN 'integer' THEN CAST({c} AS TEXT) "
    "WHEN 'real' THEN quote({c}) END",
)
_REAL = (
    "CASE typeof({c}) WHEN 'real' THEN {c} WHEN 'integer' THEN "
    f"CASE WHEN {{c}} BETWEEN -{_EXACT} AND {_EXACT} THEN CAST({{c}} AS REAL) END END",
)
# Python and pandas know no year 0, which SQLite and Arrow do. (`{c} >= '0001'` would compare as
# numbers where the column has numeric affinity.)
_DATED = ("CASE WHEN typeof({c}) = 'text' AND substr({c}, 1, 4) <> '0000' THEN {c} END",)
_DATED_KEY = (
    "CASE WHEN typeof({c}) = 'text' AND substr({c}, 1, 4) <> '0000' AND substr({c}, 11, 1) = ' ' "
    "AND (length({c}) = 19 OR (length({c}) = 26 AND substr({c}, 20) <> '.000000')) THEN {c} END",
)
_BY_CLASS = tuple(f"CASE typeof({{c}}) WHEN '{name}' THEN {{c}} END" for name in _CLASSES)


def _reading(
    data_type: pa.DataType, affinity: Affinity, *, key: bool
) -> tuple[tuple[str, ...], Callable[[list[pa.Array]], pa.Array]]:
    if pa.types.is_boolean(data_type):
        return (
            ("CASE WHEN typeof({c}) = 'integer' AND {c} IN (0, 1) THEN {c} END",),
            _cast(pa.int64(), data_type),
        )
    if pa.types.is_integer(data_type):
        top = 2 ** (data_type.bit_width - 1)
        ranged = (
            f"CASE WHEN typeof({{c}}) = 'integer' AND {{c}} BETWEEN -{top} AND {top - 1} "
            f"THEN {{c}} END",
        )
        return (_INTEGER if data_type.bit_width == 64 else ranged, _cast(pa.int64(), data_type))
    if pa.types.is_floating(data_type):
        return _REAL, lambda arrays: _floats(arrays[0], data_type)
    if pa.types.is_decimal(data_type):
        return _BY_CLASS, lambda arrays: _decimals(arrays, data_type)
    if pa.types.is_string(data_type):
        return (
            _RENDERED if affinity.turns_text_into_numbers else _TEXT,
            lambda arrays: _valid_text(_typed(arrays[0], pa.string())),
        )
    if pa.types.is_binary(data_type):
        return _BLOB, lambda arrays: _typed(arrays[0], data_type)
    if pa.types.is_time(data_type):
        return _TEXT, lambda arrays: _times(_typed(arrays[0], pa.string()))
    dated = _DATED_KEY if key and pa.types.is_timestamp(data_type) else _DATED
    return dated, _cast(pa.string(), data_type)


def _cast(stored: pa.DataType, data_type: pa.DataType) -> Callable[[list[pa.Array]], pa.Array]:
    return lambda arrays: cast_or_null(_typed(arrays[0], stored), data_type)


def _typed(array: pa.Array, data_type: pa.DataType) -> pa.Array:
    """The driver gives a column of only NULLs as int64."""
    if array.null_count == len(array) and array.type != data_type:
        return pa.nulls(len(array), data_type)
    return array


def _valid_text(array: pa.Array) -> pa.Array:
    """NULL in the place of text that is not UTF-8: SQLite stores any bytes as text."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return cast_or_null(array.cast(pa.binary()), pa.string())
    return array


def _floats(array: pa.Array, data_type: pa.DataType) -> pa.Array:
    doubles = _typed(array, pa.float64())
    if data_type == pa.float64():
        return doubles
    narrow = doubles.cast(data_type, safe=False)
    return _where(pc.equal(narrow.cast(pa.float64()), doubles), narrow)


def _decimals(arrays: list[pa.Array], data_type: pa.DataType) -> pa.Array:
    integers, reals, texts = (
        _typed(array, kind)
        for array, kind in zip(arrays, (pa.int64(), pa.float64(), pa.string()), strict=True)
    )
    parts = []
    if integers.null_count < len(integers):
        parts.append(cast_or_null(integers.cast(pa.decimal128(19, 0)), data_type))
    if reals.null_count < len(reals):
        rounded = cast_or_null(reals, data_type)
        # By way of text: Arrow's own cast of a decimal to a double is not correctly rounded.
        back = rounded.cast(pa.string()).cast(pa.float64())
        parts.append(_where(pc.equal(back, reals), rounded))
    if texts.null_count < len(texts):
        parts.append(cast_or_null(_valid_text(texts), data_type))
    if not parts:
        return pa.nulls(len(integers), data_type)
    return parts[0] if len(parts) == 1 else pc.coalesce(*parts)


def _times(array: pa.Array) -> pa.Array:
    """Arrow parses no times of day alone, so they go by way of a day."""
    day = pc.binary_join_element_wise(pa.scalar("1970-01-01"), _valid_text(array), " ")
    return cast_or_null(day, pa.timestamp("us")).cast(pa.time64("us"))


def _where(keep: pa.Array, array: pa.Array) -> pa.Array:
    return pc.if_else(pc.fill_null(keep, False), array, pa.scalar(None, array.type))
