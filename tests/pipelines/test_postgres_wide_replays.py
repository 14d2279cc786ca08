"""Replays of many records from a PostgreSQL source: keys of every kind, each capture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rowtrail import Pipeline, Stream
from rowtrail.pipelines.requests import RequestResult
from tests.pipelines.test_postgres_to_duckdb import FILL, KEYS, VALUES

CAPTURES = ("snapshot", "cursor", "trigger", "log")
PAIRS = [(kind, CAPTURES[number % 4]) for number, kind in enumerate(KEYS)]


def statements(kind: str) -> Sequence[str]:
    types, expression = KEYS[kind]
    names = [f"k{number}" for number in range(len(types))]
    declared = ", ".join(f"{name} {one}" for name, one in zip(names, types, strict=True))
    return [
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'Glad')",
        f"CREATE TABLE t ({declared}, {VALUES}, PRIMARY KEY ({', '.join(names)}))",
        f"INSERT INTO t SELECT {expression}, {FILL} FROM generate_series(1, 50) AS g",
    ]


def run_at(url: str, *lines: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for line in lines:
            connection.execute(line.encode())


def counted(result: RequestResult) -> dict[str, int]:
    assert result.differences is not None
    return {kind: number for kind, number in result.differences.counts.items() if number}


@pytest.mark.parametrize(("kind", "capture"), PAIRS)
def test_a_run_and_a_condition(tmp_path: Path, postgres_url: str, capture: str, kind: str) -> None:
    mended = {"now": False}

    def double(frame: Any) -> Any:
        return frame.assign(f=frame["f"] * (2 if mended["now"] else 1))

    run_at(postgres_url, *statements(kind))
    pipeline = Pipeline(
        name="test",
        source=postgres_url,
        destination=f"duckdb:///{tmp_path / 'target.duckdb'}",
        ledger=tmp_path / "ledger.db",
        streams=[
            Stream(
                "t",
                capture=capture,
                cursor="seen",
                batch_rows=30,
                types={"*": "text"},
                transforms=[double],
            )
        ],
        install_capture=True,
    )
    run = pipeline.run()
    assert run.complete, run
    everything = {"run": run.run_id, "dry_run": True}
    assert counted(pipeline.replay("t", **everything)) == {"unchanged": 50}
    mended["now"] = True
    assert counted(pipeline.replay("t", **everything)) == {"updated": 50}
    some = pipeline.replay("t", where="n > 50 AND t.b IS NOT NULL")
    assert (some.chosen, some.text) == (10, "replay from the row at the source: 10 loaded")
    assert counted(pipeline.replay("t", **everything)) == {"updated": 40, "unchanged": 10}
    run_at(postgres_url, "DELETE FROM t WHERE n <= 5")
    assert counted(pipeline.replay("t", **everything)) == {
        "deleted": 4,
        "updated": 36,
        "unchanged": 10,
    }
    done = pipeline.replay("t", run=run.run_id)
    assert (done.chosen, done.text) == (
        50,
        "replay from the row at the source: 46 loaded, 4 deleted",
    )
    assert counted(pipeline.replay("t", **everything)) == {"unchanged": 50}
    assert pipeline.run().complete
    assert counted(pipeline.replay("t", **everything)) == {"unchanged": 50}
