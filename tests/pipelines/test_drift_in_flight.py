"""A table that changes its shape in the midst of a run, under each capture, for every pair.

What can be taken is taken, or the stream stops and the others go on. `test_contracts.py` has new
columns.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rowtrail import Pipeline, Stream
from tests.pipelines.copied_table import AfterBatch, CopiedTable
from tests.pipelines.test_contracts import retype, rows


@pytest.fixture(params=["log", "trigger", "cursor", "snapshot"])
def pipeline(each_pair: CopiedTable, request: pytest.FixtureRequest) -> Iterator[Pipeline]:
    """Has run once; all rows have changed since, and there is a stream beside."""
    if request.param == "log" and not each_pair.source.startswith("postgresql:"):
        pytest.skip("SQLite has no log that could be read")
    each_pair.change("CREATE TABLE others (id int PRIMARY KEY)", "INSERT INTO others VALUES (1)")
    made = Pipeline(
        name="test",
        source=each_pair.source,
        destination=each_pair.target,
        ledger=each_pair.folder / "ledger.db",
        streams=[
            Stream("orders", capture=request.param, cursor="seen", batch_rows=100),
            Stream("others", capture="snapshot"),
        ],
        install_capture=True,
    )
    assert made.run().complete
    each_pair.change(f"UPDATE orders SET note = note || '.', seen = {now(each_pair)}")
    each_pair.change("INSERT INTO others VALUES (2)")
    yield made
    assert each_pair.ask_target("SELECT id FROM others ORDER BY id") == [(1,), (2,)]


def now(table: CopiedTable) -> str:
    if table.source.startswith("postgresql:"):
        return "now()"
    return "datetime('now', '+1 hour')"


def source_rows(table: CopiedTable, columns: str) -> dict[int, tuple[object, ...]]:
    return {row[0]: row[1:] for row in table.ask(f"SELECT {columns} FROM orders")}


def test_a_column_is_dropped(each_pair: CopiedTable, pipeline: Pipeline) -> None:
    def drop() -> None:
        each_pair.change("ALTER TABLE orders DROP COLUMN note")
        each_pair.change(f"UPDATE orders SET amount = 1, seen = {now(each_pair)} WHERE id % 9 = 0")

    first = pipeline.run(reporter=AfterBatch(2, drop)).streams["orders"]
    assert first.error is None or "note" in first.error
    assert pipeline.run().complete
    assert rows(each_pair, "id, amount") == source_rows(each_pair, "id, amount")
    notes = rows(each_pair, "id, note")
    assert all(note[0] is not None for note in notes.values()), "what was there is kept"


def test_a_column_is_renamed(each_pair: CopiedTable, pipeline: Pipeline) -> None:
    def rename() -> None:
        each_pair.change("ALTER TABLE orders RENAME COLUMN note TO remark")
        each_pair.change(f"UPDATE orders SET remark = 'x', seen = {now(each_pair)} WHERE id = 99")

    told = AfterBatch(2, rename)
    first = pipeline.run(reporter=told).streams["orders"]
    assert first.error is None or "note" in first.error
    assert pipeline.run(reporter=told).complete
    assert any("nothing in the new column remark" in note for note in told.notes)
    assert rows(each_pair, "id, remark")[99] == ("x",)
    pipeline.backfill("orders", "remark")
    assert rows(each_pair, "id, remark") == source_rows(each_pair, "id, remark")


def test_a_type_is_widened(each_pair: CopiedTable, pipeline: Pipeline) -> None:
    def widen() -> None:
        retype(each_pair, "amount", "numeric(10,2)", "numeric(14,4)")
        each_pair.change(
            f"UPDATE orders SET amount = 1.2345, seen = {now(each_pair)} WHERE id % 9 = 0"
        )

    first = pipeline.run(reporter=AfterBatch(2, widen)).streams["orders"]
    error = first.error or pipeline.run().streams["orders"].error
    assert error is not None and "Column amount of table orders" in error
    before = rows(each_pair, "id, amount")
    assert all(f"{amount[0]:.4f}" != "1.2345" for amount in before.values()), "never rounded"
    each_pair.change_target("ALTER TABLE orders ALTER COLUMN amount TYPE numeric(14,4)")
    assert pipeline.run().complete
    assert {key: f"{row[0]:.4f}" for key, row in rows(each_pair, "id, amount").items()} == {
        key: f"{row[0]:.4f}" for key, row in source_rows(each_pair, "id, amount").items()
    }
