"""Casts of Arrow arrays in which single values may not fit."""

from __future__ import annotations

import pyarrow as pa


def cast_or_null(array: pa.Array, data_type: pa.DataType) -> pa.Array:
    """Each value cast safely, NULL where that fails; found by halving, so few casts for few."""
    try:
        return array.cast(data_type)
    except pa.ArrowInvalid:
        if len(array) == 1:
            return pa.nulls(1, data_type)
    middle = len(array) // 2
    return pa.concat_arrays(
        [
            cast_or_null(array.slice(0, middle), data_type),
            cast_or_null(array.slice(middle), data_type),
        ]
    )
