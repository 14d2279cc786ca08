"""Looks at a pipeline while it is followed: its target is in use then, its ledger is not."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg

from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.record_id import RecordId
from tests.duckdb_files import look_into

SECONDS = 30.0
"""After so long what has not arrived is taken for lost."""


def batches(folder: Path, stream: str) -> int:
    """Closed batches of the stream, as the ledger tells."""
    path = folder / ".rowtrail" / "shop.ledger"
    if not path.exists():
        return 0
    with closing(open_ledger(path, "shop")) as ledger:
        record = ledger.streams.get(stream)
        return 0 if record is None else record.sequence


def is_loaded(folder: Path, stream: str, key: int) -> bool:
    with closing(open_ledger(folder / ".rowtrail" / "shop.ledger", "shop")) as ledger:
        if ledger.streams.get(stream) is None:
            return False
        return any(one.event == "loaded" for one in ledger.trail(RecordId(stream, (key,))))


def in_target(folder: Path, table: str) -> list[tuple[object, ...]]:
    with look_into(folder / "warehouse.duckdb") as target:
        return target.sql(
            f"SELECT id, name FROM {table} WHERE _rowtrail_deleted_at IS NULL ORDER BY id"
        ).fetchall()


def wait_for(condition: Callable[[], bool], runs: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert runs(), "it has ended"
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def in_source(
    source: psycopg.Connection[tuple[object, ...]], table: str
) -> list[tuple[object, ...]]:
    return source.execute(f"SELECT id, name FROM {table} ORDER BY id").fetchall()
