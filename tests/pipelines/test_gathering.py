"""What a source gives, gathered into batches: what belongs together, and when it is due."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from rowtrail import Pipeline, Stream
from rowtrail.connectors.base import Capture
from rowtrail.connectors.changes import Changes, Operation, Rejected, Times, Version, gathered
from rowtrail.connectors.destinations.duckdb import DuckdbDestination
from rowtrail.connectors.destinations.snowflake import SnowflakeDestination
from rowtrail.connectors.sources.postgres import PostgresSource
from rowtrail.pipelines.definition import StreamDefinition
from rowtrail.pipelines.gathering import Gatherer, gathering_of
from rowtrail.pipelines.key_extent import may_have
from tests.duckdb_files import look_into
from tests.postgres_server import PostgresServer

from .gathered_changes import SCHEMA, at, changes_of, ids, upto


def gather(gatherer: Gatherer, *parts: Changes) -> Gatherer:
    for part in parts:
        assert gatherer.takes(part)
        gatherer.add(part)
    return gatherer


def rejected(key: object) -> Rejected:
    return Rejected(
        key=(key,),
        operation=Operation.UPDATE,
        version=Version(1, 1, 0, 0),
        column="id",
        message="is no number",
        image=pa.record_batch({"id": ["x"]}),
    )


def test_parts_become_one_that_ends_as_the_last_of_them() -> None:
    hashed = [pa.record_batch({"id": [n], "_rowtrail_hash": [n * 7]}) for n in (1, 2)]
    parts = [
        changes_of(1, 2, watermark=at(1), page=hashed[0], rejected=(rejected("a"),)),
        changes_of(watermark=at(2), position="two"),
        changes_of(3, page=hashed[1], position="three", rejected=(rejected("b"),)),
    ]
    one = gathered(parts)
    assert ids(one) == [1, 2, 3]
    assert one.versions.column("position").to_pylist() == [1, 1, 3]
    assert (one.position, one.watermark) == ("three", at(2))
    assert [bad.key for bad in one.rejected] == [("a",), ("b",)]
    assert one.page is not None and one.page.column(1).to_pylist() == [7, 14]
    assert not one.read_complete and one.times is None
    assert gathered([*parts, changes_of(read_complete=True)]).read_complete


def test_times_go_along() -> None:
    parts = [changes_of(n, times=Times.of_read(at(n), 1)) for n in (1, 2)]
    one = gathered([parts[0], changes_of(), parts[1]])
    assert one.times is not None and one.times.at.to_pylist() == [at(1), at(2)]
    assert one.times.fresh
    old = replace(parts[1], times=Times.of_read(at(2), 1, fresh=False))
    late = gathered([parts[0], old]).times
    assert late is not None and not late.fresh


@pytest.mark.parametrize("quiet", [True, False])
def test_what_tells_times_and_what_tells_none_is_not_mixed(*, quiet: bool) -> None:
    between = [changes_of()] if quiet else []
    timed = changes_of(2, times=Times.of_read(at(2), 1))
    assert not gather(Gatherer(upto()), changes_of(1), *between).takes(timed)
    assert not gather(Gatherer(upto()), timed, *between).takes(changes_of(1))


def test_another_shape_is_another_batch() -> None:
    assert not gather(Gatherer(upto()), changes_of(1)).takes(
        changes_of(2, schema=replace(SCHEMA, table="other"))
    )


def test_it_is_due_at_its_rows_and_has_no_more_of_them() -> None:
    gatherer = gather(Gatherer(upto(rows=3)), changes_of(1, 2))
    assert not gatherer.is_due
    assert not gatherer.takes(changes_of(3, 4))
    assert gather(gatherer, changes_of(rejected=(rejected("a"),))).is_due


def test_it_is_due_at_its_size_in_bytes() -> None:
    gatherer = gather(Gatherer(upto(size=24)), changes_of(1, 2))
    assert not gatherer.is_due
    assert gather(gatherer, changes_of(3)).is_due


def test_the_end_of_a_read_is_due() -> None:
    assert gather(Gatherer(upto()), changes_of(1), changes_of(read_complete=True)).is_due


def test_without_limits_each_part_is_a_batch() -> None:
    gatherer = Gatherer(None)
    assert not gatherer.is_due and gatherer.take() is None
    part = changes_of()
    assert gather(gatherer, part).is_due
    assert not gatherer.takes(part)
    assert gatherer.take() is part
    assert not gatherer.is_due


def test_it_is_due_some_time_after_its_first_row(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    gatherer = gather(Gatherer(upto(seconds=60, quiet_seconds=900)), changes_of())
    now = 800.0
    gather(gatherer, changes_of(1))
    now = 859.0
    gather(gatherer, changes_of(2))
    assert not gatherer.is_due
    now = 860.0
    assert gatherer.is_due
    assert gatherer.take() is not None
    gather(gatherer, changes_of())
    now += 899.0
    assert not gatherer.is_due
    now += 1.0
    assert gatherer.is_due


def test_a_stream_s_own_batch_rows_are_the_most() -> None:
    can = SnowflakeDestination.capabilities
    assert can.gathering is not None
    for own, rows in [(None, can.gathering.rows), (7, 7), (10**8, can.gathering.rows)]:
        stream = StreamDefinition(
            name="orders", table="orders", target="orders", capture=Capture.LOG, batch_rows=own
        )
        found = gathering_of(can, stream)
        assert found == replace(can.gathering, rows=rows)
    assert gathering_of(replace(can, gathering=None), stream) is None


def test_keys_in_a_range_are_told_by_the_least_and_the_greatest() -> None:
    parts = [changes_of(7, 3, 5), changes_of()]
    assert may_have(parts, None, None)
    assert may_have(parts, (6,), None) and not may_have(parts, (7,), None)
    assert may_have(parts, None, (3,)) and not may_have(parts, None, (2,))
    assert may_have(parts, (3,), (4,))  # nothing is there, but something on either side
    assert not may_have([changes_of()], None, None)
    assert may_have([changes_of(rejected=(rejected("a"),))], (100,), None)
    assert may_have(parts, ("a",), None)  # whoever cannot compare does not say no


def test_what_is_followed_is_gathered_and_loaded_in_the_end(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    can = replace(DuckdbDestination.capabilities, gathering=upto())
    monkeypatch.setattr(DuckdbDestination, "capabilities", can)
    read: list[int] = []
    add = Gatherer.add

    def adding(gatherer: Gatherer, changes: Changes) -> None:
        add(gatherer, changes)
        read.extend(ids(changes))

    with postgres_server.database() as url, psycopg.connect(url, autocommit=True) as source:
        source.execute("CREATE TABLE orders (id bigint PRIMARY KEY)")
        pipeline = Pipeline(
            name="test",
            source=url,
            destination=f"duckdb:///{tmp_path / 'target.duckdb'}",
            ledger=tmp_path / "ledger.db",
            streams=[Stream("orders", capture="log")],
            install_capture=True,
        )
        assert pipeline.run().complete
        follow = PostgresSource.follow

        def following(*args: Any) -> Any:
            """The run itself is over."""
            for number in range(10):
                source.execute("INSERT INTO orders VALUES (%s)", [number])
            return follow(*args)

        monkeypatch.setattr(PostgresSource, "follow", following)
        monkeypatch.setattr(Gatherer, "add", adding)
        result = pipeline.run(follow=lambda: len(read) == 10)
        assert result.complete
        assert result.streams["orders"].counts.loaded == 10
        assert result.streams["orders"].batches == 2  # the run's own, which had no rows, and all
        with look_into(tmp_path / "target.duckdb") as target:
            assert target.sql("SELECT count(*) FROM orders").fetchall() == [(10,)]
        source.execute("DELETE FROM orders WHERE id > 3")
        assert pipeline.run(allow_deletes=1.0).streams["orders"].counts.deleted == 6
