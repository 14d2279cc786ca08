"""A record gets another key: the old row goes once the new one is there, under each policy."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rowtrail import Pipeline, Stream
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import OPEN_FAILURES, Failure, FailureState, Stage
from tests.pipelines.logged_shop import Shop
from tests.postgres_server import PostgresServer

FAILED, WAITING = FailureState.FAILED, FailureState.WAITING


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def shop(server: PostgresServer, tmp_path: Path) -> Iterator[Shop]:
    with server.database() as url:
        shop = Shop(tmp_path, url, f"moved_{random.getrandbits(40)}")
        shop.make("orders")
        yield shop
        shop.sql(f"SELECT pg_drop_replication_slot('{shop.slot}')")


@pytest.fixture(params=["latest", "block", "reread"])
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bad() -> set[str]:
    """Notes that the transform refuses."""
    return {"bad"}


def moving(shop: Shop, bad: set[str], policy: str, **given: Any) -> Pipeline:
    def picky(frame):
        refused = bad & set(frame["note"])
        if refused:
            raise ValueError(f"refused: {sorted(refused)[0]}")
        return frame

    settings = {"batch_rows": 100, "retries": 0, "transforms": [picky], **given}
    return shop.pipeline(Stream("orders", capture="log", policy=policy, **settings))


def held(shop: Shop) -> dict[int, Failure]:
    with closing(open_ledger(shop.folder / "ledger.db", "test")) as ledger:
        found = ledger.failures.list(stream="orders", states=OPEN_FAILURES)
    return {one.record_id.key[0]: one for one in found}  # type: ignore[misc]


def gaps(shop: Shop) -> set[str]:
    return {record for (record,) in shop.query("SELECT record FROM _rowtrail_gaps")}


def move(shop: Shop, old: int, new: int, note: str = "bad") -> None:
    shop.sql(f"UPDATE orders SET id = {new}, note = '{note}' WHERE id = {old}")


def test_the_old_row_stays_until_the_new_one_is_there(
    shop: Shop, bad: set[str], policy: str
) -> None:
    pipeline = moving(shop, bad, policy)
    assert pipeline.run().complete
    move(shop, 3, 30)
    move(shop, 4, 40, "fine")
    result = pipeline.run()
    assert result.streams["orders"].summary == "complete except 2"
    found = held(shop)
    assert {key: one.state for key, one in found.items()} == {30: FAILED, 3: WAITING}
    assert found[3].waits_for == RecordId("orders", (30,))
    assert 3 in shop.loaded("orders") and 30 not in shop.loaded("orders")
    assert 4 not in shop.loaded("orders") and 40 in shop.loaded("orders")
    assert gaps(shop) == {"orders:3", "orders:30"}
    assert not pipeline.run().complete, "it goes on waiting"

    bad.clear()
    (retried,) = pipeline.retry("orders", 30)
    assert "1 loaded, 1 deleted" in retried.text
    assert held(shop) == {} and gaps(shop) == set()
    assert shop.equal("orders")
    assert pipeline.run().complete


def test_a_later_change_of_the_new_row_lets_the_old_one_go(
    shop: Shop, bad: set[str], policy: str
) -> None:
    pipeline = moving(shop, bad, policy)
    pipeline.run()
    move(shop, 3, 30)
    pipeline.run()
    shop.sql("UPDATE orders SET note = 'mended' WHERE id = 30")
    result = pipeline.run()
    if policy == "block":
        assert {key: one.state for key, one in held(shop).items()} == {3: WAITING, 30: WAITING}
        bad.clear()
        pipeline.retry()
    else:
        assert result.complete
    assert held(shop) == {} and gaps(shop) == set()
    assert shop.equal("orders")


def test_the_new_row_goes_too(shop: Shop, bad: set[str], policy: str) -> None:
    pipeline = moving(shop, bad, policy)
    pipeline.run()
    move(shop, 3, 30)
    pipeline.run()
    shop.sql("DELETE FROM orders WHERE id = 30")
    pipeline.run()
    bad.clear()
    pipeline.retry()
    assert held(shop) == {} and gaps(shop) == set()
    assert shop.equal("orders")


def test_another_row_gets_the_old_key(shop: Shop, bad: set[str], policy: str) -> None:
    pipeline = moving(shop, bad, policy)
    pipeline.run()
    move(shop, 3, 30)
    pipeline.run()
    shop.sql("INSERT INTO orders VALUES (3, 99, 'another')")
    pipeline.run()
    if policy != "block":
        assert shop.loaded("orders")[3] == (99, "another")
    bad.clear()
    pipeline.retry()
    assert held(shop) == {} and gaps(shop) == set()
    assert shop.equal("orders")


def test_a_chain_of_keys_in_one_batch(shop: Shop, bad: set[str], policy: str) -> None:
    """3 becomes 30 and 30 becomes 300, which fails: what is at the target stays as it is."""
    pipeline = moving(shop, bad, policy)
    pipeline.run()
    move(shop, 3, 30, "fine")
    move(shop, 30, 300)
    pipeline.run()
    assert held(shop)[300].state is FAILED
    assert 3 in shop.loaded("orders")
    bad.clear()
    pipeline.retry("orders", 300)
    assert held(shop) == {} and gaps(shop) == set()
    assert shop.equal("orders")


def test_a_chain_of_keys_over_several_runs(shop: Shop, bad: set[str], policy: str) -> None:
    pipeline = moving(shop, bad, policy)
    pipeline.run()
    for old, new in ((3, 30), (30, 300), (300, 3)):
        move(shop, old, new)
        pipeline.run()
        assert len([1 for key in (3, 30, 300) if key in shop.loaded("orders")]) == 1
    bad.clear()
    pipeline.retry()
    pipeline.run()
    assert held(shop) == {} and gaps(shop) == set()
    assert shop.equal("orders")


def test_under_block_the_row_waits_for_what_its_old_key_waits_for(
    shop: Shop, bad: set[str]
) -> None:
    passed: list[str] = []

    def picky(frame):
        refused = bad & set(frame["note"])
        if refused:
            raise ValueError("refused")
        passed.extend(frame["note"])
        return frame

    pipeline = moving(shop, bad, "block", transforms=[picky])
    pipeline.run()
    shop.sql("UPDATE orders SET note = 'bad' WHERE id = 3")
    pipeline.run()
    move(shop, 3, 30, "moved")
    pipeline.run()
    shop.sql("UPDATE orders SET note = 'last' WHERE id = 30")
    pipeline.run()
    states = [(one.record_id.key[0], one.state) for one in all_held(shop)]
    assert states == [(3, FAILED), (3, WAITING), (30, WAITING), (30, WAITING)]
    assert shop.loaded("orders")[3][1] == "row 3"
    bad.clear()
    passed.clear()
    pipeline.retry("orders", 3)
    assert passed == ["bad", "moved", "last"]
    assert held(shop) == {} and gaps(shop) == set()
    assert shop.equal("orders")


def all_held(shop: Shop) -> list[Failure]:
    with closing(open_ledger(shop.folder / "ledger.db", "test")) as ledger:
        return ledger.failures.list(stream="orders", states=OPEN_FAILURES)


def test_a_row_that_cannot_be_read_under_its_new_key(
    shop: Shop, bad: set[str], policy: str
) -> None:
    shop.sql("ALTER TABLE orders ADD COLUMN price numeric(9,2)")
    pipeline = moving(shop, bad, policy)
    pipeline.run()
    shop.sql("UPDATE orders SET id = 30, price = 'NaN' WHERE id = 3")
    pipeline.run()
    found = held(shop)
    assert (found[30].state, found[30].stage) == (FAILED, Stage.EXTRACT)
    assert (found[3].state, found[3].waits_for) == (WAITING, found[30].record_id)
    assert 3 in shop.loaded("orders")
    shop.sql("UPDATE orders SET price = 5 WHERE id = 30")
    pipeline.run()
    pipeline.retry()
    pipeline.run()
    assert held(shop) == {} and gaps(shop) == set()
    assert shop.equal("orders")


def test_ignoring_the_new_row_lets_the_old_one_go(shop: Shop, bad: set[str], policy: str) -> None:
    pipeline = moving(shop, bad, policy)
    pipeline.run()
    move(shop, 3, 30)
    pipeline.run()
    with closing(open_ledger(shop.folder / "ledger.db", "test")) as ledger:
        ledger.decisions.ignore("orders", [RecordId("orders", (30,))], "ana", "a test order")
    assert pipeline.run().complete
    assert 3 not in shop.loaded("orders")
