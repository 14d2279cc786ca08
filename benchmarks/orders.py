"""The table that is synced: a shop's orders, nine columns, as many rows as wanted."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from rowtrail.connectors.base import Capture
from rowtrail.pipelines.definition import PipelineDefinition, StreamDefinition

TABLE = """
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL,
    quantity INTEGER NOT NULL,
    total DECIMAL(10, 2) NOT NULL,
    weight REAL,
    status TEXT NOT NULL,
    note TEXT,
    ordered_on DATE NOT NULL,
    updated_at TIMESTAMP NOT NULL
)
"""

# Multiplying by primes scatters the values; the same rows come out on every machine.
_ROWS = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
INSERT INTO orders
SELECT
    n,
    n * 7919 % 50021,
    1 + n % 9,
    n * 104729 % 10000000 / 100.0,
    CASE WHEN n % 11 THEN n * 15485863 % 1000003 / 997.0 END,
    CASE n % 4 WHEN 0 THEN 'new' WHEN 1 THEN 'paid' WHEN 2 THEN 'shipped' ELSE 'returned' END,
    CASE WHEN n % 3 THEN 'please ring at door ' || (n * 31 % 1009) END,
    date('2024-01-01', (n % 700) || ' days'),
    datetime('2024-01-01', (n * 61 % 60000000) || ' seconds')
FROM numbers
"""


def make_source(path: Path, rows: int) -> None:
    """A SQLite file with the table `orders` and this many rows, their ids from 1 on."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        with connection:
            connection.execute(TABLE)
            connection.execute(_ROWS, (rows,))


def change_source(path: Path, share: float, number: int) -> int:
    """Changes this share of the rows, evenly spread: 8 of 10 updates, one a delete, one an insert.

    `number` tells one such change from the next, so that each deletes rows that are still there.
    Returns how many changes that makes.
    """
    step = round(1 / share)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE orders SET status = 'changed', quantity = quantity + 1 "
            "WHERE id % ?1 = 0 AND id / ?1 % 10 > 1",
            (step,),
        )
        updated = connection.total_changes
        deleted = connection.execute(
            "DELETE FROM orders WHERE id % (10 * ?1) = 1 + ?2 % (?1 - 1)", (step, number)
        ).rowcount
        connection.execute(
            f"INSERT INTO orders SELECT (SELECT max(id) FROM orders) + row_number() OVER (), "
            f"{_ALL_BUT_ID} FROM orders LIMIT ?",
            (deleted,),
        )
        return updated + 2 * deleted


_ALL_BUT_ID = "customer_id, quantity, total, weight, status, note, ordered_on, updated_at"


def pipeline(source: Path, folder: Path) -> PipelineDefinition:
    """From `source` into a DuckDB file in `folder`, its ledger beside it; changes by triggers."""
    return PipelineDefinition(
        name="benchmark",
        source=f"sqlite:///{source}",
        destination=f"duckdb:///{folder / 'target.duckdb'}",
        ledger=folder / "ledger.db",
        streams=(
            StreamDefinition(
                name="orders", table="orders", target="orders", capture=Capture.TRIGGER
            ),
        ),
        install_capture=True,
    )
