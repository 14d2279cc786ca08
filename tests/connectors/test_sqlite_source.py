"""The conformance suite over SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rowtrail.connectors.base import Capture
from tests.connectors.source_conformance import SourceConformance
from tests.connectors.sqlite_database import SqliteDatabase


class TestSqliteSource(SourceConformance):
    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[SqliteDatabase]:
        with closing(SqliteDatabase(tmp_path / "source.db")) as database:
            yield database

    @pytest.fixture(params=[Capture.SNAPSHOT, Capture.CURSOR, Capture.TRIGGER])
    def capture(self, request: pytest.FixtureRequest) -> Capture:
        found: Capture = request.param
        return found
