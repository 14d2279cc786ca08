"""The conformance suite over what stands in for Snowflake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from rowtrail.connectors.base import Capture
from rowtrail.connectors.sources import snowflake_rows
from tests.connectors.snowflake_database import SnowflakeDatabase
from tests.connectors.source_conformance import SourceConformance


class TestSnowflakeSource(SourceConformance):
    @pytest.fixture
    def database(
        self, snowflake_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[SnowflakeDatabase]:
        """Two pages come from one statement, the next ones from another."""
        monkeypatch.setattr(snowflake_rows, "PAGES", 2)
        with closing(SnowflakeDatabase(snowflake_url)) as database:
            yield database

    @pytest.fixture(params=[Capture.SNAPSHOT, Capture.CURSOR])
    def capture(self, request: pytest.FixtureRequest) -> Capture:
        found: Capture = request.param
        return found
