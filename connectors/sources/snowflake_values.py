"""How the values of one Snowflake column are read as one Arrow type, without a change of meaning.

A column has values of its own type only. What can be lost all the same: a time's nanoseconds, which
Arrow's microseconds have no place for and which are therefore read beside it; years that Python and
pandas do not know; numbers beyond a type that `types` asks for. Such a value becomes NULL, and its
row is held back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.capture.pages import Mask
from rowtrail.connectors.sources.casting import cast_or_null
from rowtrail.connectors.sources.snowflake_types import (
    MICROSECONDS,
    SEMI_STRUCTURED,
    ZONED,
    DeclaredType,
)
from rowtrail.connectors.type_names import type_name

_MOMENT = "YYYY-MM-DD HH24:MI:SS.FF9"
UTC = "+00:00"
"""Behind the text of a moment."""
_TEXTS = {
    "NUMBER": "CAST({c} AS VARCHAR)",
    "BOOLEAN": "CAST({c} AS VARCHAR)",
    "BINARY": "TO_VARCHAR({c}, 'HEX')",
    "DATE": "TO_VARCHAR({c}, 'YYYY-MM-DD')",
    "TIME": "TO_VARCHAR({c}, 'HH24:MI:SS.FF9')",
    "TIMESTAMP_NTZ": f"TO_VARCHAR({{c}}, '{_MOMENT}')",
    "TIMESTAMP_LTZ": f"TO_VARCHAR({{c}}, '{_MOMENT}TZH:TZM')",
    "TIMESTAMP_TZ": f"TO_VARCHAR({{c}}, '{_MOMENT}TZH:TZM')",
    "VARCHAR": "{c}",
    **dict.fromkeys(SEMI_STRUCTURED, "TO_JSON({c})"),
}
"""SQL for each kind's values as texts, whatever formats the session has."""
_BOUND = {
    "VARCHAR": "?",
    "FLOAT": "CAST(? AS FLOAT)",
    "BINARY": "TO_BINARY(?, 'HEX')",
    "BOOLEAN": "CAST(? AS BOOLEAN)",
    "DATE": "CAST(? AS DATE)",
    **dict.fromkeys(ZONED, "CAST(? AS TIMESTAMP_TZ({digits}))"),
    "TIMESTAMP_NTZ": "CAST(? AS TIMESTAMP_NTZ({digits}))",
    "TIME": "CAST(? AS TIME({digits}))",
}
"""SQL for a text that stands for a value, in the kind's own type."""

_DAY = 86_400 * 10**6
_YEARS = (-719_162, 2_932_896)
"""The days from the year 1 to the year 9999, counted from 1970."""


@dataclass(frozen=True, kw_only=True)
class ValueReader:
    """Reads one column. In its SQL, `{c}` stands for the column's reference."""

    name: str
    stored: str
    declared: DeclaredType
    type: pa.DataType
    selects: tuple[str, ...]
    selected: tuple[pa.DataType, ...]  # what they give
    order: str  # sorts as the Arrow values do: text by its bytes
    bound: str  # a `?` for a text of `as_text`, to be compared with `order`
    not_null: bool

    def select(self, reference: str) -> list[str]:
        return [expression.replace("{c}", reference) for expression in self.selects]

    def ordered(self, reference: str) -> str:
        return self.order.replace("{c}", reference)

    def read(self, arrays: Sequence[pa.Array]) -> tuple[pa.Array, Mask | None]:
        """The values that fit, and where one does not and is NULL now; None: all fit."""
        given, fitted = arrays[0], arrays[0]
        if len(arrays) > 1:
            beyond = pc.not_equal(arrays[1], 0)
            if pc.any(beyond).as_py():
                fitted = pc.if_else(beyond, pa.scalar(None, fitted.type), fitted)
        fitted = _known_years(fitted)
        if fitted.type != self.type:
            fitted = _changed(fitted, self.type)
        if fitted.null_count == given.null_count:
            return fitted, None
        lost: Mask = pc.and_(fitted.is_null(), given.is_valid()).to_numpy(zero_copy_only=False)
        return fitted, lost

    def raw_text(self, arrays: Sequence[pa.Array], row: int) -> str | None:
        """A value as a text that says all of it."""
        value = arrays[0][row]
        if not value.is_valid:
            return None
        kind = value.type
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            text = _rendered(value.cast(pa.timestamp("us")))
            return text + self._nanoseconds(arrays, row) + UTC
        if pa.types.is_temporal(kind):
            return _rendered(value) + self._nanoseconds(arrays, row)
        return as_text(value.as_py())

    def _nanoseconds(self, arrays: Sequence[pa.Array], row: int) -> str:
        return f"{arrays[1][row].as_py():03}" if len(arrays) > 1 else ""


