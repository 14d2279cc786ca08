"""A PostgreSQL database as a target of tests, seen by its own means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import adbc_driver_postgresql.dbapi
import psycopg
import pyarrow as pa

from rowtrail.connectors.base import Fence
from rowtrail.connectors.destinations.postgres import PostgresDestination

from .builders import FENCE
from .rules_conformance import RuledWarehouse


class PostgresWarehouse(RuledWarehouse):
    no_types = frozenset({"timestamp_ns"})
    obstacle = ("CREATE VIEW odd AS SELECT n FROM orders", "DROP VIEW odd", "view odd")
    spellings = ("public.orders",)
    zero_bytes = False

    def __init__(self, url: str) -> None:
        self.url = url

    def open(self, fence: Fence | None = FENCE) -> PostgresDestination:
        return PostgresDestination(self.url, fence)

    def table(self, name: str) -> pa.Table:
        """Numerics, which the driver gives as text, as decimals of their own size."""
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))
        sizes = self.query(
            "SELECT attname, atttypmod - 4 FROM pg_attribute WHERE attrelid = %s::regclass "
            "AND atttypid = 'numeric'::regtype",
            [quoted],
        )
        decimals = {name: pa.decimal128(size >> 16, size & 0xFFFF) for name, size in sizes}
        with adbc_driver_postgresql.dbapi.connect(self.url) as arrow, arrow.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            cursor.execute(f"SELECT * FROM {quoted}")
            found = cursor.fetch_arrow_table()
        for place, column in enumerate(found.schema.names):
            if column in decimals:
                texts = pa.chunked_array([one.storage for one in found[column].chunks], pa.string())
                found = found.set_column(place, column, texts.cast(decimals[column]))
        return found

    def query(self, sql: str, values: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(sql.encode(), values).fetchall()

    def run(self, sql: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.encode())

    def add_check(self, table: str, condition: str) -> None:
        self.run(f"ALTER TABLE {table} ADD CHECK ({condition})")
