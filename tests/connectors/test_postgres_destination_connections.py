"""Connections to a PostgreSQL target that are lost, must wait, or may not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import psycopg
import pyarrow as pa
import pytest

from rowtrail.connectors.base import Load
from rowtrail.connectors.destinations import postgres_own
from rowtrail.connectors.destinations.postgres import PostgresDestination
from rowtrail.connectors.errors import (
    ConfigurationError,
    OwnershipError,
    RowtrailError,
    TransientError,
)
from tests.killable_proxy import KillableProxy

from .builders import FENCE, delete, load_of, orders, receipt_of, target_of, upsert
from .postgres_warehouse import PostgresWarehouse

COMMIT = b"COMMIT\0"  # and not ON COMMIT DELETE ROWS
RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rowtrail'"


@pytest.fixture
def warehouse(postgres_url: str) -> PostgresWarehouse:
    warehouse = PostgresWarehouse(postgres_url)
    warehouse.alter(orders())
    return warehouse


@pytest.fixture
def proxy(warehouse: PostgresWarehouse) -> Iterator[KillableProxy]:
    with closing(KillableProxy(warehouse.url)) as proxy:
        yield proxy


@pytest.fixture
def destination(proxy: KillableProxy) -> Iterator[PostgresDestination]:
    with closing(PostgresDestination(proxy.url, FENCE)) as destination:
        yield destination


# --- lost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [b"BEGIN", b"UPDATE", b"COPY", b'INSERT INTO "public"."_rowtrail_receipts"', COMMIT],
)
def test_a_reply_that_was_lost_doubles_nothing(
    warehouse: PostgresWarehouse,
    proxy: KillableProxy,
    destination: PostgresDestination,
    statement: bytes,
) -> None:
    """The same object goes on: what was committed is told by the receipt, the rest done again."""
    warehouse.load(orders(), upsert(5, id=1, note="a"))
    batch = load_of(
        orders(), upsert(4, id=1, note="late"), upsert(4, id=2, note="b"), delete(4, id=3)
    )
    proxy.lose_reply_to(statement)
    with pytest.raises(TransientError, match="write to table orders"):
        destination.write(batch)
    proxy.wait_until_lost()
    receipts = warehouse.table("_rowtrail_receipts").num_rows
    assert receipts == (2 if statement == COMMIT else 1)
    assert destination.write(batch).to_pylist() == [True, False, False]
    assert warehouse.notes() == {1: "a", 2: "b"}
    assert warehouse.table("_rowtrail_receipts").num_rows == 2


def test_an_idle_connection_that_was_lost_is_not_noticed(
    warehouse: PostgresWarehouse, proxy: KillableProxy, destination: PostgresDestination
) -> None:
    target = orders()
    for at, act in enumerate(
        (
            lambda: destination.write(load_of(target, upsert(1, id=1, note="a"))).to_pylist(),
            lambda: destination.keys(target, None, None, 9).to_pylist(),
            lambda: destination.receipts()[0].stream,
            lambda: destination.alter(target),
            lambda: destination.describe("orders").live_rows,  # type: ignore[union-attr]
        )
    ):
        proxy.cut()
        wanted = [[False], [{"id": 1, "present": True}], "orders", [], 1]
        assert act() == wanted[at]  # type: ignore[no-untyped-call]


def test_keys_are_read_again_after_their_connection_was_lost(
    warehouse: PostgresWarehouse, proxy: KillableProxy, destination: PostgresDestination
) -> None:
    assert destination.keys(orders(), None, None, 9).num_rows == 0
    proxy.lose_reply_to(b"UNION ALL")
    with pytest.raises(TransientError, match="read keys of table orders"):
        destination.keys(orders(), None, None, 9)
    assert destination.keys(orders(), None, None, 9).num_rows == 0


def test_a_fence_that_was_lost_meanwhile(
    warehouse: PostgresWarehouse, proxy: KillableProxy, destination: PostgresDestination
) -> None:
    proxy.cut()
    warehouse.open(replace(FENCE, generation=2)).close()
    with pytest.raises(OwnershipError, match="has generation 2, this run 1"):
        destination.write(load_of(orders(), upsert(1, id=1, note="a")))
    assert warehouse.rows() == {}


def test_what_is_left_of_a_lost_connection_is_ended(
    warehouse: PostgresWarehouse, proxy: KillableProxy, destination: PostgresDestination
) -> None:
    """The server waits for rows that will never come, and holds the owner row meanwhile."""
    with pytest.raises(TransientError), destination._transaction("stand still") as work:
        destination._session._connection = None  # it is lost, and only this end knows
        batch = load_of(orders(), upsert(1, id=1, note="a"))
        assert destination.write(batch).to_pylist() == [False]
        work.run("SELECT 'the old one'")
    work._connection.close()
    assert warehouse.notes() == {1: "a"}


# --- waiting -------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_own, "_WAIT_SECONDS", 0.2)


def test_who_waits_for_a_run_that_stands_still_is_told_what_to_do(
    warehouse: PostgresWarehouse, impatient: None
) -> None:
    later = replace(FENCE, generation=2)
    with closing(warehouse.open()) as paused, closing(warehouse.open()) as waiting:
        with pytest.raises(TransientError), paused._transaction("stand still") as work:
            with pytest.raises(TransientError, match="holds its row") as caught:
                waiting.write(load_of(orders(), upsert(1, id=1, note="a")))
            with pytest.raises(TransientError, match="holds its row"):
                warehouse.open(later)
            advice = str(caught.value).partition("at the server: ")[2]
            assert warehouse.query(advice) == [(True,)]
            warehouse.open(later).close()
            work.run("SELECT 'awake again'")
        with pytest.raises(OwnershipError):
            paused.write(load_of(orders(), upsert(1, id=1, note="a")))
    assert warehouse.rows() == {}


def test_another_pipeline_does_not_wait(warehouse: PostgresWarehouse, impatient: None) -> None:
    other = replace(FENCE, pipeline="other", ledger_id="ledger-2")
    theirs = replace(orders(table="theirs"), stream="orders")
    with (
        closing(warehouse.open()) as paused,
        closing(warehouse.open(other)) as free,
        paused._transaction("stand still"),
    ):
        free.alter(theirs)
        receipt = replace(receipt_of(sequence=1), pipeline="other", ledger_id="ledger-2")
        free.write(load_of(theirs, upsert(1, id=1, note="b"), receipt=receipt))
    assert warehouse.table("theirs").num_rows == 1


def test_a_table_that_somebody_reads_is_widened_later(
    warehouse: PostgresWarehouse, impatient: None
) -> None:
    wider = target_of({"id": pa.int64(), "note": pa.string(), "size": pa.int32()})
    with psycopg.connect(warehouse.url) as reader:
        reader.execute("SELECT * FROM orders")
        with pytest.raises(TransientError, match="make or widen table orders"):
            warehouse.alter(wider)
        assert warehouse.load(orders(), upsert(1, id=1, note="a")) == [False], "no one waits"
    assert len(warehouse.alter(wider)) == 1


def test_two_writers_of_one_target_end_as_the_versions_say(warehouse: PostgresWarehouse) -> None:
    """They have the same fence, as a process that was not quite dead and its successor may."""
    errors: list[RowtrailError] = []

    def write(loads: list[Load]) -> None:
        with closing(warehouse.open()) as destination:
            for load in loads:
                try:
                    destination.write(load)
                except RowtrailError as error:
                    errors.append(error)

    threads = []
    for writer in range(2):
        loads = [
            load_of(
                orders(),
                *(upsert(at * 2 + writer, id=i, note=f"{at * 2 + writer}") for i in keys),
                *(delete(at * 2 + writer, id=i) for i in range(100, 110)),
            )
            for at in range(1, 11)
            for keys in (range(at, at + 20),)
        ]
        threads.append(threading.Thread(target=write, args=(loads,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    newest = {i: str(min(i, 10) * 2 + 1) for i in range(1, 30)}
    assert warehouse.notes() == newest
    assert warehouse.table("_rowtrail_receipts").num_rows == 20


def test_ten_that_open_an_empty_database_at_once(postgres_url: str) -> None:
    warehouse = PostgresWarehouse(postgres_url)
    errors: list[BaseException] = []

    def opened(number: int) -> None:
        try:
            fence = replace(FENCE, pipeline=f"pipeline {number}")
            warehouse.open(fence).close()
        except RowtrailError as error:
            errors.append(error)

    threads = [threading.Thread(target=opened, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert warehouse.table("_rowtrail_owner").num_rows == 10


# --- rights --------------------------------------------------------------------------------------


@pytest.fixture
def clerk(warehouse: PostgresWarehouse) -> Iterator[PostgresWarehouse]:
    """The same database for a user who may do nothing yet."""
    ((name,),) = warehouse.query("SELECT 'clerk_' || current_database()")
    warehouse.run(f"CREATE ROLE {name} LOGIN")
    warehouse.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    try:
        yield PostgresWarehouse(warehouse.url.replace("//postgres@", f"//{name}@"))
    finally:
        warehouse.run(f"DROP OWNED BY {name}")
        warehouse.run(f"DROP ROLE {name}")


def test_a_user_without_rights_is_told_so(
    warehouse: PostgresWarehouse, clerk: PostgresWarehouse
) -> None:
    ((name,),) = clerk.query("SELECT current_user")
    with pytest.raises(ConfigurationError, match=r"permission denied.*Give this user the right"):
        clerk.open(replace(FENCE, pipeline="clerk's"))
    warehouse.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}")
    assert clerk.load(orders(), upsert(1, id=1, note="a")) == [False], "no table is to be made"
    with pytest.raises(ConfigurationError, match=r"make or widen table more.*permission denied"):
        clerk.alter(orders(table="more"))
    warehouse.run(f"REVOKE INSERT ON orders FROM {name}")
    with pytest.raises(ConfigurationError, match=r"write to table orders.*permission denied"):
        clerk.load(orders(), upsert(1, id=2, note="b"))


def test_reading_needs_the_right_to_read_and_cannot_write(
    warehouse: PostgresWarehouse, clerk: PostgresWarehouse
) -> None:
    warehouse.load(orders(), upsert(1, id=1, note="a"))
    ((name,),) = clerk.query("SELECT current_user")
    with closing(clerk.open(None)) as reader, pytest.raises(ConfigurationError, match="permission"):
        reader.receipts()
    warehouse.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    with closing(clerk.open(None)) as reader:
        assert len(reader.receipts()) == 1
        assert reader.keys(orders(), None, None, 9).num_rows == 1
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader._session.connection().execute("DELETE FROM orders")


def test_a_database_that_does_not_hold_every_text(warehouse: PostgresWarehouse) -> None:
    ((name,),) = warehouse.query("SELECT current_database() || '_latin'")
    warehouse.run(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'")
    try:
        latin = PostgresWarehouse(
            warehouse.url.replace(f"/{name.removesuffix('_latin')}", f"/{name}")
        )
        with pytest.raises(ConfigurationError, match=r"encoding LATIN1.*ENCODING 'UTF8'"):
            latin.open()
    finally:
        warehouse.run(f"DROP DATABASE {name} WITH (FORCE)")


def test_closing_leaves_no_session(warehouse: PostgresWarehouse) -> None:
    destination = warehouse.open()
    destination.keys(orders(), None, None, 9)
    assert warehouse.query(RUNNING) == [(2,)]
    destination.close()
    deadline = time.monotonic() + 10
    while warehouse.query(RUNNING) != [(0,)] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert warehouse.query(RUNNING) == [(0,)]
