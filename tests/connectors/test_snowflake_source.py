"""The conformance suite over what stands in for Snowflake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from rowtrail.connectors.base import Capture
from tests.connectors.snowflake_database import SnowflakeDatabase
from tests.connectors.source_conformance import SourceConformance


class TestSnowflakeSource(SourceConformance):
    @pytest.fixture
    def database(self, snowflake_url: str) -> Iterator[SnowflakeDatabase]:
        with closing(SnowflakeDatabase(snowflake_url)) as database:
            yield database

    @pytest.fixture(params=[Capture.SNAPSHOT, Capture.CURSOR])
    def capture(self, request: pytest.FixtureRequest) -> Capture:
        found: Capture = request.param
        return found
