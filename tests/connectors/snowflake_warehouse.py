"""A schema of what stands in for Snowflake as a target of tests, seen by its own means."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import snowflake.connector

from rowtrail.connectors.base import Fence
from rowtrail.connectors.destinations.snowflake import SnowflakeDestination
from rowtrail.connectors.snowflake_client import SnowflakeUrl, fold, quote_exactly, unfold

from .builders import FENCE
from .destination_conformance import Warehouse, Widening


class SnowflakeWarehouse(Warehouse):
    no_types = frozenset({"timestamp_ns"})
    spellings = ("ORDERS", "Orders", "public.orders", "PUBLIC.ORDERS")
    integers_are_decimals = True
    slow = 4

    wider = (pa.int64(), 2**40)

    def __init__(self, url: str) -> None:
        self.url = url

    def open(self, fence: Fence | None = FENCE) -> SnowflakeDestination:
        return SnowflakeDestination(self.url, fence)

    def connect(self) -> snowflake.connector.SnowflakeConnection:
        return SnowflakeUrl(self.url).connect()

    def table(self, name: str) -> pa.Table:
        """With its columns' names as people write them, and integers as such."""
        schema, dot, table = name.rpartition(".")
        place = [fold(schema) if dot else "PUBLIC", fold(table)]
        sql = f"SELECT * FROM {'.'.join(map(quote_exactly, place))}"
        with self.connect() as connection, connection.cursor() as cursor:
            found: pa.Table = cursor.execute(sql).fetch_arrow_all(
                force_return_table=True, force_microsecond_precision=True
            )
        for place, field in enumerate(found.schema):
            if (
                pa.types.is_decimal(field.type)
                and field.type.scale == 0
                and field.type.precision < 20
            ):
                found = found.set_column(place, field.name, found.column(place).cast(pa.int64()))
        return found.rename_columns([unfold(one) for one in found.schema.names])

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection, connection.cursor() as cursor:
            return [tuple(row) for row in cursor.execute(sql).fetchall()]

    def run(self, sql: str) -> None:
        self.query(sql)

    def retyping(self, column: str) -> str:
        return f"{quote_exactly(fold(column))} SET DATA TYPE"

    def widening(self, existing: pa.DataType, wanted: pa.DataType) -> Widening:
        """Snowflake gives a NUMBER more digits and no other scale; all its floats are double."""
        if pa.types.is_floating(existing):
            return Widening.NOTHING
        scales = [getattr(one, "scale", 0) for one in (existing, wanted)]
        return Widening.IN_PLACE if scales[0] == scales[1] else Widening.REFUSED
