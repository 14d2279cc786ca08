"""A table that changes its shape in the midst of a run, under each capture, for every pair.

What can be taken is taken, or the stream stops and the others go on. `test_contracts.py` has new
columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from rowtrail import Pipeline, Stream
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.record_id import RecordId
from tests.pipelines.copied_table import AfterBatch, CopiedTable, Notes
from tests.pipelines.test_contracts import retype, rows
from tests.postgres_server import GivenServer, PostgresServer


@pytest.fixture(params=["duckdb", "postgres"])
def server_pair(
    request: pytest.FixtureRequest, postgres_server: PostgresServer | GivenServer, tmp_path: Path
) -> Iterator[CopiedTable]:
    """A table of a PostgreSQL server that is copied to each destination."""
    with postgres_server.database() as source, postgres_server.database() as target:
        duckdb = f"duckdb:///{tmp_path / 'target.duckdb'}"
        table = CopiedTable(tmp_path, source, duckdb if request.param == "duckdb" else target)
        table.make()
        yield table


@pytest.fixture(params=["log", "trigger", "cursor", "snapshot"])
def capture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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


def done(pipeline: Pipeline, told: Notes | None = None) -> None:
    """A run that ends complete; else its reasons are in the failure."""
    result = pipeline.run(reporter=told or Notes())
    assert [one.error for one in result.streams.values() if one.error] == []
    assert [one.message for one in result.failed_records] == []
    assert result.complete


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
    done(pipeline)
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
    done(pipeline, told)
    assert any("nothing in the new column remark" in note for note in told.notes)
    assert rows(each_pair, "id, remark")[99] == ("x",)
    pipeline.backfill("orders", "remark")
    assert rows(each_pair, "id, remark") == source_rows(each_pair, "id, remark")


def exact(found: dict[int, tuple[object, ...]]) -> dict[int, str]:
    return {key: f"{row[0]:.4f}" for key, row in found.items()}


def test_a_type_is_widened(each_pair: CopiedTable, pipeline: Pipeline) -> None:
    """The run widens the target's column, and no value is rounded on its way."""

    def widen() -> None:
        retype(each_pair, "amount", "numeric(10,2)", "numeric(14,4)")
        each_pair.change(
            f"UPDATE orders SET amount = 1.2345, seen = {now(each_pair)} WHERE id % 9 = 0"
        )

    told = AfterBatch(2, widen)
    done(pipeline, told)
    done(pipeline, told)
    widened = [note for note in told.notes if note.startswith("orders: ALTER TABLE")]
    assert len(widened) == 1 and '"amount" TYPE' in widened[0]
    found = exact(rows(each_pair, "id, amount"))
    assert found == exact(source_rows(each_pair, "id, amount"))
    assert list(found.values()).count("1.2345") >= 60
    assert pipeline.compare_schemas("orders")[0].plan == ()


def test_a_type_is_widened_between_two_runs(each_pair: CopiedTable, pipeline: Pipeline) -> None:
    done(pipeline)
    retype(each_pair, "amount", "numeric(10,2)", "numeric(14,4)")
    each_pair.change(f"UPDATE orders SET amount = 1.2345, seen = {now(each_pair)} WHERE id < 50")
    each_pair.change(f"INSERT INTO orders VALUES (5000, 1234567890.1234, 'x', {now(each_pair)})")
    done(pipeline)
    found = exact(rows(each_pair, "id, amount"))
    assert found == exact(source_rows(each_pair, "id, amount"))
    assert found[5000] == "1234567890.1234"


