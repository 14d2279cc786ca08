"""Records whose key the target cannot hold: told by name, never mixed up, ended by their delete."""

from __future__ import annotations

import pytest

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.connectors.changes import Operation
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.crashing import Crash, CrashAt
from tests.pipelines.witness import ledger_of
from tests.pipelines.world import World

COLUMNS = "amount DECIMAL(10,2), note TEXT, seen INTEGER"


def keyed(tmp_path, declared: str) -> World:
    return World(tmp_path, f"CREATE TABLE orders (id {declared} PRIMARY KEY, {COLUMNS})")


def trail(world: World, *key: object) -> list[str]:
    with ledger_of(world) as ledger:
        return [entry.event for entry in ledger.trail(RecordId("orders", key))]


def test_a_null_key_is_one_failure_at_extract_and_no_delete(tmp_path, capture: str) -> None:
    world = keyed(tmp_path, "TEXT")
    world.sql("INSERT INTO orders VALUES (NULL, 1, 'x', 1), ('a', 2, 'y', 2), ('b', 3, 'z', 3)")
    pipeline = world.pipeline(capture=capture)
    assert pipeline.run().streams["orders"].counts.failed == 1
    (record,) = pipeline.run().failed_records
    assert (record.record, record.stage) == ("orders:null", "extract")
    assert set(world.loaded()) == {"a", "b"}
    with ledger_of(world) as ledger:
        operations = {entry.operation for entry in ledger.trail(RecordId("orders", (None,)))}
    assert Operation.DELETE not in operations
    with pytest.raises(ConfigurationError, match=r"orders:null .*does not fit its key id"):
        pipeline.retry("orders")


def test_a_null_in_a_composite_key(tmp_path, capture: str) -> None:
    world = World(
        tmp_path,
        "CREATE TABLE orders (id INT, note TEXT, amount DECIMAL(10,2), seen INTEGER, "
        "PRIMARY KEY (id, note))",
    )
    world.sql("INSERT INTO orders VALUES (1, NULL, 1, 1), (2, 'b', 2, 2)")
    result = world.pipeline(capture=capture).run()
    (record,) = result.failed_records
    assert (record.record, record.stage) == ("orders:1,null", "extract")
    assert result.streams["orders"].counts.failed == 1


def test_a_null_key_that_comes_later_is_not_lost(tmp_path, capture: str) -> None:
    """A change log cannot be joined on NULL: what looks like a delete may be a row."""
    world = keyed(tmp_path, "TEXT")
    world.sql("INSERT INTO orders VALUES ('a', 1, 'x', 1)")
    pipeline = world.pipeline(capture=capture)
    assert pipeline.run().complete
    world.sql("INSERT INTO orders VALUES (NULL, 1, 'x', 2)")
    assert [one.record for one in pipeline.run().failed_records] == ["orders:null"]


def test_a_delete_ends_the_failure_of_a_key_that_does_not_fit(tmp_path) -> None:
    world = keyed(tmp_path, "INT")
    world.sql("INSERT INTO orders VALUES (1, 1, 'a', 1), ('abc', 1, 'x', 2)")
    pipeline = world.pipeline()
    assert not pipeline.run().complete
    assert world.gaps() == {"orders:abc"}

    world.sql("DELETE FROM orders WHERE id = 'abc'")
    result = pipeline.run()
    assert result.complete
    assert result.streams["orders"].counts.total == 0
    assert world.gaps() == set()
    assert trail(world, "abc") == ["failed", "failure ended"]


def test_a_delete_of_a_key_that_never_came_is_nothing(tmp_path) -> None:
    world = keyed(tmp_path, "INT")
    pipeline = world.pipeline()
    assert pipeline.run().complete
    world.sql("INSERT INTO orders VALUES ('abc', 1, 'x', 2)")
    world.sql("DELETE FROM orders WHERE id = 'abc'")
    result = pipeline.run()
    assert result.complete
    assert result.streams["orders"].counts.total == 0


def test_a_key_that_comes_back_fails_again(tmp_path) -> None:
    world = keyed(tmp_path, "INT")
    world.sql("INSERT INTO orders VALUES ('abc', 1, 'x', 2)")
    pipeline = world.pipeline()
    pipeline.run()
    world.sql("DELETE FROM orders")
    world.sql("INSERT INTO orders VALUES ('abc', 1, 'x', 3)")
    assert [one.record for one in pipeline.run().failed_records] == ["orders:abc"]
    world.sql("DELETE FROM orders")
    assert pipeline.run().complete


def test_a_blob_is_not_the_text_of_the_same_bytes(tmp_path) -> None:
    world = keyed(tmp_path, "TEXT")
    world.sql("INSERT INTO orders VALUES (x'616263', 1, 'blob', 1), ('abc', 1, 'text', 2)")
    pipeline = world.pipeline()
    assert [one.record for one in pipeline.run().failed_records] == ["orders:x'616263'"]
    world.sql("UPDATE orders SET note = 'changed' WHERE id = 'abc'")
    assert [one.record for one in pipeline.run().failed_records] == ["orders:x'616263'"]
    assert world.gaps() == {"orders:x'616263'"}
    for ask in (pipeline.retry, pipeline.replay):
        with pytest.raises(ConfigurationError, match="can only be mended at the source"):
            ask("orders", b"abc")
    assert not pipeline.run().complete

    world.sql("DELETE FROM orders WHERE typeof(id) = 'blob'")
    assert pipeline.run().complete


def test_a_retry_of_all_leaves_such_a_record_and_takes_the_others(tmp_path) -> None:
    world = keyed(tmp_path, "INT")
    world.sql("INSERT INTO orders VALUES ('abc', 1, 'x', 1), (7, 'seven', 'y', 2)")
    pipeline = world.pipeline()
    assert len(pipeline.run().failed_records) == 2
    world.sql("UPDATE orders SET amount = 7 WHERE id = 7")
    (retried,) = pipeline.retry("orders")
    assert "1 loaded" in retried.text
    assert "orders:abc of stream orders does not fit its key id (int64)" in retried.text
    assert retried.failed == ("orders:abc",)
    assert world.loaded() == {7: ("7.00", "y")}


def test_a_record_fetched_in_the_midst_of_a_first_read_ends_its_failure(world: World) -> None:
    """The position that the stream has applied is then below the version that failed."""
    fixed = {"yet": False}

    def picky(frame):
        if not fixed["yet"] and (frame["note"] == "bad").any():
            raise ValueError("bad note")
        return frame

    world.put((number, 1, "bad" if number == 9 else "good") for number in range(1, 13))
    pipeline = world.pipeline(transforms=[picky], batch_rows=2)
    pipeline.install_capture()
    crash = CrashAt(Point.ACKNOWLEDGED, 5)
    opened = []

    def faults(point: Point) -> None:
        opened.append(point)
        if opened.count(Point.OPENED) == 2 and point is Point.OPENED:
            world.put([(1, 1, "later")])  # the log moves on while the first read lasts
        crash(point)

    with pytest.raises(Crash):
        run_pipeline(pipeline.definition, faults=faults)
    fixed["yet"] = True
    (retried,) = pipeline.retry("orders", 9, from_stage="extract")
    assert "1 loaded" in retried.text
    assert world.gaps() == set()
    world.put([(9, 1, "newer")])
    assert pipeline.run().complete
    assert world.loaded() == world.expected()
