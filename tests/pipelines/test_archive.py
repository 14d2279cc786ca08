"""What is kept of each batch, before anything is made of it, and what happens when it cannot be."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rowtrail import Stream
from rowtrail.checkpoints.states import BatchState
from rowtrail.connectors.changes import Operation
from rowtrail.pipelines.archive_names import ArchivedBatch, ArchivedKind, folder_of
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.archived import Archived, change, fill
from tests.pipelines.crashing import Crash, CrashAt
from tests.pipelines.witness import batches, ledger_of
from tests.pipelines.world import World
from tests.small_disk import resize, small_disk


@pytest.fixture
def archived(world: World) -> Archived:
    return Archived(world)


def dropping(frame):
    return frame.assign(note="transformed")[frame["id"] != 2]


def test_every_batch_is_kept_as_it_was_read(archived: Archived) -> None:
    world = archived.world
    pipeline = archived.pipeline(transforms=[dropping])
    world.put([(1, 1, "one"), (2, 2, "two")])
    pipeline.run()
    world.put([(1, 9, "changed")])
    world.delete(2)
    pipeline.run()
    kept = [archived.archive.read(one) for one in archived.batches()]
    rows = [
        (Operation(operation), row["id"], row["amount"], row["note"])
        for changes, _ in kept
        for operation, row in zip(
            changes.operations.to_pylist(), changes.rows.to_pylist(), strict=True
        )
    ]
    assert rows == [
        (Operation.INSERT, 1, Decimal("1.00"), "one"),
        (Operation.INSERT, 2, Decimal("2.00"), "two"),
        (Operation.UPDATE, 1, Decimal("9.00"), "changed"),
        (Operation.DELETE, 2, None, None),
    ]
    with ledger_of(world) as ledger:
        closed = batches(ledger)
        assert [facts.batch_id for _, facts in kept] == [one.batch_id for one in closed]
        assert [facts.run_id for _, facts in kept] == [one.run_id for one in closed]
        assert [facts.sequence for _, facts in kept] == [one.sequence for one in closed]
        assert kept[-1][1].ledger_id == ledger.id
        assert kept[-1][1].position_after == closed[-1].position_after
    assert [one.opened_at for one in archived.batches()] == [one.opened_at for one in closed]
    assert archived.batches()[0].kind is ArchivedKind.START
    versions = [tuple(row.values()) for changes, _ in kept for row in changes.versions.to_pylist()]
    assert versions == sorted(versions) and {version[3] for version in versions} == {0}


def test_any_reader_of_parquet_takes_a_file(archived: Archived) -> None:
    fill(archived.world)
    archived.pipeline().run()
    found = pq.read_table(archived.file(archived.batches()[0]))
    assert found.column("id").to_pylist() == [1, 2, 3]
    assert found.column("_rowtrail_operation").to_pylist() == [Operation.INSERT] * 3


def test_what_the_source_cannot_represent_is_kept_with_its_raw_image(archived: Archived) -> None:
    archived.world.put([(1, 1, "fine"), (2, "two euros", "odd"), (3, 3, "fine")])
    archived.pipeline().run()
    changes, _ = archived.archive.read(archived.batches()[0])
    assert changes.rows.column("id").to_pylist() == [1, 3]
    (rejected,) = changes.rejected
    assert (rejected.key, rejected.column, rejected.operation) == ((2,), "amount", Operation.INSERT)
    assert "two euros" in rejected.image.to_pylist()[0].values()
    assert "two euros" not in rejected.message
    assert rejected.version == (1, 0, 0, 0)


def test_a_fetched_row_is_kept_too(archived: Archived) -> None:
    fill(archived.world)
    pipeline = archived.pipeline()
    pipeline.run()
    pipeline.replay("orders", 4)
    last = archived.batches()[-1]
    assert (last.kind, last.records) == (ArchivedKind.REPLAY, 1)
    changes, _ = archived.archive.read(last)
    assert changes.rows.column("id").to_pylist() == [4]
    assert changes.versions.column("revision").to_pylist() == [1]


def test_the_file_is_there_before_the_manifest(archived: Archived) -> None:
    fill(archived.world)
    definition = archived.pipeline().definition
    with pytest.raises(Crash):
        run_pipeline(definition, faults=CrashAt(Point.OPENED))
    assert archived.batches() == []
    with pytest.raises(Crash):
        run_pipeline(definition, faults=CrashAt(Point.STAGED))
    assert len(archived.batches()) == 1


def test_only_their_owner_may_read_the_files(archived: Archived) -> None:
    fill(archived.world)
    archived.pipeline().run()
    for path in [Path(archived.place), *Path(archived.place).rglob("*")]:
        wanted = 0o600 if path.is_file() else 0o700
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_a_stream_may_stay_out(archived: Archived) -> None:
    fill(archived.world)
    archived.pipeline(archive=False).run()
    assert not Path(archived.place).exists()


def test_without_an_archive_there_is_none(world: World) -> None:
    fill(world)
    world.pipeline().run()
    assert list(world.folder.rglob("*.parquet")) == []


@pytest.mark.parametrize(
    "name",
    ["../../outside", "..", ".", "a/b", "/etc", "a\\b", "straße", "a%2Fb", "C:\\x", "x" * 300],
)
def test_no_stream_leads_out_of_its_folder(name: str) -> None:
    folder = folder_of("shop", name)
    pipeline, stream = folder.split("/")
    assert pipeline == "shop" and stream not in ("", ".", "..")
    assert len(stream) < 200 and stream.isascii() and "\\" not in stream
    others = {folder_of("shop", other) for other in ("a", "b", "a/b2", "x" * 299, "y" * 300)}
    assert folder not in others


def test_a_stream_of_an_awkward_name_is_archived_and_replayed(archived: Archived) -> None:
    world = archived.world
    fill(world)
    pipeline = archived.pipeline()
    odd = Stream("orders", name="../größe/orders", target="orders", capture="trigger").definition()
    pipeline.definition = replace(pipeline.definition, streams=(odd,))
    pipeline.run()
    assert {path.parent.parent.parent for path in world.folder.rglob("*.parquet")} == {
        Path(archived.place) / "test"
    }
    archived.lose_target()
    (result,) = pipeline.replay_archive()
    assert result.complete and world.loaded() == world.expected()


def test_the_name_of_a_file_says_what_it_is() -> None:
    batch = ArchivedBatch(
        folder="shop/orders",
        epoch=3,
        sequence=17,
        opened_at=datetime(2026, 11, 26, 8, 1, 2, 345, tzinfo=UTC),
        kind=ArchivedKind.CAPTURE,
        records=122_880,
        batch_id="7018aa0e-7949-456d-87f9-633cb69de8e5",
        digest="0" * 32,
    )
    assert ArchivedBatch.parse(batch.path) == batch
    assert ArchivedBatch.parse(batch.path.replace("_capture_", "_other_")) is None
    assert ArchivedBatch.parse(f"{batch.path}.tmp") is None


def test_an_archive_that_cannot_be_written_stops_the_stream_and_loses_nothing(
    archived: Archived,
) -> None:
    world = archived.world
    pipeline = archived.pipeline()
    fill(world)
    pipeline.run()
    before = world.loaded()
    folder = Path(archived.place)
    away = folder.rename(folder.with_suffix(".away"))
    folder.write_text("a file where the folder was")
    change(world)
    result = pipeline.run()
    error = result.streams["orders"].error
    assert error is not None and str(folder) in error and "File exists" in error
    assert "nothing is lost" in error and "run again" in error
    assert world.loaded() == before
    with ledger_of(world) as ledger:
        assert batches(ledger)[-1].state is BatchState.ABANDONED
    folder.unlink()
    away.rename(folder)
    assert pipeline.run().complete
    assert world.loaded() == world.expected()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


def test_a_full_disk_under_the_archive(world: World, disk: Path) -> None:
    archived = Archived(world, str(disk / "archive"))
    pipeline = archived.pipeline(batch_rows=100_000)
    world.sql(
        "INSERT INTO orders WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        "WHERE i < 20000) SELECT i, 1, hex(randomblob(500)), i FROM n"
    )
    error = pipeline.run().streams["orders"].error
    assert error is not None and "No space left on device" in error
    assert [path for path in disk.rglob("*") if path.is_file()] == [], "no half a file"
    assert world.query("SELECT count(*) FROM orders") == [(0,)]
    resize(disk, "200m")
    assert pipeline.run().complete
    assert world.query("SELECT count(*) FROM orders") == [(20_000,)]


def test_two_ledgers_do_not_fill_one_archive(archived: Archived) -> None:
    """A second one would number its batches from 1 again, among those that are there."""
    world = archived.world
    fill(world)
    archived.pipeline().run()
    count = len(archived.batches())
    archived.lose_target()
    archived.lose_ledger()
    error = archived.pipeline().run().streams["orders"].error
    assert error is not None and "another ledger" in error
    assert "rowtrail replay orders --from archive" in error
    assert len(archived.batches()) == count
    assert world.query("SELECT count(*) FROM orders") == [(0,)]
