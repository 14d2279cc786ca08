"""Who may write to a schema in what stands in for Snowflake, when several want to at one moment.

Snowflake keeps no key unique: what keeps them apart are the lock of the owner's table and the row
in it that all of them change first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from rowtrail.connectors.base import Fence
from rowtrail.connectors.destinations.snowflake import SnowflakeDestination
from rowtrail.connectors.destinations.snowflake_sql import Connected
from rowtrail.connectors.errors import OwnershipError

from .builders import FENCE, load_of, orders, upsert
from .snowflake_warehouse import SnowflakeWarehouse

OTHER = Fence(pipeline=FENCE.pipeline, ledger_id="ledger-2", generation=1)
LATER = replace(FENCE, generation=2)
SECONDS = 30


@pytest.fixture
def warehouse(snowflake_url: str) -> SnowflakeWarehouse:
    """Its own tables are there, and no owner row of the pipeline."""
    warehouse = SnowflakeWarehouse(snowflake_url)
    warehouse.open(replace(FENCE, pipeline="another")).close()
    return warehouse


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


class StandsStill:
    """The first connection that is about to say such a statement waits for `go`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
        self.reached, self._go = threading.Event(), threading.Event()
        execute = Connected._execute

        def executing(work: Connected, sql: str, parameters: Sequence[object]) -> Any:
            if words in sql and FENCE.pipeline in parameters and not self.reached.is_set():
                self.reached.set()
                assert self._go.wait(SECONDS)
            return execute(work, sql, parameters)

        monkeypatch.setattr(Connected, "_execute", executing)

    def go(self) -> None:
        self._go.set()


def until_it_waits_or_ends(warehouse: SnowflakeWarehouse, other: Future[Any]) -> None:
    """Until a statement of the other waits for a lock, or there is nothing left to wait for."""
    while not any(status == "WAITING" for _, _, status in warehouse.query("SHOW LOCKS")):
        if wait([other], timeout=0.01).done:
            return


def claims(warehouse: SnowflakeWarehouse, fence: Fence) -> str:
    warehouse.open(fence).close()
    return fence.ledger_id


def owners(warehouse: SnowflakeWarehouse) -> list[tuple[Any, ...]]:
    return warehouse.query(
        "SELECT ledger_id, generation FROM _rowtrail_owner WHERE pipeline = 'shop'"
    )


def test_of_two_ledgers_that_claim_at_once_one_wins(
    warehouse: SnowflakeWarehouse, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one has seen that nobody owns the schema, and has not yet made its row."""
    still = StandsStill(monkeypatch, 'INSERT INTO "PUBLIC"."_ROWTRAIL_OWNER"')
    first = threads.submit(claims, warehouse, FENCE)
    assert still.reached.wait(SECONDS)
    second = threads.submit(claims, warehouse, OTHER)
    until_it_waits_or_ends(warehouse, second)
    still.go()
    assert first.result(SECONDS) == FENCE.ledger_id
    with pytest.raises(OwnershipError, match="kept by ledger ledger-1"):
        second.result(SECONDS)
    assert owners(warehouse) == [(FENCE.ledger_id, 1)]


def test_of_many_that_claim_at_once_one_wins(
    warehouse: SnowflakeWarehouse, threads: ThreadPoolExecutor
) -> None:
    fences = [replace(OTHER, ledger_id=f"ledger-{number}") for number in range(4)]
    ended = [threads.submit(claims, warehouse, fence) for fence in fences]
    errors = [one.exception(SECONDS) for one in ended]
    (winner,) = [one.result() for one, error in zip(ended, errors, strict=True) if error is None]
    assert all(error is None or isinstance(error, OwnershipError) for error in errors)
    assert owners(warehouse) == [(winner, 1)]


def everything(warehouse: SnowflakeWarehouse) -> list[Any]:
    tables = ("owner", "receipts", "gaps", "watermarks", "tombstones_orders")
    return [
        warehouse.query(f"SELECT * FROM {table} ORDER BY 1, 2")
        for table in ("orders", *(f"_rowtrail_{table}" for table in tables))
    ]


def test_a_writer_that_pauses_before_its_transaction_is_too_late(
    warehouse: SnowflakeWarehouse, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are at the stage; another generation has claimed and written meanwhile."""
    target = orders()
    warehouse.alter(target)
    with closing(warehouse.open()) as paused:
        still = StandsStill(monkeypatch, 'UPDATE "PUBLIC"."_ROWTRAIL_OWNER"')
        late = threads.submit(paused.write, load_of(target, upsert(9, id=1, note="late")))
        assert still.reached.wait(SECONDS)
        with closing(warehouse.open(LATER)) as later:
            later.write(load_of(target, upsert(5, id=1, note="later")))
        before = everything(warehouse)
        still.go()
        with pytest.raises(OwnershipError, match="has generation 2, this run 1"):
            late.result(SECONDS)
        assert everything(warehouse) == before
    assert warehouse.query('LIST @"PUBLIC"."_ROWTRAIL_STAGE"') == []


def test_who_takes_over_waits_for_the_transaction_of_who_was_there(
    warehouse: SnowflakeWarehouse, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that holds the owner row gets to its end, and the new owner knows its receipt."""
    target = orders()
    warehouse.alter(target)
    load = load_of(target, upsert(1, id=1, note="a"))
    with closing(warehouse.open()) as paused:
        still = StandsStill(monkeypatch, 'INSERT INTO "PUBLIC"."_ROWTRAIL_RECEIPTS"')
        early = threads.submit(paused.write, load)
        assert still.reached.wait(SECONDS)
        taking_over = threads.submit(warehouse.open, LATER)
        until_it_waits_or_ends(warehouse, taking_over)
        assert not taking_over.done()
        still.go()
        early.result(SECONDS)
        later: SnowflakeDestination = taking_over.result(SECONDS)
        with closing(later):
            assert [one.batch_id for one in later.receipts()] == [load.receipt.batch_id]
            before = everything(warehouse)
            with pytest.raises(OwnershipError, match="has generation 2, this run 1"):
                paused.write(load_of(target, upsert(2, id=1, note="b")))
            assert everything(warehouse) == before
    assert warehouse.notes() == {1: "a"}
