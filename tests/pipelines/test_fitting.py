"""A value fits a type when it comes back from it unchanged; nothing is rounded or wrapped."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowtrail.pipelines.fitting import Kind, conversions, fit, kind_of

D = Decimal
INF = float("inf")
NOON = datetime(2024, 1, 31, 12)
MIDNIGHT = datetime(2024, 1, 31)
TEXT = pa.string()
UTC_TIMESTAMP = pa.timestamp("us", "UTC")
DECIMAL = pa.decimal128(22, 1)


@pytest.mark.parametrize(
    ("values", "source", "target", "fitting"),
    [
        ([1, None, 2**15, -(2**15)], pa.int64(), pa.int16(), [1, None, "misfit", -(2**15)]),
        ([-1, 2**63], pa.decimal128(20, 0), pa.int64(), [-1, "misfit"]),
        ([1.0, 2.5, 2.0**53, None], pa.float64(), pa.int64(), [1, "misfit", "misfit", None]),
        ([0.3, 0.1 + 0.2], pa.float64(), pa.decimal128(6, 2), [D("0.30"), "misfit"]),
        ([1e30, 12.34], pa.float64(), pa.decimal128(6, 2), ["misfit", D("12.34")]),
        ([float("nan"), 1.0], pa.float64(), pa.decimal128(6, 2), ["misfit", D("1.00")]),
        ([D("0.125"), D("1.500")], pa.decimal128(9, 3), pa.decimal128(6, 2), ["misfit", D("1.50")]),
        (["1", "x", None], pa.string(), pa.int64(), [1, "misfit", None]),
        ([2**53 + 1, None], pa.int64(), pa.int64(), [2**53 + 1, None]),
        ([0.1, 0.5, 1e300, None], pa.float64(), pa.float32(), ["misfit", 0.5, "misfit", None]),
        ([INF, -INF], pa.float64(), pa.float32(), [INF, -INF]),
        ([0, 1, 2, None], pa.int64(), pa.bool_(), [False, True, "misfit", None]),
        ([0.5, 1.0], pa.float64(), pa.bool_(), ["misfit", "misfit"]),
        ([True, None], pa.bool_(), pa.int16(), [1, None]),
        ([5, 10**10], pa.int64(), pa.decimal128(5, 2), [D("5.00"), "misfit"]),
        ([D("0.1"), D("1234567890123456789.1")], DECIMAL, pa.float64(), [0.1, "misfit"]),
        ([D("9007199254740993.0")], DECIMAL, pa.float64(), ["misfit"]),
        ([D("9007199254740992.0")], DECIMAL, pa.float64(), [2.0**53]),
        ([D("0.5"), D("0.1")], DECIMAL, pa.float32(), [0.5, "misfit"]),
        (["0.10", "1e400", "1e-400", "-0.0"], TEXT, pa.float64(), [0.1, *["misfit"] * 2, 0.0]),
        (["0.1234567890123456789", "5e-324"], TEXT, pa.float64(), ["misfit", 5e-324]),
        (["inf", "9007199254740993", "x", None], TEXT, pa.float64(), [INF, *["misfit"] * 2, None]),
        (["0x10", "07", "-3"], TEXT, pa.int64(), ["misfit", 7, -3]),
        (["1.5", "1.239"], TEXT, pa.decimal128(5, 2), [D("1.50"), "misfit"]),
        ([b"abc", None], pa.binary(), TEXT, ["misfit", None]),
        (["abc"], TEXT, pa.binary(), ["misfit"]),
        ([NOON, None], pa.timestamp("us", "Europe/Berlin"), pa.timestamp("us"), ["misfit", None]),
        ([NOON], pa.timestamp("us"), pa.timestamp("us", "UTC"), ["misfit"]),
        ([NOON], pa.timestamp("us"), pa.time64("us"), ["misfit"]),
        ([NOON, MIDNIGHT], pa.timestamp("us"), pa.date32(), ["misfit", MIDNIGHT.date()]),
        ([MIDNIGHT.date()], pa.date32(), pa.timestamp("us"), [MIDNIGHT]),
        ([1], pa.int64(), pa.timestamp("us"), ["misfit"]),
        ([1, None], pa.int64(), pa.date32(), ["misfit", None]),
        ([None, None], pa.null(), pa.date32(), [None, None]),
        (["1"], pa.large_string(), pa.int64(), [1]),
        ([[1]], pa.list_(pa.int32()), pa.int64(), ["misfit"]),
    ],
)
def test_misfits_are_marked_and_the_rest_is_exact(values, source, target, fitting) -> None:
    cast, misfits = fit(pa.array(values, source), target)
    assert cast.type.equals(target)
    together = [
        "misfit" if bad else value
        for value, bad in zip(cast.to_pylist(), misfits.to_pylist(), strict=True)
    ]
    assert together == fitting


EDGES = {
    Kind.BOOLEAN: pa.array([True, False]),
    Kind.INTEGER: pa.array([2**63 - 1, -(2**63), 2**53 + 1]),
    Kind.FLOAT: pa.array([0.1, 5e-324, 1.7e308, INF, float("nan"), -0.0]),
    Kind.DECIMAL: pa.array([D(10**37), D("0.1234567")], pa.decimal256(76, 20)),
    Kind.TEXT: pa.array(["", "x", "0x1", "\0"]),
    Kind.BLOB: pa.array([b"", b"\xff", b"four"]),
    Kind.DATE: pa.array([2**31 - 1, -(2**31)], pa.date32()),
    Kind.TIME: pa.array([1, 2**62], pa.time64("us")),
    Kind.TIMESTAMP: pa.array([1, 2**63 - 1, -(2**63)], pa.timestamp("us")),
    Kind.TIMESTAMPTZ: pa.array([1, 2**63 - 1, -(2**63)], UTC_TIMESTAMP),
}
NARROW = {
    Kind.BOOLEAN: pa.bool_(),
    Kind.INTEGER: pa.int8(),
    Kind.FLOAT: pa.float32(),
    Kind.DECIMAL: pa.decimal128(5, 2),
    Kind.TEXT: pa.string(),
    Kind.BLOB: pa.binary(3),
    Kind.DATE: pa.date32(),
    Kind.TIME: pa.time32("s"),
    Kind.TIMESTAMP: pa.timestamp("ns"),
    Kind.TIMESTAMPTZ: pa.timestamp("ns", "UTC"),
}


@pytest.mark.parametrize("one", Kind)
@pytest.mark.parametrize("other", Kind)
def test_which_kinds_stand_for_which(one: Kind, other: Kind) -> None:
    """With each value, with some, or with none: as the page of types says."""
    assert (kind_of(EDGES[one].type), kind_of(NARROW[other])) == (one, other)
    whole = conversions().get((one, other))
    wider = pa.concat_arrays([EDGES[one], pa.nulls(1, EDGES[one].type)])
    cast, misfits = fit(wider, NARROW[other])
    assert cast.null_count == misfits.true_count + 1
    if one is other is Kind.BOOLEAN:
        assert misfits.true_count == 0, "there is one type of them"
    elif whole is None:
        assert misfits.true_count == len(EDGES[one])
    elif whole:
        assert misfits.true_count == 0
    elif EDGES[one].type == NARROW[other]:
        assert cast.equals(wider)
    else:
        assert misfits.true_count > 0


def test_every_amount_in_cents_fits_from_a_double() -> None:
    cents = pa.array([number / 100 for number in range(-20_000, 20_000)], pa.float64())
    cast, misfits = fit(cents, pa.decimal128(10, 2))
    assert misfits.true_count == 0
    assert cast.to_pylist() == [D(number).scaleb(-2) for number in range(-20_000, 20_000)]


def test_a_float_that_is_no_number_fits_a_wider_and_a_narrower_one() -> None:
    values = pa.array([float("nan"), None], pa.float64())
    cast, misfits = fit(values, pa.float32())
    assert misfits.true_count == 0
    assert pc.is_nan(cast).to_pylist() == [True, None]


def test_an_instant_fits_in_any_zone() -> None:
    cast, misfits = fit(pa.array([NOON], pa.timestamp("us", "Europe/Berlin")), UTC_TIMESTAMP)
    assert misfits.true_count == 0
    assert cast.cast(pa.int64()).to_pylist() == pa.array([NOON]).cast(pa.int64()).to_pylist()


def test_a_category_is_what_its_values_are() -> None:
    cast, misfits = fit(pa.array(["1", "x", "1"]).dictionary_encode(), pa.int64())
    assert cast.to_pylist() == [1, None, 1]
    assert misfits.to_pylist() == [False, True, False]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats() | st.none()))
def test_every_double_comes_back_from_its_text(doubles: list[float | None]) -> None:
    values = pa.array(doubles, pa.float64())
    texts, _ = fit(values, pa.string())
    cast, misfits = fit(texts, pa.float64())
    assert misfits.true_count == 0
    assert repr(cast.to_pylist()) == repr(values.to_pylist())
