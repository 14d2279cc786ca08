"""What every ledger says of the records that a run, or a span of time, took up."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from rowtrail.checkpoints.errors import UnknownError
from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.selections import Origin, Selection
from rowtrail.checkpoints.states import DecisionKind
from tests.checkpoints.desk import NOON, NOTHING, Desk, FakeClock, failure, manifest, record


def keys(desk: Desk, selection: Selection) -> list[int]:
    taken = desk.ledger.taken_up("orders", selection)
    return [key for batch in taken.key_batches() for key in batch.column("id").to_pylist()]


def failed(desk: Desk, selection: Selection) -> list[str]:
    taken = desk.ledger.taken_up("orders", selection)
    return [str(one) for some in taken.failed() for one in some]


class SelectionRules:
    def test_what_a_run_took_up(self, desk: Desk) -> None:
        """Each change of its closed batches; neither what is prepared nor another stream's."""
        first = Selection(run_id=desk.run)
        desk.close([1, 2, 3], 1, failures=(failure(4, 1),))
        desk.close([3, 5], 2, superseded=[0])
        desk.run = desk.ledger.runs.start()
        second = Selection(run_id=desk.run)
        desk.close([7], 3, failures=(failure(4, 1), failure(8, 3)))
        desk.ledger.streams.begin_epoch("lines", "cursor", "lines")
        other = desk.open(stream="lines")
        desk.prepare_in(other)
        desk.prepare([9], 4, failures=(failure(10, 4),))
        assert keys(desk, first) == [1, 2, 3, 3, 5]
        assert keys(desk, second) == [7]
        assert failed(desk, first) == ["orders:4"], "the attempt, not the last one"
        assert failed(desk, second) == ["orders:4", "orders:8"]
        assert desk.ledger.taken_up("orders", first).changes() == 6
        assert desk.ledger.taken_up("orders", second).changes() == 3
        nobody = Selection(run_id="nobody")
        assert (keys(desk, nobody), failed(desk, nobody)) == ([], [])

    def test_what_was_closed_in_a_span_of_time(self, desk: Desk, clock: FakeClock) -> None:
        moments: list[datetime] = []
        for key in range(1, 5):
            clock.advance(60)
            moments.append(clock.now)
            desk.close([key], key, failures=(failure(10 * key, key),))
        span = Selection(since=moments[1], until=moments[3])
        assert keys(desk, span) == [2, 3]
        assert failed(desk, span) == ["orders:20", "orders:30"]
        assert desk.ledger.taken_up("orders", span).changes() == 4
        early = Selection(since=NOON - timedelta(days=1), until=NOON)
        assert (keys(desk, early), failed(desk, early)) == ([], [])

    def test_keys_come_in_the_types_that_they_had(self, desk: Desk) -> None:
        desk.close([42], 1)
        batch = desk.open()
        text = pa.RecordBatch.from_arrays([pa.array(["42"])], names=["id"])
        desk.ledger.batches.prepare(replace(manifest(batch.batch_id, [0], 2), keys=text))
        desk.ledger.batches.close(batch.batch_id, NOTHING)
        assert keys(desk, Selection(run_id=desk.run)) == [42, "42"]

    def test_a_batch_of_many_segments_and_many_failures(self, desk: Desk) -> None:
        many = list(range(20_000))
        desk.close(many, 1, failures=tuple(failure(key, 1) for key in range(30_000, 42_000)))
        selection = Selection(run_id=desk.run)
        assert keys(desk, selection) == many
        assert failed(desk, selection) == [f"orders:{key}" for key in range(30_000, 42_000)]

    def test_a_selection_is_noted_as_it_is(self, desk: Desk, ledger: Ledger) -> None:
        later = NOON + timedelta(hours=1)
        for selection in (
            Selection(run_id=desk.run),
            Selection(since=NOON, until=later),
            Selection(where="amount > 5 -- dear ones"),
            None,
        ):
            for origin in (Origin.IMAGE, None):
                asked = ledger.decisions.request(
                    DecisionKind.REPLAY,
                    "orders",
                    [],
                    selection=selection,
                    origin=origin,
                    actor="ann",
                )
                assert (asked.selection, asked.origin) == (selection, origin)
                assert ledger.decisions.get(asked.id) == asked

    def test_the_trail_tells_of_a_replay_that_did_not_name_the_record(self, desk: Desk) -> None:
        """By the revision, which is the decision's number."""
        asked = desk.ledger.decisions.request(
            DecisionKind.REPLAY,
            "orders",
            [],
            selection=Selection(where="true"),
            origin=Origin.SOURCE,
            actor="ann",
        )
        batch = desk.open()
        whole = manifest(batch.batch_id, [5], 1)
        columns = [*whole.versions.columns[:3], pa.array([asked.id])]
        versions = pa.RecordBatch.from_arrays(columns, names=whole.versions.schema.names)
        desk.ledger.batches.prepare(replace(whole, versions=versions))
        desk.ledger.batches.close(batch.batch_id, NOTHING)
        trail = desk.ledger.trail(record(5))
        assert [one.event for one in trail] == ["replay asked", "loaded"]
        assert trail[0].detail == "by ann, from the source"
        assert desk.events(6) == []

    def test_a_stream_that_is_not_known(self, desk: Desk) -> None:
        with pytest.raises(UnknownError, match="no stream lines"):
            desk.ledger.taken_up("lines", Selection(run_id=desk.run))
