"""Makes the sample shop, as a SQLite file."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from rowtrail.sample_data import rows
from rowtrail.sample_data.rows import Line, Row

SMALLEST = 600
"""A shop of fewer orders has no room for the second day of changes."""

_SEED = 20240229
_SCHEMA = Path(__file__).with_name("shop.sql")


def create_shop(path: str | Path, *, orders: int = 12_000) -> dict[str, int]:
    """Makes the shop in a new file (mode 600); returns the number of rows of each table.

    `orders` sets the size: the default gives about 50,000 rows in all. The same size gives the same
    rows everywhere. Raises FileExistsError when the file is there, ValueError below `SMALLEST`.
    """
    if orders < SMALLEST:
        raise ValueError(f"a shop has at least {SMALLEST} orders, not {orders}")
    path = Path(path)
    path.touch(mode=0o600, exist_ok=False)
    with closing(sqlite3.connect(path)) as shop:
        shop.executescript(_SCHEMA.read_text(encoding="utf-8"))
        with shop:
            return {table: insert(shop, table, made) for table, made in _day_one(orders).items()}


def insert(shop: sqlite3.Connection, table: str, made: Iterable[Row]) -> int:
    """Inserts rows that have every column of the table, in order; returns their number."""
    columns = shop.execute("SELECT count(*) FROM pragma_table_info(?)", [table]).fetchone()[0]
    marks = ", ".join("?" * columns)
    return shop.executemany(f"INSERT INTO {table} VALUES ({marks})", made).rowcount


def _day_one(size: int) -> dict[str, Sequence[Row]]:
    rng = random.Random(_SEED)
    customers, products = size // 3, size // 15
    orders: list[Row] = []
    order_lines: list[Line] = []
    payments: list[Row] = []
    for order_id in range(1, size + 1):
        moment = rows.moment(rng)
        lines = rows.order_lines(rng, order_id, products)
        order = rows.order(rng, order_id, customers, moment, lines)
        orders.append(order)
        order_lines += lines
        if rng.random() < 0.83:
            payments.append(rows.payment(rng, order_id, order[4], moment))
    return {
        "customers": [rows.customer(rng, i, rows.moment(rng)) for i in range(1, customers + 1)],
        "products": [rows.product(rng, i) for i in range(1, products + 1)],
        "orders": orders,
        "order_lines": order_lines,
        "payments": payments,
    }
