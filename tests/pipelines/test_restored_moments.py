"""A ledger, a target or both put back from moments of runs while the source went on.

Ten moments: five of each of two pairs of databases; in `make soak` ten of each of four, and each of
them in all kinds.

Adopted, or stopped with the words that say what to do: never complete and wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rowtrail import Pipeline
from rowtrail.pipelines.results import RunResult
from rowtrail.pipelines.run import RunOptions, run_pipeline
from tests.pipelines.copied_table import CopiedTable
from tests.pipelines.restored import BackUps
from tests.pipelines.test_takeover import opened_later
from tests.postgres_server import PostgresServer
from tests.soak import times

MOMENTS = times(5, 10)
KINDS = ("ledger", "target", "both", "a newer target than the ledger")
"""What is put back. In the last one two back-ups of different ages are."""
ALL_KINDS = times(0, 1) > 0
"""In the short form each moment has one of them, in turn."""
WORLDS = [("sqlite", "duckdb"), ("postgres", "postgres"), ("sqlite", "postgres")]
WORLDS += [("postgres", "duckdb")]
RIGHT_WORDS = (
    "an older target was put back",
    "before an older ledger and target were put back",
    "has gone on without",
)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def table(
    server: PostgresServer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[CopiedTable]:
    source_kind, target_kind = request.param
    with server.database() as one, server.database() as other:
        source = one if source_kind == "postgres" else f"sqlite:///{tmp_path / 'source.db'}"
        target = other if target_kind == "postgres" else f"duckdb:///{tmp_path / 'target.duckdb'}"
        table = CopiedTable(tmp_path, source, target)
        table.make()
        yield table


@pytest.mark.parametrize("table", WORLDS[: times(2, 4)], indirect=True, ids="-to-".join)
def test_never_green_and_wrong(table: CopiedTable) -> None:
    capture = "log" if table.source.startswith("postgresql:") else "trigger"
    pipeline = table.pipeline(capture=capture, batch_rows=100)
    moments = BackUps(table, MOMENTS)
    while len(moments.points) < MOMENTS:
        table.happen()
        run_pipeline(pipeline.definition, faults=moments)
    assert len(set(moments.points)) > 1
    assert _run(pipeline).complete
    table.check()
    for number in range(MOMENTS):
        for kind in KINDS if ALL_KINDS else [KINDS[number % len(KINDS)]]:
            _put_back(moments, kind, number)
            table.happen()
            _try(table, pipeline, kind, number)


def _put_back(moments: BackUps, kind: str, number: int) -> None:
    if kind != "target":
        moments.put_back_ledger(number)
    if kind == "target" or kind == "both":
        moments.put_back_target(number)
    if kind == "a newer target than the ledger":
        moments.put_back_target((number + MOMENTS) // 2)


def _run(pipeline: Pipeline, options: RunOptions | None = None) -> RunResult:
    """An hour later: in a back-up of mid-run, the lease is that of a process that lives."""
    return run_pipeline(pipeline.definition, options, ledger_opener=opened_later)


def _try(table: CopiedTable, pipeline: Pipeline, kind: str, number: int) -> None:
    where = f"{kind} of moment {number}"
    result = _run(pipeline)
    if result.complete:
        assert table.loaded() == table.expected(), f"green and wrong: {where}"
        if kind == "ledger":
            assert any("an older ledger was put back" in note for note in result.recovered), where
    else:
        assert kind != "ledger", where
        _assert_it_says_what_to_do(result, where)
        assert _run(pipeline, RunOptions(resnapshot=("orders",))).complete, where
    table.happen()
    again = _run(pipeline)
    assert again.complete and again.recovered == (), where
    # The trail of what a lost ledger had seen is not known again; all else is as it was.
    assert table.loaded() == table.expected(), where
    assert table.ask_target("SELECT count(*) FROM _rowtrail_gaps") == [(0,)]


def _assert_it_says_what_to_do(result: RunResult, where: str) -> None:
    stream = result.streams["orders"]
    said = stream.skipped or stream.error or ""
    assert "rowtrail run --resnapshot orders" in said, (where, said)
    assert any(words in said for words in RIGHT_WORDS), (where, said)
    print(where, said)
