"""Values that a person wrote, beside a column of some Arrow type: compared without any rounding.

Numbers of a column with a scale, dates and moments are compared as the integers that they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.pipelines.fitting import Kind, kind_of

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ORDERED = {
    Kind.INTEGER: "a whole number",
    Kind.FLOAT: "a number",
    Kind.DECIMAL: "a number",
    Kind.TEXT: "text",
    Kind.DATE: "a date",
    Kind.TIME: "a time",
    Kind.TIMESTAMP: "a timestamp without zone",
    Kind.TIMESTAMPTZ: "a timestamp with its zone, such as 2026-01-01T00:00:00Z",
}


def outside(values_type: pa.DataType, bound: Any, *, low: bool) -> Callable[[pa.Array], pa.Array]:
    """A function of a column of this type: true where a value is below `bound` (`low`), else above.

    NULL is not outside; NaN is. Raises ValueError for a bound that is no value of the type's kind.
    """
    kind = kind_of(values_type)
    if kind is Kind.BOOLEAN or kind not in _ORDERED:
        raise ValueError("its values have no order that a bound could be written for")
    if kind is Kind.FLOAT:
        number = _exact(kind, bound)
        if math.isnan(number):
            raise ValueError("nothing is above or below NaN")
        return _outside_float(number, values_type, low=low)
    if kind is Kind.TEXT:
        if not isinstance(bound, str):
            raise ValueError(_no_value(kind, bound))
        limit = pa.scalar(bound, values_type)
        compare = pc.less if low else pc.greater
        return lambda values: pc.fill_null(compare(values, limit), False)
    exact = _exact(kind, bound) * _units(values_type)
    whole = math.ceil(exact) if low else math.floor(exact)
    return _outside_whole(whole, values_type, low=low)


def members(values_type: pa.DataType, given: Sequence[Any]) -> Callable[[pa.Array], pa.Array]:
    """A function of a column of this type: true where a value is one of these. NULL is not.

    Raises ValueError for one that no value of the type can be equal to.
    """
    kind = kind_of(values_type)
    if kind is Kind.BOOLEAN:
        if not all(isinstance(one, bool) for one in given):
            raise ValueError("the column has true and false alone")
        known = pa.array(given, pa.bool_())
    elif kind is Kind.TEXT:
        for one in given:
            if not isinstance(one, str):
                raise ValueError(_no_value(kind, one))
        known = pa.array(given, values_type)
    elif kind is Kind.FLOAT:
        known = _no_minus_zero(_rounded([_exact(kind, one) for one in given], values_type))
        return lambda values: pc.is_in(_no_minus_zero(values), value_set=known)
    elif kind in _ORDERED:
        known = pa.array(
            [_whole(kind, one, values_type) for one in given], _whole_type(values_type)
        )
        return lambda values: pc.is_in(_as_whole(values), value_set=known)
    else:
        raise ValueError("its values cannot be written in the pipeline file")
    return lambda values: pc.is_in(values, value_set=known)


def repeated(values: pa.Array, keys: pa.RecordBatch | None = None) -> pa.Array:
    """True where a value is there more than once. NULL is not; NaN is equal to NaN, -0.0 to 0.0.

    With `keys`, of the rows' records, where several records have it: one may have several rows.
    """
    if pa.types.is_floating(values.type):
        values = _no_minus_zero(values)
    codes = values.dictionary_encode().indices
    there = codes.drop_null().to_numpy()
    if keys is not None and len(there):
        records = np.stack([one.dictionary_encode().indices.to_numpy() for one in keys.columns])
        each = np.vstack([there, records[:, codes.is_valid().to_numpy(zero_copy_only=False)]])
        there = np.unique(each, axis=1)[0]
    twice = pa.array(np.bincount(there, minlength=1) > 1)
    return pc.fill_null(twice.take(codes), False)


def can_be_repeated(values_type: pa.DataType) -> bool:
    """Whether Arrow tells equal values of this type apart from others."""
    try:
        pa.array([], values_type).dictionary_encode()
    except pa.ArrowException:
        return False
    return True


def _outside_float(
    number: float, values_type: pa.DataType, *, low: bool
) -> Callable[[pa.Array], pa.Array]:
    bound = _rounded([number], values_type)[0]
    compare = pc.less if low else pc.greater

    def mask(values: pa.Array) -> pa.Array:
        return pc.fill_null(pc.or_(compare(values, bound), pc.is_nan(values)), False)

    return mask


def _outside_whole(
    whole: int, values_type: pa.DataType, *, low: bool
) -> Callable[[pa.Array], pa.Array]:
    try:
        limit = pa.scalar(_scaled(whole, values_type), _whole_type(values_type))
    except (pa.ArrowException, OverflowError):
        # No value of the type is so large: all are on one side of it.
        every = (whole > 0) == low
        return lambda values: values.is_valid() if every else pa.array(np.zeros(len(values), bool))
    compare = pc.less if low else pc.greater
    return lambda values: pc.fill_null(compare(_as_whole(values), limit), False)


def _rounded(numbers: Sequence[float], values_type: pa.DataType) -> pa.Array:
    """As a column of this width has them: 0.1 is the 0.1 of a float32."""
    with np.errstate(over="ignore"):
        return pa.array(np.array(numbers, values_type.to_pandas_dtype()))


def _whole(kind: Kind, given: Any, values_type: pa.DataType) -> int | Decimal:
    exact = _exact(kind, given) * _units(values_type)
    try:
        if exact.denominator != 1:
            raise ValueError
        whole = _scaled(exact.numerator, values_type)
        pa.scalar(whole, _whole_type(values_type))
    except (ValueError, OverflowError, pa.ArrowException):
        raise ValueError(f"no value of the column can be {given}") from None
    return whole


def _whole_type(values_type: pa.DataType) -> pa.DataType:
    """The type in which values are compared: that of integers, but for decimals."""
    kind = kind_of(values_type)
    if kind in (Kind.INTEGER, Kind.DECIMAL):
        return values_type
    return pa.int32() if values_type.bit_width == 32 else pa.int64()


def _as_whole(values: pa.Array) -> pa.Array:
    target = _whole_type(values.type)
    return values if values.type.equals(target) else values.cast(target)


def _scaled(whole: int, values_type: pa.DataType) -> int | Decimal:
    """So many of the smallest steps of the type, as a value of `_whole_type`."""
    if kind_of(values_type) is not Kind.DECIMAL:
        return whole
    sign, digits = int(whole < 0), tuple(map(int, str(abs(whole))))
    return Decimal((sign, digits, -values_type.scale))


def _units(values_type: pa.DataType) -> Fraction:
    """Of the type's smallest steps, how many are in 1: of a moment in a second, of a date in a
    day."""
    kind = kind_of(values_type)
    if kind is Kind.DECIMAL:
        return Fraction(Decimal(1).scaleb(values_type.scale))
    if kind in (Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ):
        return Fraction(_PER_SECOND[values_type.unit])
    return Fraction(86_400_000) if pa.types.is_date64(values_type) else Fraction(1)


def _exact(kind: Kind, given: Any) -> Any:
    """What was written, as a Fraction (seconds, days); of floats as a float. Raises ValueError."""
    try:
        found = _READERS[kind](given)
    except (TypeError, ValueError, InvalidOperation, OverflowError):
        found = None
    if found is None:
        raise ValueError(_no_value(kind, given))
    return found


def _number(given: Any) -> Fraction | None:
    """Of a float the number that is written, not the one that the double is."""
    if isinstance(given, bool) or not isinstance(given, int | float | Decimal | str):
        return None
    return Fraction(Decimal(str(given)))


def _integer(given: Any) -> Fraction | None:
    return None if isinstance(given, str) else _number(given)


def _float(given: Any) -> float | None:
    if isinstance(given, bool) or not isinstance(given, int | float | Decimal):
        return None
    return float(given)


def _date(given: Any) -> Fraction | None:
    given = date.fromisoformat(given) if isinstance(given, str) else given
    if isinstance(given, datetime) or not isinstance(given, date):
        return None
    return Fraction((given - _EPOCH.date()).days)


def _time(given: Any) -> Fraction | None:
    given = time.fromisoformat(given) if isinstance(given, str) else given
    if not isinstance(given, time) or given.tzinfo is not None:
        return None
    seconds = (given.hour * 60 + given.minute) * 60 + given.second
    return Fraction(seconds) + Fraction(given.microsecond, 10**6)


def _local_moment(given: Any) -> Fraction | None:
    given = datetime.fromisoformat(given) if isinstance(given, str) else given
    if isinstance(given, date) and not isinstance(given, datetime):
        given = datetime(given.year, given.month, given.day)
    if not isinstance(given, datetime) or given.tzinfo is not None:
        return None
    return _seconds(given.replace(tzinfo=UTC))


def _moment(given: Any) -> Fraction | None:
    given = datetime.fromisoformat(given) if isinstance(given, str) else given
    if not isinstance(given, datetime) or given.tzinfo is None:
        return None
    return _seconds(given)


def _seconds(moment: datetime) -> Fraction:
    span = moment - _EPOCH
    return Fraction(span.days * 86_400 + span.seconds) + Fraction(span.microseconds, 10**6)


_READERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.INTEGER: _integer,
    Kind.FLOAT: _float,
    Kind.DECIMAL: _number,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.TIMESTAMP: _local_moment,
    Kind.TIMESTAMPTZ: _moment,
}


def _no_minus_zero(values: pa.Array) -> pa.Array:
    """Arrow tells -0.0 from 0.0 where it compares by hash."""
    return pc.add(values, pa.scalar(0.0, values.type))


def _no_value(kind: Kind, given: Any) -> str:
    return f"{given!r} is not {_ORDERED[kind]}"
