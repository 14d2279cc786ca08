"""Targets rebuilt from the archive: the source is not there, and the next run goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rowtrail.checkpoints.errors import LeaseHeldError
from rowtrail.checkpoints.states import (
    DecisionState,
    FailureState,
    NewFailure,
    Stage,
    StreamState,
)
from rowtrail.connectors.errors import ConfigurationError, OwnershipError
from rowtrail.pipelines.archive_replay import ArchiveRequest, replay_archive
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.rebuild import rebuild_ledger
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.archived import Archived, assert_goes_on, change, fill
from tests.pipelines.crashing import Crash, CrashAt
from tests.pipelines.witness import held_back, ledger_of, record, versions
from tests.pipelines.world import World


@pytest.fixture
def archived(world: World) -> Archived:
    return Archived(world)


def picky(frame):
    if (frame["note"] == "bad").any():
        raise ValueError("bad note")
    return frame


def shouting(frame):
    return frame.assign(note=frame["note"] + "!")


def state(world: World) -> tuple[StreamState, str]:
    with ledger_of(world) as ledger:
        found = ledger.streams.get("orders")
    assert found is not None
    return found.state, found.state_reason or ""


def test_a_lost_target_is_rebuilt_without_the_source(
    archived: Archived, capture: str, deletes: str
) -> None:
    world = archived.world
    pipeline = archived.pipeline(capture=capture, deletes=deletes)
    fill(world)
    pipeline.run()
    change(world)
    pipeline.run()
    before, at = world.loaded(), versions(world)
    archived.lose_target()
    with archived.without_source():
        result = archived.replay(pipeline)
    assert result.complete and result.rebuilt
    assert world.loaded() == before == world.expected()
    assert {key: version[:3] for key, version in versions(world).items()} == {
        key: version[:3] for key, version in at.items()
    }
    went_on = assert_goes_on(world, pipeline)
    assert went_on.recovered == ()
    assert went_on.streams["orders"].counts.total == 3, "nothing else is read"


def test_with_a_lost_ledger_too(archived: Archived, capture: str) -> None:
    world = archived.world
    pipeline = archived.pipeline(capture=capture)
    fill(world)
    pipeline.run()
    change(world)
    pipeline.run()
    before = world.loaded()
    archived.lose_target()
    archived.lose_ledger()
    with archived.without_source():
        result = archived.replay(pipeline)
    assert result.complete and result.rebuilt
    assert world.loaded() == before
    assert_goes_on(world, pipeline)
    archived.lose_target()
    with archived.without_source():
        again = archived.replay(pipeline)
    assert again.complete and world.loaded() == world.expected(), "the files of both ledgers count"


def test_a_lost_ledger_alone_is_not_replaced(archived: Archived) -> None:
    fill(archived.world)
    pipeline = archived.pipeline()
    pipeline.run()
    archived.lose_ledger()
    with pytest.raises(OwnershipError, match="ledger rebuild"):
        archived.replay(pipeline)


def test_into_another_table(archived: Archived) -> None:
    """The stream goes on there, from the position that it had."""
    world = archived.world
    fill(world)
    archived.pipeline().run()
    pipeline = archived.pipeline(target="copies.orders")
    with archived.without_source():
        assert archived.replay(pipeline).complete
    rows = "SELECT id, note FROM copies.orders WHERE _rowtrail_deleted_at IS NULL ORDER BY id"
    assert world.query(rows) == [(n, "first") for n in range(1, 10)]
    world.put([(2, 2, "later")])
    result = pipeline.run()
    assert result.streams["orders"].counts.total == 1
    assert world.query(rows)[1] == (2, "later")
    assert world.loaded()[2] == ("2.00", "first"), "the old table stays as it was"


def test_an_older_target_is_brought_up(archived: Archived) -> None:
    world = archived.world
    pipeline = archived.pipeline()
    fill(world)
    pipeline.run()
    older = world.target.read_bytes()
    change(world)
    pipeline.run()
    world.target.write_bytes(older)
    assert pipeline.run().streams["orders"].needs_snapshot
    with archived.without_source():
        assert archived.replay(pipeline).complete
    assert world.loaded() == world.expected()
    assert_goes_on(world, pipeline)


def test_a_dropped_table_is_made_again(archived: Archived) -> None:
    world = archived.world
    pipeline = archived.pipeline()
    fill(world)
    pipeline.run()
    world.change_target("DROP TABLE orders")
    with archived.without_source():
        assert archived.replay(pipeline).complete
    assert_goes_on(world, pipeline)


def test_a_mended_transform_wins_over_itself_and_over_nothing_newer(archived: Archived) -> None:
    world = archived.world
    fill(world)
    archived.pipeline().run()
    change(world)
    archived.pipeline(archive=False).run()
    with archived.without_source():
        result = archived.replay(archived.pipeline(transforms=[shouting]))
    assert not result.rebuilt
    notes = {key: note for key, (_, note) in world.loaded().items()}
    assert notes == {
        **dict.fromkeys((2, 5, 7, 8), "first!"),
        1: "second",
        4: "second",
        6: "again",
        11: "new",
        12: "first",
    }, "3 and 9 are deleted and stay so; what changed since stands"


def test_twice_changes_nothing(archived: Archived, deletes: str) -> None:
    world = archived.world
    pipeline = archived.pipeline(deletes=deletes)
    fill(world)
    pipeline.run()
    change(world)
    pipeline.run()
    archived.replay(pipeline)
    rows = world.loaded()
    archived.replay(pipeline)
    assert world.loaded() == rows == world.expected()
    assert pipeline.run().complete


def test_what_is_wrong_at_the_target_is_put_right(archived: Archived) -> None:
    world = archived.world
    fill(world)
    pipeline = archived.pipeline()
    pipeline.run()
    world.change_target("UPDATE orders SET note = 'vandal' WHERE id = 4")
    world.change_target("DELETE FROM orders WHERE id = 5")
    with archived.without_source():
        archived.replay(pipeline)
    assert world.loaded() == world.expected()


def test_single_records(archived: Archived) -> None:
    world = archived.world
    fill(world)
    pipeline = archived.pipeline()
    pipeline.run()
    world.put([(4, 4, "second")])
    pipeline.run()
    world.change_target("UPDATE orders SET note = 'vandal' WHERE id IN (4, 5)")
    request = ArchiveRequest(streams=("orders",), record_ids=(record(4),))
    with archived.without_source():
        (result,) = replay_archive(pipeline.definition, request)
    assert (result.counts.total, result.counts.loaded) == (2, 1)
    assert world.loaded()[4] == ("4.00", "second")
    assert world.loaded()[5] == ("5.00", "vandal")


def test_a_fetched_row_stands_over_what_was_captured_before(archived: Archived) -> None:
    """The cursor does not see the last change of row 4; a person had it fetched. Both images are of
    one place in history, and differ by the number of the decision alone."""
    world = archived.world
    pipeline = archived.pipeline(capture="cursor")
    fill(world)
    pipeline.run()
    world.put([(4, 4, "second")])
    pipeline.run()
    captured = versions(world)[4]
    world.sql("UPDATE orders SET note = 'unseen' WHERE id = 4")
    pipeline.replay("orders", 4)
    assert versions(world)[4] == (*captured[:3], 1)
    assert world.loaded()[4] == ("4.00", "unseen")
    archived.replay(pipeline)
    assert world.loaded()[4] == ("4.00", "unseen")
    moment = next(one.opened_at for one in archived.batches() if one.kind == "replay")
    archived.replay(pipeline, until=moment)
    assert world.loaded()[4] == ("4.00", "unseen"), "also when the range ends before it"
    archived.lose_target()
    with archived.without_source():
        assert archived.replay(pipeline).complete
    assert world.loaded()[4] == ("4.00", "unseen")


def test_records_that_fail_are_failures_as_ever(archived: Archived) -> None:
    world = archived.world
    world.put([(1, 1, "good"), (2, 2, "bad"), (3, 3, "good")])
    archived.pipeline().run()
    archived.lose_target()
    pipeline = archived.pipeline(transforms=[picky])
    with archived.without_source():
        result = archived.replay(pipeline)
    assert result.failed == ("orders:2",) and not result.complete
    assert world.gaps() == {"orders:2"}
    assert set(world.loaded()) == {1, 3}
    with archived.without_source():
        mended = archived.replay(archived.pipeline())
    assert mended.complete and world.gaps() == set() and set(world.loaded()) == {1, 2, 3}
    with ledger_of(world) as ledger:
        assert held_back(ledger) == {}


def test_what_could_not_be_represented_is_a_gap_of_the_new_target_too(archived: Archived) -> None:
    world = archived.world
    world.put([(1, 1, "good"), (2, "two euros", "odd"), (3, 3, "good")])
    pipeline = archived.pipeline()
    pipeline.run()
    archived.lose_target()
    with archived.without_source():
        result = archived.replay(pipeline)
    assert not result.complete and world.gaps() == {"orders:2"}
    with ledger_of(world) as ledger:
        assert held_back(ledger) == {2: FailureState.FAILED}
    assert pipeline.run().streams["orders"].held_back == 1


def test_what_is_held_back_and_not_in_the_archive_is_a_gap_of_the_new_target(
    archived: Archived,
) -> None:
    world = archived.world
    fill(world)
    pipeline = archived.pipeline()
    pipeline.run()
    unknown = NewFailure(
        record_id=record(99),
        operation=2,
        version=(0, 0, 0, 0),
        stage=Stage.LOAD,
        error_class="RestoredFromTarget",
        message="known from the gaps of a target",
        fingerprint="0",
        code_fingerprint=None,
        extracted=None,
        transformed=None,
    )
    with ledger_of(world) as ledger:
        ledger.failures.restore([unknown], ledger.runs.start())
    archived.lose_target()
    with archived.without_source():
        assert archived.replay(pipeline).needs_snapshot is None
    assert world.gaps() == {"orders:99"}
    assert pipeline.run().streams["orders"].held_back == 1


def test_an_old_change_that_fails_today_is_no_gap(archived: Archived) -> None:
    world = archived.world
    world.put([(1, 1, "bad"), (2, 2, "good")])
    archived.pipeline().run()
    world.put([(1, 1, "good")])
    archived.pipeline(archive=False).run()
    result = archived.replay(archived.pipeline(transforms=[picky]))
    assert result.failed == () and result.counts.failed == 0
    assert world.gaps() == set()
    with ledger_of(world) as ledger:
        assert held_back(ledger) == {}


def test_what_a_person_ignores_stays_ignored(archived: Archived) -> None:
    world = archived.world
    pipeline = archived.pipeline(transforms=[picky])
    world.put([(1, 1, "bad"), (2, 2, "good"), (3, "three", "odd")])
    pipeline.run()
    with ledger_of(world) as ledger:
        ledger.decisions.ignore("orders", [record(1), record(3)], "someone", "test orders")
    assert archived.replay(pipeline).complete
    archived.lose_target()
    assert archived.replay(pipeline).complete
    assert set(world.loaded()) == {2} and world.gaps() == set()
    with ledger_of(world) as ledger:
        assert set(held_back(ledger).values()) == {FailureState.IGNORED}


def test_a_new_target_is_never_complete_without_the_first_read(archived: Archived) -> None:
    world = archived.world
    pipeline = archived.pipeline()
    fill(world)
    pipeline.run()
    change(world)
    pipeline.run()
    later = archived.batches()[-1].opened_at
    archived.lose_target()
    with archived.without_source():
        result = archived.replay(pipeline, since=later)
    assert result.rebuilt and not result.complete
    assert result.needs_snapshot is not None and "after the table was first read" in (
        result.needs_snapshot
    )
    run = pipeline.run()
    assert run.streams["orders"].needs_snapshot
    with archived.without_source():
        assert archived.replay(pipeline).complete
    assert world.loaded() == world.expected()


def test_a_new_target_as_it_was_is_not_taken_for_today(archived: Archived) -> None:
    world = archived.world
    pipeline = archived.pipeline()
    fill(world)
    pipeline.run()
    then = world.loaded()
    moment = archived.batches()[-1].opened_at
    change(world)
    pipeline.run()
    archived.lose_target()
    with archived.without_source():
        result = archived.replay(pipeline, until=moment)
    assert world.loaded() == then
    assert result.needs_snapshot is not None and "as --until says" in result.needs_snapshot
    assert pipeline.run().streams["orders"].needs_snapshot


@pytest.mark.parametrize(
    ("ledger", "point"),
    [*(("kept", point) for point in Point), ("lost", Point.OPENED), ("lost", Point.WRITTEN)],
)
def test_a_rebuild_that_dies_is_never_taken_for_complete(
    archived: Archived, point: Point, ledger: str
) -> None:
    world = archived.world
    pipeline = archived.pipeline()
    fill(world)
    pipeline.run()
    change(world)
    pipeline.run()
    archived.lose_target()
    if ledger == "lost":
        archived.lose_ledger()
    request = ArchiveRequest(streams=("orders",))
    with archived.without_source(), pytest.raises(Crash):
        replay_archive(pipeline.definition, request, faults=CrashAt(point, occurrence=2))
    found = pipeline.run().streams["orders"]
    assert found.needs_snapshot and "rowtrail replay orders --from archive" in (found.skipped or "")
    with archived.without_source():
        assert archived.replay(pipeline).complete
    assert world.loaded() == world.expected()
    with ledger_of(world) as opened:
        assert opened.decisions.pending() == []
    assert_goes_on(world, pipeline)


def test_a_ledger_that_is_lost_during_a_rebuild_reads_the_table_anew(archived: Archived) -> None:
    """The receipts of a rebuild tell no position before its end."""
    world = archived.world
    pipeline = archived.pipeline()
    fill(world)
    pipeline.run()
    archived.lose_target()
    request = ArchiveRequest(streams=("orders",))
    with pytest.raises(Crash):
        replay_archive(pipeline.definition, request, faults=CrashAt(Point.CLOSED, occurrence=2))
    archived.lose_ledger()
    rebuild_ledger(pipeline.definition)
    with ledger_of(world) as ledger:
        found = ledger.streams.get("orders")
    assert found is not None and found.position is None
    assert pipeline.run().complete
    assert world.loaded() == world.expected()


def test_a_replay_that_was_cut_off_is_not_taken_up_by_a_run(archived: Archived) -> None:
    world = archived.world
    pipeline = archived.pipeline()
    fill(world)
    pipeline.run()
    with pytest.raises(Crash):
        replay_archive(
            pipeline.definition, ArchiveRequest(), faults=CrashAt(Point.WRITTEN, occurrence=2)
        )
    result = pipeline.run()
    assert result.complete and any("was cut off" in one for one in result.decisions)
    with ledger_of(world) as ledger:
        assert ledger.decisions.get(1).state is DecisionState.FAILED
    assert world.loaded() == world.expected()


def test_a_lost_position_still_needs_a_snapshot(archived: Archived) -> None:
    world = archived.world
    pipeline = archived.pipeline()
    fill(world)
    pipeline.run()
    with ledger_of(world) as ledger:
        ledger.streams.set_state("orders", StreamState.NEEDS_SNAPSHOT, "its change log is gone.")
    archived.lose_target()
    result = archived.replay(pipeline)
    assert result.needs_snapshot is not None and "its change log is gone" in result.needs_snapshot
    assert state(world) == (StreamState.NEEDS_SNAPSHOT, "its change log is gone.")


def test_a_batch_that_was_abandoned_is_not_replayed(archived: Archived) -> None:
    """Both attempts have one version, and the row was another one in between."""
    world = archived.world
    pipeline = archived.pipeline(capture="snapshot")
    fill(world)
    with pytest.raises(Crash):
        run_pipeline(pipeline.definition, faults=CrashAt(Point.STAGED))
    world.sql("UPDATE orders SET note = 'mended' WHERE id = 1")
    world.delete(2)
    pipeline.run()
    archived.lose_target()
    archived.lose_ledger()
    assert archived.replay(pipeline).complete
    assert world.loaded() == world.expected()


def test_a_new_epoch_sweeps_in_the_copy_as_it_did(archived: Archived) -> None:
    world = archived.world
    pipeline = archived.pipeline()
    fill(world)
    pipeline.run()
    world.delete(2)
    pipeline.run(resnapshot=["orders"])
    archived.lose_target()
    with archived.without_source():
        assert archived.replay(pipeline).complete
    assert world.loaded() == world.expected()
    assert world.query("SELECT id FROM orders WHERE _rowtrail_deleted_at IS NOT NULL") == [(2,)]


def test_rows_of_an_older_shape(archived: Archived) -> None:
    world = archived.world
    fill(world)
    archived.pipeline().run()
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT")
    world.sql("UPDATE orders SET city = 'Ulm', seen = seen + 100 WHERE id = 5")
    archived.pipeline(capture="trigger").run()
    archived.lose_target()
    with archived.without_source():
        assert archived.replay(archived.pipeline(exclude=["amount"])).complete
    rows = world.query("SELECT id, city FROM orders ORDER BY id")
    assert rows == [(n, "Ulm" if n == 5 else None) for n in range(1, 10)]
    columns = {row[0] for row in world.query("DESCRIBE orders")}
    assert "amount" not in columns, "what is excluded today stays out"


def test_a_dry_run_tells_and_changes_nothing(archived: Archived) -> None:
    world = archived.world
    fill(world)
    pipeline = archived.pipeline()
    pipeline.run()
    world.change_target("UPDATE orders SET note = 'vandal' WHERE id = 4")
    files, at = len(archived.batches()), versions(world)
    result = archived.replay(pipeline, dry_run=True)
    assert "would be: 9 loaded" in result.text and result.decision_id is None
    assert (len(archived.batches()), versions(world)) == (files, at)
    assert world.loaded()[4] == ("4.00", "vandal")
    archived.lose_target()
    with pytest.raises(ConfigurationError, match="rebuild it first"):
        archived.replay(pipeline, dry_run=True)


def test_while_a_run_holds_the_lease(archived: Archived) -> None:
    fill(archived.world)
    pipeline = archived.pipeline()
    pipeline.run()
    with ledger_of(archived.world) as ledger:
        generation = ledger.leases.acquire("another run")
        with pytest.raises(LeaseHeldError):
            archived.replay(pipeline)
        ledger.leases.release(generation)
        assert ledger.decisions.pending() == []
    assert archived.replay(pipeline).complete


def test_without_anything_to_replay(world: World, tmp_path: Path) -> None:
    fill(world)
    world.pipeline().run()
    with pytest.raises(ConfigurationError, match=r"has no archive\. Set `archive`"):
        world.pipeline().replay_archive()
    pipeline = world.pipeline()
    pipeline.definition = replace(pipeline.definition, archive=str(tmp_path / "empty"))
    with pytest.raises(ConfigurationError, match="holds nothing of stream orders"):
        pipeline.replay_archive()
    with ledger_of(world) as ledger:
        assert ledger.decisions.pending() == []


@pytest.mark.parametrize("policy", ["latest", "block", "reread"])
def test_a_rebuild_under_each_policy(archived: Archived, policy: str) -> None:
    """What fails on the way and is followed by a newer version is no gap at the end, also where a
    run would have held the newer one back."""
    world = archived.world
    pipeline = archived.pipeline(policy=policy, retries=0, transforms=[picky])
    fill(world)
    assert pipeline.run().complete
    world.put([(4, 9, "bad"), (5, 9, "fine")])
    pipeline.run()
    world.put([(4, 10, "after it"), (7, 9, "bad")])
    pipeline.run()
    world.delete(7)
    world.put([(8, 9, "fine"), (1, 9, "bad")])
    pipeline.run()
    with ledger_of(world) as ledger:
        waiting = ledger.failures.counts("orders")[FailureState.WAITING]
    assert waiting == (2 if policy == "block" else 0)

    archived.lose_target()
    with archived.without_source():
        replayed = archived.replay(pipeline)
    assert replayed.failed == ("orders:1",)
    assert "3 failed on the way, 1 of them still;" in replayed.text
    assert world.loaded() == {**world.expected(), 1: ("1.00", "first")}
    assert world.query("SELECT record FROM _rowtrail_gaps") == [("orders:1",)]
    with ledger_of(world) as ledger:
        assert held_back(ledger) == {1: FailureState.FAILED}
    world.put([(1, 11, "mended")])
    pipeline.run()
    (retried,) = pipeline.retry("orders", 1, from_stage="extract")
    assert world.loaded() == world.expected(), retried


def test_an_older_row_that_breaks_a_rule_is_superseded_and_not_refused(archived: Archived) -> None:
    """While the target holds records back its rules are looked at first, and they know no fence."""
    world, pipeline = archived.world, archived.pipeline(batch_rows=10)
    world.put([(1, 1, None), *((n, n, "first") for n in range(2, 7))])
    assert pipeline.run().complete
    world.put([(1, 1, "second")])
    assert pipeline.run().complete
    world.change_target("ALTER TABLE orders ALTER COLUMN note SET NOT NULL")
    world.put([(7, 7, None)])
    (failed,) = pipeline.run().failed_records
    assert (failed.record, failed.stage) == ("orders:7", "load")
    replayed = archived.replay(pipeline)
    assert (replayed.counts.superseded, replayed.counts.failed) == (1, 1)
    assert world.gaps() == {"orders:7"}
    assert world.query("SELECT note FROM orders WHERE id = 1") == [("second",)]
