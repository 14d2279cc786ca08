"""The archive of a PostgreSQL source whose server is stopped, and of a PostgreSQL target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rowtrail import Pipeline
from rowtrail.checkpoints.ledger import open_ledger
from tests.pipelines.archived import Archived, assert_goes_on, change, fill
from tests.pipelines.copied_table import CopiedTable
from tests.pipelines.postgres_world import PostgresWorld
from tests.postgres_server import PostgresServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One of its own, that can be stopped."""
    with PostgresServer({"wal_level": "logical"}) as server:
        yield server


def archived(table: CopiedTable, capture: str) -> Pipeline:
    pipeline = table.pipeline(capture=capture)
    pipeline.definition = replace(pipeline.definition, archive=str(table.folder / "archive"))
    return pipeline


def lose(folder: Path, *names: str) -> None:
    for name in names:
        for file in folder.glob(f"{name}*"):
            file.unlink()


@pytest.mark.parametrize(
    ("capture", "lost"),
    [
        *((one, ("target.duckdb",)) for one in ("log", "trigger", "cursor")),
        ("log", ("target.duckdb", "ledger.db")),
    ],
)
def test_a_target_is_rebuilt_while_the_source_is_stopped(
    server: PostgresServer, from_server: CopiedTable, capture: str, lost: tuple[str, ...]
) -> None:
    table = from_server
    pipeline = archived(table, capture)
    assert pipeline.run().complete
    table.happen()
    assert pipeline.run().complete
    table.happen()
    assert pipeline.run().complete
    before = table.loaded()
    lose(table.folder, *lost)
    server.stop()
    try:
        with pytest.raises(psycopg.OperationalError):
            table.ask("SELECT 1")
        (result,) = pipeline.replay_archive()
    finally:
        server.start()
    assert result.complete and result.rebuilt
    assert table.loaded() == before == table.expected()
    with closing(open_ledger(table.folder / "ledger.db", "test")) as ledger:
        record = ledger.streams.get("orders")
    assert record is not None
    table.happen()
    went_on = pipeline.run()
    assert went_on.complete and went_on.recovered == ()
    assert went_on.streams["orders"].counts.total < 200, "600 rows and more would be all"
    assert table.loaded() == table.expected()


@pytest.fixture
def world(tmp_path: Path, postgres_url: str) -> PostgresWorld:
    return PostgresWorld(tmp_path, postgres_url)


def empty(world: PostgresWorld) -> None:
    world.change_target("DROP SCHEMA public CASCADE")
    world.change_target("CREATE SCHEMA public")


def gone(world: PostgresWorld) -> list[Any]:
    return world.query("SELECT id FROM orders WHERE _rowtrail_deleted_at IS NOT NULL ORDER BY id")


@pytest.mark.parametrize("capture", ["trigger", "snapshot"])
def test_a_postgres_target_is_rebuilt(world: PostgresWorld, capture: str) -> None:
    archived = Archived(world)
    pipeline = archived.pipeline(capture=capture)
    fill(world)
    pipeline.run()
    change(world)
    pipeline.run()
    before = world.loaded()
    assert gone(world) == [(3,), (9,)]
    empty(world)
    with archived.without_source():
        result = archived.replay(pipeline)
    assert result.complete and result.rebuilt
    assert world.loaded() == before and gone(world) == [(3,), (9,)]
    assert_goes_on(world, pipeline)


def test_a_postgres_target_is_put_right(world: PostgresWorld) -> None:
    archived = Archived(world)
    pipeline = archived.pipeline()
    fill(world)
    pipeline.run()
    change(world)
    pipeline.run()
    world.change_target("UPDATE orders SET note = 'vandal'")
    with archived.without_source():
        assert archived.replay(pipeline).complete
    assert world.loaded() == world.expected() and gone(world) == [(3,), (9,)]


def test_in_another_schema(world: PostgresWorld) -> None:
    archived = Archived(world)
    fill(world)
    archived.pipeline().run()
    with archived.without_source():
        assert archived.replay(archived.pipeline(target="copies.orders")).complete
    assert world.query("SELECT count(*) FROM copies.orders") == [(9,)]
