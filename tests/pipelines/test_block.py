"""Policy `block`: later changes of a failed record wait behind it, and follow it in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from rowtrail import Breakers, Pipeline, Stream
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import (
    OPEN_FAILURES,
    DecisionKind,
    Failure,
    FailureState,
    NewFailure,
    Stage,
)
from rowtrail.connectors.changes import VERSION_SCHEMA, Changes, Operation, Rejected, Version
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.definition import Policy
from rowtrail.pipelines.isolation import Budget
from rowtrail.pipelines.requests import Request, submit
from rowtrail.pipelines.stages import stage
from rowtrail.pipelines.waiting import blockers_within, in_order
from tests.duckdb_files import write_into
from tests.pipelines.crashing import Crash, CrashAt
from tests.pipelines.world import World

FAILED, WAITING, IGNORED = FailureState.FAILED, FailureState.WAITING, FailureState.IGNORED
LOADED, SUPERSEDED = FailureState.LOADED, FailureState.SUPERSEDED


class Rule:
    """A transform that refuses the notes in `bad`, and remembers in which order it let notes by."""

    def __init__(self, *bad: str) -> None:
        self.bad = set(bad)
        self.passed: list[str] = []

    def step(self) -> Callable[[Any], Any]:
        def picky(frame):
            refused = self.bad & set(frame["note"])
            if refused:
                raise ValueError(f"refused: {sorted(refused)[0]}")
            self.passed += list(frame["note"])
            return frame

        return picky


@pytest.fixture
def rule() -> Rule:
    return Rule("bad")


def blocking(world: World, rule: Rule, **given: Any) -> Pipeline:
    settings = {"policy": "block", "retries": 0, "transforms": [rule.step()], **given}
    return world.pipeline(**settings)


def held(world: World, *states: FailureState) -> list[Failure]:
    with closing(open_ledger(world.ledger, "test")) as ledger:
        return ledger.failures.list(stream="orders", states=states or OPEN_FAILURES)


def states(world: World) -> list[FailureState]:
    return [one.state for one in held(world, *FailureState)]


def spoil(world: World, pipeline: Pipeline) -> None:
    """Record 2 fails; then it is changed twice, and its neighbour too."""
    world.put([(1, 1, "a"), (2, 2, "bad")])
    pipeline.run()
    world.put([(1, 10, "b"), (2, 3, "second")])
    pipeline.run()
    world.put([(2, 4, "third")])
    pipeline.run()


def test_later_changes_wait_behind_a_failed_one(world: World, rule: Rule, capture: str) -> None:
    pipeline = blocking(world, rule, capture=capture)
    spoil(world, pipeline)
    assert states(world) == [FAILED, WAITING, WAITING]
    assert [one.waits_for for one in held(world)] == [
        None,
        RecordId("orders", (2,)),
        RecordId("orders", (2,)),
    ]
    assert [one.has_image for one in held(world)] == [True, True, True]
    assert world.loaded() == {1: ("10.00", "b")}
    assert world.gaps() == {"orders:2"}
    result = pipeline.run()
    assert result.streams["orders"].summary == "complete except 1"
    assert {one.record for one in result.failed_records} == {"orders:2"}


def test_a_retry_lets_them_in_one_after_the_other(world: World, rule: Rule, capture: str) -> None:
    pipeline = blocking(world, rule, capture=capture)
    spoil(world, pipeline)
    rule.bad.clear()
    rule.passed.clear()
    (retried,) = pipeline.retry("orders", 2)
    assert rule.passed == ["bad", "second", "third"]
    assert "3 loaded" in retried.text
    assert states(world) == [LOADED, LOADED, LOADED]
    assert world.loaded() == world.expected() == {1: ("10.00", "b"), 2: ("4.00", "third")}
    assert world.gaps() == set()
    assert pipeline.run().complete


def test_one_that_fails_again_keeps_the_rest_waiting(world: World, rule: Rule) -> None:
    pipeline = blocking(world, rule)
    spoil(world, pipeline)
    (again,) = pipeline.retry("orders", 2)
    assert again.failed == ("orders:2",)
    assert states(world) == [FAILED, WAITING, WAITING]
    rule.bad = {"second"}
    (half,) = pipeline.retry("orders", 2)
    assert "1 loaded" in half.text and "1 failed again" in half.text
    assert states(world) == [LOADED, FAILED, WAITING]
    assert world.loaded()[2] == ("2.00", "bad")
    assert world.gaps() == {"orders:2"}, "the record is not yet as it is at the source"
    rule.bad = set()
    pipeline.retry()
    assert states(world) == [LOADED, LOADED, LOADED]
    assert world.loaded() == world.expected()
    assert world.gaps() == set()


def test_a_dry_run_tries_the_first_alone(world: World, rule: Rule) -> None:
    pipeline = blocking(world, rule)
    spoil(world, pipeline)
    rule.bad.clear()
    rule.passed.clear()
    (dry,) = pipeline.retry("orders", 2, dry_run=True)
    assert "would be: 1 loaded" in dry.text and "2 changes wait behind" in dry.text
    assert rule.passed == ["bad"]
    assert states(world) == [FAILED, WAITING, WAITING]


def test_a_delete_waits_too(world: World, rule: Rule, capture: str, deletes: str) -> None:
    breakers = Breakers(deleted_share=1.0)
    pipeline = blocking(world, rule, capture=capture, deletes=deletes, breakers=breakers)
    world.put([(1, 1, "a"), (2, 2, "fine")])
    pipeline.run()
    world.put([(2, 2, "bad")])
    pipeline.run()
    world.delete(2)
    pipeline.run()
    assert states(world) == [FAILED, WAITING]
    assert world.loaded()[2] == ("2.00", "fine"), "the delete did not overtake the update"
    rule.bad.clear()
    pipeline.retry("orders", 2)
    assert states(world) == [LOADED, LOADED]
    assert world.loaded() == world.expected() == {1: ("1.00", "a")}


def test_a_row_that_came_back_after_a_delete_waits_in_its_place(world: World, rule: Rule) -> None:
    pipeline = blocking(world, rule)
    world.put([(2, 2, "bad")])
    pipeline.run()
    world.delete(2)
    pipeline.run()
    world.put([(2, 5, "again")])
    pipeline.run()
    assert states(world) == [FAILED, WAITING, WAITING]
    rule.bad.clear()
    pipeline.retry("orders", 2)
    assert rule.passed[-2:] == ["bad", "again"]
    assert world.loaded() == world.expected()


def test_what_cannot_be_read_waits_and_holds_up(world: World, rule: Rule) -> None:
    """A row that SQLite cannot give as its column's type fails at extract, without an image."""
    pipeline = blocking(world, rule)
    world.put([(2, 2, "bad")])
    pipeline.run()
    world.put([(2, "twelve", "second")])
    pipeline.run()
    world.put([(2, 12, "third")])
    pipeline.run()
    assert [(one.state, one.stage) for one in held(world)] == [
        (FAILED, Stage.TRANSFORM),
        (WAITING, Stage.EXTRACT),
        (WAITING, Stage.TRANSFORM),
    ]
    rule.bad.clear()
    pipeline.retry("orders", 2)
    # The second is fetched as the row is now, which takes the place of the third as well.
    assert states(world) == [LOADED, SUPERSEDED, SUPERSEDED]
    assert world.loaded() == world.expected() == {2: ("12.00", "third")}


