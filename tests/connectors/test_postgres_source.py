"""The conformance suite over PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from rowtrail.connectors.base import Capture
from tests.connectors.postgres_database import PostgresDatabase
from tests.connectors.source_conformance import SourceConformance


class TestPostgresSource(SourceConformance):
    @pytest.fixture
    def database(self, postgres_url: str) -> Iterator[PostgresDatabase]:
        with closing(PostgresDatabase(postgres_url)) as database:
            yield database

    @pytest.fixture(params=[Capture.SNAPSHOT, Capture.CURSOR, Capture.TRIGGER])
    def capture(self, request: pytest.FixtureRequest) -> Capture:
        found: Capture = request.param
        return found
