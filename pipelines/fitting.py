"""Casts columns to declared types without changing the meaning of any value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.type_names import type_name

EXACT_FLOAT = 2**53
"""Beyond it a double no longer stands for one integer, so it cannot be taken back to one."""
EXACT_DIGITS = 15
"""A decimal number of so many significant digits comes back from a double (IEEE 754, DBL_DIG)."""

Fitted = tuple[pa.Array, pa.Array]
"""The cast values, NULL where one does not fit, and a bool array that is true there."""
Convert = Callable[[pa.Array, pa.DataType], Fitted]


class Kind(StrEnum):
    """What values are, whatever their width: only some kinds can stand for others."""

    BOOLEAN = "a boolean"
    INTEGER = "an integer"
    FLOAT = "a float"
    DECIMAL = "a decimal"
    TEXT = "text"
    BLOB = "a blob"
    DATE = "a date"
    TIME = "a time"
    TIMESTAMP = "a timestamp without zone"
    TIMESTAMPTZ = "a timestamp with zone"


def fit(values: pa.Array, target: pa.DataType) -> Fitted:
    """`values` as `target`, and a bool array that is true where a value does not fit.

    Misfits are NULL in the first array. A value fits when taking it to the target type and back
    gives the same value: nothing is rounded, truncated, wrapped or moved to another time zone. No
    value fits a type of a kind that cannot stand for its own; NULL fits every type.
    """
    if values.type.equals(target):
        return values, _none(values)
    if pa.types.is_dictionary(values.type):
        return fit(values.dictionary_decode(), target)
    convert = _CONVERSIONS.get((kind_of(values.type), kind_of(target)))
    if convert is None:
        return pa.nulls(len(values), target), values.is_valid()
    return convert(values, target)


def misfit_reason(source: pa.DataType, target: pa.DataType) -> str:
    """Why a value of one type does not fit another and what to do, as the end of a sentence."""
    if pa.types.is_dictionary(source):
        source = source.value_type
    kinds = (kind_of(source), kind_of(target))
    if kinds not in _CONVERSIONS:
        remedy = _REMEDIES.get(kinds, "convert it in the transform, or declare another type")
        is_now, declared = kinds[0] or type_name(source), kinds[1] or type_name(target)
        return f"{is_now} cannot stand for {declared}; {remedy}"
    if kinds == (Kind.FLOAT, Kind.FLOAT):
        return f"{type_name(target)} would round it; declare {type_name(source)}"
    return f"the value would not come back from it unchanged; it is {type_name(source)} now"


def kind_of(data_type: pa.DataType) -> Kind | None:
    """None for types that no other one can stand for: lists, structs, intervals and the like."""
    if pa.types.is_timestamp(data_type):
        return Kind.TIMESTAMP if data_type.tz is None else Kind.TIMESTAMPTZ
    return next(
        (kind for kind, checks in _KINDS.items() if any(f(data_type) for f in checks)), None
    )


_KINDS = {
    Kind.BOOLEAN: (pa.types.is_boolean,),
    Kind.INTEGER: (pa.types.is_integer,),
    Kind.FLOAT: (pa.types.is_floating,),
    Kind.DECIMAL: (pa.types.is_decimal,),
    Kind.TEXT: (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    Kind.BLOB: (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
        pa.types.is_binary_view,
    ),
    Kind.DATE: (pa.types.is_date,),
    Kind.TIME: (pa.types.is_time,),
}


def _safely(values: pa.Array, target: pa.DataType) -> Fitted:
    """Where Arrow's own safe cast lets nothing pass that it would change."""
    try:
        return values.cast(target, safe=True), _none(values)
    except pa.ArrowException:
        blanked, misfits = _blanked(values, _refused(values, target))
        return blanked.cast(target, safe=True), misfits


def _there_and_back(values: pa.Array, target: pa.DataType) -> Fitted:
    """Where Arrow's safe cast loses something that casting back shows."""
    cast, misfits = _safely(values, target)
    back = cast.cast(values.type, safe=False)
    return _blanked(cast, pc.or_(misfits, _differs(back, values)))


def _float_to_integer(values: pa.Array, target: pa.DataType) -> Fitted:
    cast, misfits = _safely(values, target)
    ambiguous = pc.greater_equal(pc.abs(values), float(EXACT_FLOAT))
    return _blanked(cast, pc.or_(misfits, pc.fill_null(ambiguous, False)))


