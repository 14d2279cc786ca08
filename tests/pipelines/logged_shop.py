"""Pipelines over capture `log` of a real server: some small tables, and their copies in DuckDB."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from rowtrail import Breakers, Pipeline, Stream
from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.checkpoints.states import StreamRecord
from rowtrail.pipelines.results import RunResult
from tests.duckdb_files import look_into

TABLES = ("orders", "lines")


class Shop:
    """A source, a target and a ledger. Each look opens and closes its own connection."""

    def __init__(self, folder: Path, url: str, slot: str) -> None:
        self.folder = folder
        self.url = url
        self.slot = slot

    def make(self, *tables: str) -> None:
        for table in tables or TABLES:
            self.sql(
                f"CREATE TABLE {table} (id int PRIMARY KEY, n int, note text)",
                f"INSERT INTO {table} SELECT n, 0, 'row ' || n FROM generate_series(1, 9) AS n",
            )

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Runs the statements at the source, each a transaction; what the last one gives."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def change(self, number: int, *tables: str) -> None:
        for table in tables or TABLES:
            self.sql(
                f"UPDATE {table} SET n = {number} WHERE id % 4 = {number % 4}",
                f"DELETE FROM {table} WHERE id = {number}",
                f"INSERT INTO {table} VALUES ({number + 100}, {number}, 'new')",
            )

    def pipeline(self, *streams: str | Stream, **settings: Any) -> Pipeline:
        chosen: dict[str, Any] = {"install_capture": True, "slot": self.slot, **settings}
        return Pipeline(
            name="test",
            source=chosen.pop("source", self.url),
            destination=f"duckdb:///{self.folder / 'target.duckdb'}",
            ledger=self.folder / "ledger.db",
            breakers=Breakers(deleted_share=1.0),
            streams=[
                Stream(one, capture="log", batch_rows=4) if isinstance(one, str) else one
                for one in streams or TABLES
            ],
            **chosen,
        )

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with look_into(self.folder / "target.duckdb") as target:
            return target.execute(statement).fetchall()

    def loaded(self, table: str) -> dict[int, tuple[Any, ...]]:
        rows = self.query(f"SELECT id, n, note FROM {table} WHERE _rowtrail_deleted_at IS NULL")
        assert len(rows) == len({row[0] for row in rows})
        return {row[0]: row[1:] for row in rows}

    def equal(self, *tables: str) -> bool:
        """Whether the target has these tables as the source has them now."""
        return all(
            self.loaded(table)
            == {row[0]: row[1:] for row in self.sql(f"SELECT id, n, note FROM {table}")}
            for table in tables or TABLES
        )

    def ledger(self) -> closing[Ledger]:
        return closing(open_ledger(self.folder / "ledger.db", "test"))

    def record(self, stream: str) -> StreamRecord:
        with self.ledger() as ledger:
            found = ledger.streams.get(stream)
        assert found is not None
        return found

    def slot_place(self) -> int:
        """Up to where the slot was acknowledged."""
        ((place,),) = self.sql(
            "SELECT (confirmed_flush_lsn - '0/0')::int8 FROM pg_replication_slots "
            f"WHERE slot_name = '{self.slot}'"
        )
        return int(place)


def assert_lost(result: RunResult, stream: str, words: str) -> None:
    """The stream has stopped for good, says why, and names what mends it."""
    found = result.streams[stream]
    told = found.error or found.skipped or ""
    assert words in told, told
    assert f"rowtrail run --resnapshot {stream}" in told, told
