from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.pipelines.copied_table import CopiedTable
from tests.pipelines.world import World
from tests.postgres_server import GivenServer, PostgresServer


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


@pytest.fixture(params=["sqlite-duckdb", "sqlite-postgres", "postgres-duckdb", "postgres-postgres"])
def each_pair(
    request: pytest.FixtureRequest, postgres_server: PostgresServer | GivenServer, tmp_path: Path
) -> Iterator[CopiedTable]:
    """A table that is copied, for every pair of source and destination that exists."""
    source, target = str(request.param).split("-")
    urls = {
        "sqlite": f"sqlite:///{tmp_path / 'source.db'}",
        "duckdb": f"duckdb:///{tmp_path / 'target.duckdb'}",
    }
    with ExitStack() as stack:
        ends = [
            urls[end] if end in urls else stack.enter_context(postgres_server.database())
            for end in (source, target)
        ]
        table = CopiedTable(tmp_path, *ends)
        table.make()
        yield table
