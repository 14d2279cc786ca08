"""Retries that many processes ask for while a sync runs: each is carried out exactly once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.states import BatchKind, BatchState, DecisionKind, DecisionState
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines import requests
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.askers import BAD, FIRST, Desks, asked
from tests.pipelines.held_run import ROOT
from tests.pipelines.witness import batches, held_back, ledger_of, outcomes, record
from tests.pipelines.world import World
from tests.soak import times

# Each step of all these runs is made durable; in memory that costs nothing.
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
PROCESSES = 8
TIMES = times(4, 125)
"""Retries that each process asks for: 32 together, or 1,000."""
CHANGING = range(1, 60)
"""Rows that change all the time, negative keys: some batches for each run."""


@pytest.fixture
def desks() -> Iterator[Desks]:
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        yield Desks(Path(folder))


def test_each_retry_of_many_processes_is_carried_out_exactly_once(desks: Desks) -> None:
    """Eight ask, a ninth syncs a table that changes meanwhile, and the last run does the rest."""
    keys = [key for process in range(PROCESSES) for key in asked(process, TIMES)]
    broken = [key for key in keys if key >= FIRST]
    desks.put((key, key, "bad") for key in BAD)
    # Beside each that fails is one that does not: nobody is to take the code for broken.
    desks.put((key + n, key, ("broken", "good")[n]) for key in broken for n in range(2))
    desks.put((key, key, "good") for key in range(BAD[-1] + 1, 2 * BAD[-1] + 1))
    desks.put((-n, desks.clock, "good") for n in CHANGING)
    assert desks.retried().run().streams["orders"].counts.failed == len(BAD) + len(broken)
    (desks.folder / "mended").touch()
    command = [sys.executable, "-m", "tests.pipelines.askers", str(desks.folder)]
    with subprocess.Popen([*command, str(PROCESSES), str(TIMES)], cwd=ROOT) as processes:
        while processes.poll() is None:
            desks.put((-n, desks.clock, "changed") for n in CHANGING)
            time.sleep(0.2)  # so that a run comes to its end
    assert processes.returncode == 0
    desks.retried().run()
    assert set(desks.expected()) - set(desks.loaded()) == set(BAD)
    with ledger_of(desks) as ledger:
        assert ledger.decisions.pending() == []
        _each_decision_has_one_result(ledger, loaded=len(broken), failed=len(keys) - len(broken))
        # The first time was the sync's own; a decision that was carried out twice shows as two.
        failed = Counter(keys)
        for key in BAD:
            (failure,) = ledger.failures.list(stream="orders", record_ids=[record(key)])
            assert failure.attempts == 1 + failed[key]
            assert [one.event for one in outcomes(ledger, key)] == ["failed"] * failure.attempts
        for key in broken:
            assert [one.event for one in outcomes(ledger, key)] == ["failed", "loaded"]
        retries = [one for one in batches(ledger) if one.kind is BatchKind.RETRY]
        assert len(retries) == len(keys)
        assert {(one.state, one.records) for one in retries} == {(BatchState.CLOSED, 1)}
        assert set(held_back(ledger)) == set(BAD)


def _each_decision_has_one_result(ledger: Ledger, *, loaded: int, failed: int) -> None:
    decisions = [ledger.decisions.get(one + 1) for one in range(loaded + failed)]
    assert Counter(one.result for one in decisions) == {
        "retry from the captured image: 1 loaded": loaded,
        "retry from the captured image: 1 failed again": failed,
    }
    assert {one.state for one in decisions} == {DecisionState.DONE}


class Late:
    """Stands for `open_pipeline`: something happens between the note and the lease."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._behind = requests.open_pipeline

    def __call__(self, *arguments: Any) -> Any:
        self._action()
        return self._behind(*arguments)


def failed_world(world: World) -> Any:
    broken = {"now": True}

    def picky(frame):
        if broken["now"] and (frame["id"] == 2).any():
            raise ValueError("two")
        return frame

    pipeline = world.pipeline(transforms=[picky], retries=0)
    world.put((n, n, "x") for n in range(1, 4))
    pipeline.run()
    return pipeline, broken


def test_what_a_run_has_done_meanwhile_is_not_done_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that held the lease when it was asked for is over before we take the lease."""
    pipeline, broken = failed_world(world)
    broken["now"] = False
    late = Late(lambda: run_pipeline(pipeline.definition))
    monkeypatch.setattr(requests, "open_pipeline", late)
    (result,) = pipeline.retry("orders", 2)
    assert result.text == "retry from the captured image: 1 loaded"
    assert result.carried_out and result.failed == ()
    with ledger_of(world) as ledger:
        assert [one.event for one in outcomes(ledger, 2)] == ["failed", "loaded"]


def test_what_a_run_has_tried_in_vain_is_told_as_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, _ = failed_world(world)
    late = Late(lambda: run_pipeline(pipeline.definition))
    monkeypatch.setattr(requests, "open_pipeline", late)
    (result,) = pipeline.retry("orders", 2)
    assert "1 failed again" in result.text and result.failed == ("orders:2",)
    with ledger_of(world) as ledger:
        (failure,) = ledger.failures.list(stream="orders", record_ids=[record(2)])
        assert failure.attempts == 2
    with pytest.raises(ConfigurationError, match="knows record orders:77"):
        pipeline.replay("orders", 77)


def test_who_carries_out_a_request_does_the_others_that_wait(world: World) -> None:
    """They were told that whoever holds the lease does it, and that is no run."""
    pipeline, broken = failed_world(world)
    world.put([(5, 5, "later")])
    broken["now"] = False
    with ledger_of(world) as ledger:
        other = ledger.decisions.request(DecisionKind.REPLAY, "orders", [record(5)], actor="ana")
    pipeline.retry("orders", 2)
    with ledger_of(world) as ledger:
        assert ledger.decisions.get(other.id).state is DecisionState.DONE
        assert ledger.decisions.pending() == []
    assert world.loaded() == world.expected()
