"""The conformance suite over PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from rowtrail.connectors.base import Capture, StreamSpec
from tests.connectors.postgres_database import PostgresDatabase
from tests.connectors.source_conformance import SourceConformance

_SLOT = "rowtrail_conformance"


class TestPostgresSource(SourceConformance):
    @pytest.fixture
    def database(self, postgres_url: str) -> Iterator[PostgresDatabase]:
        with closing(PostgresDatabase(postgres_url)) as database:
            yield database

    @pytest.fixture(params=[Capture.SNAPSHOT, Capture.CURSOR, Capture.TRIGGER])
    def capture(self, request: pytest.FixtureRequest) -> Capture:
        found: Capture = request.param
        return found


class TestPostgresLog(SourceConformance):
    """Capture `log`. The suite keys some tables by columns that are not their primary key, of which
    the log tells with replica identity FULL only; the tests of the log try the others."""

    @pytest.fixture
    def database(self, postgres_url: str) -> Iterator[PostgresDatabase]:
        with closing(PostgresDatabase(postgres_url, identity="FULL")) as database:
            yield database

    @pytest.fixture
    def capture(self) -> Capture:
        return Capture.LOG

    def stream(self, capture: Capture, **settings: Any) -> StreamSpec:
        return super().stream(capture, log=_SLOT, **settings)
