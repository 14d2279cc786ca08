"""The comparison is right about a faithful copy and finds every change to one."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from rowtrail.sample_data.compare import compare
from rowtrail.sample_data.day_two import POISONS, mend_all
from rowtrail.sample_data.differences import same
from tests.duckdb_files import look_into
from tests.sample_shop.naive import TABLES, dump, naive_copy

COLUMNS = {
    "customers": ("email", "name", "marketing", "loyalty_points", "created_at"),
    "products": ("name", "price", "weight", "thumbnail"),
    "orders": ("customer_id", "status", "total", "ordered_on", "updated_at", "note", "total_eur"),
    "order_lines": ("sku", "quantity", "unit_price"),
    "payments": ("order_id", "method", "amount", "paid_at"),
}
# Type at the target -> ways to alter a value of it a little.
ALTERED = {
    "VARCHAR": ("{0} || ' '", "''"),
    "BIGINT": ("{0} + 1",),
    "BOOLEAN": ("NOT {0}",),
    "DECIMAL": ("{0} + 0.01",),
    "DOUBLE": ("nextafter({0}, 1e9)", "'nan'"),
    "BLOB": ("{0} || '\\x00'::BLOB", "''::BLOB"),
    "DATE": ("{0} - INTERVAL 1 DAY",),
    "TIMESTAMP": ("{0} + INTERVAL 1 MICROSECOND",),
}


def test_a_faithful_copy_is_equal(shop: Path, copied: Path) -> None:
    comparison = compare(shop, copied)
    assert comparison.equal, comparison.differences
    rows = dump(shop)
    hidden = sum(row[2] == "test" for row in rows["orders"].values())
    assert comparison.rows == sum(map(len, rows.values())) - hidden
    assert comparison.values > comparison.rows * 5


@pytest.mark.parametrize(
    ("table", "column"), [(table, column) for table in COLUMNS for column in COLUMNS[table]]
)
def test_any_altered_value_is_found(
    tmp_path: Path, shop: Path, copied: Path, table: str, column: str
) -> None:
    with look_into(copied) as house:
        chosen = house.execute(
            f"SELECT rowid, typeof({column}) FROM {table}"
            f" WHERE {column} IS NOT NULL AND {column}::VARCHAR <> '' LIMIT 1"
        ).fetchone()
    assert chosen is not None
    row, kind = chosen
    for value in ("NULL", *ALTERED[kind.partition("(")[0]]):
        statement = f"UPDATE {table} SET {column} = {value.format(column)} WHERE rowid = {row}"
        change(copied, tmp_path / "w.duckdb", statement)
        (difference,) = compare(shop, tmp_path / "w.duckdb").differences
        assert difference.table == table
        assert difference.what.startswith(f"{column} is ")


def change(copied: Path, target: Path, *statements: str) -> None:
    shutil.copy(copied, target)
    with duckdb.connect(str(target)) as house:
        for statement in statements:
            house.execute(statement)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DELETE FROM {t} WHERE rowid = 5", "is not at the target"),
        ("INSERT INTO {t} FROM {t} WHERE rowid = 5", "is at the target more than once"),
    ],
)
@pytest.mark.parametrize("table", TABLES)
def test_a_missing_row_and_a_doubled_one_are_found(
    tmp_path: Path, shop: Path, copied: Path, table: str, statement: str, what: str
) -> None:
    change(copied, tmp_path / "w.duckdb", statement.format(t=table))
    (difference,) = compare(shop, tmp_path / "w.duckdb").differences
    assert (difference.table, difference.what) == (table, what)
    assert difference.key in dump(shop)[table]


def test_a_row_that_should_not_be_there_is_found(tmp_path: Path, shop: Path, copied: Path) -> None:
    change(copied, tmp_path / "w.duckdb", "UPDATE orders SET order_id = 123456 WHERE order_id = 5")
    found = {str(difference) for difference in compare(shop, tmp_path / "w.duckdb").differences}
    assert found == {
        "orders 5: is not at the target",
        "orders 123456: is at the target and should not be",
    }


def test_a_deleted_row_counts_as_none(tmp_path: Path, shop: Path, copied: Path) -> None:
    mark = "ALTER TABLE orders ADD COLUMN _rowtrail_deleted_at TIMESTAMP"
    change(copied, tmp_path / "w.duckdb", mark)
    assert compare(shop, tmp_path / "w.duckdb").equal
    delete = "UPDATE orders SET _rowtrail_deleted_at = '2024-06-02' WHERE order_id = 5"
    change(copied, tmp_path / "w.duckdb", mark, delete)
    found = [str(difference) for difference in compare(shop, tmp_path / "w.duckdb").differences]
    assert found == ["orders 5: is not at the target"]


def test_a_missing_table_and_a_missing_column_are_found(
    tmp_path: Path, shop: Path, copied: Path
) -> None:
    change(copied, tmp_path / "w.duckdb", "DROP TABLE payments")
    found = compare(shop, tmp_path / "w.duckdb").differences
    assert len(found) == len(dump(shop)["payments"])
    change(copied, tmp_path / "w.duckdb", "ALTER TABLE products DROP COLUMN weight")
    found = compare(shop, tmp_path / "w.duckdb").differences
    assert all("has the columns" in difference.what for difference in found)
    assert len(found) == len(dump(shop)["products"])


def test_records_held_back_are_the_only_differences(
    tmp_path: Path, shop: Path, second_day: Path
) -> None:
    mended = tmp_path / "mended.db"
    shutil.copy(second_day, mended)
    mend_all(mended)
    naive_copy(mended, tmp_path / "w.duckdb")
    assert compare(mended, tmp_path / "w.duckdb").equal
    found = compare(second_day, tmp_path / "w.duckdb").differences
    assert {(d.table, d.key) for d in found} == {(p.stream, p.key) for p in POISONS}


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (1, 1.0), (1, Decimal(1)), ("1", 1), (0.0, -0.0), (None, 0), ("é", "e\u0301")],
)
def test_values_that_python_may_call_equal_are_not_the_same(one: object, other: object) -> None:
    assert not same(one, other)
    assert same(one, one)


def test_nan_is_the_same_as_nan() -> None:
    assert same(float("nan"), float("nan"))
