"""What tests of all parts share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests.memory_folder import use_memory
from tests.postgres_server import GivenServer, PostgresServer
from tests.snowflake_server import SnowflakeServer

LONG = (
    "test_benchmarks.py",
    "test_convergence.py",
    "test_crash.py",
    "test_proj.py",
    "test_recovery.py",
    "test_sigkill.py",
    "test_snowflake_crashes.py",
    "test_state_machine.py",
    "test_power_loss.py",
    "test_postgres_cuts.py",
    "test_postgres_faults.py",
    "test_postgres_matrix.py",
    "test_pgbench.py",
    "test_readme.py",
)
"""Files that take tens of seconds: begun last, one of them would keep one worker waiting."""


def pytest_configure() -> None:
    use_memory()
    # An example that takes long says something of the machine, and nothing of the code.
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


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


@pytest.fixture(scope="session")
def snowflake_server() -> Iterator[SnowflakeServer]:
    """What stands in for Snowflake; each test takes a database of its own."""
    with SnowflakeServer() as server:
        yield server


@pytest.fixture
def snowflake_url(snowflake_server: SnowflakeServer) -> str:
    """The URL of an empty database."""
    return snowflake_server.url()
