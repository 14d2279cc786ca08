"""The DataFrames that Great Expectations is given: what it decides on them holds for the rows.

Columns are of ArrowDtype, so that integers beside NULL stay what they are and NaN is not NULL.
Decimals are the exception. Great Expectations has every bound as a double, and Python says that
Decimal('0.1') is less than the double 0.1. So a column whose decimals all come back from a double
(15 digits do) is given as doubles, whose order and equality are theirs.

Great Expectations compares two columns without expecting pd.NA. Where one has
NULL, both are given as Python objects, with what pandas has for a missing value of their kind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rowtrail.pipelines.fitting import fit

if TYPE_CHECKING:
    import pandas as pd


def frame_of(
    rows: pa.RecordBatch, compared: Collection[str] = ()
) -> tuple[pd.DataFrame, frozenset[str]]:
    """The rows, numbered from 0, and the names of columns that had to stay decimals.

    `compared`: columns that are held against each other.
    """
    import pandas as pd

    columns, exact = [], set()
    for field, values in zip(rows.schema, rows.columns, strict=True):
        column = values
        if pa.types.is_decimal(field.type):
            doubles, misfits = fit(values, pa.float64())
            if misfits.true_count:
                exact.add(field.name)
            else:
                column = doubles
        columns.append(column)
    table = pa.Table.from_arrays(columns, names=rows.schema.names)
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    if any(rows.column(name).null_count for name in compared):
        for name in compared:
            frame[name] = _objects(table.column(name))
    return frame, frozenset(exact)


def _objects(values: pa.ChunkedArray) -> pd.Series:
    import pandas as pd

    missing: object = None
    if pa.types.is_date(values.type) or pa.types.is_timestamp(values.type):
        missing = pd.NaT
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        missing = float("nan")
    objects = [missing if one is None else one for one in values.to_pylist()]
    return pd.Series(objects, dtype=object)


def rounded_bound(kwargs: Mapping[str, Any]) -> float | None:
    """A number among the arguments that a double has no exact place for, such as 0.1; else None."""
    for value in kwargs.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, float) and Decimal(one) != Decimal(repr(one)):
                return one
    return None
