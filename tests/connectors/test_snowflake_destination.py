"""Snowflake as a destination, against what stands in for it."""

from __future__ import annotations

import pytest

from .destination_conformance import DestinationConformance
from .history_conformance import HistoryConformance
from .snowflake_warehouse import SnowflakeWarehouse


@pytest.fixture
def warehouse(snowflake_url: str) -> SnowflakeWarehouse:
    return SnowflakeWarehouse(snowflake_url)


class TestSnowflake(DestinationConformance):
    pass


class TestHistory(HistoryConformance):
    pass
