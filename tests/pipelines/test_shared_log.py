"""Streams that share a change log: what one has loaded stays for the others."""

from __future__ import annotations

from dataclasses import replace

from rowtrail.connectors.base import Capture
from rowtrail.pipelines.definition import PipelineDefinition
from rowtrail.pipelines.run import RunOptions, run_pipeline
from tests.pipelines.world import World


def two_streams(world: World) -> PipelineDefinition:
    definition = world.pipeline().definition
    (orders,) = definition.streams
    return replace(definition, streams=(orders, replace(orders, name="again", target="again")))


def test_each_gets_all_changes(world: World) -> None:
    definition = two_streams(world)
    world.put((n, n, "x") for n in range(1, 6))
    assert run_pipeline(definition).complete
    for number in range(3):
        world.put([(1, number, "y"), (10 + number, 1, "new")])
        world.delete(2 + number)
        assert run_pipeline(definition).complete
        assert world.loaded() == world.expected()
        assert world.query("SELECT count(*) FROM again WHERE _rowtrail_deleted_at IS NULL") == [
            (len(world.expected()),)
        ]


def test_a_stream_that_has_yet_to_change_to_the_log_does_not_hold_it(world: World) -> None:
    definition = two_streams(world)
    by_cursor = replace(definition.streams[1], capture=Capture.CURSOR)
    world.put([(1, 1, "x")])
    run_pipeline(replace(definition, streams=(definition.streams[0], by_cursor)))
    world.put([(2, 2, "y")])
    run_pipeline(definition, RunOptions(streams=("orders",)))
    assert world.sql("SELECT count(*) FROM _rowtrail_log_orders") == [(0,)]
    world.put([(3, 3, "z")])
    assert run_pipeline(definition).complete
    assert world.query("SELECT id FROM again ORDER BY id") == [(1,), (2,), (3,)]


def test_the_log_waits_for_a_stream_that_is_not_run(world: World) -> None:
    definition = two_streams(world)
    world.put([(1, 1, "x")])
    run_pipeline(definition)
    for number in range(3):
        world.put([(1, number, "y")])
        run_pipeline(definition, RunOptions(streams=("orders",)))
    world.put([(2, 2, "new")])
    assert run_pipeline(definition).complete
    assert world.query("SELECT id, note FROM again ORDER BY id") == [(1, "y"), (2, "new")]
    left = world.sql("SELECT count(*) FROM _rowtrail_log_orders")
    assert left == [(0,)], "what all have loaded is forgotten"
