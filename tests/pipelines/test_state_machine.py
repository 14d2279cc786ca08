"""Random lives of records, with crashes, against a plain dictionary.

`make soak` tries long lives, others each time; without it, every run of the tests is the same.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rowtrail import Breakers, Pipeline
from rowtrail.checkpoints.states import HELD_BACK, Decision, DecisionKind, FailureState, Stage
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.commit import Faults, Point, no_faults
from rowtrail.pipelines.requests import Request, submit
from rowtrail.pipelines.results import RunResult
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.crashing import Crash, CrashAt
from tests.pipelines.model import BAD, DROP, FAILED, IGNORED, UNDONE, WRONG_TYPE, Code, Fate, Model
from tests.pipelines.witness import ledger_of, outcomes, record
from tests.pipelines.world import World
from tests.soak import SOAK, times

SETTINGS = settings(
    max_examples=times(2, 50),
    stateful_step_count=40 if SOAK else 12,
    derandomize=not SOAK,
    # To shrink what failed takes many runs; the steps that led there are printed in any case.
    phases=[Phase.generate, Phase.shrink] if SOAK else [Phase.generate],
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

KEYS = range(1, 7)
A_KEY = st.sampled_from(KEYS)
A_ROW = st.tuples(
    st.integers(0, 400).map(lambda n: n / 4), st.sampled_from(["a", BAD, BAD, DROP])
) | st.just((WRONG_TYPE, "a"))
EVENTS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "delete", "renew", "move"]), A_KEY, A_KEY, A_ROW),
    min_size=1,
    max_size=6,
)
A_CRASH = st.builds(CrashAt, st.sampled_from(list(Point)), st.integers(1, 3))
MAYBE_A_CRASH = st.none() | st.none() | A_CRASH
FAILED_OR_A_KEY = st.none() | st.none() | A_KEY  # None: all that have failed
BROKEN = st.sampled_from([None, True, False, False])  # None: the code stays as it is
FATES = {
    (Stage.EXTRACT, FailureState.FAILED): Fate.EXTRACT,
    (Stage.TRANSFORM, FailureState.FAILED): Fate.TRANSFORM,
    (Stage.EXTRACT, FailureState.IGNORED): Fate.IGNORED_EXTRACT,
    (Stage.TRANSFORM, FailureState.IGNORED): Fate.IGNORED_TRANSFORM,
}


class Lives(RuleBasedStateMachine):
    """Nothing lives from one run to the next, so that every run is a restart."""

    def __init__(self, capture: str, deletes: str) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name))
        self.model = Model()
        self.settings = {"capture": capture, "deletes": deletes}
        self.crashed = False  # then ledger and target agree only once the next process is there

    def teardown(self) -> None:
        self.folder.cleanup()

    @initialize(rows=st.lists(A_ROW, min_size=len(KEYS) - 2, max_size=len(KEYS) - 2))
    def begin(self, rows: list[Any]) -> None:
        for key, row in zip(KEYS, rows, strict=False):
            self._put(key, row)
        self.day([], broken=True)

    # What happens at the source, and a run at the end of the day.

    @rule(events=EVENTS, broken=BROKEN)
    def day(self, events: list[Any], broken: bool | None) -> None:
        self._change_the_code(broken)
        self._happen(events)
        self._take_up(self._pending())
        self._maybe_read_the_newest_again()
        result = run_pipeline(self._pipeline().definition)
        self.model.captured()
        self._check(result)

    @rule(events=EVENTS, crash=A_CRASH)
    def day_with_a_crash(self, events: list[Any], crash: CrashAt) -> None:
        self._happen(events)
        self._maybe_read_the_newest_again()
        pending = self._pending()
        try:
            result = run_pipeline(self._pipeline().definition, faults=crash)
        except Crash:
            self._take_up(pending, certain=False)
            self.model.maybe_captured()
            self.crashed = True
        else:
            self._take_up(pending)
            self.model.captured()
            self._check(result)

    def _maybe_read_the_newest_again(self) -> None:
        """A cursor that has lost its own row goes on with all that have the greatest value left."""
        if self.settings["capture"] == "cursor":
            ordered = self.world.sql("SELECT id FROM orders ORDER BY seen DESC")
            read = [key for (key,) in ordered if key not in self.model.unread]
            self.model.maybe_unread.update(read[:1])

    # What people do.

    @rule(key=FAILED_OR_A_KEY, fetched=st.booleans(), crash=MAYBE_A_CRASH, broken=BROKEN)
    def retry(
        self, key: int | None, fetched: bool, crash: CrashAt | None, broken: bool | None
    ) -> None:
        self._change_the_code(broken)
        request = Request(
            kind=DecisionKind.RETRY,
            stream="orders",
            record_ids=() if key is None else (record(key),),
            from_stage=Stage.EXTRACT if fetched else None,
        )
        pending = self._pending()
        certain = self._submit(request, crash or no_faults)
        self.model.retried(key, fetched=fetched, certain=certain)
        self._take_up(pending, certain=certain)

    @rule(key=A_KEY, crash=MAYBE_A_CRASH, broken=BROKEN)
    def replay(self, key: int, crash: CrashAt | None, broken: bool | None) -> None:
        self._change_the_code(broken)
        request = Request(kind=DecisionKind.REPLAY, stream="orders", record_ids=(record(key),))
        pending = self._pending()
        try:
            certain = self._submit(request, crash or no_faults)
        except ConfigurationError as error:
            assert str(error).startswith("Neither the source nor the ledger knows record orders:")
            assert key not in self.model.source
            with ledger_of(self.world) as ledger:
                assert outcomes(ledger, key) == []
            self.crashed = False  # it came to carrying requests out, so after recovery
            self._take_up(pending, certain=False)
        else:
            self.model.replayed(key, certain=certain)
            self._take_up(pending, certain=certain)

    def _change_the_code(self, broken: bool | None) -> None:
        if broken is not None:
            self.model.code = Code(self.model.code.number + 1, broken)

    @precondition(lambda self: not self.crashed)
    @rule(data=st.data(), undo=st.booleans())
    def ignore_or_undo(self, data: st.DataObject, undo: bool) -> None:
        to = UNDONE if undo else IGNORED
        fates = {key: fate for key, fate in self._fates().items() if fate in to}
        if not fates:
            return
        key = data.draw(st.sampled_from(sorted(fates)))
        with ledger_of(self.world) as ledger:
            decide = ledger.decisions.unignore if undo else ledger.decisions.ignore
            decide("orders", [record(key)], "ana", "a reason")
        self.model.decided(key, fates[key], to[fates[key]])

    # What must be true after each of them.

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        if self.crashed:
            return
        target = self.world.loaded()
        fates = self._fates()
        self.model.saw(
            {
                key: (fates.get(key, Fate.FINE), target.get(key))  # type: ignore[misc]
                for key in {*fates, *target}
            }
        )
        assert self.world.gaps() == {f"orders:{key}" for key in fates}
        with ledger_of(self.world) as ledger:
            assert ledger.batches.unfinished() == []

    def _check(self, result: RunResult) -> None:
        self.crashed = False
        stream = result.streams["orders"]
        assert stream.error is None and stream.skipped is None
        failed = {f"orders:{key}" for key, fate in self._fates().items() if fate in FAILED}
        assert stream.held_back == len(failed)
        assert {one.record for one in result.failed_records} == failed
        assert result.complete == (not failed)

    def _pipeline(self) -> Pipeline:
        code = self.model.code

        def picky(frame):
            if code.broken and (frame["note"] == BAD).any():
                raise ValueError("bad note")
            kept = frame[frame["note"] != DROP]
            return kept.assign(note=kept["note"] + f"/{code.number}")

        return self.world.pipeline(
            batch_rows=3,
            transforms=[picky],
            breakers=Breakers(failed_share=1.0, deleted_share=1.0),
            retries=0,  # only people ask
            **self.settings,
        )

    def _happen(self, events: list[Any]) -> None:
        for kind, key, other, row in events:
            if kind == "put":
                self._put(key, row)
            elif key in self.model.source and kind == "move":
                self._move(key, other)
            elif key in self.model.source:
                self._delete(key)
                if kind == "renew":
                    self._put(key, row)

    def _put(self, key: int, row: Any) -> None:
        self.world.put([(key, *row)])
        self.model.put(key, row)

    def _delete(self, key: int) -> None:
        self.world.delete(key)
        self.model.delete(key)

    def _move(self, key: int, other: int) -> None:
        """The row gets another key, if that one is free."""
        if other in self.model.source:
            return
        self.world.clock += 1
        self.world.sql(
            "UPDATE orders SET id = ?, seen = ? WHERE id = ?", (other, self.world.clock, key)
        )
        row = self.model.source[key]
        self.model.delete(key)
        self.model.put(other, row)

    def _submit(self, request: Request, faults: Faults) -> bool:
        """Whether it was carried out; after a crash it may have been."""
        try:
            submit(self._pipeline().definition, [request], faults=faults)
        except Crash:
            self.crashed = True
            return False
        self.crashed = False
        return True

    def _take_up(self, pending: list[Decision], *, certain: bool = True) -> None:
        """Requests that crashes left behind are carried out by the next run, before it reads, and
        by whoever carries out another request."""
        for decision in pending:
            keys = [one.key[0] for one in decision.record_ids]
            if decision.kind is DecisionKind.RETRY:
                fetched = decision.from_stage is not None
                for key in keys or [None]:
                    self.model.retried(key, fetched=fetched, certain=certain)  # type: ignore[arg-type]
            else:
                # If it was carried out before it crashed, the same again changes nothing.
                for key in keys:
                    self.model.replayed(key, certain=False)  # type: ignore[arg-type]
                    self.model.asked_twice.add(key)  # type: ignore[arg-type]

    def _pending(self) -> list[Decision]:
        if not self.world.ledger.exists():
            return []
        with ledger_of(self.world) as ledger:
            return ledger.decisions.pending()

    def _fates(self) -> dict[int, Fate]:
        with ledger_of(self.world) as ledger:
            failures = ledger.failures.list(stream="orders", states=HELD_BACK)
        found = {one.record_id.key[0]: FATES[one.stage, one.state] for one in failures}
        assert len(found) == len(failures), "a record is held back twice"
        return found  # type: ignore[return-value]


def test_records_live_as_the_dictionary_says(capture: str, deletes: str) -> None:
    run_state_machine_as_test(lambda: Lives(capture, deletes), settings=SETTINGS)
