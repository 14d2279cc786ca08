"""What the types of columns have in common, whatever the warehouse."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.errors import ConfigurationError, RecordError
from rowtrail.connectors.schema import Column

Range = tuple[int, int]

EXACT_INTEGERS = {4: 2**24, 8: 2**53}
"""By the bytes of a float: up to here it skips no integer."""


def checked_type(table: str, column: Column, name: str | None, database: str) -> str:
    """`name`, the database's type for a column; raises ConfigurationError where there is none."""
    if name is None:
        declared = f" (declared as {column.declared})" if column.declared else ""
        raise ConfigurationError(
            f"Column {column.name} of table {table} has the type {column.type}{declared}, which "
            f"{database} cannot hold without loss. Give the column another type under `types` of "
            f"the stream, or leave it out with `exclude`."
        )
    return name


def decimal_size(arrow: pa.DataType) -> Range | None:
    """Digits and scale of a decimal that databases hold; None for one of another shape."""
    fits = arrow.precision <= 38 and 0 <= arrow.scale <= arrow.precision
    return (arrow.precision, arrow.scale) if fits else None


def decimal_takes(have: Range, want: Range) -> bool:
    """Whether digits and scale `have` hold every decimal of `want`."""
    return have[1] >= want[1] and have[0] - have[1] >= want[0] - want[1]


def decimal_takes_integers(have: Range, low: int, high: int) -> bool:
    return bool(max(-low, high) < 10 ** (have[0] - have[1]))


def check_ranges(
    table: str,
    rows: pa.RecordBatch,
    range_of: Callable[[pa.DataType], Range | None],
    name_of: Callable[[pa.DataType], str | None],
    database: str,
) -> None:
    """Raises RecordError, with the column, for a date or time outside what the database holds.

    `range_of` gives the least and the greatest number of a type of 32 or 64 bits.
    """
    for column, field in zip(rows.columns, rows.schema, strict=True):
        limits = range_of(field.type)
        if limits is None:
            continue
        numbers = column.view(pa.int32() if field.type.bit_width == 32 else pa.int64())
        ends = pc.min_max(numbers).as_py()
        if ends["min"] is not None and (ends["min"] < limits[0] or ends["max"] > limits[1]):
            raise RecordError(
                f"Column {field.name} of table {table} has a value outside the range of "
                f"{database}'s {name_of(field.type)}. Correct it at the source or in a transform.",
                column=field.name,
            )
