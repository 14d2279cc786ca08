"""Two changes of one record fail in one batch, at different stages: one record is held back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.states import FailureState
from tests.pipelines.copied_table import CopiedTable
from tests.pipelines.witness import held_back
from tests.postgres_server import GivenServer, PostgresServer


@pytest.fixture(params=["duckdb", "postgres"])
def table(
    request: pytest.FixtureRequest, postgres_server: PostgresServer | GivenServer, tmp_path: Path
) -> Iterator[CopiedTable]:
    with ExitStack() as stack:
        source = stack.enter_context(postgres_server.database())
        target = f"duckdb:///{tmp_path / 'target.duckdb'}"
        if request.param == "postgres":
            target = stack.enter_context(postgres_server.database())
        made = CopiedTable(tmp_path, source, target)
        made.make()
        made.change("DELETE FROM orders WHERE id > 9")
        yield made


@pytest.mark.parametrize("batch_rows", [2, 3, 100])
@pytest.mark.parametrize("policy", ["latest", "block", "reread"])
def test_the_newest_of_them_is_what_the_target_lacks(
    table: CopiedTable, policy: str, batch_rows: int
) -> None:
    """The target refuses the first, and no `decimal(10,2)` holds the second."""
    pipeline = table.pipeline(capture="log", policy=policy, batch_rows=batch_rows, exclude=["seen"])
    assert pipeline.run().complete
    table.change_target("ALTER TABLE orders ALTER COLUMN note SET NOT NULL")
    table.change("UPDATE orders SET note = NULL WHERE id = 5")
    table.change("UPDATE orders SET note = 'new', amount = 'NaN' WHERE id = 5")
    table.change("UPDATE orders SET note = 'new' WHERE id = 3")
    result = pipeline.run()
    assert result.streams["orders"].error is None
    assert {one.record for one in result.failed_records} == {"orders:5"}
    reasons = table.ask_target("SELECT record, stage FROM _rowtrail_gaps")
    with closing(open_ledger(table.folder / "ledger.db", "test")) as ledger:
        states = [one.state for one in ledger.failures.list(stream="orders")]
        if policy == "block":
            assert reasons == [("orders:5", "load")]
            assert sorted(states) == [FailureState.FAILED, FailureState.WAITING]
        else:
            assert reasons == [("orders:5", "extract")]
            assert held_back(ledger) == {5: FailureState.FAILED}
    table.change("UPDATE orders SET amount = 7 WHERE id = 5")
    table.change_target("ALTER TABLE orders ALTER COLUMN note DROP NOT NULL")
    for _ in range(4):
        pipeline.run()
        pipeline.retry("orders")
    assert table.loaded() == table.expected()
    assert table.ask_target("SELECT count(*) FROM _rowtrail_gaps") == [(0,)]
