"""A real SIGKILL in the midst of runs, many times at random moments."""

from __future__ import annotations

import random
from pathlib import Path

from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.states import RunState
from tests.pipelines.forking import Forks, forks
from tests.pipelines.two_tables import KEYS, TABLES, TwoTables
from tests.pipelines.witness import held_back, ledger_of, outcomes, versions
from tests.soak import times

KILLS = times(12, 50)
EVENTS = 25
"""Random changes of each table before each run."""


def test_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    world = TwoTables(tmp_path)
    chance = random.Random(20)
    with forks("tests.pipelines.two_tables") as runs:
        whole = _time_of_a_whole_run(runs, world, chance)
        kills = 0
        for _ in range(4 * KILLS):
            world.happen(chance, EVENTS)
            ended = runs.run(tmp_path, kill_after=chance.uniform(0, whole))
            assert ended.killed or ended.status == 0
            kills += ended.killed
            if kills == KILLS:
                break
        assert kills == KILLS
        world.mend()
        assert runs.run(tmp_path).status == 0
    for table in TABLES:
        assert world.at_target(table) == world.at_source(table)
        _check_ledger(world, table)
    assert world.gaps() == set()


def _time_of_a_whole_run(runs: Forks, world: TwoTables, chance: random.Random) -> float:
    """Seconds that a run takes when it is let be, over changes as all others have them."""
    for _ in range(2):
        world.happen(chance, EVENTS)
        ended = runs.run(world.folder)
        assert ended.status == 0
    return ended.seconds


def _check_ledger(world: TwoTables, table: str) -> None:
    at_target = versions(world, table)
    with ledger_of(world) as ledger:
        assert ledger.batches.unfinished() == []
        assert held_back(ledger, table) == {}
        states = {run.state for run in ledger.runs.recent(1_000)}
        assert RunState.ABANDONED in states
        assert not states & {RunState.RUNNING, RunState.FAILED}
        for key in KEYS:
            _check_trail(ledger, table, key, at_target)


def _check_trail(ledger: Ledger, table: str, key: int, at_target: dict[int, object]) -> None:
    """One outcome for each change; the last one that was loaded is what the target has."""
    seen = outcomes(ledger, key, table)
    assert len({entry.version for entry in seen}) == len(seen), "a change has two outcomes"
    loaded = [entry.version for entry in seen if entry.event == "loaded"]
    assert loaded == sorted(loaded), "a record went backwards"
    assert at_target.get(key) == (loaded[-1] if loaded else None)