def _float_to_decimal(values: pa.Array, target: pa.DataType) -> Fitted:
    """By way of text: Arrow's own cast from decimal to double is not correctly rounded."""
    cast, misfits = _safely(values, target)
    back = cast.cast(pa.string()).cast(pa.float64())
    return _blanked(cast, pc.or_(misfits, _differs(back, values.cast(pa.float64()))))


def _text_to_integer(values: pa.Array, target: pa.DataType) -> Fitted:
    """Digits only: Arrow takes hexadecimal numbers too."""
    digits = pc.match_substring_regex(values, "^-?[0-9]+$")
    plain = pc.if_else(digits, values, pa.scalar(None, values.type))
    cast, misfits = _safely(plain, target)
    return cast, pc.or_(misfits, pc.fill_null(pc.invert(digits), False))


def _text_to_float(values: pa.Array, target: pa.DataType) -> Fitted:
    doubles, misfits = _safely(values, pa.float64())
    misfits = pc.or_(misfits, _rounded(values, doubles))
    doubles, _ = _blanked(doubles, misfits)
    cast, narrowed = fit(doubles, target)
    return cast, pc.or_(misfits, narrowed)


def _moment_to_text(values: pa.Array, target: pa.DataType) -> Fitted:
    """Arrow writes what lies beyond its calendar as `<value out of range: …>`, and with a zone as
    another year."""
    cast, misfits = _safely(values, target)
    told = cast
    if pa.types.is_timestamp(values.type) and values.type.tz is not None:
        told = values.cast(pa.timestamp(values.type.unit)).cast(target)
    return _blanked(cast, pc.or_(misfits, pc.fill_null(pc.starts_with(told, "<"), False)))


def _by_text(onward: Convert) -> Convert:
    """By way of text, where Arrow's direct cast rounds, or asks for more digits than are there."""

    def convert(values: pa.Array, target: pa.DataType) -> Fitted:
        return onward(values.cast(pa.string()), target)

    return convert


_CONVERSIONS: dict[tuple[Kind | None, Kind | None], Convert] = {
    (Kind.BOOLEAN, Kind.INTEGER): _safely,
    (Kind.BOOLEAN, Kind.TEXT): _safely,
    (Kind.INTEGER, Kind.BOOLEAN): _there_and_back,
    (Kind.INTEGER, Kind.INTEGER): _safely,
    (Kind.INTEGER, Kind.FLOAT): _safely,
    (Kind.INTEGER, Kind.DECIMAL): _by_text(_safely),
    (Kind.INTEGER, Kind.TEXT): _safely,
    (Kind.FLOAT, Kind.INTEGER): _float_to_integer,
    (Kind.FLOAT, Kind.FLOAT): _there_and_back,
    (Kind.FLOAT, Kind.DECIMAL): _float_to_decimal,
    (Kind.FLOAT, Kind.TEXT): _safely,
    (Kind.DECIMAL, Kind.INTEGER): _safely,
    (Kind.DECIMAL, Kind.FLOAT): _by_text(_text_to_float),
    (Kind.DECIMAL, Kind.DECIMAL): _safely,
    (Kind.DECIMAL, Kind.TEXT): _safely,
    (Kind.TEXT, Kind.BOOLEAN): _safely,
    (Kind.TEXT, Kind.INTEGER): _text_to_integer,
    (Kind.TEXT, Kind.FLOAT): _text_to_float,
    (Kind.TEXT, Kind.DECIMAL): _safely,
    (Kind.TEXT, Kind.TEXT): _safely,
    (Kind.TEXT, Kind.DATE): _safely,
    (Kind.TEXT, Kind.TIMESTAMP): _safely,
    (Kind.TEXT, Kind.TIMESTAMPTZ): _safely,
    (Kind.BLOB, Kind.BLOB): _safely,
    (Kind.DATE, Kind.DATE): _there_and_back,
    (Kind.DATE, Kind.TIMESTAMP): _there_and_back,
    (Kind.DATE, Kind.TEXT): _moment_to_text,
    (Kind.TIME, Kind.TIME): _safely,
    (Kind.TIME, Kind.TEXT): _moment_to_text,
    (Kind.TIMESTAMP, Kind.TIMESTAMP): _safely,
    (Kind.TIMESTAMP, Kind.DATE): _there_and_back,
    (Kind.TIMESTAMP, Kind.TEXT): _moment_to_text,
    (Kind.TIMESTAMPTZ, Kind.TIMESTAMPTZ): _safely,
    (Kind.TIMESTAMPTZ, Kind.TEXT): _moment_to_text,
}
"""How a kind becomes another one that can stand for it; all other pairs do not fit."""

