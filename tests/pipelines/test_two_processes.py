"""Two processes at one pipeline, or at one target."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from rowtrail.checkpoints.errors import LeaseHeldError
from rowtrail.checkpoints.states import DecisionState
from rowtrail.connectors.errors import TransientError
from rowtrail.pipelines.commit import Point
from tests.pipelines.held_run import HeldRun, held_run
from tests.pipelines.witness import ledger_of
from tests.pipelines.world import World


def spoil(world: World) -> None:
    """Row 2 has failed, and is mended at the source after it."""
    world.put([(1, 1, "a"), (2, 2, "b")])
    world.sql("UPDATE orders SET amount = 'twelve' WHERE id = 2")
    assert not world.pipeline().run().complete


def test_while_another_process_runs(world: World) -> None:
    """One start of a process for all that can be asked while it is at work."""
    spoil(world)
    world.put([(3, 3, "c")])
    with held_run(world, Point.PREPARED) as running:
        _a_second_run_is_refused(world, running)
        _the_file_of_the_target_is_refused(world, running)
        decision_id = _a_retry_is_noted(world)
        _a_dry_run_is_refused(world)
        _a_person_may_ignore(world)
        # Nothing but the row may change now: the request comes too late for a second log entry.
        with closing(sqlite3.connect(world.source)) as connection, connection:
            connection.execute("UPDATE orders SET amount = 12 WHERE id = 2")
        ended = running.finish()
    assert ended["state"] == "complete"
    (done,) = ended["decisions"]
    assert "row at the source: 1 loaded" in done
    with ledger_of(world) as ledger:
        decision = ledger.decisions.get(decision_id)
        assert (decision.state, decision.result) == (DecisionState.DONE, done)
    assert world.loaded() == world.expected()
    assert world.gaps() == set()
    assert world.pipeline().run().complete


def _a_second_run_is_refused(world: World, running: HeldRun) -> None:
    with pytest.raises(LeaseHeldError) as refused:
        world.pipeline().run()
    said = str(refused.value)
    assert f":{running.pid}, since " in said, "it names the other process"
    assert str(world.ledger) in said
    assert "Wait until that run ends" in said


def _the_file_of_the_target_is_refused(world: World, running: HeldRun) -> None:
    other = world.pipeline(ledger=world.folder / "other.db")
    with pytest.raises(TransientError) as refused:
        other.run()
    said = str(refused.value)
    assert str(world.target) in said
    assert f"process {running.pid} holds the file" in said
    assert "wait for it or stop it" in said


def _a_retry_is_noted(world: World) -> int:
    (noted,) = world.pipeline().retry("orders", 2)
    assert not noted.carried_out
    assert noted.failed == ()
    assert noted.text.startswith(f"noted as request {noted.decision_id}; it is carried out by")
    assert "is being run by" in noted.text
    assert noted.decision_id is not None
    return noted.decision_id


def _a_dry_run_is_refused(world: World) -> None:
    with pytest.raises(LeaseHeldError):
        world.pipeline().retry("orders", 2, dry_run=True)
    with ledger_of(world) as ledger:
        assert len(ledger.decisions.pending()) == 1, "a dry run notes nothing"


def _a_person_may_ignore(world: World) -> None:
    """What needs no lease works meanwhile: the ledger is open to several processes."""
    with ledger_of(world) as ledger:
        held = ledger.failures.list(stream="orders")
        ids = [failure.record_id for failure in held]
        ledger.decisions.ignore("orders", ids, "ana", "looks wrong")
        ledger.decisions.unignore("orders", ids, "ana")
        assert ledger.leases.current() is not None


def test_a_process_that_died_holds_nothing(world: World) -> None:
    world.put([(1, 1, "a")])
    with held_run(world, Point.WRITTEN), pytest.raises(LeaseHeldError):
        world.pipeline().run()
    result = world.pipeline().run()
    assert result.complete
    assert any("closed from its manifest" in note for note in result.recovered)
    assert world.loaded() == world.expected()
