"""Random lives of records between databases: after each run the target is the source less the gaps.

Whatever happens at the source, whichever stage fails, whatever people ask for meanwhile and where
the process dies: a record that is not named in `_rowtrail_gaps` is at the target as it is at the
source, or at neither. In the end everything is mended, and no gap is left.

tests/pipelines/test_state_machine.py knows more of each record, and tries SQLite and DuckDB alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from rowtrail import Breakers, Pipeline, Stream
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.selections import Origin, Selection
from rowtrail.checkpoints.states import HELD_BACK, DecisionKind, Failure, FailureState, Stage
from rowtrail.connectors.destinations.duckdb import DuckdbDestination
from rowtrail.connectors.destinations.postgres import PostgresDestination
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines import definition
from rowtrail.pipelines.archive_replay import ArchiveRequest, replay_archive
from rowtrail.pipelines.commit import Faults, Point, no_faults
from rowtrail.pipelines.requests import Request, submit
from rowtrail.pipelines.run import run_pipeline
from tests.duckdb_files import write_into
from tests.pipelines.copied_table import CopiedTable
from tests.pipelines.crashing import Crash, CrashAt
from tests.pipelines.gathered_changes import upto
from tests.postgres_server import PostgresServer
from tests.soak import SOAK, times

SETTINGS = settings(
    max_examples=times(2, 100),
    derandomize=not SOAK,
    # To shrink what failed takes many runs; the steps that led there are printed in any case.
    phases=[Phase.generate, Phase.shrink] if SOAK else [Phase.generate],
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
STEPS = 30 if SOAK else 10

FINE, BAD, REFUSED = "fine", "bad", "refused"
"""Notes: one that goes through, one at which the transform raises, one that the target refuses."""
UNFIT = "unfit"
"""An amount that the declared type does not take."""
CHECK = f"note <> '{REFUSED}'"
BODY = 3_000
"""Characters: PostgreSQL keeps such a value apart, and its log leaves it out if it is unchanged."""

LIVE = {
    "soft": " WHERE _rowtrail_deleted_at IS NULL",
    "hard": "",
    "history": " WHERE _rowtrail_is_current",
}
VERSION = "_rowtrail_epoch, _rowtrail_position, _rowtrail_ordinal, _rowtrail_revision"

KEYS = range(1, 8)

Row = tuple[str, str]
"""Amount and note."""
Event = tuple[str, int, int, Row]
"""What happens to a key; another key, for one that moves; and what is put there."""


@dataclass(frozen=True)
class Pair:
    """A source with its capture, and a target."""

    source: str
    capture: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}-{self.capture}-{self.target}"


PAIRS = (
    Pair("sqlite", "trigger", "postgres"),
    Pair("sqlite", "cursor", "postgres"),
    Pair("sqlite", "snapshot", "duckdb"),
    Pair("postgres", "log", "duckdb"),
    Pair("postgres", "log", "postgres"),
    Pair("postgres", "trigger", "duckdb"),
    Pair("postgres", "cursor", "postgres"),
)


class Lives:
    """Nothing lives from one step to the next, so that every step is a restart."""

    def __init__(self, table: CopiedTable, pair: Pair, **settings: Any) -> None:
        self.table = table
        self.pair = pair
        self.settings = {
            "capture": pair.capture,
            **settings,
            "cursor": "seen" if pair.capture == "cursor" else None,
        }
        self.broken = True  # the transform
        self._clock = 0

    # The source.

    def make(self, rows: Sequence[Row]) -> None:
        self.table.change(
            "CREATE TABLE orders (id int PRIMARY KEY, amount numeric(10,2), note text, body text, "
            "seen int)"
        )
        if self.pair.source == "postgres":
            self.table.change("ALTER TABLE orders ALTER COLUMN body SET STORAGE EXTERNAL")
        first = [("put", key, key, row) for key, row in zip(KEYS, rows, strict=False)]
        self.happen(first, together=True)
        self.run()
        self.refuse()

    def refuse(self) -> None:
        """From now on the target refuses a note."""
        if self.pair.target == "postgres":
            self.table.change_target(f"ALTER TABLE orders ADD CHECK ({CHECK})")
            return
        with write_into(self.table.target.removeprefix("duckdb:///")) as target:
            find = "SELECT sql FROM duckdb_tables() WHERE table_name = 'orders'"
            ((made,),) = target.execute(find).fetchall()
            target.execute("ALTER TABLE orders RENAME TO before")
            target.execute(f"{made.rstrip(';').rstrip(')')}, CHECK ({CHECK}))")
            target.execute("INSERT INTO orders SELECT * FROM before; DROP TABLE before")

    def happen(self, events: Sequence[Event], *, together: bool) -> None:
        """In one transaction, or each in one of its own."""
        statements = list(self._statements(events))
        for statement in statements:
            note(statement.replace("x" * (BODY - 10), "x…"))
        if together:
            self.table.change(*statements)
        else:
            for statement in statements:
                self.table.change(statement)

    def _statements(self, events: Sequence[Event]) -> Iterator[str]:
        there = {row[0] for row in self.table.ask("SELECT id FROM orders")}
        for kind, key, other, row in events:
            self._clock += 1
            seen = f"seen = {self._clock}"
            if kind == "put":
                yield self._put(key, row)
                there.add(key)
            elif key not in there:
                continue
            elif kind == "touch":
                yield f"UPDATE orders SET note = '{row[1]}', {seen} WHERE id = {key}"
            elif kind == "move" and other not in there:
                yield f"UPDATE orders SET id = {other}, {seen} WHERE id = {key}"
                there = (there - {key}) | {other}
            elif kind in ("delete", "renew"):
                yield f"DELETE FROM orders WHERE id = {key}"
                there.remove(key)
                if kind == "renew":
                    yield self._put(key, row)
                    there.add(key)

    def _put(self, key: int, row: Row) -> str:
        amount, words = row
        unfit = "'NaN'" if self.pair.source == "postgres" else "'a word'"
        body = f"{self._clock:010}".ljust(BODY, "x")
        return (
            f"INSERT INTO orders VALUES ({key}, {unfit if amount == UNFIT else amount}, "
            f"'{words}', '{body}', {self._clock}) ON CONFLICT (id) DO UPDATE SET "
            f"amount = excluded.amount, note = excluded.note, body = excluded.body, "
            f"seen = excluded.seen"
        )

    # The pipeline.

    def definition(self) -> Any:
        broken = self.broken

        def picky(frame: pd.DataFrame) -> pd.DataFrame:
            if broken and (frame["note"] == BAD).any():
                raise ValueError("bad note")
            return frame if broken else frame.assign(note=frame["note"].replace(REFUSED, FINE))

        return Pipeline(
            name="test",
            source=self.table.source,
            destination=self.table.target,
            ledger=self.table.folder / "ledger.db",
            archive=str(self.table.folder / "archive"),
            streams=[Stream("orders", retries=1, transforms=[picky], **self.settings)],
            breakers=Breakers(failed_share=1.0, deleted_share=1.0),
            install_capture=True,
        ).definition

    def run(self, faults: Faults = no_faults) -> None:
        result = run_pipeline(self.definition(), faults=faults).streams["orders"]
        assert result.error is None and result.skipped is None, result
        self.check()

    def ask_for(self, request: Request, faults: Faults = no_faults) -> None:
        """A record that was never there can be asked for, too."""
        try:
            submit(self.definition(), [request], faults=faults)
        except ConfigurationError as error:
            assert "Neither the source nor the ledger knows record" in str(error)

    # What must hold.

    def held(self) -> list[Failure]:
        with closing(open_ledger(self.table.folder / "ledger.db", "test")) as ledger:
            return ledger.failures.list(stream="orders", states=HELD_BACK)

    def gaps(self) -> set[str]:
        return {name for (name,) in self.table.ask_target("SELECT record FROM _rowtrail_gaps")}

    def check(self) -> None:
        """Of the moment after a run, in which nothing has changed at the source."""
        held = {str(failure.record_id) for failure in self.held()}
        assert self.gaps() == held
        source = self.at_source()
        target = self.at_target()
        other = {key for key in {*source, *target} if source.get(key) != target.get(key)}
        wrong = {f"orders:{key}" for key in other} - held
        assert not wrong, f"{sorted(wrong)} at the target are not as at the source, and are no gap"
        if self.settings["deletes"] == "history":
            self.check_history()

    def check_history(self) -> None:
        """Each event of a record holds until the next one, and the newest row is current."""
        events = self.table.ask_target(
            f"SELECT id, {VERSION}, _rowtrail_valid_from, _rowtrail_valid_to, "
            f"_rowtrail_is_current, true FROM orders UNION ALL "
            f"SELECT id, {VERSION}, _rowtrail_deleted_at, NULL, false, false "
            f"FROM _rowtrail_tombstones_orders ORDER BY 1, 2, 3, 4, 5"
        )
        for event, following in zip_longest(events, events[1:]):
            *_, starts, ends, is_current, is_row = event
            after = following if following is not None and following[0] == event[0] else None
            until = None if after is None else after[5]
            assert until is None or starts <= until, (event, after)
            if is_row:
                assert (ends, is_current) == (until, until is None), (event, after)

    def at_source(self) -> dict[int, tuple[str, str, str]]:
        found = self.table.ask("SELECT id, amount, note, body FROM orders")
        return {
            row[0]: (_money(row[1]), row[2].replace(REFUSED, FINE), row[3][:10]) for row in found
        }

    def at_target(self) -> dict[int, tuple[str, str, str]]:
        live = LIVE[self.settings["deletes"]]
        found = self.table.ask_target(f"SELECT id, amount, note, body FROM orders{live}")
        assert len(found) == len({row[0] for row in found}), "a record stands twice at the target"
        assert all(len(row[3]) == BODY for row in found)
        return {row[0]: (_money(row[1]), row[2], row[3][:10]) for row in found}

    def mend(self) -> None:
        """Nothing is wrong any more, and nobody ignores anything: no gap is left."""
        self.broken = False
        self.happen([("put", key, key, ("1", FINE)) for key in self._unfit()], together=True)
        with closing(open_ledger(self.table.folder / "ledger.db", "test")) as ledger:
            ignored = ledger.failures.list(stream="orders", states=(FailureState.IGNORED,))
            ids = list(dict.fromkeys(one.record_id for one in ignored))
            if ids:
                ledger.decisions.unignore("orders", ids, "ana")
        self.run()
        for _ in range(2):
            self.ask_for(Request(kind=DecisionKind.RETRY, stream="orders"))
        self.ask_for(Request(kind=DecisionKind.RETRY, stream="orders", from_stage=Stage.EXTRACT))
        self.run()
        assert self.held() == [] and self.gaps() == set()
        assert self.at_target() == self.at_source()

    def _unfit(self) -> list[int]:
        return [row[0] for row in self.table.ask("SELECT id, amount FROM orders") if _unfit(row[1])]


def _unfit(amount: object) -> bool:
    return _money(amount) in ("NaN", "a word")


def _money(amount: Any) -> str:
    try:
        return f"{float(amount):.2f}".replace("nan", "NaN")
    except ValueError:
        return str(amount)


# --- what happens, one thing after another ------------------------------------------------------

Step = Callable[[Lives], None]


@contextmanager
def may_crash() -> Iterator[None]:
    try:
        yield
    except Crash:
        note("it crashed")


def a_day(
    lives: Lives, events: Sequence[Event], together: bool, broken: bool, crash: CrashAt | None
) -> None:
    lives.broken = broken
    lives.happen(events, together=together)
    with may_crash():
        lives.run(_fresh(crash))


def a_day_on_which_others_ask(
    lives: Lives, events: Sequence[Event], point: Point, key: int
) -> None:
    """While the run is at this point of a batch, another process asks for a retry of all that is
    failed, and for a replay."""
    lives.happen(events, together=False)
    asked = False

    def meanwhile(reached: Point) -> None:
        nonlocal asked
        if reached is point and not asked:
            asked = True
            for request in (
                Request(kind=DecisionKind.RETRY, stream="orders"),
                Request(kind=DecisionKind.REPLAY, stream="orders", record_ids=(_id(key),)),
            ):
                (result,) = submit(lives.definition(), [request])
                assert not result.carried_out

    lives.run(meanwhile)


def a_retry(
    lives: Lives, key: int | None, stage: Stage | None, broken: bool, crash: CrashAt | None
) -> None:
    lives.broken = broken
    ids = () if key is None else (_id(key),)
    request = Request(kind=DecisionKind.RETRY, stream="orders", record_ids=ids, from_stage=stage)
    with may_crash():
        lives.ask_for(request, _fresh(crash))


def a_replay(lives: Lives, key: int, origin: Origin, broken: bool, crash: CrashAt | None) -> None:
    lives.broken = broken
    request = Request(
        kind=DecisionKind.REPLAY, stream="orders", record_ids=(_id(key),), origin=origin
    )
    with may_crash():
        lives.ask_for(request, _fresh(crash))


def a_replay_of_many(lives: Lives, words: str, crash: CrashAt | None) -> None:
    chosen = Selection(where=f"note = '{words}'")
    request = Request(kind=DecisionKind.REPLAY, stream="orders", selection=chosen)
    with may_crash():
        lives.ask_for(request, _fresh(crash))


def a_replay_from_the_archive(lives: Lives, key: int | None, crash: CrashAt | None) -> None:
    request = ArchiveRequest(streams=("orders",), record_ids=() if key is None else (_id(key),))
    with may_crash():
        replay_archive(lives.definition(), request, faults=_fresh(crash))


def a_decision(lives: Lives, number: int, undo: bool) -> None:
    state = FailureState.IGNORED if undo else FailureState.FAILED
    found = [failure for failure in lives.held() if failure.state is state]
    if not found:
        return
    one = found[number % len(found)].record_id
    with closing(open_ledger(lives.table.folder / "ledger.db", "test")) as ledger:
        if undo:
            ledger.decisions.unignore("orders", [one], "ana", "a reason")
        else:
            ledger.decisions.ignore("orders", [one], "ana", "a reason")


def _id(key: int) -> RecordId:
    return RecordId("orders", (key,))


def _fresh(crash: CrashAt | None) -> Faults:
    return no_faults if crash is None else CrashAt(crash.point, crash.occurrence)


A_KEY = st.sampled_from(KEYS)
A_ROW = st.tuples(
    st.sampled_from(["1.25", "2", "2", UNFIT]), st.sampled_from([FINE, FINE, BAD, REFUSED])
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["put", "touch", "touch", "delete", "renew", "move", "move"]),
        A_KEY,
        A_KEY,
        A_ROW,
    ),
    min_size=1,
    max_size=6,
)
BROKEN = st.sampled_from([True, True, False])
MAYBE_A_CRASH = st.none() | st.builds(CrashAt, st.sampled_from(list(Point)), st.integers(1, 3))


def steps(doing: Callable[..., None], *arguments: st.SearchStrategy[Any]) -> Any:
    def step(*values: Any) -> Step:
        def take(lives: Lives) -> None:
            note(f"{doing.__name__} {values}")
            doing(lives, *values)

        return take

    return st.builds(step, *arguments)


A_DAY = steps(a_day, EVENTS, st.booleans(), BROKEN, MAYBE_A_CRASH)
A_STEP = st.one_of(
    A_DAY,
    A_DAY,
    steps(a_day_on_which_others_ask, EVENTS, st.sampled_from(list(Point)), A_KEY),
    steps(
        a_retry,
        st.none() | A_KEY,
        st.sampled_from([None, Stage.TRANSFORM, Stage.EXTRACT]),
        BROKEN,
        MAYBE_A_CRASH,
    ),
    steps(a_replay, A_KEY, st.sampled_from([Origin.SOURCE, Origin.IMAGE]), BROKEN, MAYBE_A_CRASH),
    steps(a_replay_of_many, st.sampled_from([FINE, BAD, REFUSED]), MAYBE_A_CRASH),
    steps(a_replay_from_the_archive, st.none() | A_KEY, MAYBE_A_CRASH),
    steps(a_decision, st.integers(0, 9), st.booleans()),
)


@contextmanager
def databases(pair: Pair, server: PostgresServer) -> Iterator[CopiedTable]:
    with tempfile.TemporaryDirectory() as name, server.database() as one, server.database() as two:
        folder = Path(name)
        yield CopiedTable(
            folder,
            source=one if pair.source == "postgres" else f"sqlite:///{folder / 'source.db'}",
            target=two if pair.target == "postgres" else f"duckdb:///{folder / 'target.duckdb'}",
        )


BATCH_ROWS = st.sampled_from([2, 3, 100])
STREAM = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(["latest", "block", "reread"]),
        "deletes": st.sampled_from(["soft", "hard"]),
        "batch_rows": BATCH_ROWS,
    }
)
HISTORY = st.fixed_dictionaries({"deletes": st.just("history"), "batch_rows": BATCH_ROWS})
FIRST_ROWS = st.lists(st.tuples(st.just("3"), st.sampled_from([FINE, BAD])), min_size=5, max_size=5)


@pytest.mark.parametrize("stream", [STREAM, HISTORY], ids=["rows", "history"])
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_the_target_is_the_source_less_the_gaps(
    pair: Pair, stream: st.SearchStrategy[dict[str, Any]], postgres_server: PostgresServer
) -> None:
    live_on(pair, stream, postgres_server)


GATHERED = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(["latest", "block", "reread"]),
        "deletes": st.sampled_from(["soft", "hard", "history"]),
    }
).filter(lambda chosen: (chosen["policy"], chosen["deletes"]) != ("reread", "history"))


@pytest.mark.parametrize("pair", [one for one in PAIRS if one.capture != "trigger"], ids=str)
def test_so_it_is_where_batches_are_gathered(
    pair: Pair, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of pages of two rows, as Snowflake has them of large ones."""
    for kind in (DuckdbDestination, PostgresDestination):
        can = replace(kind.capabilities, gathering=upto(rows=5))
        monkeypatch.setattr(kind, "capabilities", can)
    monkeypatch.setattr(definition, "DEFAULT_BATCH_ROWS", 2)
    live_on(pair, GATHERED, postgres_server)


def live_on(
    pair: Pair, stream: st.SearchStrategy[dict[str, Any]], postgres_server: PostgresServer
) -> None:
    @SETTINGS
    @given(chosen=stream, rows=FIRST_ROWS, steps=st.lists(A_STEP, min_size=STEPS, max_size=STEPS))
    def live(chosen: dict[str, Any], rows: list[Row], steps: list[Step]) -> None:
        note(f"{pair} {chosen} {rows}")
        with databases(pair, postgres_server) as table:
            lives = Lives(table, pair, **chosen)
            lives.make(rows)
            for step in steps:
                step(lives)
            lives.mend()

    live()
