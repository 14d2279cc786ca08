"""SIGKILL at random moments of a PostgreSQL pipeline while others write to its source.

Eight kills with the other tests, two hundred in `make soak`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import HELD_BACK, BatchRecord, BatchState, RunState
from tests.pipelines.forking import Forks, forks
from tests.pipelines.loaded import Loaded
from tests.pipelines.witness import OUTCOMES
from tests.pipelines.writing import TABLES, writing
from tests.postgres_server import PostgresServer
from tests.soak import times

KILLS = times(8, 200)
BATCH_ROWS = 2_000
"""The first read of the largest table takes fifty batches, each later run some."""
SAMPLE = 20
"""Keys of each table whose trail is looked at."""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def test_kills_under_load_lose_nothing_and_double_nothing(
    server: PostgresServer, tmp_path: Path
) -> None:
    with server.database() as source, server.database() as target:
        loaded = Loaded(source=source, target=target, batch_rows=BATCH_ROWS)
        loaded.keep(tmp_path)
        with (
            forks("tests.pipelines.loaded") as runs,
            writing(server, source, tmp_path),
        ):
            _kill(runs, tmp_path)
        assert loaded.pipeline(tmp_path).run().complete
        for table, key in TABLES.items():
            expected = loaded.at_source(table, key)
            assert expected, f"{table} has rows to be compared"
            assert loaded.at_target(table, key) == expected
        with closing(open_ledger(tmp_path / "ledger.db", "test")) as ledger:
            _check_batches(ledger)
            for table, key in TABLES.items():
                keys = [row[_place(loaded, table, key)] for row in loaded.at_source(table, key)]
                for one in random.Random(5).sample(keys, min(SAMPLE, len(keys))):
                    _check_trail(ledger, RecordId(table, (one,)))


def _kill(runs: Forks, folder: Path) -> None:
    """A run that is let be now and then tells how long one takes, the first read included."""
    chance = random.Random(41)
    longest, kills = 3.0, 0
    for _ in range(5 * KILLS):
        ended = runs.run(folder, kill_after=chance.uniform(0, longest))
        assert ended.killed or ended.status == 0
        kills += ended.killed
        longest = longest if ended.killed else ended.seconds
        if kills == KILLS:
            return
    pytest.fail(f"only {kills} of {KILLS} runs were killed")


def _check_batches(ledger: Ledger) -> None:
    """A run that was killed cost at most the one batch that it was at."""
    assert ledger.batches.unfinished() == []
    assert list(ledger.failures.list(states=HELD_BACK)) == []
    states = Counter(run.state for run in ledger.runs.recent(10_000))
    assert set(states) == {RunState.ABANDONED, RunState.COMPLETE}
    batches = [
        batch
        for stream in ledger.streams.all()
        for batch in ledger.batches.recent(stream.name, limit=1_000_000)
    ]
    read_again = Counter(one.run_id for one in batches if one.state is BatchState.ABANDONED)
    assert all(number == 1 for number in read_again.values()), read_again
    assert len(read_again) >= times(0, 10), "so many kills must have met some batches"
    assert sum(read_again.values()) <= states[RunState.ABANDONED] <= KILLS
    _check_positions(batches)


def _check_positions(batches: list[BatchRecord]) -> None:
    """What is closed is never read again: each closed batch ends at a place of its own."""
    ends = Counter(
        (one.stream, one.position_after)
        for one in batches
        if one.state is BatchState.CLOSED and one.records and one.position_after is not None
    )
    assert set(ends.values()) == {1}, ends.most_common(3)


def _place(loaded: Loaded, table: str, key: str) -> int:
    """The number of the key's column: pgbench's own tables begin with it, but for the history."""
    return 6 if table == "pgbench_history" else 0


def _check_trail(ledger: Ledger, record: RecordId) -> None:
    """Each version of the record has one outcome, and those that were loaded only rise."""
    seen = [entry for entry in ledger.trail(record) if entry.event in OUTCOMES]
    assert seen, f"nothing is known of {record}"
    assert len({entry.version for entry in seen}) == len(seen), f"{record}: counted twice"
    loaded = [entry.version for entry in seen if entry.event == "loaded"]
    assert loaded == sorted(loaded), f"{record} went backwards"  # type: ignore[type-var]
