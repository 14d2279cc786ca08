from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.copied_table import CopiedTable
from tests.pipelines.world import World
from tests.postgres_server import PostgresServer


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(params=["trigger", "cursor", "snapshot"])
def capture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["soft", "hard"])
def deletes(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def from_server(server: PostgresServer, tmp_path: Path) -> Iterator[CopiedTable]:
    """Copied to a DuckDB file; the module has a fixture `server`."""
    with server.database() as url:
        table = CopiedTable(tmp_path, url, f"duckdb:///{tmp_path / 'target.duckdb'}")
        table.make()
        yield table


@pytest.fixture
def to_server(server: PostgresServer, tmp_path: Path) -> Iterator[CopiedTable]:
    """Copied from a SQLite file; the module has a fixture `server`."""
    with server.database() as url:
        table = CopiedTable(tmp_path, f"sqlite:///{tmp_path / 'source.db'}", url)
        table.make()
        yield table
