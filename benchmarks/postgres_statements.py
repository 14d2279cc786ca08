"""Which statements a server was given, from its own log and its own counters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

_STATEMENT = re.compile(r"LOG:  (?:statement|execute [^:]*|fastpath[^:]*): ")
_READS_ORDERS = re.compile(
    r"\b(?:FROM|JOIN)\s+(?:ONLY\s+)?(?:\"?public\"?\.)?\"?orders\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Statements:
    """Counts what a database is asked for."""

    log: Path  # of the whole server
    url: str

    def __post_init__(self) -> None:
        """Every statement of a later connection is logged."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            name = connection.info.dbname
            connection.execute(f"ALTER DATABASE {name} SET log_statement = 'all'")

    @contextmanager
    def counted(self) -> Iterator[dict[str, int]]:
        """While nobody else asks: `statements`, `reads` of the orders, and `scans` of them.

        A scan is one use of the table or of its index; the dict is filled at the end.
        """
        counts: dict[str, int] = {}
        scans, start = self._scans(), self.log.stat().st_size
        yield counts
        with self.log.open("rb") as file:
            file.seek(start)
            entries = _entries(file.read().decode())
        counts["statements"] = len(entries)
        counts["reads"] = sum(1 for entry in entries if _READS_ORDERS.search(entry))
        counts["scans"] = self._scans() - scans

    def _scans(self) -> int:
        with psycopg.connect(self.url, options="-c log_statement=none") as connection:
            found = connection.execute(
                "SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables "
                "WHERE relname = 'orders'"
            ).fetchone()
        return int(found[0]) if found else 0


def _entries(log: str) -> list[str]:
    """The statements, each with its further lines, which the server begins with a tab."""
    whole = log.replace("\n\t", " ")
    return [line for line in whole.splitlines() if _STATEMENT.search(line)]
