"""The public Python API: `from rowtrail import Pipeline, Stream`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import rowtrail
from rowtrail import Breakers, Pipeline, RunResult, Stream, StreamResult, transform
from rowtrail.checkpoints.errors import LeaseHeldError
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.states import RunState
from rowtrail.connectors.errors import ConfigurationError
from tests.pipelines.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def shop(*streams: Stream, **settings: object) -> Pipeline:
    """A pipeline that is never run."""
    given = {"name": "shop", "source": "sqlite:///a.db", "destination": "duckdb:///b.duckdb"}
    return Pipeline(**{**given, "streams": streams, **settings})


def test_all_names_are_there() -> None:
    for name in rowtrail.__all__:
        assert getattr(rowtrail, name)
    with pytest.raises(AttributeError, match="no attribute 'Pipelines'"):
        rowtrail.Pipelines  # noqa: B018


def test_ten_lines_run_as_a_plain_function(world: World) -> None:
    world.put([(1, 1, "a"), (2, 2, "b")])

    def nightly() -> RunResult:
        pipeline = Pipeline(
            name="shop",
            source=f"sqlite:///{world.source}",
            destination=f"duckdb:///{world.target}",
            ledger=world.ledger,
            streams=[Stream("orders")],
            install_capture=True,
        )
        return pipeline.run()

    result = nightly()
    assert result.complete and result.state is RunState.COMPLETE
    assert result.failed_records == ()
    orders = result.streams["orders"]
    assert isinstance(orders, StreamResult)
    assert (orders.loaded, orders.failed, orders.summary) == (2, 0, "complete")
    assert {"load", "transform", "validate"} <= set(orders.seconds)
    assert result.seconds >= sum(orders.seconds.values()) > 0
    assert world.loaded() == world.expected()
    assert nightly().streams["orders"].loaded == 0


def test_the_result_has_the_failed_records(world: World) -> None:
    @transform
    def picky(orders: pd.DataFrame) -> pd.DataFrame:
        if (orders["note"] == "bad").any():
            raise LookupError("no rate")
        return orders

    world.put([(1, 1, "good"), (2, 2, "bad")])
    pipeline = world.pipeline(transforms=[picky])
    result = pipeline.run()
    assert result.state is RunState.COMPLETE_EXCEPT
    (failed,) = result.failed_records
    assert (failed.record, failed.stage, failed.error_class, failed.message) == (
        "orders:2",
        "transform",
        "LookupError",
        "LookupError: no rate",
    )
    world.put([(2, 2, "mended")])
    (retried,) = pipeline.retry(from_stage="extract")
    assert retried.carried_out and retried.failed == () and "1 loaded" in retried.text
    replayed = pipeline.replay("orders", 1, (2,), reason="rates mended")
    assert "2 loaded" in replayed.text
    assert pipeline.run().complete


def test_a_file_gives_the_same_pipeline(world: World) -> None:
    world.put([(1, 1, "a")])
    file = world.folder / "rowtrail.toml"
    file.write_text(
        '[pipeline]\nname = "test"\nsource = "sqlite:///source.db"\n'
        'destination = "duckdb:///target.duckdb"\nledger = "ledger.db"\ninstall_capture = true\n'
        '[streams.orders]\ncapture = "trigger"\ncursor = "seen"\n'
    )
    from_file = Pipeline.from_file(file)
    assert from_file.definition.lock == world.folder / "rowtrail.lock"
    assert replace(from_file.definition, lock=None) == world.pipeline().definition
    assert from_file.run().complete
    assert world.pipeline().run().streams["orders"].loaded == 0


def test_what_the_streams_of_a_log_share() -> None:
    orders = Stream("orders", capture="log")
    default = shop(orders).definition
    assert (default.slot, default.readers, default.retained_log) == ("rowtrail_shop", 2, 10**10)
    given = shop(orders, slot="mine", readers=4, retained_log="2 MB").definition
    spec = given.streams[0].source_spec()
    assert (spec.log, spec.readers, given.retained_log) == ("mine", 4, 2_000_000)


def test_capture_is_installed_and_removed(world: World) -> None:
    pipeline = world.pipeline()
    ran = pipeline.install_capture()
    assert any("CREATE TRIGGER" in statement for statement in ran)
    assert pipeline.install_capture() == []
    assert any("DROP TRIGGER" in statement for statement in pipeline.remove_capture())
    assert world.sql("SELECT name FROM sqlite_schema WHERE type = 'trigger'") == []


def test_a_pipeline_opens_nothing_before_it_runs(tmp_path: Path) -> None:
    shop(Stream("orders"), ledger=tmp_path / "shop.ledger")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: shop(Stream("orders"), Stream("orders")), "two streams of this name"),
        (lambda: shop(Stream("a", target="t"), Stream("b", target="T")), "two streams cannot fill"),
        (lambda: shop(), "there is none"),
        (lambda: shop(Stream("orders", capture="log-file")), "not one of log, trigger, cursor"),
        (lambda: shop(Stream("orders", deletes="harsh")), "not one of soft, hard"),
        (lambda: shop(Stream("orders", capture="cursor")), "orders.cursor: is missing"),
        (lambda: shop(Stream("orders", columns=["a"], exclude=["b"])), "set one of the two"),
        (lambda: shop(Stream("orders", types={"a": "money"})), "orders.types.a: 'money' is not"),
        (lambda: shop(Stream("orders", transforms=["nowhere:clean"])), "no module nowhere"),
        (lambda: shop(Stream("orders"), source="oracle://x"), "oracle:// is not a source"),
        (lambda: shop(Stream("orders"), destination="b.duckdb"), "it has no scheme"),
        (lambda: shop(Stream("orders"), name="a/b"), "may hold only letters"),
        (lambda: shop(Stream("orders"), slot="Mine"), "pipeline.slot: may hold only small"),
        (lambda: shop(Stream("orders"), readers=0), "pipeline.readers: should be from 1 to 16"),
        (lambda: shop(Stream("orders"), retained_log="much"), "pipeline.retained_log: 'much' is"),
    ],
)
def test_mistakes_are_told_when_the_pipeline_is_made(make: object, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()  # type: ignore[operator]
    assert words in str(caught.value)


def test_several_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        shop(Stream("a", capture="cursor"), Stream("a"), source="oracle://user:s3cret@x")
    first, *listed = str(caught.value).splitlines()
    assert first == "Pipeline shop has 3 mistakes:"
    assert len(listed) == 3 and "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda pipeline: pipeline.run("ordres"), "no stream ordres. Its streams are orders."),
        (lambda pipeline: pipeline.run(resnapshot=["ordres"]), "no stream ordres"),
        (lambda pipeline: pipeline.retry("ordres", 1), "no stream ordres"),
        (lambda pipeline: pipeline.replay("ordres", 1), "no stream ordres"),
        (lambda pipeline: pipeline.replay("orders"), "at least one key"),
        (lambda pipeline: pipeline.retry("orders", 1, from_stage="load"), "not from 'load'"),
    ],
)
def test_wrong_requests(world: World, ask: object, words: str) -> None:
    world.put([(1, 1, "a")])
    pipeline = world.pipeline()
    pipeline.run()
    with pytest.raises(ConfigurationError) as caught:
        ask(pipeline)  # type: ignore[operator]
    assert words in str(caught.value)


def test_asking_before_the_first_run_makes_no_ledger(world: World) -> None:
    pipeline = world.pipeline()
    for ask in (pipeline.retry, lambda: pipeline.retry("orders", 1)):
        with pytest.raises(ConfigurationError, match="has no ledger"):
            ask()
    assert not world.ledger.exists()


def test_what_concerns_the_whole_pipeline_is_raised(world: World) -> None:
    pipeline = world.pipeline(breakers=Breakers())
    pipeline.run()
    ledger = open_ledger(world.ledger, "test")
    generation = ledger.leases.acquire("elsewhere:1")
    try:
        with pytest.raises(LeaseHeldError, match="elsewhere:1"):
            pipeline.run()
        (noted,) = pipeline.retry("orders", 1)
        assert not noted.carried_out
    finally:
        ledger.leases.release(generation)
        ledger.close()
    assert "nothing to retry" in pipeline.run().decisions[0]
