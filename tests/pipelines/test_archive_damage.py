"""Files of the archive that are damaged, cut short, deleted or of another batch; and old ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rowtrail.pipelines.archive_names import ArchivedBatch
from rowtrail.pipelines.archive_prune import prune_archive
from tests.pipelines.archived import Archived, assert_goes_on, change, fill
from tests.pipelines.witness import ledger_of
from tests.pipelines.world import World


@pytest.fixture
def archived(world: World) -> Archived:
    """Three batches of three rows each, of the first read, and an empty one."""
    archived = Archived(world)
    fill(world)
    archived.pipeline().run()
    return archived


def flip(path: Path, place: int = -1) -> None:
    """Other bits in one byte; by default in the middle, where the data is."""
    content = bytearray(path.read_bytes())
    content[place if place >= 0 else len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def rows_of(archived: Archived, batch: ArchivedBatch) -> set[int]:
    changes, _ = archived.archive.read(batch)
    return set(changes.rows.column("id").to_pylist())


def test_a_damaged_and_a_missing_file_are_named_and_the_rest_is_rebuilt(
    archived: Archived,
) -> None:
    world = archived.world
    first, second, third, *_ = archived.batches()
    rebuilt = rows_of(archived, first)
    damaged, missing = rows_of(archived, second), rows_of(archived, third)
    assert rebuilt | damaged | missing == set(range(1, 10))
    flip(archived.file(second))
    archived.file(third).unlink()
    archived.lose_target()
    with archived.without_source():
        result = archived.replay(archived.pipeline())
    assert set(world.loaded()) == rebuilt
    assert not result.complete
    of_missing, of_damaged = result.lost
    assert f"File {second.path} of the archive" in of_damaged and "is damaged" in of_damaged
    assert f"batch {second.batch_id}, with 3 records" in of_damaged
    assert "no file numbered 3 of stream orders" in of_missing
    assert f"batch {third.batch_id}, with 3 records" in of_missing
    assert result.needs_snapshot is not None and "missing or damaged" in result.needs_snapshot
    assert archived.pipeline().run().streams["orders"].needs_snapshot, "never green and wrong"


def test_a_target_that_has_its_rows_keeps_those_of_a_missing_file(archived: Archived) -> None:
    world = archived.world
    _, second, third, *_ = archived.batches()
    ids = rows_of(archived, second) | rows_of(archived, third)
    flip(archived.file(second))
    archived.file(third).unlink()
    world.change_target("UPDATE orders SET note = 'vandal'")
    result = archived.replay(archived.pipeline())
    assert len(result.lost) == 2 and result.needs_snapshot is None
    notes = {key: note for key, (_, note) in world.loaded().items()}
    assert notes == {key: "vandal" if key in ids else "first" for key in range(1, 10)}
    assert archived.pipeline().run().complete


def test_a_missing_file_is_known_without_the_ledger_too(archived: Archived) -> None:
    """The next file names the batch before it."""
    _, _, third, *_ = archived.batches()
    archived.file(third).unlink()
    archived.lose_target()
    archived.lose_ledger()
    result = archived.replay(archived.pipeline())
    assert [f"batch {third.batch_id}, with 3 records" in one for one in result.lost] == [True]
    assert result.needs_snapshot is not None


def test_any_flipped_byte_is_noticed(archived: Archived) -> None:
    batch = archived.batches()[0]
    path = archived.file(batch)
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        flip(path, place)
        with pytest.raises(Exception, match="is damaged"):
            archived.archive.read(batch)
        path.write_bytes(whole)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Exception, match="is damaged"):
        archived.archive.read(batch)


def test_a_file_under_another_name_is_not_taken(archived: Archived) -> None:
    first, second, *_ = archived.batches()
    shutil.copy(archived.file(first), archived.file(second))
    result = archived.replay(archived.pipeline())
    assert len(result.lost) == 1 and second.batch_id in result.lost[0]


def test_files_of_somebody_else_do_not_matter(archived: Archived) -> None:
    folder = archived.file(archived.batches()[0]).parent
    (folder / "notes.txt").write_text("ours")
    (folder / ".half.parquet.12.tmp").write_bytes(b"PAR1")
    assert archived.replay(archived.pipeline()).complete


@pytest.mark.parametrize("capture", ["cursor", "trigger"])
def test_a_damaged_last_file_is_read_again_where_the_ledger_is_lost(
    world: World, capture: str
) -> None:
    """The new ledger goes on before it, so that the source tells its changes once more, or says
    that it has forgotten them."""
    archived = Archived(world)
    fill(world)
    archived.pipeline(capture=capture).run()
    change(world)
    archived.pipeline(capture=capture, batch_rows=100).run()
    flip(archived.file(archived.batches()[-1]))
    archived.lose_target()
    archived.lose_ledger()
    assert archived.replay(archived.pipeline(capture=capture)).complete
    result = archived.pipeline(capture=capture).run()
    if capture == "trigger":
        found = result.streams["orders"].error
        assert found is not None and "--resnapshot orders" in found
        result = archived.pipeline(capture=capture).run(resnapshot=["orders"])
    assert result.complete and world.loaded() == world.expected()


def test_old_batches_are_removed_and_what_is_left_says_so(archived: Archived) -> None:
    world = archived.world
    pipeline = archived.pipeline()
    before = archived.batches()
    world.put([(4, 4, "second")])
    pipeline.run()
    kept = archived.batches()[len(before) :]
    cut = kept[0].opened_at
    assert prune_archive(archived.archive, cut, of_streams=["others"]) == []
    told = prune_archive(archived.archive, cut, of_streams=["orders"], dry_run=True)
    assert archived.batches() == [*before, *kept]
    (pruned,) = prune_archive(archived.archive, cut)
    assert told == [pruned]
    assert (pruned.stream, pruned.files, pruned.records) == ("orders", len(before), 9)
    assert pruned.begins_at == kept[0].opened_at and not pruned.whole
    assert archived.batches() == kept
    assert prune_archive(archived.archive, kept[0].opened_at) == []
    result = archived.replay(pipeline)
    assert result.complete and result.begins_at == kept[0].opened_at
    assert f"begins at {kept[0].opened_at:%Y-%m-%d %H:%M:%S} UTC" in result.text
    archived.lose_target()
    lacking = archived.replay(pipeline)
    assert set(world.loaded()) == {4}
    assert lacking.needs_snapshot is not None
    assert pipeline.run(resnapshot=["orders"]).complete
    archived.lose_target()
    with archived.without_source():
        assert archived.replay(pipeline).complete, "the table was read anew since"
    assert_goes_on(world, pipeline)


def test_the_last_batch_stays_whatever_its_age(archived: Archived) -> None:
    last = archived.batches()[-1]
    (pruned,) = prune_archive(archived.archive, last.opened_at.replace(year=3000))
    assert pruned.files == 3 and archived.batches() == [last]
    with ledger_of(archived.world) as ledger:
        found = ledger.streams.get("orders")
    assert found is not None
    changes, _ = archived.archive.read(last)
    assert changes.position == found.position
