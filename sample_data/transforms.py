"""The sample pipeline's transforms: functions of each row, on whole DataFrames of Arrow types."""

from __future__ import annotations

from decimal import Decimal

import pandas as pd
import pyarrow as pa

from rowtrail import transform

# Euros for one unit, by ISO 4217 code; XAU is a troy ounce of gold.
_RATES = pd.Series(
    {
        "EUR": Decimal("1"),
        "USD": Decimal("0.921659"),
        "GBP": Decimal("1.165230"),
        "CHF": Decimal("1.044714"),
        "SEK": Decimal("0.087351"),
        "JPY": Decimal("0.006107"),
        "XAU": Decimal("2310.550000"),
    },
    dtype=pd.ArrowDtype(pa.decimal128(10, 6)),
)


class UnknownCurrencyError(LookupError):
    """An order is in a currency that has no rate."""


@transform
def drop_test_orders(orders: pd.DataFrame) -> pd.DataFrame:
    """Leaves out what the shop's own staff ordered to try the checkout."""
    return orders[orders["status"].ne("test").fillna(True)]


@transform(adds={"total_eur": "decimal(12,2)"})
def add_total_eur(orders: pd.DataFrame) -> pd.DataFrame:
    """The order's total in euros, in exact decimals, rounded half to even as banks do.

    Raises UnknownCurrencyError, which names the currencies without a rate.
    """
    rates = orders["currency"].map(_RATES)
    if rates.isna().any():
        unknown = ", ".join(sorted(map(str, orders.loc[rates.isna(), "currency"].unique())))
        raise UnknownCurrencyError(f"there is no rate from {unknown} to EUR")
    return orders.assign(total_eur=(orders["total"] * rates).round(2))
