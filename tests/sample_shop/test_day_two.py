"""The second day: what it says it changed, its special cases and its poison records."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from rowtrail.sample_data import day_two
from rowtrail.sample_data.day_two import POISONS, apply_day_two, mend, mend_all
from rowtrail.sample_data.generate import SMALLEST, create_shop
from rowtrail.sample_data.transforms import UnknownCurrencyError, add_total_eur
from tests.sample_shop.naive import TABLES, dump, frame


def test_the_second_day_changes_what_it_says(tmp_path: Path, shop: Path) -> None:
    path = tmp_path / "shop.db"
    shutil.copy(shop, path)
    day = apply_day_two(path)
    before, after = dump(shop), dump(path)
    inserted = sum(len(after[table].keys() - before[table].keys()) for table in TABLES)
    deleted = sum(len(before[table].keys() - after[table].keys()) for table in TABLES)
    updated = sum(
        before[table][key] != after[table][key]
        for table in TABLES
        for key in before[table].keys() & after[table].keys()
    )
    # The moved customer, the short-lived order and the re-entered one are counted otherwise here.
    assert (inserted, deleted) == (day.inserted - 2 + 1, day.deleted - 2 + 1)
    assert 0 < updated <= day.updated
    for table in TABLES:
        assert before[table] != after[table]


def test_the_second_day_is_the_same_each_time(tmp_path: Path, second_day: Path) -> None:
    create_shop(tmp_path / "shop.db", orders=SMALLEST)
    apply_day_two(tmp_path / "shop.db")
    assert dump(tmp_path / "shop.db") == dump(second_day)


def test_the_second_day_has_its_special_cases(shop: Path, second_day: Path) -> None:
    before, after = dump(shop), dump(second_day)
    old, new = day_two.MOVED_CUSTOMER
    assert before["customers"][old,][1:] == after["customers"][new,][1:]
    assert (old,) not in after["customers"]
    assert after["orders"][day_two.REENTERED_ORDER,][-1] == "entered again"
    assert (day_two.SHORT_LIVED_ORDER,) not in after["orders"]
    assert after["orders"][day_two.HIDDEN_ORDER,][2] == "test"
    shown = [key for key, row in before["orders"].items() if row[2] == "test"]
    assert any(after["orders"][key][2] == "new" for key in shown)


def test_payments_change_after_all_that_a_cursor_has_seen(shop: Path, second_day: Path) -> None:
    before, after = dump(shop)["payments"], dump(second_day)["payments"]
    last = max(row[-1] for row in before.values())
    changed = [row for key, row in after.items() if before.get(key) != row]
    assert changed
    assert all(row[-1] > last for row in changed)


def test_each_poison_is_spoilt_in_its_own_way(second_day: Path) -> None:
    after = dump(second_day)
    line, mistyped, slipped = POISONS
    assert (line.stage, mistyped.stage, slipped.stage) == ("extract", "transform", "validate")
    assert after["order_lines"][line.key][3] == "twelve"
    orders = pd.DataFrame(frame(second_day))
    with pytest.raises(UnknownCurrencyError, match="from GBB to EUR"):
        add_total_eur(orders[orders["order_id"] == mistyped.key[0]])
    result = add_total_eur(orders[orders["order_id"] == slipped.key[0]])
    with pytest.raises(pa.ArrowInvalid, match="precision"):
        pa.array(result["total_eur"]).cast(pa.decimal128(12, 2))
    others = orders[~orders["order_id"].isin([mistyped.key[0], slipped.key[0]])]
    add_total_eur(others)["total_eur"].astype(pd.ArrowDtype(pa.decimal128(12, 2)))


def test_mending_repairs_each_poison(tmp_path: Path, second_day: Path) -> None:
    path = tmp_path / "shop.db"
    shutil.copy(second_day, path)
    mend_all(path)
    after = dump(path)
    assert after["order_lines"][POISONS[0].key][3] == 12
    euros = add_total_eur(frame(path))
    euros["total_eur"].astype(pd.ArrowDtype(pa.decimal128(12, 2)))


def test_mending_what_is_not_there_is_an_error(tmp_path: Path, shop: Path) -> None:
    path = tmp_path / "shop.db"
    shutil.copy(shop, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM orders WHERE order_id = 42")
    with pytest.raises(LookupError, match=r"\(42,\) in orders"):
        mend(path, POISONS[1])
