"""What every ledger must do, whatever database holds it.

A test class of a ledger inherits from `LedgerConformance` and brings three fixtures:
- `clock`: a FakeClock, which all its ledgers look at;
- `opener`: opens the same ledger again, here or in another process (it is pickled for that);
- `new_opener`: opens another, empty ledger of the same pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from rowtrail.checkpoints.ledger import Ledger
from tests.checkpoints.desk import Desk, FakeClock
from tests.checkpoints.rules_batches import BatchRules
from tests.checkpoints.rules_decisions import DecisionRules, TrailRules
from tests.checkpoints.rules_failures import FailureRules
from tests.checkpoints.rules_groups import GroupRules
from tests.checkpoints.rules_leases import LeaseRules
from tests.checkpoints.rules_pruning import PruningRules
from tests.checkpoints.rules_selections import SelectionRules
from tests.checkpoints.rules_streams import PageRules, RunRules, StreamRules


class LedgerConformance(
    RunRules,
    StreamRules,
    PageRules,
    BatchRules,
    FailureRules,
    GroupRules,
    DecisionRules,
    TrailRules,
    SelectionRules,
    LeaseRules,
    PruningRules,
):
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def ledger(self, opener: Callable[[], Ledger]) -> Iterator[Ledger]:
        ledger = opener()
        yield ledger
        ledger.close()

    @pytest.fixture
    def desk(self, ledger: Ledger) -> Desk:
        return Desk(ledger)

    def test_a_ledger_keeps_its_id(
        self, ledger: Ledger, opener: Callable[[], Ledger], new_opener: Callable[[], Ledger]
    ) -> None:
        again, other = opener(), new_opener()
        assert again.id == ledger.id != other.id
        assert again.pipeline == ledger.pipeline == "shop"
        again.close()
        other.close()
