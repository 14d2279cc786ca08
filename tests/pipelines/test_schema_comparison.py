"""Source and target side by side, for every pair of them: what is said is what a run then does."""

from __future__ import annotations

import re

import pytest

from rowtrail import Pipeline, Stream, transform
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.schema_comparison import SchemaComparison
from rowtrail.pipelines.schema_verdicts import ColumnVerdict
from tests.pipelines.copied_table import CopiedTable, Notes

NAMES = ["id", "amount", "note", "seen"]


def compare(pipeline: Pipeline) -> SchemaComparison:
    (found,) = pipeline.compare_schemas("orders")
    return found


def verdicts(found: SchemaComparison) -> dict[str, str]:
    return {one.name: one.verdict.value for one in found.columns}


def column(found: SchemaComparison, name: str) -> ColumnVerdict:
    return next(one for one in found.columns if one.name == name)


@pytest.fixture
def pipeline(each_pair: CopiedTable) -> Pipeline:
    return each_pair.pipeline(capture="snapshot")


@pytest.fixture
def loaded(each_pair: CopiedTable, pipeline: Pipeline) -> Pipeline:
    assert pipeline.run().complete
    return pipeline


def test_before_the_first_run(each_pair: CopiedTable, pipeline: Pipeline) -> None:
    """All is missing, nothing is lost by it, and nothing is made by looking."""
    for _ in range(2):
        found = compare(pipeline)
        assert (found.is_there, found.loses, found.problem) == (False, False, "")
        assert verdicts(found) == dict.fromkeys(NAMES, "missing")
        assert all(one.source and one.target for one in found.columns)
    if each_pair.target.startswith("postgresql:"):
        assert found.plan[0].startswith("CREATE TABLE")
    made = {one.name: one.target for one in found.columns}
    assert pipeline.run().complete
    assert {one.name: one.target for one in compare(pipeline).columns} == made


def test_after_a_run_they_agree(loaded: Pipeline) -> None:
    found = compare(loaded)
    assert verdicts(found) == dict.fromkeys(NAMES, "same")
    assert (found.is_there, found.loses, found.plan, found.problem) == (True, False, (), "")
    key, amount = column(found, "id"), column(found, "amount")
    assert key.source is not None and key.target is not None
    assert (key.source.key, key.target.key, key.source.nullable, key.target.nullable) == (
        *(1, 1),
        *(False, False),
    )
    for side in (amount.source, amount.target):
        assert side is not None
        assert (side.precision, side.scale, side.length, side.nullable) == (10, 2, None, True)


def test_a_new_column(each_pair: CopiedTable, loaded: Pipeline) -> None:
    each_pair.change("ALTER TABLE orders ADD COLUMN place varchar(20)")
    found = compare(loaded)
    assert verdicts(found)["place"] == "missing"
    assert found.loses and "have NULL until" in column(found, "place").why
    (statement,) = found.plan
    assert "ADD COLUMN" in statement and '"place"' in statement
    assert column(found, "place").source.length == 20  # type: ignore[union-attr]
    assert compare(loaded) == found, "looking has changed nothing"
    assert loaded.run().complete
    assert verdicts(compare(loaded))["place"] == "same"


def test_a_column_that_only_the_target_has(each_pair: CopiedTable, loaded: Pipeline) -> None:
    each_pair.change_target("ALTER TABLE orders ADD COLUMN checked_by varchar(9)")
    each_pair.change("ALTER TABLE orders DROP COLUMN note")
    found = compare(loaded)
    assert verdicts(found) == {
        "id": "same",
        "amount": "same",
        "seen": "same",
        "note": "extra",
        "checked_by": "extra",
    }
    assert not found.loses
    assert "new rows have NULL" in column(found, "note").why


def test_a_column_that_is_too_narrow(each_pair: CopiedTable, loaded: Pipeline) -> None:
    """What the run is going to do, and does."""
    each_pair.change_target("ALTER TABLE orders ALTER COLUMN amount TYPE numeric(8,2)")
    found = compare(loaded)
    assert verdicts(found)["amount"] == "narrow"
    assert not found.loses and found.problem == ""
    (statement,) = found.plan
    assert column(found, "amount").why == f"a run makes it {statement.rpartition(' TYPE ')[2]}"
    told = Notes()
    assert loaded.run(reporter=told).complete
    assert f"orders: {statement}" in told.notes
    assert verdicts(compare(loaded))["amount"] == "same"


def test_a_column_of_another_kind(each_pair: CopiedTable, loaded: Pipeline) -> None:
    """The message has the statement; and it is the same before and in the run."""
    each_pair.change_target("ALTER TABLE orders ALTER COLUMN amount TYPE double precision")
    found = compare(loaded)
    assert verdicts(found)["amount"] == "lossy"
    assert found.loses and "Column amount of table orders" in found.problem
    assert loaded.run().streams["orders"].error == found.problem


def test_a_dry_run_does_not_widen(each_pair: CopiedTable, loaded: Pipeline) -> None:
    each_pair.change_target("ALTER TABLE orders ALTER COLUMN amount TYPE numeric(8,2)")
    with pytest.raises(ConfigurationError, match="which a dry run does not do: ALTER TABLE"):
        loaded.replay("orders", 7, dry_run=True)
    assert verdicts(compare(loaded))["amount"] == "narrow"
    loaded.replay("orders", 7)
    assert verdicts(compare(loaded))["amount"] == "same"


