"""A pipeline over a PostgreSQL database that is written to all the time, for `forking`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

# What a run would otherwise import in each child.
import adbc_driver_postgresql.dbapi  # noqa: F401
import psycopg

import rowtrail.connectors.destinations.postgres
import rowtrail.connectors.sources.postgres  # noqa: F401
from rowtrail import Breakers, Pipeline, Stream

_FILE = "loaded.json"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Kept in the folder, where each child finds it."""

    source: str
    target: str
    batch_rows: int

    def keep(self, folder: Path) -> None:
        (folder / _FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def of(cls, folder: Path) -> Loaded:
        return cls(**json.loads((folder / _FILE).read_text()))

    def pipeline(self, folder: Path) -> Pipeline:
        return Pipeline(
            name="test",
            source=self.source,
            destination=self.target,
            ledger=folder / "ledger.db",
            streams=[Stream("public.*", capture="log", batch_rows=self.batch_rows)],
            breakers=Breakers(deleted_share=1.0),
            install_capture=True,
        )

    def at_source(self, table: str, key: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.source) as connection:
            return connection.execute(f"SELECT * FROM {table} ORDER BY {key}".encode()).fetchall()

    def at_target(self, table: str, key: str) -> list[tuple[object, ...]]:
        """The columns of the source, in its order."""
        with psycopg.connect(self.source) as connection:
            cursor = connection.execute(f"SELECT * FROM {table} LIMIT 0".encode())
            assert cursor.description is not None
            columns = ", ".join(column.name for column in cursor.description)
        with psycopg.connect(self.target) as connection:
            return connection.execute(
                f"SELECT {columns} FROM {table} WHERE _rowtrail_deleted_at IS NULL "
                f"ORDER BY {key}".encode()
            ).fetchall()


def sync(folder: Path) -> bool:
    result = Loaded.of(folder).pipeline(folder).run()
    for stream in result.streams.values():
        assert stream.error is None and stream.skipped is None, stream
    return result.complete
