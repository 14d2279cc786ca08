"""The ledger in a SQLite file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rowtrail.checkpoints.ledger import Ledger, open_ledger
from tests.checkpoints.desk import FakeClock
from tests.checkpoints.ledger_conformance import LedgerConformance

Opener = Callable[[], Ledger]


class TestSqliteLedger(LedgerConformance):
    @pytest.fixture
    def opener(self, tmp_path: Path, clock: FakeClock) -> Opener:
        return lambda: open_ledger(tmp_path / "ledger.db", "shop", clock=clock)

    @pytest.fixture
    def new_opener(self, tmp_path: Path, clock: FakeClock) -> Opener:
        return lambda: open_ledger(tmp_path / "other.db", "shop", clock=clock)
