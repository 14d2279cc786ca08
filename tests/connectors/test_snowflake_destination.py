"""Snowflake as a destination, against what stands in for it."""

from __future__ import annotations

from contextlib import closing

import pyarrow as pa
import pytest

from rowtrail.connectors.errors import ConfigurationError, RecordError

from .builders import delete, load_of, orders, target_of, upsert
from .destination_conformance import DestinationConformance
from .history_conformance import HistoryConformance
from .snowflake_warehouse import SnowflakeWarehouse


@pytest.fixture
def warehouse(snowflake_url: str) -> SnowflakeWarehouse:
    return SnowflakeWarehouse(snowflake_url)


class TestSnowflake(DestinationConformance):
    def test_rows_with_a_null_too_many_are_told_all_at_once(
        self, warehouse: SnowflakeWarehouse
    ) -> None:
        target = target_of({"id": pa.int64(), "note": pa.string(), "Größe": pa.int64()})
        warehouse.alter(target)
        for column in ("note", '"Größe"'):
            warehouse.run(f"ALTER TABLE orders ALTER COLUMN {column} SET NOT NULL")
        rows = [
            upsert(1, id=1, note=None, Größe=1),
            upsert(1, id=2, note="fine", Größe=2),
            upsert(1, id=3, note="fine", Größe=None),
            delete(1, id=4),
            upsert(1, id=5, note=None, Größe=None),
        ]
        with closing(warehouse.open()) as destination:
            assert destination.refused(load_of(target, *rows)) == [0, 2, 4]
            destination.write(load_of(target, rows[1], rows[3]))
            for row in (rows[0], rows[2], rows[4]):
                with pytest.raises(RecordError):
                    destination.write(load_of(target, row), probe=True)

    def test_a_column_in_lower_case_is_nobody_s_of_ours(
        self, warehouse: SnowflakeWarehouse
    ) -> None:
        warehouse.run('CREATE TABLE orders ("id" BIGINT, "Note" VARCHAR)')
        with closing(warehouse.open()) as destination:
            there = destination.describe("orders")
            assert there is not None and there.schema.names == ('"id"', '"Note"')
            with pytest.raises(ConfigurationError, match="not made by Rowtrail"):
                destination.alter(orders())


class TestHistory(HistoryConformance):
    pass
