"""The PostgreSQL server of a benchmark: private, started once, gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from tests.postgres_server import PostgresServer

_SETTINGS = {
    # What it would clean up meanwhile would fall into one measurement and not into another.
    "autovacuum": "off",
    "max_wal_size": "4GB",
}
NOTE = "PostgreSQL {version} on this machine over TCP; fsync and autovacuum are off."


@contextmanager
def server() -> Iterator[PostgresServer]:
    """It listens on a port of 127.0.0.1: not every peer can use a socket in the file system.

    Its data are in the system's folder for temporary files: TMPDIR moves them to another disk.
    """
    with PostgresServer(_SETTINGS, network=True) as started:
        yield started


def note(url: str) -> str:
    """A line for the report: which server it was."""
    with psycopg.connect(url) as connection:
        (version,) = connection.execute("SHOW server_version").fetchone() or ("",)
    return NOTE.format(version=version.split()[0])