KEY = pa.schema([("id", pa.int64())])


def changes_of(*rows: tuple[int, int], rejected: Sequence[tuple[int, int]] = ()) -> Changes:
    """Rows and unreadable rows as (key, position)."""
    keys = pa.array([key for key, _ in rows], pa.int64())
    versions = [
        pa.array(part, pa.int64())
        for part in zip(*((1, position, 0, 0) for _, position in rows), strict=True)
    ]
    return Changes(
        stream="orders",
        schema=TableSchema(
            table="orders", columns=(Column(name="id", type=pa.int64()),), key=("id",)
        ),
        rows=pa.RecordBatch.from_arrays([keys], schema=KEY),
        operations=pa.array([int(Operation.UPDATE)] * len(rows), pa.uint8()),
        versions=pa.RecordBatch.from_arrays(versions, schema=VERSION_SCHEMA),
        position="9",
        rejected=tuple(
            Rejected(
                key=(key,),
                operation=Operation.UPDATE,
                version=Version(1, position, 0, 0),
                column="amount",
                message="no number",
                image=pa.RecordBatch.from_pydict({"id": [key]}),
            )
            for key, position in rejected
        ),
    )


def test_rows_behind_an_unreadable_one_of_their_own_batch_wait() -> None:
    changes = changes_of((1, 5), (2, 5), (3, 5), rejected=[(1, 4), (2, 6)])
    before = blockers_within(Policy.BLOCK, changes)
    staged = stage(changes, Budget(10), before, steps=())
    assert [one.row for one in staged.waiting] == [0]
    assert staged.kept.to_pylist() == [1, 2]
    assert stage(changes, Budget(10), (), steps=()).waiting == ()
    assert blockers_within(Policy.LATEST, changes) == ()


def test_an_unreadable_row_behind_one_that_failed_in_its_batch_waits() -> None:
    first = NewFailure(
        record_id=RecordId("orders", (1,)),
        operation=2,
        version=(1, 4, 0, 0),
        stage=Stage.TRANSFORM,
        error_class="ValueError",
        message="refused",
        fingerprint="f",
        code_fingerprint=None,
        extracted=None,
        transformed=None,
    )
    second = replace(first, stage=Stage.EXTRACT, version=(1, 6, 0, 0))
    other = replace(first, record_id=RecordId("orders", (2,)))
    again = replace(first, version=(2, 1, 0, 0))
    ordered = in_order(Policy.BLOCK, [second, first, other, again], ())
    assert [one.state for one in ordered] == [WAITING, FAILED, FAILED, FAILED]
    assert ordered[0].waits_for == RecordId("orders", (1,))
    assert in_order(Policy.LATEST, [second, first], ()) == (second, first)


