"""DuckDB as a destination: the suite of all destinations, and what only DuckDB has."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from rowtrail.connectors.base import Destination, Fence
from rowtrail.connectors.destinations.duckdb import DuckdbDestination

from .builders import FENCE
from .destination_conformance import DestinationConformance, Warehouse


class DuckdbWarehouse(Warehouse):
    def __init__(self, folder: Path) -> None:
        self.path = folder / "warehouse.duckdb"
        self.url = f"duckdb:///{self.path}"

    def open(self, fence: Fence | None = FENCE) -> Destination:
        return DuckdbDestination(self.url, fence)

    def table(self, name: str) -> pa.Table:
        quoted = ".".join(f'"{part}"' for part in name.split("."))
        with duckdb.connect(self.path) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return connection.sql(f"SELECT * FROM {quoted}").to_arrow_table()

    def run(self, sql: str) -> None:
        with duckdb.connect(self.path) as connection:
            connection.execute(sql)

    def add_check(self, table: str, condition: str) -> None:
        with duckdb.connect(self.path) as connection:
            find = "SELECT sql FROM duckdb_tables() WHERE table_name = ?"
            (made,) = connection.execute(find, [table]).fetchall()[0]
            connection.execute(f"ALTER TABLE {table} RENAME TO before")
            connection.execute(f"{made.rstrip(';').rstrip(')')}, CHECK ({condition}))")
            connection.execute(f"INSERT INTO {table} SELECT * FROM before; DROP TABLE before")


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckdbWarehouse:
    return DuckdbWarehouse(tmp_path)


class TestDuckdb(DestinationConformance):
    pass
