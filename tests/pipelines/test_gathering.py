"""What a source gives, gathered into batches: what belongs together, and when it is due."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from rowtrail.connectors.base import Capture
from rowtrail.connectors.changes import Changes, Operation, Rejected, Times, Version, gathered
from rowtrail.connectors.destinations.snowflake import SnowflakeDestination
from rowtrail.pipelines.definition import StreamDefinition
from rowtrail.pipelines.gathering import Gatherer, gathering_of
from rowtrail.pipelines.key_extent import may_have

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
    assert gather(gatherer, changes_of(3)).is_due


def test_it_is_due_at_its_size_in_bytes() -> None:
    gatherer = gather(Gatherer(upto(size=24)), changes_of(1, 2))
    assert not gatherer.is_due
    assert gather(gatherer, changes_of(3)).is_due


def test_an_item_that_is_too_large_beside_others_is_a_batch_by_itself() -> None:
    gatherer = gather(Gatherer(upto(size=24)), changes_of(1, 2))
    assert not gatherer.takes(changes_of(3, 4))
    assert gatherer.take() is not None
    assert gather(gatherer, changes_of(*range(100))).is_due


def test_what_a_capture_compares_with_has_a_size_too() -> None:
    """Of a table that has not changed there is nothing else."""
    page = pa.record_batch({"id": list(range(100)), "_rowtrail_hash": list(range(100))})
    gatherer = gather(Gatherer(upto(size=4_000)), changes_of(page=page), changes_of(page=page))
    assert not gatherer.is_due
    assert not gatherer.takes(changes_of(page=page))


def test_the_end_of_a_read_is_due_but_not_of_what_is_followed() -> None:
    parts = changes_of(1), changes_of(read_complete=True), changes_of(2)
    assert gather(Gatherer(upto()), *parts[:2]).is_due
    following = gather(Gatherer(upto(), follows=True), *parts)
    assert not following.is_due
    taken = following.take()
    assert taken is not None and taken.read_complete


def test_what_was_rejected_is_with_its_own_item_alone() -> None:
    bad = changes_of(2, rejected=(rejected("a"),))
    gatherer = gather(Gatherer(upto()), changes_of(1))
    assert not gatherer.takes(bad)
    assert gatherer.take() is not None
    assert gather(gatherer, bad).is_due
    assert not gatherer.takes(changes_of(3))


def test_a_history_has_each_record_once_in_a_batch_unless_each_is_an_event() -> None:
    gatherer = gather(Gatherer(upto(), once=True), changes_of(1, 2), changes_of(), changes_of(5, 4))
    assert not gatherer.takes(changes_of(2))
    assert not gatherer.takes(changes_of(3))  # for all that can be told of it
    assert gatherer.takes(changes_of(6)) and gatherer.takes(changes_of(0))
    events = [changes_of(n, times=Times.of_commits(np.array([n]))) for n in (1, 1)]
    gather(Gatherer(upto(), once=True), *events)
    assert gather(Gatherer(upto()), changes_of(1)).takes(changes_of(1))


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
