"""A process that is stopped by SIGSTOP, overtaken and waked: it learns so and changes nothing."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from rowtrail.checkpoints.states import BatchState, RunState
from rowtrail.connectors.destinations import postgres_own
from rowtrail.connectors.errors import TransientError
from rowtrail.pipelines import retrying
from rowtrail.pipelines.commit import Point
from tests.pipelines.postgres_world import PostgresWorld
from tests.pipelines.stopped_run import IN_THE_TRANSACTION, StoppedRun, of, stopped_run
from tests.pipelines.witness import batches, ledger_of, outcomes, versions
from tests.pipelines.world import World
from tests.soak import times

KEYS = range(1, 8)
MEETS = {
    Point.OPENED: ("TransitionError", "is abandoned and cannot become prepared"),
    Point.STAGED: ("TransitionError", "is abandoned and cannot become prepared"),
    Point.PREPARED: (  # the owner row at the target
        "OwnershipError",
        "This run stops; what it had not yet written is read again by the other one.",
    ),
    Point.WRITTEN: ("LeaseLostError", "was taken over by"),
    Point.CLOSED: ("LeaseLostError", "was taken over by"),
    Point.ACKNOWLEDGED: ("LeaseLostError", "was taken over by"),
}
"""What a process meets that was stopped there: its error, and some of its words."""
POINTS = [
    Point.PREPARED,
    Point.WRITTEN,
    Point.OPENED,
    Point.STAGED,
    Point.CLOSED,
    Point.ACKNOWLEDGED,
]
"""Before and after the commit at the target, then the others."""


@pytest.fixture
def to_postgres(tmp_path: Path, postgres_url: str) -> PostgresWorld:
    return PostgresWorld(tmp_path, postgres_url)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0)
    monkeypatch.setattr(retrying, "OPENING_PATIENCE", 0)
    monkeypatch.setattr(postgres_own, "_WAIT_SECONDS", 0.1)


def take_over(world: World) -> tuple[object, ...]:
    """Another process runs to the end over what has changed meanwhile; all that it leaves."""
    world.put([(1, 9, "changed while it stood still")])
    world.delete(2)
    result = of(world).run()
    assert result.complete
    assert any("ended without a word" in note for note in result.recovered)
    assert world.loaded() == world.expected()
    return everything(world)


def everything(world: World) -> tuple[object, ...]:
    receipts = world.query("SELECT batch_id, sequence FROM _rowtrail_receipts ORDER BY sequence")
    owner = world.query("SELECT ledger_id, generation FROM _rowtrail_owner")
    return world.loaded(), versions(world), receipts, owner, world.gaps()


def assert_one_outcome_each(world: World) -> None:
    with ledger_of(world) as ledger:
        assert ledger.batches.unfinished() == []
        for key in KEYS:
            seen = [entry.version for entry in outcomes(ledger, key)]
            assert seen and len(set(seen)) == len(seen), f"{key}: a change has two outcomes"


@pytest.mark.parametrize("point", POINTS[: times(2, 6)], ids=lambda point: point.value)
def test_a_process_that_comes_back_changes_nothing(
    to_postgres: PostgresWorld, point: Point
) -> None:
    world = to_postgres
    world.put((n, n, "x") for n in KEYS)
    with stopped_run(world, point.value) as stopped:
        left = take_over(world)
        ended = stopped.wake()
        assert everything(world) == left
    assert not ended.complete
    error, words = MEETS[point]
    assert ended.error == error
    assert words in ended.said
    assert_one_outcome_each(world)
    with ledger_of(world) as ledger:
        states = [one.state for one in ledger.runs.recent(10)]
        assert states.count(RunState.COMPLETE) == 1 and RunState.RUNNING not in states
    world.put([(3, 3, "later")])
    assert of(world).run().complete
    assert world.loaded() == world.expected()


@pytest.mark.usefixtures("no_waiting")
def test_in_the_midst_of_its_transaction_it_must_be_ended_at_the_server(
    to_postgres: PostgresWorld,
) -> None:
    """It holds the owner row: the other one waits, and says by which statement to end it."""
    world = to_postgres
    world.put((n, n, "x") for n in KEYS)
    with stopped_run(world, IN_THE_TRANSACTION) as stopped:
        with pytest.raises(TransientError, match="is writing to") as refused:
            of(world).run()
        assert set(world.loaded()) == {1, 2}, "nobody has written since"
        statement = str(refused.value).partition("end it at the server: ")[2]
        assert statement.startswith("SELECT pg_terminate_backend(")
        with psycopg.connect(world.destination, autocommit=True) as connection:
            connection.execute(statement.encode())
        left = take_over(world)
        ended = stopped.wake()
        assert everything(world) == left
    assert ended.error == "OwnershipError" and "has taken over" in ended.said
    assert_one_outcome_each(world)


@pytest.mark.usefixtures("no_waiting")
def test_a_duckdb_file_stays_with_the_process_that_stands_still(world: World) -> None:
    """DuckDB lets one process in: nobody can take over, so that it writes alone when it wakes."""
    world.put((n, n, "x") for n in KEYS)
    with stopped_run(world, Point.PREPARED.value) as stopped:
        _is_refused(world, stopped)
        ended = stopped.wake()
    assert ended.complete or ended.error == "LeaseLostError"
    result = of(world).run()
    assert result.complete
    assert world.loaded() == world.expected()
    assert_one_outcome_each(world)
    with ledger_of(world) as ledger:
        assert all(one.state is BatchState.CLOSED for one in batches(ledger)), "none is read again"


def _is_refused(world: World, stopped: StoppedRun) -> None:
    with pytest.raises(TransientError) as refused:
        of(world).run()
    assert f"process {stopped.pid} holds the file" in str(refused.value)
    assert "wait for it or stop it" in str(refused.value)
