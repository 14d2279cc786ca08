"""A world whose target is a schema of what stands in for Snowflake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.connectors.snowflake_warehouse import SnowflakeWarehouse
from tests.pipelines.world import World


class SnowflakeWorld(World):
    """Its own look at the target goes straight to the server, wherever pipelines write."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        self.destination = url
        self.warehouse = SnowflakeWarehouse(url)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self.warehouse.query(statement)

    def loaded(self) -> dict[int, tuple[Any, ...]]:
        columns = {row[0] for row in self.query("DESCRIBE TABLE orders")}
        alive = "WHERE _rowtrail_deleted_at IS NULL" if "_ROWTRAIL_DELETED_AT" in columns else ""
        rows = self.query(f"SELECT id, CAST(amount AS VARCHAR), note FROM orders {alive}")
        assert len(rows) == len({row[0] for row in rows}), "a record stands twice at the target"
        return {row[0]: row[1:] for row in rows}
