"""The generated shop: its size, its awkward values, and that it is the same each time."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from rowtrail.sample_data.generate import SMALLEST, create_shop
from tests.sample_shop.naive import dump


def test_a_shop_has_about_fifty_thousand_rows_in_a_private_file(tmp_path: Path) -> None:
    counts = create_shop(tmp_path / "shop.db")
    assert 48_000 < sum(counts.values()) < 52_000
    assert counts == {table: len(rows) for table, rows in dump(tmp_path / "shop.db").items()}
    assert stat.S_IMODE((tmp_path / "shop.db").stat().st_mode) == 0o600


def test_a_shop_is_the_same_each_time(tmp_path: Path, shop: Path) -> None:
    create_shop(tmp_path / "again.db", orders=SMALLEST)
    assert dump(tmp_path / "again.db") == dump(shop)


def test_a_shop_never_replaces_a_file(shop: Path) -> None:
    with pytest.raises(FileExistsError):
        create_shop(shop)


def test_a_shop_too_small_for_its_second_day_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"at least {SMALLEST}"):
        create_shop(tmp_path / "shop.db", orders=SMALLEST - 1)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 FROM customers WHERE name LIKE '%🛒%'",
        "SELECT 1 FROM customers WHERE name LIKE '%ë%'",
        "SELECT 1 FROM customers WHERE email IS NULL",
        "SELECT 1 FROM customers WHERE marketing IS NULL",
        "SELECT 1 FROM customers WHERE loyalty_points = 9007199254740993",
        "SELECT 1 FROM products WHERE thumbnail = x''",
        "SELECT 1 FROM products WHERE thumbnail IS NULL",
        "SELECT 1 FROM orders WHERE ordered_on = '0001-01-01'",
        "SELECT 1 FROM orders WHERE ordered_on = '9999-12-31'",
        "SELECT 1 FROM orders WHERE note = ''",
        "SELECT 1 FROM orders WHERE note IS NULL",
        "SELECT 1 FROM orders WHERE total < 0",
        "SELECT 1 FROM orders WHERE typeof(total) = 'integer'",
        "SELECT 1 FROM orders WHERE typeof(total) = 'real'",
        "SELECT 1 FROM orders WHERE status = 'test'",
        "SELECT 1 FROM payments WHERE paid_at IS NULL",
        "SELECT 1 FROM payments GROUP BY substr(updated_at, 1, 10) HAVING count(*) > 1",
        "SELECT 1 FROM sqlite_master WHERE name = 'order_lines' AND sql LIKE '%WITHOUT ROWID%'",
    ],
)
def test_a_shop_holds_awkward_values(shop: Path, query: str) -> None:
    with closing(sqlite3.connect(shop)) as connection:
        assert connection.execute(query).fetchone() is not None
