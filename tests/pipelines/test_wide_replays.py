"""Replays of many records: by run, by time, by condition; each record once, in batches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rowtrail import Pipeline
from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.selections import Selection
from rowtrail.checkpoints.states import BatchKind, DecisionState
from rowtrail.connectors.errors import ConfigurationError, StopError
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.requests import Request, submit
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.crashing import Crash, CrashAt
from tests.pipelines.held_run import held_run
from tests.pipelines.witness import batches, ledger_of, outcomes, record, versions
from tests.pipelines.world import World


class Rates:
    """A transform that a person mends: it notes its rate in every row, and refuses some notes."""

    def __init__(self) -> None:
        self.rate = "1"
        self.refused = {"bad"}

    def __call__(self, frame):
        if frame["note"].isin(self.refused).any():
            raise ValueError("bad note")
        return frame[frame["note"].ne("test").fillna(True)].assign(
            note=lambda rows: rows["note"] + self.rate
        )

    def pipeline(self, world: World, **stream) -> Pipeline:
        def tag(frame):
            return self(frame)

        return world.pipeline(transforms=[tag], **{"batch_rows": 4, **stream})


def noted(world: World) -> dict[int, str]:
    return {key: row[1] for key, row in world.loaded().items()}


def replay_batches(world: World) -> int:
    with ledger_of(world) as ledger:
        return sum(one.kind is BatchKind.REPLAY for one in batches(ledger))


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def rates() -> Rates:
    return Rates()


def test_all_that_a_run_took_up(world: World, rates: Rates, capture: str) -> None:
    """Loaded, filtered and failed ones alike; what only other runs took up stays as it is."""
    pipeline = rates.pipeline(world, capture=capture)
    world.put((n, n, "old") for n in range(1, 12))
    pipeline.run()
    world.put([(3, 3, "good"), (4, 4, "bad"), (5, 5, "test"), *((n, n, "new") for n in (20, 21))])
    run = pipeline.run()
    world.put([(3, 3, "good"), (6, 6, "later")])
    pipeline.run()
    rates.rate, rates.refused = "2", set()
    done = pipeline.replay("orders", run=run.run_id, reason="rate mended")
    assert done.chosen == 5
    assert done.text == "replay from the row at the source: 4 loaded, 1 filtered"
    changed = {3: "good2", 4: "bad2", 20: "new2", 21: "new2"}
    kept = {n: "old1" for n in range(1, 12) if n not in (3, 4, 5)} | {6: "later1"}
    assert noted(world) == kept | changed
    assert replay_batches(world) == 2, "five records in batches of four"
    assert world.gaps() == set()
    with ledger_of(world) as ledger:
        trail = [(one.event, one.detail) for one in ledger.trail(record(20))]
        (asked,) = [detail for event, detail in trail if event == "replay asked"]
        assert asked.endswith("from the source: rate mended")
        assert not [one for one in ledger.trail(record(6)) if one.event == "replay asked"]


def test_all_of_a_span_of_time_each_once(world: World, rates: Rates) -> None:
    pipeline = rates.pipeline(world)
    world.put((n, n, "x") for n in range(1, 4))
    pipeline.run()
    since = now()
    for _ in range(3):
        world.put((n, n, "y") for n in range(3, 9))
        pipeline.run()
    until = now()
    world.put([(9, 9, "z")])
    pipeline.run()
    rates.rate = "2"
    done = pipeline.replay("orders", since=since, until=until)
    assert (done.chosen, done.text) == (6, "replay from the row at the source: 6 loaded")
    assert noted(world) == {1: "x1", 2: "x1", **dict.fromkeys(range(3, 9), "y2"), 9: "z1"}
    rates.rate = "3"
    assert pipeline.replay("orders", since=until).chosen == 7, "also what was replayed then"
    assert pipeline.replay("orders", since=now()).text.startswith(
        "nothing to replay: there are no records loaded or failed from"
    )


def test_all_rows_that_fit_a_condition(world: World, rates: Rates) -> None:
    pipeline = rates.pipeline(world)
    world.put((n, n, "x") for n in range(1, 31))
    pipeline.run()
    rates.rate = "2"
    done = pipeline.replay("orders", where="amount > 10 AND id % 2 = 0 -- the even ones")
    assert (done.chosen, done.text) == (10, "replay from the row at the source: 10 loaded")
    assert {key for key, note in noted(world).items() if note == "x2"} == set(range(12, 31, 2))
    assert replay_batches(world) == 3


def test_what_cannot_be_meant_is_refused_and_not_noted(world: World) -> None:
    pipeline = world.pipeline()
    world.put([(1, 1, "x")])
    pipeline.run()
    for selection, words in (
        ({"where": "amount >"}, "cannot evaluate the condition `amount >`"),
        ({"where": "1 = 1); DELETE FROM orders; SELECT (1"}, "Write one SQL expression"),
        ({"run": "no such run"}, "knows no run no such run"),
        ({"since": now() - timedelta(hours=1), "run": "x"}, "one of run, since"),
        ({"until": now()}, "one of run, since"),
        ({"since": datetime(2024, 1, 1)}, "no time zone"),
        ({}, "at least one key"),
    ):
        with pytest.raises(ConfigurationError, match=words.replace("(", r"\(")):
            pipeline.replay("orders", **selection)
    with pytest.raises(ConfigurationError, match="and not both"):
        pipeline.replay("orders", 1, where="id = 1")
    with ledger_of(world) as ledger:
        assert ledger.decisions.pending() == []
        assert outcomes(ledger, 1)[-1].decision_id is None
    assert world.sql("SELECT count(*) FROM orders") == [(1,)]


def test_rows_that_are_gone_are_deletes(world: World, deletes: str) -> None:
    pipeline = world.pipeline(deletes=deletes, batch_rows=4)
    world.put((n, n, "x") for n in range(1, 11))
    run = pipeline.run()
    world.delete(2, 3, 9)
    done = pipeline.replay("orders", run=run.run_id)
    assert (done.chosen, done.text) == (
        10,
        "replay from the row at the source: 7 loaded, 3 deleted",
    )
    assert world.loaded() == world.expected()
    assert pipeline.run().complete
    assert world.loaded() == world.expected()


def test_from_the_image_only_failed_records_are_taken(world: World, rates: Rates) -> None:
    pipeline = rates.pipeline(world)
    world.put([(10, 10, "bad")])
    pipeline.run()
    world.put([*((n, n, "good") for n in range(1, 8)), (8, 8, "bad"), (9, 9, "bad")])
    run = pipeline.run()
    world.sql("UPDATE orders SET note = 'newer' WHERE id IN (1, 8)")
    rates.rate, rates.refused = "2", set()
    done = pipeline.replay("orders", run=run.run_id, origin="image")
    assert done.chosen == 9
    assert done.text == (
        "replay from the captured image: 2 loaded. 7 records were left as they are: only what is "
        "failed has a captured image; `--from source` reads the rows anew"
    )
    assert noted(world) == {**dict.fromkeys(range(1, 8), "good1"), 8: "bad2", 9: "bad2"}
    assert world.gaps() == {"orders:10"}, "another run took it up"
    pipeline.run()
    assert noted(world)[8] == "newer2", "the image is older than what is read after it"
    again = pipeline.replay("orders", 8, 1, origin="image")
    assert again.text.startswith("nothing to replay: no record of orders:8, orders:1 is failed")
    assert "2 records were left as they are" in again.text
    mixed = pipeline.replay("orders", 10, 1, origin="image", dry_run=True)
    assert (mixed.chosen, "would be: 1 loaded. 1 record was left" in mixed.text) == (2, True)


def test_an_older_replay_that_comes_late_is_superseded(world: World, rates: Rates) -> None:
    """Asked first and carried out last, as after a crash: the newer one stays."""
    pipeline = rates.pipeline(world)
    world.put((n, n, "x") for n in range(1, 4))
    pipeline.run()
    with ledger_of(world) as ledger:
        late = ledger.decisions.request("replay", "orders", [record(2)], actor="ann")
    rates.rate = "2"
    newer = pipeline.replay("orders", where="id < 3")
    assert pipeline.run().decisions == (), "who holds the lease does all that is asked for"
    assert noted(world) == {1: "x2", 2: "x2", 3: "x1"}
    assert versions(world)[2][3] == newer.decision_id
    with ledger_of(world) as ledger:
        done = ledger.decisions.get(late.id)
        assert done.state is DecisionState.DONE
        assert done.result == "replay from the row at the source: 1 superseded"
        assert outcomes(ledger, 2)[-1].event == "superseded"


@pytest.mark.parametrize("point", [Point.STAGED, Point.PREPARED, Point.WRITTEN, Point.CLOSED])
def test_a_replay_that_dies_half_way_is_carried_out_by_the_next_run(
    world: World, rates: Rates, point: Point
) -> None:
    """What it had loaded is not loaded again: the same decision has the same revision."""
    pipeline = rates.pipeline(world)
    world.put((n, n, "x") for n in range(1, 11))
    run = pipeline.run()
    rates.rate = "2"
    request = Request(kind="replay", stream="orders", selection=_of_run(run.run_id))
    with pytest.raises(Crash):
        submit(pipeline.definition, [request], faults=CrashAt(point, 2))
    half = versions(world)
    assert pipeline.run().decisions
    whole = versions(world)
    assert set(noted(world).values()) == {"x2"}
    assert {whole[key][3] for key in whole} == {1}
    assert all(whole[key] == half[key] for key in half if half[key][3])
    with ledger_of(world) as ledger:
        assert ledger.decisions.pending() == []
        for key in range(1, 11):
            events = [one.event for one in outcomes(ledger, key)]
            assert events.count("loaded") == 2, "by the run, and by the replay"


def test_while_a_run_is_under_way_the_selection_is_noted(world: World) -> None:
    """The condition is asked when it is carried out; a span of time ends where it was asked for."""
    world.put([(1, 1, "a"), (2, 2, "b")])
    first = world.pipeline().run()
    before = now() - timedelta(minutes=1)
    world.put([(3, 3, "c")])
    with held_run(world, Point.PREPARED) as running:
        asked = [
            world.pipeline().replay("orders", run=first.run_id),
            world.pipeline().replay("orders", since=before),
            world.pipeline().replay("orders", where="note = 'later'"),
            world.pipeline().replay("orders", 1, 2),
        ]
        assert [one.carried_out for one in asked] == [False] * 4
        assert [one.chosen for one in asked] == [None, None, None, 2]
        assert f"for the records that run {first.run_id} took up" in asked[0].text
        with pytest.raises(ConfigurationError, match="cannot evaluate"):
            world.pipeline().replay("orders", where="note >")
        world.sql("UPDATE orders SET note = 'later' WHERE id IN (2, 3)")
        ended = running.finish()
    assert ended["decisions"] == [
        "replay from the row at the source: 2 loaded",
        "replay from the row at the source: 2 loaded",
        "replay from the row at the source: 2 loaded",
        "replay from the row at the source: 2 loaded",
    ]
    with ledger_of(world) as ledger:
        assert ledger.decisions.pending() == []
        replayed = {n: _revisions(ledger, n) for n in (1, 2, 3)}
    assert replayed == {1: [1, 2, 4], 2: [1, 2, 3, 4], 3: [3]}
    assert world.loaded() == world.expected()


def _revisions(ledger: Ledger, key: int) -> list[int]:
    return sorted({one.version[3] for one in outcomes(ledger, key) if one.version} - {0})


def _of_run(run_id: str) -> Selection:
    return Selection(run_id=run_id)


def test_a_dry_run_of_a_selection_changes_nothing(world: World, rates: Rates) -> None:
    pipeline = rates.pipeline(world)
    world.put((n, n, "x") for n in range(1, 11))
    pipeline.run()
    rates.rate = "2"
    before = world.query("SELECT * FROM orders")
    done = pipeline.replay("orders", where="id > 4", dry_run=True)
    assert (done.chosen, done.decision_id) == (6, None)
    assert done.text == "replay from the row at the source: would be: 6 loaded"
    assert world.query("SELECT * FROM orders") == before
    with ledger_of(world) as ledger:
        assert not [one for one in ledger.trail(record(9)) if one.event == "replay asked"]


def test_keys_that_were_never_there_are_told_before_anything_is_done(world: World) -> None:
    pipeline = world.pipeline(batch_rows=4)
    world.put((n, n, "x") for n in range(1, 11))
    pipeline.run()
    with pytest.raises(ConfigurationError, match="record orders:77, so that nothing was done"):
        pipeline.replay("orders", 1, 77)
    with pytest.raises(
        ConfigurationError, match="orders:77, so that it stopped there; 8 records before"
    ):
        pipeline.replay("orders", *range(1, 11), 77)


def test_rows_that_fail_again_are_named(world: World, rates: Rates) -> None:
    pipeline = rates.pipeline(world)
    world.put([(1, 1, "good"), (2, 2, "bad"), (3, 3, "good")])
    run = pipeline.run()
    done = pipeline.replay("orders", run=run.run_id)
    assert done.text == "replay from the row at the source: 2 loaded, 1 failed again"
    assert done.failed == ("orders:2",)


def test_broken_code_stops_a_selection_and_not_what_was_named(world: World, rates: Rates) -> None:
    """Nobody waits until each record of a whole run has been tried alone."""
    pipeline = rates.pipeline(world, batch_rows=100)
    world.put((n, n, "x") for n in range(1, 61))
    run = pipeline.run()
    before = world.query("SELECT * FROM orders ORDER BY id")
    rates.refused = {"x"}
    with pytest.raises(StopError, match="every record that was tried fails alike"):
        pipeline.replay("orders", run=run.run_id)
    assert world.query("SELECT * FROM orders ORDER BY id") == before
    with ledger_of(world) as ledger:
        assert ledger.decisions.pending() == []
        assert ledger.decisions.get(1).state is DecisionState.FAILED
        assert [one.event for one in outcomes(ledger, 7)] == ["loaded"]
    done = pipeline.replay("orders", *range(1, 31))
    assert done.text == "replay from the row at the source: 30 failed again"


def test_replays_of_the_same_records_at_once_and_a_run_between_them(
    world: World, rates: Rates
) -> None:
    """Whatever the order, what the newest change holds is at the target in the end."""
    pipeline = rates.pipeline(world)
    world.put((n, n, "x") for n in range(1, 11))
    run = pipeline.run()
    with ledger_of(world) as ledger:
        for selection in (_of_run(run.run_id), None):
            ids = [] if selection else [record(n) for n in range(1, 11)]
            ledger.decisions.request("replay", "orders", ids, selection=selection, actor="ann")
    world.put((n, n, "y") for n in range(5, 11))
    done = run_pipeline(pipeline.definition)
    assert done.complete and len(done.decisions) == 2
    assert noted(world) == {n: "x1" if n < 5 else "y1" for n in range(1, 11)}
    assert pipeline.run().complete
    assert noted(world) == {n: "x1" if n < 5 else "y1" for n in range(1, 11)}
