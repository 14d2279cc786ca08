"""Requests: none is left waiting behind an error, and a dry run changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rowtrail.checkpoints.states import DecisionKind, StreamState
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.definition import PipelineDefinition
from rowtrail.pipelines.progress import Silent
from rowtrail.pipelines.requests import Request, submit
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.witness import ledger_of
from tests.pipelines.world import World


def spoiled(world: World) -> tuple[PipelineDefinition, dict[str, bool]]:
    """Two streams of one table; record 2 of each is failed, and the code can be mended."""
    broken = {"now": True}

    def picky(frame):
        if broken["now"] and (frame["id"] == 2).any():
            raise ValueError("two")
        return frame

    definition = world.pipeline(transforms=[picky]).definition
    (orders,) = definition.streams
    definition = replace(
        definition, streams=(orders, replace(orders, name="again", target="again"))
    )
    world.put((n, n, "x") for n in range(1, 4))
    run_pipeline(definition)
    return definition, broken


def retries(*streams: str) -> list[Request]:
    return [Request(kind=DecisionKind.RETRY, stream=stream) for stream in streams]


def test_one_that_fails_does_not_keep_the_others_from_being_carried_out(world: World) -> None:
    definition, broken = spoiled(world)
    broken["now"] = False
    with ledger_of(world) as ledger:
        ledger.streams.set_state("orders", StreamState.NEEDS_SNAPSHOT, "its log is gone.")
    with pytest.raises(ConfigurationError, match="needs a snapshot: its log is gone"):
        submit(definition, retries("orders", "again"))
    assert world.query("SELECT count(*) FROM again") == [(3,)]
    with ledger_of(world) as ledger:
        assert ledger.decisions.pending() == []


def test_one_that_is_refused_does_not_wait_for_the_next_run(world: World) -> None:
    definition, broken = spoiled(world)
    broken["now"] = False
    away = world.target.rename(world.target.with_suffix(".away"))
    world.target.write_text("no database, but long enough to be looked at as one")
    with pytest.raises(ConfigurationError, match="is not a DuckDB file"):
        submit(definition, retries("orders"))
    away.rename(world.target)
    with ledger_of(world) as ledger:
        assert ledger.decisions.pending() == []
    assert run_pipeline(definition).decisions == ()


def test_a_dry_run_does_not_widen_the_target(world: World) -> None:
    definition, broken = spoiled(world)
    broken["now"] = False
    world.sql("ALTER TABLE orders ADD COLUMN colour TEXT")
    before = world.query("DESCRIBE orders")
    words = 'yet to be made or changed, which a dry run does not do: .* ADD COLUMN "colour"'
    with pytest.raises(ConfigurationError, match=words):
        submit(definition, retries("orders"), dry_run=True)
    assert world.query("DESCRIBE orders") == before
    run_pipeline(definition)
    (result,) = submit(definition, retries("orders"), dry_run=True)
    assert "would be: 1 loaded" in result.text
    assert len(world.loaded()) == 2


def test_a_dry_run_makes_no_ledger(world: World) -> None:
    definition = world.pipeline().definition
    with pytest.raises(ConfigurationError, match="has no ledger"):
        submit(definition, retries("orders"), dry_run=True)
    assert not world.ledger.exists()


def test_a_run_says_what_older_rows_lack(world: World) -> None:
    told: list[str] = []

    class Listening(Silent):
        def note(self, text: str) -> None:
            told.append(text)

    pipeline = world.pipeline()
    world.put([(1, 1, "x")])
    pipeline.run()
    world.sql("ALTER TABLE orders ADD COLUMN colour TEXT DEFAULT 'red'")
    pipeline.run(reporter=Listening())
    assert any("nothing in the new column colour" in text for text in told)
    assert any("rowtrail stream backfill orders colour" in text for text in told)
    pipeline.run(resnapshot=["orders"])
    assert world.query("SELECT colour FROM orders") == [("red",)]