_WHOLE = frozenset(
    {
        (Kind.BOOLEAN, Kind.INTEGER),
        (Kind.BOOLEAN, Kind.TEXT),
        (Kind.INTEGER, Kind.TEXT),
        (Kind.FLOAT, Kind.TEXT),
        (Kind.DECIMAL, Kind.TEXT),
    }
)
"""Of those pairs the ones of which every value fits, whatever the widths of the two types."""


def conversions() -> Mapping[tuple[Kind, Kind], bool]:
    """Pairs of kinds of which the first can stand for the second; True: with every value.

    False: a value that the second type would round, cut off or wrap does not fit.
    """
    return {
        (one, other): (one, other) in _WHOLE
        for one, other in _CONVERSIONS
        if one is not None and other is not None
    }


_REMEDIES: dict[tuple[Kind | None, Kind | None], str] = {
    (Kind.TIMESTAMPTZ, Kind.TIMESTAMP): "declare timestamptz, or take the zone away in the "
    "transform (dt.tz_convert, then dt.tz_localize(None))",
    (Kind.TIMESTAMP, Kind.TIMESTAMPTZ): "declare timestamp, or say in the transform which zone it "
    "is in (dt.tz_localize)",
    (Kind.BLOB, Kind.TEXT): "declare blob, or decode it in the transform",
    (Kind.TEXT, Kind.BLOB): "declare text, or encode it in the transform",
}


def _none(values: pa.Array) -> pa.Array:
    return pa.repeat(pa.scalar(False), len(values))


def _blanked(cast: pa.Array, misfits: pa.Array) -> Fitted:
    if not misfits.true_count:
        return cast, misfits
    return pc.if_else(misfits, pa.scalar(None, cast.type), cast), misfits


def _differs(back: pa.Array, values: pa.Array) -> pa.Array:
    """True where two values are there that are not the same; NaN is the same as NaN."""
    differs = pc.not_equal(back, values)
    if pa.types.is_floating(values.type):
        differs = pc.and_(differs, pc.invert(pc.and_(pc.is_nan(back), pc.is_nan(values))))
    return pc.fill_null(differs, False)


def _rounded(texts: pa.Array, doubles: pa.Array) -> pa.Array:
    """True where the double is not the number that the text says, were it printed again."""
    mantissa = pc.replace_substring_regex(texts, "[eE].*$", "")
    digits = pc.utf8_trim(pc.replace_substring_regex(mantissa, "[^0-9]", ""), "0")
    zero = pc.equal(doubles, 0.0)
    normal = pc.and_(pc.is_finite(doubles), pc.greater(pc.abs(doubles), np.finfo(float).tiny))
    few = pc.less_equal(pc.utf8_length(digits), EXACT_DIGITS)
    exact = pc.or_(pc.and_(zero, pc.equal(digits, "")), pc.and_(normal, few))
    unsure = pc.indices_nonzero(pc.invert(pc.fill_null(exact, True)))
    pairs = zip(texts.take(unsure).to_pylist(), doubles.take(unsure).to_pylist(), strict=True)
    changed = [not _same_number(text, double) for text, double in pairs]
    return _marked(len(texts), unsure.filter(pa.array(changed, pa.bool_())))


def _same_number(text: str, double: float) -> bool:
    try:
        said = Decimal(text)
    except InvalidOperation:
        return False
    return said.is_nan() if math.isnan(double) else said == Decimal(repr(double))


def _refused(values: pa.Array, target: pa.DataType) -> pa.Array:
    """True where Arrow refuses to cast a value by itself."""
    if pa.types.is_integer(values.type) and pa.types.is_integer(target):
        there_and_back = values.cast(target, safe=False).cast(values.type, safe=False)
        return pc.fill_null(pc.not_equal(there_and_back, values), False)
    bad: list[int] = []
    _search(values, target, 0, len(values), bad)
    return _marked(len(values), pa.array(bad, pa.int64()))


def _marked(length: int, rows: pa.Array) -> pa.Array:
    return pc.is_in(pa.array(np.arange(length)), value_set=rows.cast(pa.int64()))


def _search(values: pa.Array, target: pa.DataType, start: int, stop: int, bad: list[int]) -> None:
    """By halves: Arrow's error does not tell which value it was."""
    try:
        values.slice(start, stop - start).cast(target, safe=True)
    except pa.ArrowException:
        if stop - start == 1:
            bad.append(start)
            return
        middle = (start + stop) // 2
        _search(values, target, start, middle, bad)
        _search(values, target, middle, stop, bad)
