"""A value fits a type when it comes back from it unchanged; nothing is rounded or wrapped."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from rowtrail.pipelines.fitting import fit

D = Decimal


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


def test_every_amount_in_cents_fits_from_a_double() -> None:
    cents = pa.array([number / 100 for number in range(-20_000, 20_000)], pa.float64())
    cast, misfits = fit(cents, pa.decimal128(10, 2))
    assert misfits.true_count == 0
    assert cast.to_pylist() == [D(number).scaleb(-2) for number in range(-20_000, 20_000)]
