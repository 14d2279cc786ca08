"""What tests of all parts share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.postgres_server import GivenServer, PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer | GivenServer]:
    """A PostgreSQL server for the whole session; each test takes a database of its own."""
    if url := os.environ.get("ROWTRAIL_TEST_POSTGRES"):
        yield GivenServer(url)
        return
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer | GivenServer) -> Iterator[str]:
    """The URL of an empty database."""
    with postgres_server.database() as url:
        yield url
