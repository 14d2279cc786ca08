"""The sample shop's rows, with the awkward values that production databases have.

Each function makes one row as SQLite is given it: decimals, dates and times as text, which the
declared types of `shop.sql` then store as integers, reals or text.
"""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

Row = tuple[Any, ...]
Line = tuple[int, int, str, int, str]
"""(order_id, line_no, sku, quantity, unit_price)"""

OPENED = datetime(2024, 1, 1, 8)
CLOSED = datetime(2024, 6, 1)
"""The end of the first day's data: everything in it was last changed in [OPENED, CLOSED)."""

_NAMES = (
    "Zoë Müller",
    "Zoe\u0308 Mu\u0308ller",  # the same in decomposed form: another text
    "José Ibáñez",
    "Łukasz Wójcik",
    "Søren Ångström",
    "Anaïs Lefèvre",
    "Siobhán O'Neill",
    "Nguyễn Thị Ngọc",
    "李小龍",
    "محمد علي",
    "Ada \N{SHOPPING TROLLEY} Lovelace",
    "The Smiths \N{FAMILY}\N{WAVING WHITE FLAG}",
    'Robert "Bobby" Tables; --',
    " spaces around ",
)
_CURRENCIES = ("EUR",) * 12 + ("USD",) * 3 + ("GBP", "GBP", "CHF", "SEK", "JPY")
_STATUSES = ("new",) * 15 + ("paid",) * 25 + ("shipped",) * 55 + ("returned",) * 4 + ("test",)
_NOTES = (
    *(None,) * 12,
    "",  # not the same as NULL
    "leave at the door",
    'gift \N{WRAPPED PRESENT}: "Alles Gute!"',
    "first line\nsecond line\t(tab)",
    "NULL",
    "42",
)
_THUMBNAILS = (None, b"", b"\x89PNG\r\n\x1a\n\x00\xff")
# Integers that a double does not hold, and the ends of what 64 bits hold.
_POINTS = {1: 2**53 + 1, 2: 2**63 - 1, 3: -(2**63), 4: -1}
_DATES = {7: date.min, 8: date.max, 9: date(1582, 10, 10), 10: date(2024, 2, 29)}
_TOTALS = {7: Decimal("99999999.99"), 8: Decimal("-99999999.99"), 9: Decimal("0.00")}


def sku(number: int) -> str:
    return f"SKU-{number:05d}"


def customer(rng: random.Random, customer_id: int, moment: datetime) -> Row:
    return (
        customer_id,
        None if rng.random() < 0.05 else f"customer{customer_id}@example.com",
        rng.choice(_NAMES),
        rng.choice((True, False, None)),
        _POINTS.get(customer_id, rng.randrange(5_000)),
        time_text(moment),
    )


def product(rng: random.Random, number: int) -> Row:
    return (
        sku(number),
        f"Thing № {number}",
        str(_price(rng)),
        None if rng.random() < 0.1 else rng.random() * 20,
        rng.choice((*_THUMBNAILS, rng.randbytes(24))),
    )


def order_lines(rng: random.Random, order_id: int, products: int) -> list[Line]:
    """One to three lines with products numbered up to `products`."""
    return [
        (
            order_id,
            line_no,
            sku(rng.randint(1, products)),
            rng.randint(1, 5),
            str(_price(rng)),
        )
        for line_no in range(1, rng.randint(1, 3) + 1)
    ]


def order(
    rng: random.Random, order_id: int, customers: int, moment: datetime, lines: list[Line]
) -> Row:
    """An order of one of the customers up to `customers`, with the total of its lines."""
    total = sum((quantity * Decimal(price) for *_, quantity, price in lines), Decimal(0))
    return (
        order_id,
        None if rng.random() < 0.02 else rng.randint(1, customers),
        rng.choice(_STATUSES),
        rng.choice(_CURRENCIES),
        str(_TOTALS.get(order_id, total)),
        _DATES.get(order_id, moment.date()).isoformat(),
        time_text(moment),
        rng.choice(_NOTES),
    )


def payment(rng: random.Random, order_id: int, amount: str | float, moment: datetime) -> Row:
    """A payment that is open in one case of five; times of payment have milliseconds."""
    paid = moment + timedelta(milliseconds=rng.randrange(86_400_000))
    return (
        str(UUID(int=rng.getrandbits(128), version=4)),
        order_id,
        rng.choice(("card", "transfer", "wallet")),
        amount,
        None if rng.random() < 0.2 else paid.isoformat(" ", "milliseconds"),
        time_text(moment),
    )


def moment(rng: random.Random) -> datetime:
    """A whole minute of the first day's data, so that many rows share one."""
    minutes = int((CLOSED - OPENED) / timedelta(minutes=1))
    return OPENED + timedelta(minutes=rng.randrange(minutes))


def time_text(value: datetime) -> str:
    return value.isoformat(" ", "seconds")


def _price(rng: random.Random) -> Decimal:
    return Decimal(rng.randint(49, 19_999)).scaleb(-2)