def test_a_replay_ends_all_that_waits(world: World, rule: Rule) -> None:
    pipeline = blocking(world, rule)
    spoil(world, pipeline)
    pipeline.replay("orders", 2)
    assert states(world) == [LOADED, SUPERSEDED, SUPERSEDED]
    assert world.loaded() == world.expected()
    assert world.gaps() == set()


def test_ignoring_the_first_lets_the_next_in(world: World, rule: Rule) -> None:
    pipeline = blocking(world, rule)
    spoil(world, pipeline)
    with closing(open_ledger(world.ledger, "test")) as ledger:
        ledger.decisions.ignore("orders", [RecordId("orders", (2,))], "ana", "a test order")
    assert states(world) == [IGNORED, WAITING, WAITING]
    assert pipeline.run().complete
    assert states(world) == [SUPERSEDED, LOADED, LOADED]
    assert world.loaded() == world.expected()


def test_a_new_snapshot_waits_for_nothing_of_an_older_one(world: World, rule: Rule) -> None:
    pipeline = blocking(world, rule)
    spoil(world, pipeline)
    assert pipeline.run(resnapshot=["orders"]).complete
    assert states(world) == [SUPERSEDED, SUPERSEDED, SUPERSEDED]
    assert world.loaded() == world.expected()


def test_too_many_waiting_changes_stop_the_stream(world: World, rule: Rule) -> None:
    pipeline = blocking(world, rule, breakers=Breakers(waiting_records=2))
    spoil(world, pipeline)
    world.put([(2, 5, "fourth"), (3, 3, "c")])
    error = pipeline.run().streams["orders"].error or ""
    assert "3 changes would wait" in error and "breakers.waiting_records" in error
    assert 3 not in world.loaded(), "nothing of that batch is loaded"
    rule.bad.clear()
    pipeline.retry("orders", 2)
    assert pipeline.run().complete
    assert world.loaded() == world.expected()


@pytest.mark.parametrize("point", ["staged", "prepared", "written", "closed"])
def test_a_crash_in_the_midst_of_a_chain_loses_no_link(
    world: World, rule: Rule, point: str
) -> None:
    pipeline = blocking(world, rule)
    spoil(world, pipeline)
    rule.bad.clear()
    rule.passed.clear()
    request = Request(kind=DecisionKind.RETRY, stream="orders")
    with pytest.raises(Crash):
        submit(pipeline.definition, [request], faults=CrashAt(Point(point), 2))
    assert pipeline.run().complete
    assert list(dict.fromkeys(rule.passed)) == ["bad", "second", "third"]
    assert states(world) == [LOADED, LOADED, LOADED]
    assert world.loaded() == world.expected()


def test_the_target_refuses_a_row_and_the_next_one_waits(world: World, rule: Rule) -> None:
    pipeline = blocking(world, rule, deletes="hard")
    world.put([(1, 1, "same")])
    pipeline.run()
    with write_into(world.target) as connection:
        connection.execute("CREATE UNIQUE INDEX one_note ON orders (note)")
    world.put([(2, 2, "same")])
    pipeline.run()
    world.put([(2, 2, "other")])
    pipeline.run()
    assert [(one.state, one.stage) for one in held(world)] == [
        (FAILED, Stage.LOAD),
        (WAITING, Stage.TRANSFORM),
    ]
    with write_into(world.target) as connection:
        connection.execute("DROP INDEX one_note")
    pipeline.retry("orders", 2)
    assert world.loaded() == world.expected()


def test_waiting_is_said_in_the_trail(world: World, rule: Rule) -> None:
    spoil(world, blocking(world, rule))
    with closing(open_ledger(world.ledger, "test")) as ledger:
        trail = ledger.trail(RecordId("orders", (2,)))
    said = [entry.detail for entry in trail if entry.event == "waiting"]
    assert len(said) == 2 and all("orders:2" in one for one in said)


def test_blocking_needs_images(world: World, rule: Rule) -> None:
    with pytest.raises(ConfigurationError, match="capture_images = false"):
        blocking(world, rule, capture_images=False)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="latest, block, reread"):
        Stream("orders", policy="queue").definition()


def test_other_streams_do_not_wait(world: World, rule: Rule) -> None:
    """`latest`, as a guard: the very same life without the policy."""
    pipeline = blocking(world, rule, policy="latest")
    spoil(world, pipeline)
    assert states(world) == [SUPERSEDED]
    assert world.loaded() == world.expected()


def test_types_of_images_survive_the_wait(world: World, rule: Rule) -> None:
    pipeline = blocking(world, rule)
    spoil(world, pipeline)
    with closing(open_ledger(world.ledger, "test")) as ledger:
        image, transformed = ledger.failures.image(held(world)[-1].id)
    assert image is not None and transformed is None
    with pa.ipc.open_stream(image) as reader:
        (row,) = reader.read_all().to_pylist()
    assert (row["id"], str(row["amount"]), row["note"]) == (2, "4.00", "third")
