"""A world of two tables, one captured by trigger and one by cursor, to which things happen."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

from rowtrail import Breakers, Pipeline, Stream
from tests.pipelines.world import World

TABLES = {"orders": "trigger", "payments": "cursor"}
KEYS = range(1, 200)


def picky(frame):
    if (frame["note"] == "bad").any():
        raise ValueError("bad note")
    return frame


class TwoTables(World):
    """Both tables have an id and a note; `seen` rises with each change."""

    def __init__(self, folder: Path) -> None:
        fresh = not (folder / "source.db").exists()
        columns = "(id INTEGER PRIMARY KEY, note TEXT, seen INTEGER)"
        super().__init__(folder, f"CREATE TABLE orders {columns}")
        if fresh:
            self.sql(f"CREATE TABLE payments {columns}")

    def both(self) -> Pipeline:
        return Pipeline(
            name="test",
            source=f"sqlite:///{self.source}",
            destination=f"duckdb:///{self.target}",
            ledger=self.ledger,
            streams=[
                Stream(table, capture=capture, cursor="seen", transforms=[picky], batch_rows=5)
                for table, capture in TABLES.items()
            ],
            breakers=Breakers(failed_share=1.0, deleted_share=1.0),
            install_capture=True,
        )

    def happen(self, chance: random.Random, events: int) -> None:
        """So many random inserts, updates, deletes and changed keys in each table."""
        with closing(sqlite3.connect(self.source)) as connection, connection:
            for table in TABLES:
                for _ in range(events):
                    self.clock += 1
                    _one_event(connection, table, chance, self.clock)

    def mend(self) -> None:
        """No row of either table is bad any more."""
        for table in TABLES:
            self.clock += 1
            self.sql(
                f"UPDATE {table} SET note = 'mended', seen = ? WHERE note = 'bad'", (self.clock,)
            )

    def at_source(self, table: str) -> dict[int, str]:
        return dict(self.sql(f"SELECT id, note FROM {table}"))

    def at_target(self, table: str) -> dict[int, str]:
        rows = self.query(f"SELECT id, note FROM {table} WHERE _rowtrail_deleted_at IS NULL")
        assert len({key for key, _ in rows}) == len(rows), "a record stands twice at the target"
        return dict(rows)


def _one_event(
    connection: sqlite3.Connection, table: str, chance: random.Random, clock: int
) -> None:
    key, note = chance.choice(KEYS), "bad" if chance.random() < 0.1 else f"note {clock}"
    kind = chance.choices(["put", "delete", "move"], [6, 2, 1])[0]
    if kind == "put":
        connection.execute(
            f"INSERT INTO {table} VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "note = excluded.note, seen = excluded.seen",
            (key, note, clock),
        )
    elif kind == "delete":
        connection.execute(f"DELETE FROM {table} WHERE id = ?", (key,))
    else:
        free = chance.choice(KEYS)
        connection.execute(
            f"UPDATE {table} SET id = ?, seen = ? WHERE id = ? "
            f"AND NOT EXISTS (SELECT 1 FROM {table} WHERE id = ?)",
            (free, clock, key, free),
        )


def sync(folder: Path) -> bool:
    """One run; whether it ended as it should, with some records failed or none."""
    result = TwoTables(folder).both().run()
    return all(stream.error is None and not stream.skipped for stream in result.streams.values())
