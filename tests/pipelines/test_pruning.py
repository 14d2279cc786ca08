"""Pruning beside a run, after a crash, and cut off itself: the pipeline goes on all the same."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rowtrail.checkpoints.states import Prunable
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.retention import prune
from tests.pipelines.crashing import CrashAt
from tests.pipelines.held_run import held_run
from tests.pipelines.test_crash import sync_with_crash
from tests.pipelines.witness import ledger_of
from tests.pipelines.world import World

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from contextlib import closing
from datetime import UTC, datetime
from rowtrail.checkpoints import pruning
from rowtrail.checkpoints.ledger import open_ledger

drop, dropped = pruning.{what}, []

def drop_one_and_die(*args, **kwargs):
    drop(*args, **kwargs)
    dropped.append(1)
    if len(dropped) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

pruning._AT_ONCE = 1
pruning.{what} = drop_one_and_die
open_ledger(sys.argv[1], "test").pruning.trails(datetime.now(UTC))
"""


def prune_all(world: World) -> None:
    with ledger_of(world) as ledger:
        for what in (Prunable.IMAGES, Prunable.TRAILS):
            prune(world.pipeline().definition, ledger, what, datetime.now(UTC), open_ones=True)


def ask(world: World, statement: str) -> int:
    with closing(sqlite3.connect(world.ledger)) as connection:
        return int(connection.execute(statement).fetchone()[0])


def is_sound(world: World) -> bool:
    with closing(sqlite3.connect(world.ledger)) as connection:
        return not connection.execute("PRAGMA foreign_key_check").fetchall()


def fill(world: World) -> None:
    """Several batches, and failures that have ended and that have not."""
    pipeline = world.pipeline()
    for start in range(0, 20, 10):
        world.put((n, n, f"note {n}") for n in range(start, start + 10))
        world.sql("UPDATE orders SET amount = 'bad' WHERE id % 5 = 0 AND id >= ?", (start,))
        pipeline.run()
        world.sql("UPDATE orders SET amount = 3 WHERE id % 10 = 0")
    pipeline.run()


@pytest.mark.parametrize("point", [Point.PREPARED, Point.WRITTEN])
def test_beside_a_run(world: World, point: Point) -> None:
    fill(world)
    world.sql("UPDATE orders SET amount = 4")
    world.delete(3)
    with held_run(world, point) as running:
        prune_all(world)
        assert running.finish()["state"] == "complete"
    assert world.loaded() == world.expected()
    assert is_sound(world)


@pytest.mark.parametrize("point", [Point.PREPARED, Point.WRITTEN])
def test_between_a_crash_and_its_recovery(world: World, point: Point) -> None:
    fill(world)
    world.sql("UPDATE orders SET amount = 4")
    world.delete(3)
    sync_with_crash(world.pipeline(), CrashAt(point))
    prune_all(world)
    result = world.pipeline().run()
    assert result.complete
    assert world.loaded() == world.expected()
    assert world.gaps() == set() and is_sound(world)


@pytest.mark.parametrize("what", ["_drop_failures", "_drop_batches"])
def test_cut_off_and_done_again(world: World, what: str) -> None:
    """What is gone was said to be gone before; the next pruning goes on."""
    fill(world)
    script = KILLED.format(what=what)
    done = subprocess.run([sys.executable, "-c", script, str(world.ledger)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    with ledger_of(world) as ledger:
        assert [one.what for one in ledger.pruning.pruned("orders")] == [Prunable.TRAILS]
    blobs, old = "SELECT count(*) FROM outcomes", "SELECT count(*) FROM failures WHERE ended_at > 0"
    assert ask(world, blobs) > 1 and is_sound(world)
    prune_all(world)
    assert (ask(world, blobs), ask(world, old)) == (1, 0)
    with ledger_of(world) as ledger:
        assert len(ledger.failures.held_back("orders")) == 2
    world.sql("UPDATE orders SET amount = 4")
    assert world.pipeline().run().complete
    assert world.loaded() == world.expected()
