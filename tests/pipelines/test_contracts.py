"""A source that changes its shape, and what the stream's contract makes of it, for every pair."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from rowtrail import Pipeline, Stream
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.results import RunResult
from tests.pipelines.copied_table import AfterBatch, CopiedTable, Notes

ALL_BUT_SEEN = ["id", "amount", "note"]


def agreed(table: CopiedTable, contract: str | dict[str, str], **stream: Any) -> Pipeline:
    """A pipeline that has run, and whose shape was agreed on."""
    pipeline = make(table, contract, **stream)
    accepted = pipeline.accept_schemas()
    assert accepted.new == ("orders",)
    assert pipeline.run().complete
    return pipeline


def make(table: CopiedTable, contract: str | dict[str, str], **stream: Any) -> Pipeline:
    settings = {"capture": "snapshot", "exclude": ["seen"], **stream}
    return Pipeline(
        name="test",
        source=table.source,
        destination=table.target,
        ledger=table.folder / "ledger.db",
        lock=table.folder / "test.lock",
        streams=[Stream("orders", contract=contract, **settings)],
        install_capture=True,
    )


def retype(table: CopiedTable, column: str, before: str, after: str) -> None:
    """Gives a column another type. SQLite has no statement for it; its values stay as they are."""
    if table.source.startswith("postgresql:"):
        table.change(f"ALTER TABLE orders ALTER COLUMN {column} TYPE {after}")
        return
    with closing(sqlite3.connect(table.source.removeprefix("sqlite:///"))) as file, file:
        file.execute("PRAGMA writable_schema = ON")
        file.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = 'orders'",
            (f"{column} {before}", f"{column} {after}"),
        )
        # As https://sqlite.org/lang_altertable.html, 7, has it: others read the schema anew.
        ((version,),) = file.execute("PRAGMA schema_version").fetchall()
        file.execute(f"PRAGMA schema_version = {version + 1}")


def rows(table: CopiedTable, columns: str = "id, amount, note") -> dict[int, tuple[Any, ...]]:
    found = table.ask_target(
        f"SELECT {columns} FROM orders WHERE _rowtrail_deleted_at IS NULL ORDER BY id"
    )
    return {row[0]: row[1:] for row in found}


def failed(result: RunResult) -> list[str]:
    return sorted(one.record for one in result.failed_records)


def columns_of(pipeline: Pipeline) -> dict[str, str]:
    (found,) = pipeline.compare_schemas("orders")
    return {one.name: one.verdict.value for one in found.columns}


def test_a_new_column_that_is_frozen(each_pair: CopiedTable) -> None:
    """Its stream stops, others go on, and once it is agreed on it goes on where it was."""
    each_pair.change("CREATE TABLE others (id int PRIMARY KEY)", "INSERT INTO others VALUES (1)")
    pipeline = Pipeline(
        name="test",
        source=each_pair.source,
        destination=each_pair.target,
        ledger=each_pair.folder / "ledger.db",
        lock=each_pair.folder / "test.lock",
        streams=[
            Stream("orders", capture="snapshot", contract={"new_column": "freeze"}),
            Stream("others", capture="snapshot"),
        ],
    )
    pipeline.accept_schemas()
    assert pipeline.run().complete
    before = rows(each_pair)
    each_pair.change("ALTER TABLE orders ADD COLUMN place text")
    each_pair.change("UPDATE orders SET place = 'here', note = 'new' WHERE id = 7")
    each_pair.change("INSERT INTO others VALUES (2)")
    result = pipeline.run()
    error = result.streams["orders"].error
    assert error is not None and "column place is new (text) at the source" in error
    assert "`rowtrail schema --accept orders`" in error
    assert result.streams["others"].counts.loaded == 1
    assert rows(each_pair) == before
    (found, _) = pipeline.compare_schemas()
    assert found.problem == error and found.plan == () and found.loses

    assert pipeline.accept_schemas("orders").changed == (("orders", "column place is new (text)"),)
    assert pipeline.run().complete
    assert rows(each_pair, "id, place, note")[7] == ("here", "new")


def test_a_new_column_that_is_discarded(each_pair: CopiedTable) -> None:
    pipeline = agreed(each_pair, {"new_column": "discard"})
    each_pair.change("ALTER TABLE orders ADD COLUMN place text DEFAULT 'here'")
    each_pair.change("UPDATE orders SET note = 'new' WHERE id = 7")
    told = Notes()
    assert pipeline.run(reporter=told).complete
    words = "column place is new (text): the contract leaves it out"
    assert f"orders: {words}." in told.notes
    assert rows(each_pair)[7][1] == "new"
    assert columns_of(pipeline) == {**dict.fromkeys(ALL_BUT_SEEN, "same")}
    (found,) = pipeline.compare_schemas()
    assert not found.loses and [one.words for one in found.drift] == [words]


def test_a_new_column_that_is_quarantined(each_pair: CopiedTable) -> None:
    pipeline = agreed(each_pair, {"new_column": "quarantine"})
    each_pair.change("ALTER TABLE orders ADD COLUMN place text")
    each_pair.change("UPDATE orders SET place = 'here', note = 'new' WHERE id IN (7, 8)")
    each_pair.change("UPDATE orders SET note = 'new' WHERE id = 9")
    result = pipeline.run()
    assert failed(result) == ["orders:7", "orders:8"]
    for one in result.failed_records:
        assert (one.stage, one.error_class) == ("validate", "ContractBroken")
        assert "column place is new at the source and has a value" in one.message
    assert rows(each_pair)[9][1] == "new" and rows(each_pair)[7][1] != "new"
    assert pipeline.compare_schemas()[0].loses

    pipeline.run()
    with closing(open_ledger(each_pair.folder / "ledger.db", "test")) as ledger:
        tried = {one.attempts for one in ledger.failures.list(stream="orders")}
    assert tried == {1}, "as long as nothing has changed they are tried with back-off"
    pipeline.retry("orders", 7)
    assert rows(each_pair)[7][1] != "new", "nothing else was agreed on yet"
    pipeline.accept_schemas()
    assert pipeline.run().complete, "what a contract held back is tried as soon as it changes"
    there = rows(each_pair, "id, place, note")
    assert there[7] == there[8] == ("here", "new")


def test_a_type_that_is_quarantined(each_pair: CopiedTable) -> None:
    """The values that fit what was agreed on are loaded as that."""
    pipeline = agreed(each_pair, {"type_change": "quarantine"})
    retype(each_pair, "amount", "numeric(10,2)", "numeric(14,4)")
    each_pair.change("UPDATE orders SET amount = 7.1234 WHERE id = 7")
    each_pair.change("UPDATE orders SET amount = 8.5 WHERE id = 8")
    result = pipeline.run()
    assert failed(result) == ["orders:7"]
    (one,) = result.failed_records
    assert "the contract has column amount as decimal(10,2)" in one.message
    assert "7.1234" not in one.message
    assert f"{rows(each_pair)[8][0]:.2f}" == "8.50"
    assert pipeline.compare_schemas()[0].plan == (), "the target keeps what was agreed on"
    each_pair.change("UPDATE orders SET amount = 7.12 WHERE id = 7")
    assert pipeline.run().complete
    assert f"{rows(each_pair)[7][0]:.2f}" == "7.12"


def test_a_type_that_was_quarantined_and_is_agreed_on(each_pair: CopiedTable) -> None:
    """Then the target is widened, and what was held back is loaded by itself."""
    pipeline = agreed(each_pair, {"type_change": "quarantine"})
    retype(each_pair, "amount", "numeric(10,2)", "numeric(14,4)")
    each_pair.change("UPDATE orders SET amount = 7.1234 WHERE id = 7")
    assert failed(pipeline.run()) == ["orders:7"]
    pipeline.accept_schemas()
    (found,) = pipeline.compare_schemas()
    assert len(found.plan) == 1 and not found.loses
    assert pipeline.run().complete
    assert f"{rows(each_pair)[7][0]:.4f}" == "7.1234"


def test_a_type_that_evolves(each_pair: CopiedTable) -> None:
    pipeline = agreed(each_pair, "evolve")
    retype(each_pair, "amount", "numeric(10,2)", "numeric(14,4)")
    each_pair.change("UPDATE orders SET amount = 7.1234 WHERE id = 7")
    told = Notes()
    assert pipeline.run(reporter=told).complete
    words = "column amount was decimal(10,2) and is decimal(14,4): the stream goes along"
    assert f"orders: {words}." in told.notes
    assert any(note.startswith("orders: ALTER TABLE") for note in told.notes)
    assert f"{rows(each_pair)[7][0]:.4f}" == "7.1234"


def test_a_type_that_is_discarded(each_pair: CopiedTable) -> None:
    """What is there stays; new rows have NULL, as is said."""
    pipeline = agreed(each_pair, {"type_change": "discard"})
    before = rows(each_pair)
    retype(each_pair, "amount", "numeric(10,2)", "numeric(14,4)")
    each_pair.change("UPDATE orders SET amount = 7.1234, note = 'new' WHERE id = 7")
    each_pair.change("INSERT INTO orders (id, amount, note) VALUES (5000, 1, 'new')")
    told = Notes()
    assert pipeline.run(reporter=told).complete
    assert any("the contract leaves it out" in note for note in told.notes)
    assert rows(each_pair)[7] == (before[7][0], "new")
    assert rows(each_pair)[5000] == (None, "new")


@pytest.mark.parametrize("size", ["14,4", "9,1"], ids=["wider", "narrower"])
def test_a_type_that_is_frozen(each_pair: CopiedTable, size: str) -> None:
    pipeline = agreed(each_pair, "freeze")
    retype(each_pair, "amount", "numeric(10,2)", f"numeric({size})")
    error = pipeline.run().streams["orders"].error
    assert error is not None
    assert f"column amount was decimal(10,2) and is decimal({size}) at the source" in error
    assert pipeline.compare_schemas()[0].plan == ()


def test_a_column_that_may_be_null_now(each_pair: CopiedTable) -> None:
    each_pair.change("CREATE TABLE other (id int PRIMARY KEY, note text NOT NULL)")
    each_pair.change("INSERT INTO other VALUES (1, 'a'), (2, 'b')")
    pipeline = Pipeline(
        name="test",
        source=each_pair.source,
        destination=each_pair.target,
        ledger=each_pair.folder / "ledger.db",
        lock=each_pair.folder / "test.lock",
        streams=[Stream("other", capture="snapshot", contract={"nullability": "quarantine"})],
    )
    pipeline.accept_schemas()
    assert pipeline.run().complete
    each_pair.change("DROP TABLE other")
    each_pair.change("CREATE TABLE other (id int PRIMARY KEY, note text)")
    each_pair.change("INSERT INTO other VALUES (1, NULL), (2, 'c')")
    result = pipeline.run()
    assert failed(result) == ["other:1"]
    assert "never NULL" in result.failed_records[0].message
    assert each_pair.ask_target("SELECT note FROM other ORDER BY id") == [("a",), ("c",)]


def test_a_column_that_is_gone(each_pair: CopiedTable) -> None:
    pipeline = agreed(each_pair, {"dropped_column": "freeze"})
    each_pair.change("ALTER TABLE orders DROP COLUMN note")
    error = pipeline.run().streams["orders"].error
    assert error is not None and "column note (text) is gone at the source" in error
    going = make(each_pair, "evolve")
    told = Notes()
    assert going.run(reporter=told).complete
    assert any("the target keeps what it has there" in note for note in told.notes)
    assert rows(each_pair)[7][1].startswith("note of 7")


def test_a_key_of_another_type(each_pair: CopiedTable) -> None:
    pipeline = agreed(each_pair, {"key_change": "freeze"})
    retype(each_pair, "id", "int", "text")
    error = pipeline.run().streams["orders"].error
    assert error is not None and "key column id was" in error and "is text" in error


def test_a_contract_without_anything_agreed_on(each_pair: CopiedTable) -> None:
    pipeline = make(each_pair, "freeze")
    error = pipeline.run().streams["orders"].error
    assert error is not None and "has yet to be written" in error
    assert "`rowtrail schema --accept orders`" in error
    assert each_pair.folder.joinpath("test.lock").exists() is False
    evolving = make(each_pair, "evolve")
    assert evolving.run().complete, "who goes along with everything needs no lock file"


def test_a_lock_file_that_is_none_stops_the_pipeline(each_pair: CopiedTable) -> None:
    pipeline = make(each_pair, "evolve")
    each_pair.folder.joinpath("test.lock").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="is no lock file of Rowtrail"):
        pipeline.run()
    with pytest.raises(ConfigurationError, match="is no lock file of Rowtrail"):
        pipeline.accept_schemas()


def test_accepting_some_streams_leaves_the_others(each_pair: CopiedTable) -> None:
    each_pair.change("CREATE TABLE others (id int PRIMARY KEY)")

    def pipeline(*names: str) -> Pipeline:
        return Pipeline(
            name="test",
            source=each_pair.source,
            destination=each_pair.target,
            ledger=each_pair.folder / "ledger.db",
            lock=each_pair.folder / "test.lock",
            streams=[Stream(name, capture="snapshot") for name in names],
        )

    both = pipeline("orders", "others")
    assert both.accept_schemas().new == ("orders", "others")
    text = each_pair.folder.joinpath("test.lock").read_text(encoding="utf-8")
    assert not both.accept_schemas("others")
    each_pair.change("ALTER TABLE others ADD COLUMN size int")
    each_pair.change("ALTER TABLE orders DROP COLUMN note")
    accepted = both.accept_schemas("others")
    assert [name for name, _ in accepted.changed] == ["others"]
    assert '"note"' in each_pair.folder.joinpath("test.lock").read_text(encoding="utf-8")
    assert text != each_pair.folder.joinpath("test.lock").read_text(encoding="utf-8")
    assert pipeline("orders").accept_schemas().gone == ("others",)
    each_pair.change("DROP TABLE orders")
    with pytest.raises(ConfigurationError, match="orders"):
        both.accept_schemas()


def test_without_a_lock_file_nothing_can_be_agreed_on(each_pair: CopiedTable) -> None:
    with pytest.raises(ConfigurationError, match="has no lock file"):
        each_pair.pipeline(capture="snapshot").accept_schemas()


@pytest.mark.parametrize("mode", ["freeze", "discard", "quarantine", "evolve"])
@pytest.mark.parametrize("capture", ["log", "trigger", "cursor", "snapshot"])
def test_a_new_column_in_mid_run(each_pair: CopiedTable, capture: str, mode: str) -> None:
    """In the first read and in a later one: whatever the contract says of it, in the end, when it
    is agreed on, the target is the source."""
    if capture == "log" and not each_pair.source.startswith("postgresql:"):
        pytest.skip("SQLite has no log that could be read")
    now = "now()" if each_pair.source.startswith("postgresql:") else "datetime('now', 'subsec')"
    settings = {"capture": capture, "cursor": "seen", "batch_rows": 100, "exclude": []}
    pipeline = make(each_pair, {"new_column": mode}, **settings)
    pipeline.accept_schemas()
    for name in ("first", "second"):

        def add(name: str = name) -> None:
            each_pair.change(f"ALTER TABLE orders ADD COLUMN {name} text")
            each_pair.change(f"UPDATE orders SET {name} = 'x', seen = {now} WHERE id % 50 = 0")

        each_pair.change(f"UPDATE orders SET note = note || '.', seen = {now}")
        told = AfterBatch(2, add)
        result = pipeline.run(reporter=told)
        again = pipeline.run()
        error = result.streams["orders"].error or again.streams["orders"].error
        assert (error is not None) is (mode == "freeze"), error
        if mode == "quarantine":
            assert failed(again) or failed(result)
        if mode in ("discard", "quarantine", "freeze"):
            assert name not in columns_at_target(each_pair)
        pipeline.accept_schemas()
        assert pipeline.run().complete
        if mode == "discard":
            assert pipeline.run(resnapshot=["orders"]).complete
        expected = {
            row[0]: row[1:] for row in each_pair.ask(f"SELECT id, note, {name} FROM orders")
        }
        assert rows(each_pair, f"id, note, {name}") == expected


def columns_at_target(table: CopiedTable) -> set[str]:
    found = table.ask_target(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'orders'"
    )
    return {name for (name,) in found}
