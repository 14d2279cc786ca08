"""A process that stood still and was taken over: it learns so, and cannot write any more."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow as pa
import pytest

from rowtrail.checkpoints.errors import LeaseLostError, LedgerBusyError, TransitionError
from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.checkpoints.states import FailureState
from rowtrail.connectors.base import Deletes, Fence, Target
from rowtrail.connectors.destinations.duckdb import DuckdbDestination
from rowtrail.connectors.errors import OwnershipError
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.pipelines import lease
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.lease import HeldLease
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.witness import held_back, ledger_of, outcomes
from tests.pipelines.world import World


def picky(frame):
    if (frame["note"] == "bad").any():
        raise ValueError("bad note")
    return frame


def test_a_paused_process_cannot_write_to_the_target(world: World) -> None:
    """It holds the file's connection and a fence that a later run has overtaken meanwhile."""
    pipeline = world.pipeline()
    world.put([(1, 1, "a"), (2, 2, "b")])
    pipeline.run()
    ((ledger_id, generation),) = world.query("SELECT ledger_id, generation FROM _rowtrail_owner")
    url = f"duckdb:///{world.target}"
    late = Fence(pipeline="test", ledger_id=ledger_id, generation=generation)
    paused = DuckdbDestination(url, late)
    later = Fence(pipeline="test", ledger_id=ledger_id, generation=generation + 1)
    taking_over = DuckdbDestination(url, later)
    try:
        table = TableSchema(
            table="orders", columns=(Column(name="id", type=pa.int64()),), key=("id",)
        )
        target = Target(stream="orders", table="orders", schema=table, deletes=Deletes.SOFT)
        with pytest.raises(OwnershipError, match="taken over") as caught:
            paused.alter(target)
        assert caught.value.generation == generation + 1
        with pytest.raises(OwnershipError):
            DuckdbDestination(url, late)
    finally:
        taking_over.close()
        paused.close()


def opened_later(path: Path, pipeline: str) -> Ledger:
    """A ledger whose clock is an hour ahead, so that every lease of now has expired."""
    return open_ledger(path, pipeline, clock=lambda: datetime.now(UTC) + timedelta(hours=1))


@pytest.mark.parametrize(
    ("point", "meets"),
    [
        (Point.STAGED, TransitionError),  # its batch was abandoned
        (Point.PREPARED, OwnershipError),  # the owner row at the target
        (Point.WRITTEN, LeaseLostError),
        (Point.ACKNOWLEDGED, LeaseLostError),
    ],
)
def test_a_process_that_is_paused_while_another_takes_over(
    world: World, monkeypatch: pytest.MonkeyPatch, point: Point, meets: type[Exception]
) -> None:
    """At a point of its second batch it stands still for an hour; another one runs to the end."""
    pipeline = world.pipeline(batch_rows=2, transforms=[picky], retries=0)
    world.put((n, n, "bad" if n == 4 else "x") for n in range(1, 8))
    seen: list[Point] = []

    def asleep(reached: Point) -> None:
        seen.append(reached)
        if reached is point and seen.count(point) == 2:
            other = run_pipeline(pipeline.definition, ledger_opener=opened_later)
            assert other.streams["orders"].error is None
            monkeypatch.setattr(lease, "monotonic", lambda: monotonic() + 3600)

    with pytest.raises(meets):
        run_pipeline(pipeline.definition, faults=asleep)
    monkeypatch.undo()
    assert set(world.loaded()) == set(world.expected()) - {4}
    with ledger_of(world) as ledger:
        assert held_back(ledger) == {4: FailureState.FAILED}
        for key in range(1, 8):
            assert len(outcomes(ledger, key)) == 1, "each change has one outcome"
    world.put([(4, 4, "mended")])
    after = run_pipeline(pipeline.definition, ledger_opener=opened_later)
    assert after.complete
    assert world.loaded() == world.expected()


class _Leases:
    """Answers renewals with these errors, then lets each of them pass."""

    def __init__(self, *answers: Exception) -> None:
        self.answers = list(answers)
        self.asked = threading.Event()

    def acquire(self, holder: str) -> int:
        return 7

    def renew(self, generation: int) -> None:
        if not self.answers:
            self.asked.set()
            return
        raise self.answers.pop(0)

    def release(self, generation: int) -> None:
        assert generation == 7


def _hold(leases: _Leases) -> HeldLease:
    ledger: Any = type("Ledger", (), {"leases": leases})()
    return HeldLease(ledger, "me")


def test_a_busy_ledger_takes_no_lease_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT", 0)
    leases = _Leases(LedgerBusyError("busy"), LedgerBusyError("busy"))
    held = _hold(leases)
    assert leases.asked.wait(30), "it is renewed after two busy answers"
    held.check()
    held.close()


def test_a_process_that_stood_still_asks_before_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = _hold(_Leases(LeaseLostError("taken over")))
    held.check()
    monkeypatch.setattr(lease, "monotonic", lambda: float("inf"))
    with pytest.raises(LeaseLostError):
        held.check()
    held.close()
