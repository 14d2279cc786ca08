"""A new column is filled for the rows that were loaded before it, for every pair."""

from __future__ import annotations

import pytest

from rowtrail import Pipeline, transform
from rowtrail.connectors.errors import ConfigurationError
from tests.pipelines.copied_table import CopiedTable, Notes
from tests.pipelines.test_contracts import make, rows

CAPTURES = ["log", "trigger", "cursor"]  # a snapshot sees by itself that all rows have changed


def later(table: CopiedTable) -> str:
    """A cursor's value that is above all others, as SQL. PostgreSQL's time goes on by itself."""
    if table.source.startswith("postgresql:"):
        return "now()"
    return "datetime('now', '+1 hour')"


@pytest.fixture(params=CAPTURES)
def pipeline(each_pair: CopiedTable, request: pytest.FixtureRequest) -> Pipeline:
    """Has run before and after a column came, whose default older rows have at once."""
    if request.param == "log" and not each_pair.source.startswith("postgresql:"):
        pytest.skip("SQLite has no log that could be read")
    made = make(each_pair, "evolve", capture=request.param, cursor="seen", exclude=[])
    assert made.run().complete
    each_pair.change("ALTER TABLE orders ADD COLUMN \"the 'place\" text DEFAULT 'here'")
    each_pair.change('UPDATE orders SET "the \'place" = NULL WHERE id = 9')
    return made


def places(table: CopiedTable) -> dict[int, object]:
    return {key: row[0] for key, row in rows(table, 'id, "the \'place"').items()}


def test_all_rows_get_it(each_pair: CopiedTable, pipeline: Pipeline) -> None:
    told = Notes()
    assert pipeline.run(reporter=told).complete
    command = "rowtrail stream backfill orders"
    assert any(command in note and "the new column the 'place" in note for note in told.notes)
    before = places(each_pair)
    if pipeline.definition.streams[0].capture != "cursor":  # which reads the newest rows twice
        assert before[7] is None
    dry = pipeline.backfill("orders", "the 'place", dry_run=True)
    assert dry.decision_id is None and places(each_pair) == before
    done = pipeline.backfill("orders", "the 'place")
    assert done.carried_out and not done.failed
    found = each_pair.ask('SELECT id, "the \'place" FROM orders')
    assert places(each_pair) == dict(found) and places(each_pair)[7] == "here"
    again = pipeline.backfill("orders", "THE 'PLACE")
    assert places(each_pair) == dict(found) and not again.failed
    each_pair.change(
        f"UPDATE orders SET \"the 'place\" = 'there', seen = {later(each_pair)} WHERE id = 7"
    )
    assert pipeline.run().complete
    assert places(each_pair)[7] == "there", "a later change wins"


def test_before_the_run_that_would_make_the_column(
    each_pair: CopiedTable, pipeline: Pipeline
) -> None:
    assert not pipeline.backfill("orders", "the 'place").failed
    assert places(each_pair)[7] == "here"


def test_columns_that_cannot_be_filled(each_pair: CopiedTable) -> None:
    @transform(drops=["note"])
    def without(frame):
        return frame.drop(columns="note")

    pipeline = make(each_pair, "evolve", transforms=[without])
    assert pipeline.run().complete
    with pytest.raises(ConfigurationError, match="the stream leaves it out"):
        pipeline.backfill("orders", "note")
    for name in ("nothing", "seen"):
        with pytest.raises(ConfigurationError, match=f"Column {name} .* has no such column"):
            pipeline.backfill("orders", name)
    with pytest.raises(ConfigurationError, match="no stream others"):
        pipeline.backfill("others", "note")
