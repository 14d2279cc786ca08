"""Casts columns to declared types without changing the meaning of any value."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

EXACT_FLOAT = 2**53
"""Beyond it a double no longer stands for one integer, so it cannot be taken back to one."""


def fit(values: pa.Array, target: pa.DataType) -> tuple[pa.Array, pa.Array]:
    """`values` as `target`, and a bool array that is true where a value does not fit.

    Misfits are NULL in the first array. A value fits when taking it to the target type and back
    gives the same value: nothing is rounded, truncated or wrapped.
    """
    if values.type.equals(target):
        return values, _none(values)
    try:
        cast = values.cast(target, safe=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        misfits = _misfits(values, target)
        blanked = pc.if_else(misfits, pa.scalar(None, values.type), values)
        return blanked.cast(target, safe=True), misfits
    misfits = _changed(values, cast)
    return pc.if_else(misfits, pa.scalar(None, target), cast), misfits


def _none(values: pa.Array) -> pa.Array:
    return pa.repeat(pa.scalar(False), len(values))


def _changed(values: pa.Array, cast: pa.Array) -> pa.Array:
    """Where a cast that Arrow calls safe still lost something: doubles to decimals or integers."""
    if not pa.types.is_floating(values.type):
        return _none(values)
    if pa.types.is_integer(cast.type):
        return pc.fill_null(pc.greater_equal(pc.abs(values), float(EXACT_FLOAT)), False)
    if pa.types.is_decimal(cast.type):
        # By way of text: Arrow's own cast from decimal to double is not correctly rounded.
        back = cast.cast(pa.string()).cast(pa.float64())
        changed = pc.not_equal(back, values.cast(pa.float64()))
        return pc.and_(values.is_valid(), pc.fill_null(changed, True))
    return _none(values)


def _misfits(values: pa.Array, target: pa.DataType) -> pa.Array:
    """True where a value alone cannot be cast."""
    if pa.types.is_integer(values.type) and pa.types.is_integer(target):
        there_and_back = values.cast(target, safe=False).cast(values.type, safe=False)
        return pc.fill_null(pc.not_equal(there_and_back, values), False)
    bad: list[int] = []
    _search(values, target, 0, len(values), bad)
    return pc.is_in(pa.array(np.arange(len(values))), value_set=pa.array(bad, type=pa.int64()))


def _search(values: pa.Array, target: pa.DataType, start: int, stop: int, bad: list[int]) -> None:
    """By halves: Arrow's error does not tell which value it was."""
    part = values.slice(start, stop - start)
    try:
        cast = part.cast(target, safe=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        if stop - start == 1:
            bad.append(start)
            return
        middle = (start + stop) // 2
        _search(values, target, start, middle, bad)
        _search(values, target, middle, stop, bad)
        return
    changed = _changed(part, cast)
    bad.extend(start + index for index in pc.indices_nonzero(changed).to_pylist())
