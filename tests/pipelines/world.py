"""A small source, a target, a ledger, and independent eyes to look at them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rowtrail import Breakers, Pipeline, Stream
from tests.duckdb_files import look_into, write_into

TABLE = (
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, amount DECIMAL(10,2), note TEXT, seen INTEGER)"
)

COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = 'orders'"


class World:
    """Everything in one folder; each look opens and closes its own connection."""

    def __init__(self, folder: Path, table: str = TABLE) -> None:
        self.folder = folder
        self.source = folder / "source.db"
        self.target = folder / "target.duckdb"
        self.destination = f"duckdb:///{self.target}"
        self.ledger = folder / "ledger.db"
        self.clock = 0
        if not self.source.exists():
            self.sql(table)

    def copy(self, folder: Path) -> World:
        """The same world in another folder, to try something else from the same start."""
        shutil.copytree(self.folder, folder)
        copied = World(folder)
        copied.clock = self.clock
        return copied

    def sql(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Runs one statement at the source, committed."""
        with closing(sqlite3.connect(self.source)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def put(self, rows: Iterable[tuple[int, object, object]]) -> None:
        """Inserts or updates (id, amount, note); `seen` rises with each, for cursor capture."""
        with closing(sqlite3.connect(self.source)) as connection, connection:
            for row in rows:
                self.clock += 1
                connection.execute(
                    "INSERT INTO orders VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                    "amount = excluded.amount, note = excluded.note, seen = excluded.seen",
                    (*row, self.clock),
                )

    def delete(self, *ids: int) -> None:
        for one in ids:
            self.sql("DELETE FROM orders WHERE id = ?", (one,))

    def pipeline(
        self, *, breakers: Breakers | None = None, ledger: Path | None = None, **stream: Any
    ) -> Pipeline:
        settings = {"capture": "trigger", "cursor": "seen", **stream}
        return Pipeline(
            name="test",
            source=f"sqlite:///{self.source}",
            destination=self.destination,
            ledger=ledger or self.ledger,
            streams=[Stream("orders", **settings)],
            breakers=breakers,
            install_capture=True,
        )

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Asks the target."""
        with look_into(self.target) as connection:
            return connection.execute(statement).fetchall()

    def change_target(self, statement: str) -> None:
        """Runs one statement at the target, as somebody else would."""
        with write_into(self.target) as connection:
            connection.execute(statement)

    def loaded(self) -> dict[int, tuple[Any, ...]]:
        """The live rows at the target, by id."""
        columns = {name for (name,) in self.query(COLUMNS)}
        alive = "WHERE _rowtrail_deleted_at IS NULL" if "_rowtrail_deleted_at" in columns else ""
        rows = self.query(f"SELECT id, CAST(amount AS VARCHAR), note FROM orders {alive}")
        assert len(rows) == len({row[0] for row in rows}), "a record stands twice at the target"
        return {row[0]: row[1:] for row in rows}

    def expected(self) -> dict[int, tuple[Any, ...]]:
        """The rows at the source, in the form of `loaded`."""
        return {
            one: (None if amount is None else f"{amount:.2f}", note)
            for one, amount, note in self.sql("SELECT id, amount, note FROM orders")
        }

    def gaps(self) -> set[str]:
        return {record for (record,) in self.query("SELECT record FROM _rowtrail_gaps")}