def value_reader(
    name: str, stored: str, declared: DeclaredType, data_type: pa.DataType, *, not_null: bool
) -> ValueReader:
    """The reader of a column that can be read as this Arrow type."""
    natural = declared.natural
    as_is = natural is not None and (
        not pa.types.is_string(data_type) or declared.kind == "VARCHAR"
    )
    selects: tuple[str, ...] = ("{c}",)
    selected: tuple[pa.DataType, ...] = (natural,) if natural is not None else (pa.string(),)
    if not as_is:
        selects, selected = (_TEXTS[declared.kind],), (pa.string(),)
    elif declared.has_nanoseconds:
        selects = ("{c}", "MOD(DATE_PART(NANOSECOND, {c}), 1000)")
        selected = (*selected, pa.int64())
    return ValueReader(
        name=name,
        stored=stored,
        declared=declared,
        type=data_type,
        selects=selects,
        selected=selected,
        order=own_order(declared) if as_is else selects[0],
        bound=bound_text(declared) if as_is else "?",
        not_null=not_null,
    )


def own_order(declared: DeclaredType) -> str:
    """What a column is compared by. An empty collation is none: texts then go by their bytes."""
    return "COLLATE({c}, '')" if declared.collated else "{c}"


def bound_text(declared: DeclaredType) -> str:
    """SQL with a `?` for the text of a value of any column of that kind."""
    if declared.kind == "NUMBER":
        return f"CAST(? AS NUMBER(38,{declared.scale}))"
    digits = max(declared.size, MICROSECONDS)  # what is asked for may have more than the column
    return _BOUND[declared.kind].format(digits=digits)


def cursor_text(declared: DeclaredType) -> str:
    """SQL for a cursor's value as a text that is bound as `bound_text` says."""
    if declared.kind in ZONED:
        return f"TO_VARCHAR(CONVERT_TIMEZONE('UTC', {{c}}), '{_MOMENT}') || '{UTC}'"
    return _TEXTS[declared.kind]


def as_text(value: object) -> str:
    """A Python value of a key as a text that is bound as `bound_text` says."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def describe_misfit(reader: ValueReader, arrays: Sequence[pa.Array], row: int) -> str:
    """Why the value does not fit, and what to do; never the value itself."""
    if not arrays[0][row].is_valid:
        return (
            f"Key column {reader.name} is NULL, so that the row cannot be told from others. Give "
            f"it a value at the source."
        )
    subject = (
        f"Column {reader.name}, declared {reader.declared.text} and read as "
        f"{type_name(reader.type)}, holds"
    )
    if pa.types.is_temporal(reader.type):
        thing = (
            "a time with nanoseconds, of which that type has none"
            if len(arrays) > 1 and arrays[1][row].as_py()
            else "a day before the year 1 or after the year 9999"
        )
    else:
        thing = "a number that does not fit into it exactly"
    way_out = (
        "take the entry from `types`"
        if reader.declared.kind == "FLOAT"
        else f'set types."{reader.name}" = "text" for the stream'
    )
    return f"{subject} {thing}. Mend the row at the source, or {way_out}."


def typed(pieces: Sequence[pa.Array], wanted: pa.DataType) -> pa.Array:
    """What the connector gave of one column, as the one type that was asked for.

    It takes the smallest type that holds the values, piece by piece.
    """
    found = [_typed(piece, wanted) for piece in pieces if len(piece)]
    return pa.concat_arrays(found) if found else pa.nulls(0, wanted)


def _typed(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if array.type == wanted:
        return array
    if array.null_count == len(array):
        return pa.nulls(len(array), wanted)
    if pa.types.is_temporal(wanted):
        return array.cast(wanted, safe=False)  # what that cuts off is read beside it
    if pa.types.is_decimal(wanted) and pa.types.is_integer(array.type):
        return array.cast(pa.decimal128(38, 0)).cast(wanted)
    return array.cast(wanted)


def _known_years(array: pa.Array) -> pa.Array:
    """NULL in the place of days that Python and pandas do not have."""
    if pa.types.is_date32(array.type):
        numbers, (first, last) = array.view(pa.int32()), _YEARS
    elif pa.types.is_timestamp(array.type):
        numbers = array.view(pa.int64())
        first, last = _YEARS[0] * _DAY, (_YEARS[1] + 1) * _DAY - 1
    else:
        return array
    known = pc.and_(pc.greater_equal(numbers, first), pc.less_equal(numbers, last))
    if pc.all(known).as_py() is not False:
        return array
    return pc.if_else(known, array, pa.scalar(None, array.type))


def _changed(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """As another type, NULL where a value is not exactly one of it."""
    if pa.types.is_floating(wanted):
        return _floats(array, wanted)
    if pa.types.is_integer(array.type) and pa.types.is_decimal(wanted):
        array = array.cast(pa.decimal128(38, 0))  # Arrow itself looks at the types alone
    return cast_or_null(array, wanted)


def _floats(array: pa.Array, data_type: pa.DataType) -> pa.Array:
    changed = array.cast(data_type, safe=False)
    kept = pc.or_(pc.equal(changed.cast(array.type), array), pc.is_nan(array))
    return pc.if_else(pc.fill_null(kept, False), changed, pa.scalar(None, data_type))


def _rendered(value: pa.Scalar) -> str:
    """As Arrow writes it: with six digits of a second, in any year."""
    return str(value.cast(pa.string()).as_py())
