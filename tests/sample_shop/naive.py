"""The shop read and copied in the plainest way, to hold other code against."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa

from rowtrail.sample_data.transforms import add_total_eur, drop_test_orders

TABLES = ("customers", "products", "orders", "order_lines", "payments")
ARROW = {
    "INTEGER": pa.int64(),
    "TEXT": pa.string(),
    "VARCHAR(3)": pa.string(),
    "VARCHAR(10)": pa.string(),
    "VARCHAR(254)": pa.string(),
    "REAL": pa.float64(),
    "BLOB": pa.binary(),
    "BOOLEAN": pa.bool_(),
    "DECIMAL(10,2)": pa.decimal128(10, 2),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
}
PARSE = {
    "BOOLEAN": bool,
    "DECIMAL(10,2)": lambda value: Decimal(str(value)),
    "DATE": date.fromisoformat,
    "TIMESTAMP": datetime.fromisoformat,
}


def dump(path: Path) -> dict[str, dict[tuple, tuple]]:
    """Every table's rows by key."""
    with closing(sqlite3.connect(path)) as shop:
        tables = {}
        for table in TABLES:
            info = shop.execute(f"PRAGMA table_info({table})").fetchall()
            key = [column[0] for column in info if column[5]]
            rows = shop.execute(f"SELECT * FROM {table}").fetchall()
            tables[table] = {tuple(row[i] for i in key): row for row in rows}
        return tables


def arrow_table(path: Path, table: str) -> pa.Table:
    """A table of the shop in the Arrow types that its declared types stand for."""
    with closing(sqlite3.connect(path)) as shop:
        info = shop.execute(f"PRAGMA table_info({table})").fetchall()
        columns = zip(*shop.execute(f"SELECT * FROM {table}"), strict=True)
    arrays = []
    for values, (_, _, declared, *_) in zip(columns, info, strict=True):
        parse = PARSE.get(declared, lambda value: value)
        python = [None if value is None else parse(value) for value in values]
        arrays.append(pa.array(python, type=ARROW[declared]))
    return pa.Table.from_arrays(arrays, names=[column[1] for column in info])


def frame(path: Path) -> pd.DataFrame:
    """The orders as a transform is given them."""
    return arrow_table(path, "orders").to_pandas(types_mapper=pd.ArrowDtype)


def naive_copy(source: Path, target: Path) -> None:
    with duckdb.connect(str(target)) as house:
        for table in TABLES:
            data = arrow_table(source, table)
            if table == "orders":
                kept = add_total_eur(drop_test_orders(frame(source)))
                data = pa.Table.from_pandas(kept, preserve_index=False)
            house.register("data", data)
            house.execute(f"CREATE TABLE {table} AS FROM data")
            house.unregister("data")
