"""PROJ's own database, all tables with a key, under each capture: synced, changed, synced again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rowtrail import Pipeline, Stream
from tests.realdata.compare import compare
from tests.realdata.mutate import CURSOR, keyed_tables, mutate, prepare

TYPES = {"INTEGER_OR_TEXT": "text"}  # a column of both kinds is text at the target


def make_pipeline(folder: Path, capture: str) -> Pipeline:
    with closing(sqlite3.connect(folder / "proj.db")) as proj:
        tables = [table.name for table in keyed_tables(proj)]
    cursor = CURSOR if capture == "cursor" else None
    return Pipeline(
        name="proj",
        source=f"sqlite:///{folder / 'proj.db'}",
        destination=f"duckdb:///{folder / 'proj.duckdb'}",
        ledger=folder / "ledger.db",
        streams=[Stream(name, capture=capture, cursor=cursor, types=TYPES) for name in tables],
    )


@pytest.mark.parametrize("capture", ["trigger", "cursor", "snapshot"])
def test_a_real_database_stays_equal_through_random_changes(tmp_path: Path, capture: str) -> None:
    source, target = tmp_path / "proj.db", tmp_path / "proj.duckdb"
    prepare(source)
    pipeline = make_pipeline(tmp_path, capture)
    if capture == "trigger":
        pipeline.install_capture()

    first = pipeline.run()
    assert first.complete
    comparison = compare(source, target)
    assert comparison.equal, comparison.differences[:5]
    assert sum(stream.loaded for stream in first.streams.values()) == comparison.rows

    mutations = mutate(source, seed=2)
    second = pipeline.run()
    assert second.complete
    comparison = compare(source, target)
    assert comparison.equal, comparison.differences[:5]
    for name, changed in mutations.items():
        stream = second.streams[name].counts
        stayed = changed.updated + changed.replaced + changed.reentered
        # A changed key is a delete of the old one and an insert of the new one.
        assert stream.loaded == stayed + changed.inserted + changed.rekeyed, name
        assert stream.deleted == changed.deleted + changed.rekeyed, name

    third = pipeline.run()
    assert third.complete
    assert {name: stream.counts.total for name, stream in third.streams.items()} == dict.fromkeys(
        mutations, 0
    )
