"""Single values of two databases: whether they are the same, and how they are written down."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowtrail.pipelines.values import are_equal, plain
from tests.connectors.builders import EDGE_VALUES

MOMENT = datetime(2024, 1, 2, 3, 4, 5, 600, tzinfo=UTC)
MILLIS, MICROS, NANOS = (pa.timestamp(unit, tz="UTC") for unit in ("ms", "us", "ns"))
PRICE, FINER = pa.decimal128(10, 2), pa.decimal128(12, 4)


def one(value: object, kind: pa.DataType) -> pa.Array:
    return pa.array([value], kind)


@pytest.mark.parametrize("name", EDGE_VALUES)
def test_a_value_equals_itself_alone(name: str) -> None:
    kind, values = EDGE_VALUES[name]
    for i, value in enumerate(values):
        for j, other in enumerate(values):
            assert are_equal(one(value, kind), one(other, kind)) == (i == j), (value, other)
        assert not are_equal(one(value, kind), one(None, kind))
        assert json.loads(json.dumps(plain(one(value, kind)[0]), allow_nan=False)) is not None
    assert are_equal(one(None, kind), one(None, pa.string()))
    assert plain(one(None, kind)[0]) is None


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        (one(5, pa.int16()), one(5, pa.int64()), True),
        (one(300, pa.int64()), one(44, pa.int8()), False),
        (one(2**64 - 1, pa.uint64()), one(Decimal(2**64 - 1), pa.decimal128(20, 0)), True),
        (one(2**63, pa.uint64()), one(-(2**63), pa.int64()), False),
        (
            one(Decimal("1.50"), PRICE),
            one(Decimal("1.5"), FINER),
            True,
        ),
        (
            one(Decimal("1.50"), PRICE),
            one(Decimal("1.5001"), FINER),
            False,
        ),
        (one(1.5, pa.float32()), one(1.5, pa.float64()), True),
        (one(float("nan"), pa.float32()), one(float("nan"), pa.float64()), True),
        (one(0.1, pa.float32()), one(0.1, pa.float64()), False),
        (one("x", pa.string()), one("x", pa.large_string()), True),
        (one("01", pa.string()), one(1, pa.int64()), False),
        (one("1", pa.string()), one(1, pa.int64()), True),
        (one("x", pa.string()), one(1, pa.int64()), False),
        (one(b"ab", pa.binary()), one(b"ab", pa.binary(2)), True),
        (
            one(MOMENT, MICROS),
            one(MOMENT, NANOS),
            True,
        ),
        (
            one(MOMENT, MICROS),
            one(MOMENT, MILLIS),
            False,
        ),
        (one(time(1, 2, 3), pa.time32("s")), one(time(1, 2, 3), pa.time64("us")), True),
        (
            one(MOMENT, MICROS),
            one(b"5", pa.binary()),
            False,
        ),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else str(value),
)
def test_values_of_two_types(first: pa.Array, second: pa.Array, equal: bool) -> None:
    assert are_equal(first, second) is equal
    assert are_equal(second, first) is equal


@given(number=st.integers(-(2**63), 2**63 - 1))
def test_any_integer_keeps_its_value(number: int) -> None:
    assert plain(one(number, pa.int64())[0]) == number
    assert are_equal(one(number, pa.int64()), one(Decimal(number), pa.decimal128(38, 0)))
    assert are_equal(one(number, pa.int64()), one(str(number), pa.string()))


def test_what_json_lacks_is_text() -> None:
    assert plain(one(float("inf"), pa.float64())[0]) == "inf"
    assert plain(one(b"\0\xff", pa.binary())[0]) == "\\x00ff"
    assert plain(one(Decimal("1.50"), PRICE)[0]) == "1.50"
    assert plain(one(True, pa.bool_())[0]) is True
