"""A table of a PostgreSQL or SQLite source that is copied, and what must hold of the copy."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from rowtrail import Breakers, Pipeline, Stream
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import HELD_BACK
from rowtrail.pipelines.progress import Silent
from tests.duckdb_files import look_into, write_into
from tests.pipelines.witness import OUTCOMES

ROWS = 600
"""At first, in some batches."""
BATCH_ROWS = 250

_TABLE = "CREATE TABLE orders (id int PRIMARY KEY, amount numeric(10,2), note text, seen {seen})"


class Notes(Silent):
    """Keeps what a run says on its way."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class AfterBatch(Notes):
    """Does something once, when so many batches are done."""

    def __init__(self, number: int, action: Callable[[], object]) -> None:
        super().__init__()
        self._left = number
        self._action = action

    def batch_done(self, name: str, batch: object) -> None:
        self._left -= 1
        if self._left == 0:
            self._action()


@dataclass
class CopiedTable:
    """`source` and `target` are URLs for the test itself; runs may go by others."""

    folder: Path
    source: str
    target: str
    chance: random.Random = field(default_factory=lambda: random.Random(5))
    next_id: int = 1
    deletes: str = "soft"  # of the pipeline that was made last

    def make(self) -> None:
        self.change(_TABLE.format(seen="timestamptz" if self._is_server(self.source) else "text"))
        self._insert(ROWS)

    def pipeline(self, *, source: str = "", destination: str = "", **stream: Any) -> Pipeline:
        self.deletes = stream.get("deletes", "soft")
        settings = {"cursor": "seen", "batch_rows": BATCH_ROWS, **stream}
        return Pipeline(
            name="test",
            source=source or self.source,
            destination=destination or self.target,
            ledger=self.folder / "ledger.db",
            streams=[Stream("orders", **settings)],
            breakers=Breakers(deleted_share=1.0),
            install_capture=True,
        )

    def happen(self) -> None:
        """Some rows come, some change, some go, and one gets another key."""
        present = [row[0] for row in self.ask("SELECT id FROM orders")]
        chosen = self.chance.sample(present, 60)
        now = "clock_timestamp()" if self._is_server(self.source) else "datetime('now', 'subsec')"
        listed = ", ".join(map(str, chosen[:30]))
        self.change(
            f"UPDATE orders SET amount = amount + 1, note = note || '.', seen = {now} "
            f"WHERE id IN ({listed})"
        )
        self.change(f"DELETE FROM orders WHERE id IN ({', '.join(map(str, chosen[30:50]))})")
        self.change(f"UPDATE orders SET id = id + 1000000, seen = {now} WHERE id = {chosen[50]}")
        self._insert(30)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        if self._is_server(self.source):
            with psycopg.connect(self.source) as connection:
                return connection.execute(statement.encode()).fetchall()
        with closing(sqlite3.connect(self.source.removeprefix("sqlite:///"))) as connection:
            return connection.execute(statement).fetchall()

    def change(self, *statements: str) -> None:
        """In one transaction."""
        if self._is_server(self.source):
            with psycopg.connect(self.source) as connection:
                for statement in statements:
                    connection.execute(statement.encode())
            return
        with closing(sqlite3.connect(self.source.removeprefix("sqlite:///"))) as file, file:
            for statement in statements:
                file.execute(statement)

    def ask_target(self, statement: str) -> list[tuple[Any, ...]]:
        if self._is_server(self.target):
            with psycopg.connect(self.target) as connection:
                return connection.execute(statement.encode()).fetchall()
        with look_into(self.target.removeprefix("duckdb:///")) as connection:
            return connection.execute(statement).fetchall()

    def change_target(self, statement: str) -> None:
        """As somebody else would."""
        if self._is_server(self.target):
            with psycopg.connect(self.target) as connection:
                connection.execute(statement.encode())
            return
        with write_into(Path(self.target.removeprefix("duckdb:///"))) as file:
            file.execute(statement)

    def expected(self) -> dict[int, Sequence[Any]]:
        found = self.ask("SELECT id, amount, note FROM orders")
        return {row[0]: (f"{row[1]:.2f}", row[2]) for row in found}

    def loaded(self) -> dict[int, Sequence[Any]]:
        live = "" if self.deletes == "hard" else " WHERE _rowtrail_deleted_at IS NULL"
        found = self.ask_target(f"SELECT id, amount, note FROM orders{live}")
        assert len(found) == len({row[0] for row in found}), "a record stands twice at the target"
        return {row[0]: (f"{row[1]:.2f}", row[2]) for row in found}

    def check(self) -> None:
        """Nothing is lost, nothing is there twice, and no record was blamed for it."""
        assert self.loaded() == self.expected()
        assert self.ask_target("SELECT count(*) FROM _rowtrail_gaps") == [(0,)]
        with closing(open_ledger(self.folder / "ledger.db", "test")) as ledger:
            assert ledger.batches.unfinished() == []
            assert list(ledger.failures.list(stream="orders", states=HELD_BACK)) == []
            keys = self.chance.sample(sorted(self.expected()), 5)
            for key in keys:
                seen = [
                    entry
                    for entry in ledger.trail(RecordId("orders", (key,)))
                    if entry.event in OUTCOMES
                ]
                assert seen, f"nothing is known of {key}"
                assert {entry.event for entry in seen} <= set(OUTCOMES) - {"failed"}
                assert len({entry.version for entry in seen}) == len(seen), "counted twice"

    def _insert(self, count: int) -> None:
        rows = []
        for number in range(self.next_id, self.next_id + count):
            rows.append(f"({number}, {number}.25, 'note of {number} {'x' * (number % 40)}', 'T')")
        self.next_id += count
        now = "clock_timestamp()" if self._is_server(self.source) else "datetime('now', 'subsec')"
        self.change("INSERT INTO orders VALUES " + ", ".join(rows).replace("'T'", now))

    @staticmethod
    def _is_server(url: str) -> bool:
        return url.startswith("postgresql:")
