"""A record that is held back is found by its key as it is, never by one that looks like it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.pipelines.record_keys import fitting, key_batch

DAY = date(2024, 1, 31)
NOON = datetime(2024, 1, 31, 12)
INSTANT = pa.timestamp("us", "UTC")


def ids(*keys: object) -> list[RecordId]:
    return [RecordId("orders", key if isinstance(key, tuple) else (key,)) for key in keys]


def one_column(data_type: pa.DataType) -> pa.Schema:
    return pa.schema([("id", data_type)])


@pytest.mark.parametrize(
    ("data_type", "fits", "others"),
    [
        (pa.string(), ["abc", ""], [b"abc", 1, None, DAY]),
        (pa.binary(), [b"abc"], ["abc", 1]),
        (pa.int64(), [1, -(2**63)], [True, "1", 1.0, Decimal(1), 2**63, None]),
        (pa.bool_(), [True], [1, "true"]),
        (pa.float64(), [1.5, float("nan")], [1, Decimal("1.5"), "1.5"]),
        (pa.decimal128(6, 2), [Decimal("1.5"), Decimal("1.50")], [1, 1.5, Decimal("1.234")]),
        (pa.date32(), [DAY], [19753, NOON, "2024-01-31"]),
        (pa.timestamp("us"), [NOON], [DAY, 1706702400000000, NOON.replace(tzinfo=UTC)]),
        (INSTANT, [NOON.replace(tzinfo=UTC)], [NOON, 1706702400000000]),
    ],
)
def test_a_key_fits_only_as_the_type_that_it_is(data_type, fits, others) -> None:
    mixed = ids(*others[:1], *fits, *others[1:])
    assert fitting(mixed, one_column(data_type)) == list(range(1, 1 + len(fits)))
    assert len(key_batch(ids(*fits), one_column(data_type))) == len(fits)
    for other in others:
        with pytest.raises(ValueError, match="does not fit"):
            key_batch(ids(*fits, other), one_column(data_type))


def test_a_key_fits_with_all_its_parts() -> None:
    fields = pa.schema([("a", pa.int64()), ("b", pa.string())])
    found = ids((1, "x"), (1, None), (1,), (1, "x", "y"), ("1", "x"), (2, "y"))
    assert fitting(found, fields) == [0, 5]
    assert key_batch([found[0], found[5]], fields).to_pydict() == {"a": [1, 2], "b": ["x", "y"]}


def test_no_keys_are_no_rows() -> None:
    assert fitting([], one_column(pa.int64())) == []
    assert key_batch([], one_column(pa.int64())).schema == one_column(pa.int64())