@pytest.mark.parametrize("later", [False, True])
def test_integers_are_widened(server_pair: CopiedTable, capture: str, later: bool) -> None:
    """The key and another column, in the midst of a run and between two: SQLite has one type."""
    server_pair.change("ALTER TABLE orders ADD COLUMN size int", "UPDATE orders SET size = id")
    pipeline = server_pair.pipeline(capture=capture, batch_rows=100)
    done(pipeline)
    server_pair.change("DELETE FROM orders WHERE id = 6")
    done(pipeline)
    server_pair.change("UPDATE orders SET note = note || '.', seen = clock_timestamp()")

    def widen() -> None:
        if capture == "trigger":
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="trigger definition"):
                retype(server_pair, "id", "int", "bigint")
        else:
            retype(server_pair, "id", "int", "bigint")
        retype(server_pair, "size", "int", "bigint")
        server_pair.change(
            f"INSERT INTO orders VALUES (70000, 1, 'large', clock_timestamp(), {2**40})",
            "DELETE FROM orders WHERE id = 7",
            f"UPDATE orders SET size = {-(2**40)}, seen = clock_timestamp() WHERE id = 8",
            "UPDATE orders SET id = id + 80000, seen = clock_timestamp() WHERE id = 9",
        )
        if capture != "trigger":
            server_pair.change(
                f"INSERT INTO orders VALUES ({2**40}, 1, 'large', clock_timestamp(), {2**40})"
            )

    if later:
        done(pipeline)
        widen()
    told = Notes() if later else AfterBatch(2, widen)
    done(pipeline, told)
    done(pipeline, told)
    columns = "id, amount, note, size"
    assert len(rows(server_pair, columns)) >= 599
    assert rows(server_pair, columns) == source_rows(server_pair, columns)
    assert any('"size" TYPE' in note for note in told.notes)
    if capture != "trigger":
        assert any('"id" TYPE' in note for note in told.notes)
        server_pair.change(f"DELETE FROM orders WHERE id = {2**40}")
        done(pipeline)
        assert rows(server_pair, columns) == source_rows(server_pair, columns)
    with closing(open_ledger(server_pair.folder / "ledger.db", "test")) as ledger:
        events = [one.event for one in ledger.trail(RecordId("orders", (6,)))]
    assert events[-1] == "loaded" and len(events) >= 2, "known under the key that it had, too"


@pytest.mark.parametrize("kind", ["text", "double precision", "boolean"])
def test_a_column_becomes_one_of_another_kind(
    server_pair: CopiedTable, capture: str, kind: str
) -> None:
    """In the midst of a run. The stream stops and says so; no row fails and none has NULL there."""
    server_pair.change("ALTER TABLE orders ADD COLUMN size int", "UPDATE orders SET size = id % 2")
    pipeline = server_pair.pipeline(capture=capture, batch_rows=100)
    done(pipeline)
    server_pair.change("UPDATE orders SET note = note || '.', seen = clock_timestamp()")

    def change() -> None:
        server_pair.change(
            f"ALTER TABLE orders ALTER COLUMN size TYPE {kind} USING size::text::{kind}",
            "UPDATE orders SET note = 'new', seen = clock_timestamp() WHERE id % 9 = 0",
        )

    first = pipeline.run(reporter=AfterBatch(2, change))
    error = first.streams["orders"].error or pipeline.run().streams["orders"].error
    assert error is not None and "Column size of table orders" in error
    assert "ALTER TABLE" in error and first.failed_records == ()
    assert all(size is not None for (size,) in rows(server_pair, "id, size").values())


def test_a_failed_record_is_retried_after_its_column_was_widened(each_pair: CopiedTable) -> None:
    """Its image is of the narrow type, and so is the key of the gap that it left."""

    def picky(frame):
        if not Path(each_pair.folder, "mended").exists() and (frame["id"] == 7).any():
            raise ValueError("bad note")
        return frame

    pipeline = each_pair.pipeline(capture="snapshot", transforms=[picky])
    result = pipeline.run()
    assert [one.record for one in result.failed_records] == ["orders:7"]
    retype(each_pair, "amount", "numeric(10,2)", "numeric(14,4)")
    retype(each_pair, "id", "int", "bigint")
    each_pair.change("UPDATE orders SET amount = 8.1234 WHERE id = 8")
    assert pipeline.run().streams["orders"].error is None
    assert exact(rows(each_pair, "id, amount"))[8] == "8.1234"
    assert 7 not in rows(each_pair, "id, amount")
    Path(each_pair.folder, "mended").touch()
    pipeline.retry("orders", 7)
    assert exact(rows(each_pair, "id, amount")) == exact(source_rows(each_pair, "id, amount"))
    assert each_pair.ask_target("SELECT count(*) FROM _rowtrail_gaps") == [(0,)]


