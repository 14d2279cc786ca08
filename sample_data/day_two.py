"""The sample shop's second day: ordinary changes, and three records that cannot be loaded."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rowtrail.sample_data import rows
from rowtrail.sample_data.generate import insert
from rowtrail.sample_data.rows import CLOSED, Row, time_text

MOVED_CUSTOMER = (17, 1_000_017)
"""The customer whose primary key changes: from, to."""
REENTERED_ORDER = 77
"""The order that is deleted and comes back under the same key."""
SHORT_LIVED_ORDER = 1_000_001
"""The order that is inserted and deleted on the same day."""
RESTLESS_ORDER = 78
"""The order that changes three times."""
HIDDEN_ORDER = 79
"""The order that becomes a test order, which the sample pipeline leaves out."""

_SEED = 20240601
_SPECIAL = 100  # customers and orders up to this number change only as told by name


@dataclass(frozen=True, kw_only=True)
class Poison:
    """A record that one UPDATE spoils, and the UPDATE by which a person mends it."""

    stream: str
    key: tuple[int, ...]
    stage: str  # where it fails
    story: str
    spoil: str
    mend: str


POISONS = (
    Poison(
        stream="order_lines",
        key=(23, 1),
        stage="extract",
        story="a quantity was typed as a word into an INTEGER column",
        spoil="UPDATE order_lines SET quantity = 'twelve' WHERE order_id = 23 AND line_no = 1",
        mend="UPDATE order_lines SET quantity = 12 WHERE order_id = 23 AND line_no = 1",
    ),
    Poison(
        stream="orders",
        key=(42,),
        stage="transform",
        story="a currency was mistyped, so that there is no rate for it",
        spoil="UPDATE orders SET currency = 'GBB', status = 'paid' WHERE order_id = 42",
        mend="UPDATE orders SET currency = 'GBP' WHERE order_id = 42",
    ),
    Poison(
        stream="orders",
        key=(64,),
        stage="validate",
        story="a decimal point slipped: in euros the total has too many digits for decimal(12,2)",
        spoil="UPDATE orders SET currency = 'XAU', total = 52500000, status = 'paid'"
        " WHERE order_id = 64",
        mend="UPDATE orders SET total = 5.25 WHERE order_id = 64",
    ),
)


@dataclass(frozen=True, kw_only=True)
class DayTwo:
    """How many rows the second day inserted, updated and deleted, in all tables together."""

    inserted: int
    updated: int
    deleted: int


def apply_day_two(path: str | Path) -> DayTwo:
    """Changes a shop of `create_shop`; each size always gets the same changes.

    About one row in fifty changes. Afterwards every record of `POISONS` is spoilt.
    """
    with closing(sqlite3.connect(path)) as shop, shop:
        day = _Day(shop)
        _change_customers(day)
        _change_products(day)
        _change_orders(day)
        _change_payments(day)
        _change_by_name(day)
        for poison in POISONS:
            day.update(poison.spoil)
        return DayTwo(**day.counts)


def mend(path: str | Path, poison: Poison) -> None:
    """Repairs one spoilt record as a person would; raises LookupError when it is not there."""
    with closing(sqlite3.connect(path)) as shop, shop:
        if shop.execute(poison.mend).rowcount != 1:
            raise LookupError(f"{path} has no row {poison.key} in {poison.stream} to mend")


def mend_all(path: str | Path) -> None:
    """Repairs every record of `POISONS`."""
    for poison in POISONS:
        mend(path, poison)


class _Day:
    """Makes changes on an open connection and counts them."""

    def __init__(self, shop: sqlite3.Connection) -> None:
        self.shop = shop
        self.rng = random.Random(_SEED)
        self.clock = CLOSED + timedelta(hours=8)
        self.counts = Counter(inserted=0, updated=0, deleted=0)

    def insert(self, table: str, made: Iterable[Row]) -> None:
        self.counts["inserted"] += insert(self.shop, table, made)

    def update(self, statement: str, values: Iterable[Row] = ((),)) -> None:
        self.counts["updated"] += self.shop.executemany(statement, values).rowcount

    def delete(self, statement: str, values: Iterable[Row]) -> None:
        self.counts["deleted"] += self.shop.executemany(statement, values).rowcount

    def now(self) -> str:
        """The time of the next change; no two changes share one."""
        self.clock += timedelta(seconds=7)
        return time_text(self.clock)

    def count(self, table: str) -> int:
        return int(self.shop.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def some(self, table: str, key: str, *, one_in: int) -> list[Row]:
        """One key in so many, at random and at least one, none of them a special one."""
        keys = [
            row
            for row in self.shop.execute(f"SELECT {key} FROM {table} ORDER BY {key}")
            if not (isinstance(row[0], int) and row[0] <= _SPECIAL)
        ]
        return self.rng.sample(keys, max(len(keys) // one_in, 1))


def _change_customers(day: _Day) -> None:
    last = day.count("customers")
    day.update(
        "UPDATE customers SET marketing = NOT coalesce(marketing, 0) WHERE customer_id = ?",
        day.some("customers", "customer_id", one_in=50),
    )
    gone = day.some("customers", "customer_id", one_in=200)
    day.delete("DELETE FROM customers WHERE customer_id = ?", gone)
    day.update("UPDATE orders SET customer_id = NULL WHERE customer_id = ?", gone)
    new = range(last + 1, last + 1 + last // 100)
    day.insert("customers", [rows.customer(day.rng, number, day.clock) for number in new])


def _change_products(day: _Day) -> None:
    last = day.count("products")
    day.update(
        "UPDATE products SET price = round(price * 1.1, 2), thumbnail = x'00ff' WHERE sku = ?",
        day.some("products", "sku", one_in=20),
    )
    gone = day.some("products", "sku", one_in=100)
    day.delete("DELETE FROM products WHERE sku = ?", gone)
    new = range(last + 1, last + 1 + max(last // 50, 1))
    day.insert("products", [rows.product(day.rng, number) for number in new])


def _change_orders(day: _Day) -> None:
    last, customers, products = day.count("orders"), day.count("customers"), day.count("products")
    day.update(
        "UPDATE orders SET status = 'shipped', note = NULL, updated_at = ? WHERE order_id = ?",
        [(day.now(), *key) for key in day.some("orders", "order_id", one_in=60)],
    )
    day.update(
        "UPDATE order_lines SET quantity = quantity + 1 WHERE order_id = ? AND line_no = 1",
        day.some("orders", "order_id", one_in=100),
    )
    gone = day.some("orders", "order_id", one_in=300)
    day.delete("DELETE FROM orders WHERE order_id = ?", gone)
    day.delete("DELETE FROM order_lines WHERE order_id = ?", gone)
    for order_id in range(last + 1, last + 1 + last // 200):
        day.now()
        lines = rows.order_lines(day.rng, order_id, products)
        day.insert("order_lines", lines)
        day.insert("orders", [rows.order(day.rng, order_id, customers, day.clock, lines)])


def _change_payments(day: _Day) -> None:
    day.update(
        "UPDATE payments SET paid_at = updated_at, method = 'card', updated_at = ?"
        " WHERE payment_id = ?",
        [(day.now(), *key) for key in day.some("payments", "payment_id", one_in=60)],
    )
    gone = day.some("payments", "payment_id", one_in=400)
    day.delete("DELETE FROM payments WHERE payment_id = ?", gone)
    for (order_id,) in day.some("orders", "order_id", one_in=200):
        day.now()
        amount = day.rng.randint(1, 50_000) / 100
        day.insert("payments", [rows.payment(day.rng, order_id, amount, day.clock)])


def _change_by_name(day: _Day) -> None:
    day.update("UPDATE customers SET customer_id = ? WHERE customer_id = ?", [MOVED_CUSTOMER[::-1]])
    day.update("UPDATE orders SET customer_id = ? WHERE customer_id = ?", [MOVED_CUSTOMER[::-1]])
    for status in ("new", "paid", "shipped"):
        statement = "UPDATE orders SET status = ?, updated_at = ? WHERE order_id = ?"
        day.update(statement, [(status, day.now(), RESTLESS_ORDER)])
    day.update(
        "UPDATE orders SET status = 'new' WHERE order_id ="
        " (SELECT max(order_id) FROM orders WHERE status = 'test')"
    )
    day.update("UPDATE orders SET status = 'test' WHERE order_id = ?", [(HIDDEN_ORDER,)])
    order = day.shop.execute(
        "SELECT * FROM orders WHERE order_id = ?", [REENTERED_ORDER]
    ).fetchone()
    day.delete("DELETE FROM orders WHERE order_id = ?", [(REENTERED_ORDER,)])
    day.insert("orders", [(*order[:-1], "entered again")])
    day.insert("orders", [(SHORT_LIVED_ORDER, *order[1:])])
    day.delete("DELETE FROM orders WHERE order_id = ?", [(SHORT_LIVED_ORDER,)])
