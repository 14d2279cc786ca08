"""Random lives of records, with crashes, against a plain dictionary.

`ROWTRAIL_LONG_TESTS=1` makes it longer and random; without it, each run of the tests is the same.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rowtrail import Breakers, Pipeline
from rowtrail.checkpoints.states import HELD_BACK, DecisionKind, FailureState, Stage
from rowtrail.pipelines.commit import Faults, Point, no_faults
from rowtrail.pipelines.requests import Request, submit
from rowtrail.pipelines.results import RunResult
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.crashing import Crash, CrashAt
from tests.pipelines.model import BAD, DROP, FAILED, IGNORED, WRONG_TYPE, Fate, Model, Row
from tests.pipelines.witness import ledger_of, record
from tests.pipelines.world import World

LONG = bool(os.environ.get("ROWTRAIL_LONG_TESTS"))
SETTINGS = settings(
    max_examples=100 if LONG else 3,
    stateful_step_count=40 if LONG else 25,
    derandomize=not LONG,
    # To shrink what failed takes many runs; the steps that led there are printed in any case.
    phases=[Phase.generate, Phase.shrink] if LONG else [Phase.generate],
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
# Each step of a run is made durable; in memory that costs nothing.
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

KEYS = st.integers(1, 8)
ROWS: st.SearchStrategy[Row] = st.tuples(
    st.integers(0, 400).map(lambda n: n / 4), st.sampled_from(["a", "b", BAD, BAD, DROP])
) | st.tuples(st.just(WRONG_TYPE), st.just("a"))
CRASHES = st.builds(CrashAt, st.sampled_from(list(Point)), st.integers(1, 3))
STAGES = {
    (Stage.EXTRACT, FailureState.FAILED): Fate.EXTRACT,
    (Stage.TRANSFORM, FailureState.FAILED): Fate.TRANSFORM,
    (Stage.EXTRACT, FailureState.IGNORED): Fate.IGNORED_EXTRACT,
    (Stage.TRANSFORM, FailureState.IGNORED): Fate.IGNORED_TRANSFORM,
}


class Lives(RuleBasedStateMachine):
    def __init__(self, capture: str, deletes: str) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=FAST)
        self.world = World(Path(self.folder.name))
        self.model = Model()
        self.settings = {"capture": capture, "deletes": deletes}

    def teardown(self) -> None:
        self.folder.cleanup()

    @initialize(rows=st.dictionaries(KEYS, ROWS, min_size=4, max_size=7))
    def first_run(self, rows: dict[int, Row]) -> None:
        for key, row in rows.items():
            self.put(key, row)
        self.run()

    # What happens at the source.

    @rule(key=KEYS, row=ROWS)
    def put(self, key: int, row: Row) -> None:
        self.world.put([(key, *row)])
        self.model.put(key, row)

    @rule(keys=st.sets(KEYS, min_size=2, max_size=6), row=ROWS)
    def put_many(self, keys: set[int], row: Row) -> None:
        for key in sorted(keys):
            self.put(key, row)

    @precondition(lambda self: self.model.source)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.source)))
        self.world.delete(key)
        self.model.delete(key)

    @precondition(lambda self: self.model.source)
    @rule(data=st.data(), row=ROWS)
    def delete_and_insert_again(self, data: st.DataObject, row: Row) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.source)))
        self.world.delete(key)
        self.model.delete(key)
        self.put(key, row)

    @precondition(lambda self: self.model.source)
    @rule(data=st.data(), new=KEYS)
    def change_the_key(self, data: st.DataObject, new: int) -> None:
        old = data.draw(st.sampled_from(sorted(self.model.source)))
        if new in self.model.source:
            return
        self.world.clock += 1
        self.world.sql(
            "UPDATE orders SET id = ?, seen = ? WHERE id = ?", (new, self.world.clock, old)
        )
        row = self.model.source[old]
        self.model.delete(old)
        self.model.put(new, row)

    # What people do.

    @rule()
    def break_or_mend_the_transform(self) -> None:
        self.model.broken = not self.model.broken

    @rule(key=st.none() | KEYS, fetched=st.booleans())
    def retry(self, key: int | None, fetched: bool) -> None:
        self._ask(DecisionKind.RETRY, key, fetched=fetched)
        self.model.retried(key, fetched=fetched)

    @rule(key=KEYS)
    def replay(self, key: int) -> None:
        self._ask(DecisionKind.REPLAY, key)
        self.model.replayed(key)

    @rule(data=st.data())
    def ignore(self, data: st.DataObject) -> None:
        self._decide(data, DecisionKind.IGNORE)

    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        self._decide(data, DecisionKind.UNIGNORE)

    # Runs and crashes. Nothing lives from one to the next: every run is a restart.

    @rule()
    def run(self) -> None:
        self._pending_are_carried_out()
        self._check(run_pipeline(self._pipeline().definition))

    @rule(crash=CRASHES)
    def run_and_crash(self, crash: CrashAt) -> None:
        before = self._copy_of_fates()
        self._pending_are_carried_out()
        try:
            result = run_pipeline(self._pipeline().definition, faults=crash)
        except Crash:
            self._either(before)
            self.model.maybe_captured()
            after = self._copy_of_fates()
            self._pending_are_carried_out()
            self._either(after)
        else:
            self._check(result)

    @rule(key=KEYS, crash=CRASHES, kind=st.sampled_from([DecisionKind.RETRY, DecisionKind.REPLAY]))
    def ask_and_crash(self, key: int, crash: CrashAt, kind: DecisionKind) -> None:
        before = self._copy_of_fates()
        try:
            self._ask(kind, key, faults=crash)
        except Crash:
            self._asked(kind, key, fetched=False)
            self._either(before)
        else:
            self._asked(kind, key, fetched=False)

    def _pipeline(self) -> Pipeline:
        def picky(frame):
            if self.model.broken and (frame["note"] == BAD).any():
                raise ValueError("bad note")
            return frame[frame["note"] != DROP]

        return self.world.pipeline(
            batch_rows=3,
            transforms=[picky],
            breakers=Breakers(failed_share=1.0, deleted_share=1.0),
            **self.settings,
        )

    def _ask(
        self,
        kind: DecisionKind,
        key: int | None,
        *,
        fetched: bool = False,
        faults: Faults = no_faults,
    ) -> None:
        request = Request(
            kind=kind,
            stream="orders",
            record_ids=() if key is None else (record(key),),
            from_stage=Stage.EXTRACT if fetched else None,
        )
        submit(self._pipeline().definition, [request], faults=faults)

    def _asked(self, kind: DecisionKind, key: int | None, *, fetched: bool) -> None:
        if kind is DecisionKind.RETRY:
            self.model.retried(key, fetched=fetched)
        else:
            assert key is not None
            self.model.replayed(key)

    def _decide(self, data: st.DataObject, kind: DecisionKind) -> None:
        ignore = kind is DecisionKind.IGNORE
        chosen = FAILED if ignore else tuple(IGNORED.values())
        actual = self._actual()
        keys = sorted(key for key, fate in actual.items() if fate in chosen)
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        undone = {after: before for before, after in IGNORED.items()}
        with ledger_of(self.world) as ledger:
            if ignore:
                ledger.decisions.ignore("orders", [record(key)], "ana", "a reason")
            else:
                ledger.decisions.unignore("orders", [record(key)], "ana")
        self.model.fates[key] = {(IGNORED if ignore else undone)[actual[key]]}

    def _pending_are_carried_out(self) -> None:
        """Requests that a crash left behind are carried out by the next run, before it reads."""
        if not self.world.ledger.exists():
            return
        with ledger_of(self.world) as ledger:
            pending = ledger.decisions.pending()
        for decision in pending:
            (one,) = decision.record_ids
            self._asked(decision.kind, one.key[0], fetched=False)  # type: ignore[arg-type]

    def _copy_of_fates(self) -> dict[int, set[Fate]]:
        return {key: set(fates) for key, fates in self.model.fates.items()}

    def _either(self, before: dict[int, set[Fate]]) -> None:
        """It happened or it did not."""
        for key in {*before, *self.model.fates}:
            self.model.fates[key] = self.model.possible(key) | before.get(key, {Fate.FINE})

    def _actual(self) -> dict[int, Fate]:
        with ledger_of(self.world) as ledger:
            failures = ledger.failures.list(stream="orders", states=HELD_BACK)
        found = {one.record_id.key[0]: STAGES[one.stage, one.state] for one in failures}
        assert len(found) == len(failures), "a record is held back twice"
        return found  # type: ignore[return-value]

    def _check(self, result: RunResult) -> None:
        stream = result.streams["orders"]
        assert stream.error is None and stream.skipped is None
        self.model.captured()
        actual = self._actual()
        target = self.world.loaded()
        self.model.settle(actual, target)  # type: ignore[arg-type]
        assert set(target) <= set(self.model.source)
        assert self.world.gaps() == {f"orders:{key}" for key in actual}
        open_failures = {key for key, fate in actual.items() if fate in FAILED}
        assert stream.held_back == len(open_failures)
        assert {one.record for one in result.failed_records} == {
            f"orders:{key}" for key in open_failures
        }
        assert result.complete == (not open_failures)


def test_records_live_as_the_dictionary_says(capture: str, deletes: str) -> None:
    run_state_machine_as_test(lambda: Lives(capture, deletes), settings=SETTINGS)