def test_a_type_is_narrowed(each_pair: CopiedTable, pipeline: Pipeline) -> None:
    """A table that is rewritten tells nobody: only a capture that compares whole rows sees it.

    What changes later comes as it is then. The target's column stays as wide as it was.
    """
    done(pipeline)
    if not each_pair.source.startswith("postgresql:"):
        pytest.skip("SQLite does not rewrite its rows")
    each_pair.change("UPDATE orders SET amount = id + 0.25, seen = clock_timestamp()")
    done(pipeline)
    # A cursor reads once more what is younger than some seconds.
    each_pair.change("UPDATE orders SET seen = seen - interval '1 day'")
    done(pipeline)
    before = rows(each_pair, "id, amount")
    retype(each_pair, "amount", "numeric(10,2)", "numeric(9,1)")
    each_pair.change("UPDATE orders SET note = 'new', seen = clock_timestamp() WHERE id = 8")
    told = Notes()
    done(pipeline, told)
    assert not [note for note in told.notes if "ALTER TABLE" in note]
    after = rows(each_pair, "id, amount")
    at_source = source_rows(each_pair, "id, amount")
    assert exact(after)[8] == exact(at_source)[8] == "8.3000"
    compares = pipeline.status().streams[0].capture == "snapshot"
    assert (exact(after) == exact(at_source)) is compares
    if not compares:
        # A cursor always looks at the row with the newest value once more, which is 600 here.
        unseen = after.keys() - {8, 600}
        assert {key: after[key] for key in unseen} == {key: before[key] for key in unseen}
    assert pipeline.compare_schemas("orders")[0].loses is False
    assert pipeline.run(resnapshot=["orders"]).complete
    assert exact(rows(each_pair, "id, amount")) == exact(at_source)


def test_a_target_is_rebuilt_from_batches_of_both_types(each_pair: CopiedTable) -> None:
    """The archive has each batch as it was read: the old ones in the narrow type."""
    pipeline = each_pair.pipeline(capture="snapshot")
    pipeline.definition = replace(pipeline.definition, archive=str(each_pair.folder / "archive"))
    done(pipeline)
    retype(each_pair, "amount", "numeric(10,2)", "numeric(14,4)")
    each_pair.change("UPDATE orders SET amount = 8.1234 WHERE id = 8")
    done(pipeline)
    expected = exact(source_rows(each_pair, "id, amount"))
    each_pair.change_target("DROP TABLE orders")
    pipeline.replay_archive("orders")
    assert exact(rows(each_pair, "id, amount")) == expected
    done(pipeline)


@pytest.mark.parametrize("capture", ["log", "trigger", "cursor", "snapshot"])
def test_a_key_is_narrowed_below_what_the_target_has(
    server_pair: CopiedTable, capture: str
) -> None:
    """A large key that was deleted at the source before it was narrowed is deleted all the same."""
    retype(server_pair, "id", "int", "bigint")
    server_pair.change(f"INSERT INTO orders VALUES ({2**40}, 1, 'large', clock_timestamp())")
    pipeline = server_pair.pipeline(capture=capture, batch_rows=100)
    done(pipeline)
    if capture == "trigger":
        # PostgreSQL does not alter a column that a trigger names.
        server_pair.change("DROP TRIGGER _rowtrail_update_key ON orders")
    server_pair.change(f"DELETE FROM orders WHERE id = {2**40}")
    retype(server_pair, "id", "bigint", "int")
    server_pair.change("INSERT INTO orders VALUES (5000, 1, 'new', clock_timestamp())")
    error = pipeline.run().streams["orders"].error
    assert error is not None and "has rows whose key id is beyond" in error
    assert pipeline.compare_schemas()[0].problem == error
    reading = server_pair.pipeline(capture=capture, batch_rows=100, types={"id": "int64"})
    if capture == "trigger":
        stopped = reading.run().streams["orders"].error
        assert stopped is not None and "its change log was made again" in stopped
        assert reading.run(resnapshot=["orders"]).complete
    done(reading)
    assert rows(server_pair, "id, note") == source_rows(server_pair, "id, note")
    done(pipeline)
