"""A world whose target is a PostgreSQL database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from tests.pipelines.world import TABLE, World


class PostgresWorld(World):
    def __init__(self, folder: Path, url: str, table: str = TABLE) -> None:
        super().__init__(folder, table)
        self.destination = url

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.destination, autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()

    def change_target(self, statement: str) -> None:
        with psycopg.connect(self.destination, autocommit=True) as connection:
            connection.execute(statement.encode())