def test_a_column_that_takes_more(each_pair: CopiedTable, loaded: Pipeline) -> None:
    each_pair.change_target("ALTER TABLE orders ALTER COLUMN amount TYPE numeric(20,4)")
    found = compare(loaded)
    assert verdicts(found)["amount"] == "widened"
    assert not found.loses
    each_pair.happen()
    assert loaded.run().complete


def test_a_column_that_takes_no_null(each_pair: CopiedTable, loaded: Pipeline) -> None:
    each_pair.change_target("ALTER TABLE orders ALTER COLUMN note SET NOT NULL")
    found = compare(loaded)
    assert verdicts(found)["note"] == "lossy"
    assert found.loses and not found.problem
    each_pair.change("UPDATE orders SET note = NULL WHERE id = 7")
    result = loaded.run()
    assert [one.record for one in result.failed_records] == ["orders:7"]


def test_columns_in_another_order(each_pair: CopiedTable, pipeline: Pipeline) -> None:
    first = each_pair.pipeline(capture="snapshot", columns=["id", "note", "seen"])
    assert first.run().complete
    assert pipeline.run(resnapshot=["orders"]).complete
    assert verdicts(compare(pipeline)) == {
        "id": "same",
        "amount": "order",
        "note": "same",
        "seen": "same",
    }
    assert not compare(pipeline).loses


def test_another_key(each_pair: CopiedTable, loaded: Pipeline) -> None:
    each_pair.change("UPDATE orders SET note = id")
    other = each_pair.pipeline(capture="snapshot", key=["note"])
    found = compare(other)
    assert found.loses and "was made with the key (id)" in found.problem


def test_a_type_that_a_person_chose_and_columns_of_transforms(each_pair: CopiedTable) -> None:
    @transform(adds={"size": "int32"}, drops=["seen"])
    def sized(frame):
        return frame.assign(size=1).drop(columns="seen")

    pipeline = each_pair.pipeline(
        capture="snapshot", types={"amount": "decimal(12,3)"}, transforms=[sized]
    )
    assert pipeline.run().complete
    each_pair.change_target("ALTER TABLE orders ADD COLUMN seen varchar(30)")
    found = compare(pipeline)
    assert verdicts(found) == {
        **dict.fromkeys(["id", "amount", "note", "size"], "same"),
        "seen": "extra",
    }
    assert column(found, "amount").why.startswith("read as decimal(12,3)")
    assert column(found, "size").source is None
    assert column(found, "size").why == "made by a transform"
    assert column(found, "seen").why.startswith("a transform drops it")
    assert not found.loses


def test_names_that_differ_only_by_case(each_pair: CopiedTable) -> None:
    """One column to DuckDB, so that the stream is refused before it is read; two to PostgreSQL."""

    @transform(adds={"NOTE": "text"})
    def shouted(frame):
        return frame.assign(NOTE=frame["note"].str.upper())

    pipeline = each_pair.pipeline(capture="snapshot", transforms=[shouted])
    if each_pair.target.startswith("duckdb:"):
        error = pipeline.run().streams["orders"].error
        assert error is not None and "Columns note and NOTE of stream orders differ" in error
        assert "`exclude`" in error
        found = compare(pipeline)
        assert found.loses and found.problem == error
        return
    assert pipeline.run().complete
    assert not compare(pipeline).loses
    (row,) = each_pair.ask_target('SELECT note, "NOTE" FROM orders WHERE id = 7')
    assert row[0].startswith("note of 7") and row[1] == row[0].upper()


def test_a_cast_that_cannot_be_is_refused_before_a_row_is_read(each_pair: CopiedTable) -> None:
    blob = "bytea" if each_pair.source.startswith("postgresql:") else "blob"
    each_pair.change(f"ALTER TABLE orders ADD COLUMN picture {blob}")
    pipeline = each_pair.pipeline(capture="snapshot", types={"picture": "decimal(3,1)"})
    error = pipeline.run().streams["orders"].error
    assert error is not None and "Column orders.picture is declared" in error
    assert "cannot be read as decimal(3,1)" in error
    found = compare(pipeline)
    assert found.loses and found.problem in error and found.problem.startswith("Column orders.pict")
    assert each_pair.ask_target("SELECT count(*) FROM _rowtrail_receipts") == [(0,)]
    for word in ("decimal(99,2)", "money"):
        with pytest.raises(ConfigurationError, match=re.escape(f"'{word}' is not a type")):
            each_pair.pipeline(capture="snapshot", types={"picture": word}).run()


def test_a_table_that_is_gone_does_not_hide_the_others(each_pair: CopiedTable) -> None:
    each_pair.change("CREATE TABLE others (id int PRIMARY KEY)")
    pipeline = Pipeline(
        name="test",
        source=each_pair.source,
        destination=each_pair.target,
        ledger=each_pair.folder / "ledger.db",
        streams=[Stream("orders", capture="snapshot"), Stream("others", capture="snapshot")],
    )
    each_pair.change("DROP TABLE orders")
    gone, others = pipeline.compare_schemas()
    assert gone.loses and "orders" in gone.problem and gone.columns == ()
    assert verdicts(others) == {"id": "missing"} and not others.loses
    with pytest.raises(ConfigurationError, match="no stream nothing"):
        pipeline.compare_schemas("nothing")
