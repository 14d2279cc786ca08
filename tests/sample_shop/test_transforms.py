"""The sample transforms: exact, and functions of each row alone."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa

from rowtrail.sample_data.transforms import add_total_eur, drop_test_orders
from tests.sample_shop.naive import frame


def test_totals_in_euros_are_exact_decimals(shop: Path) -> None:
    orders = (
        frame(shop)
        .iloc[:4]
        .assign(
            total=pd.Series(
                [Decimal("99999999.99"), Decimal("-0.01"), Decimal("3.00"), None],
                dtype=pd.ArrowDtype(pa.decimal128(10, 2)),
            ),
            currency=pd.Series(["USD", "GBP", "EUR", "EUR"], dtype=pd.ArrowDtype(pa.string())),
        )
    )
    given = orders.copy()
    result = pa.array(add_total_eur(orders)["total_eur"]).cast(pa.decimal128(12, 2))
    assert result.to_pylist() == [Decimal("92165899.99"), Decimal("-0.01"), Decimal("3.00"), None]
    pd.testing.assert_frame_equal(orders, given)


def test_the_transforms_see_each_row_alone(shop: Path) -> None:
    orders = frame(shop)
    whole = add_total_eur(drop_test_orders(orders))
    parts = [
        add_total_eur(drop_test_orders(part))
        for part in (orders.iloc[:0], orders.iloc[:7], orders.iloc[7:])
    ]
    pd.testing.assert_frame_equal(whole, pd.concat(parts))
    assert 0 < len(whole) < len(orders)
