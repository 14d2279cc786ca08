"""Crashes and faults of runs into what stands in for Snowflake, over the wire.

Processes are killed for real, at each point of the commit order and within the transaction; replies
are lost and connections refused by a proxy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from time import monotonic

import pytest
import snowflake.connector

from rowtrail.checkpoints.states import BatchState
from rowtrail.connectors import snowflake_client
from rowtrail.connectors.errors import OwnershipError, TransientError
from rowtrail.pipelines import lease, retrying
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.forking import Forks, forks
from tests.pipelines.killed_run import kill, pipeline_of, run_until_killed
from tests.pipelines.snowflake_world import SnowflakeWorld
from tests.pipelines.test_crash import assert_one_batch_read_again, picky, sync
from tests.pipelines.test_faults_at_points import FaultAt, Reopening, refuse, reopen
from tests.pipelines.test_takeover import opened_later
from tests.pipelines.witness import batches, ledger_of, outcomes
from tests.proxy import Proxy
from tests.snowflake_server import SnowflakeServer


@pytest.fixture
def world(tmp_path: Path, snowflake_url: str) -> SnowflakeWorld:
    return SnowflakeWorld(tmp_path, snowflake_url)


@pytest.fixture
def proxy(snowflake_server: SnowflakeServer, world: SnowflakeWorld) -> Iterator[Proxy]:
    """Stands between the world's pipelines and the server."""
    with closing(Proxy(snowflake_server.port)) as proxy:
        place = f"port={snowflake_server.port}"
        assert place in world.destination
        world.destination = world.destination.replace(place, f"port={proxy.port}")
        yield proxy


def connector_tries(monkeypatch: pytest.MonkeyPatch, attempts: int) -> None:
    """How often the connector itself sends a request that has no answer, without long waits."""
    connect = partial(
        snowflake.connector.connect,
        retry_max_attempts=attempts,
        put_get_max_attempts=attempts,
        logout_max_attempts=attempts,
        retry_backoff_base_ms=1,
        retry_backoff_cap_ms=10,
    )
    monkeypatch.setattr(snowflake.connector, "connect", connect)


def assert_ledger_and_receipts_agree(world: SnowflakeWorld) -> None:
    """Each batch that the ledger has closed has one receipt, and there is no other."""
    receipts = world.query("SELECT batch_id, sequence FROM _rowtrail_receipts ORDER BY sequence")
    with ledger_of(world) as ledger:
        closed = [one for one in batches(ledger) if one.state is BatchState.CLOSED]
        assert ledger.batches.unfinished() == []
    assert receipts == [(one.batch_id, one.sequence) for one in closed]


def assert_one_outcome_each(world: SnowflakeWorld, changes: dict[int, int]) -> None:
    """So many changes of each key, each of them loaded once."""
    with ledger_of(world) as ledger:
        for key, number in changes.items():
            assert [one.event for one in outcomes(ledger, key)] == ["loaded"] * number, key


def assert_nothing_is_left_staged(world: SnowflakeWorld) -> None:
    assert world.query('LIST @"PUBLIC"."_ROWTRAIL_STAGE"') == []
    tables = world.query("SELECT table_name FROM information_schema.tables")
    assert not [name for (name,) in tables if "STAGING" in name]
    assert world.query("SHOW LOCKS") == []


# A process that is killed


@pytest.fixture(scope="module")
def runs() -> Iterator[Forks]:
    with forks("tests.pipelines.killed_run") as runs:
        yield runs


@pytest.mark.parametrize(
    ("point", "deletes"),
    [(point, ("soft", "hard")[number % 2]) for number, point in enumerate(Point)],
)
def test_a_killed_run_leaves_no_trace_once_resumed(
    world: SnowflakeWorld, runs: Forks, point: Point, deletes: str
) -> None:
    """Once in the first batches, and once among changes and a delete."""
    world.put((n, n, "x") for n in range(1, 10))
    run_until_killed(runs, world, deletes=deletes, point=point, occurrence=2)
    sync(pipeline_of(world, deletes))
    assert world.loaded() == world.expected()
    world.put([(1, 1, "y"), (11, 1, "new"), (4, 4, "y")])
    world.delete(3)
    run_until_killed(runs, world, deletes=deletes, point=point)
    sync(pipeline_of(world, deletes))
    assert world.loaded() == world.expected()
    changes = dict.fromkeys(range(1, 10), 1) | {1: 2, 3: 2, 4: 2, 11: 1}
    assert_one_outcome_each(world, changes)
    assert_one_batch_read_again(world, point, crashes=2)
    assert_ledger_and_receipts_agree(world)
    assert_nothing_is_left_staged(world)


HOLDING_THE_OWNER_ROW = {"COPY": b'"sqlText":"COPY', "MERGE": b'"sqlText":"MERGE'}


@pytest.mark.parametrize("statement", HOLDING_THE_OWNER_ROW)
def test_a_run_that_was_killed_within_its_transaction_is_named_until_it_is_gone(
    world: SnowflakeWorld,
    proxy: Proxy,
    runs: Forks,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
) -> None:
    """Its session stays at the server, and with it the lock of the owner row."""
    connector_tries(monkeypatch, 1)
    world.put((n, n, "x") for n in range(1, 10))
    proxy.lose_reply_to(HOLDING_THE_OWNER_ROW[statement], partial(kill, world))
    run_until_killed(runs, world)
    with monkeypatch.context() as patched:
        patched.setitem(snowflake_client.SESSION, "LOCK_TIMEOUT", 0)
        patched.setattr(retrying, "OPENING_PATIENCE", 0)
        patched.setattr(retrying, "FIRST_WAIT", 0)
        with pytest.raises(TransientError, match=r"SHOW LOCKS .* SYSTEM\$ABORT_TRANSACTION"):
            sync(pipeline_of(world))
    (transaction,) = {transaction for _, transaction, _ in world.query("SHOW LOCKS")}
    world.query(f"SELECT SYSTEM$ABORT_TRANSACTION({transaction})")
    assert world.loaded() == {}, "nothing of its batch is there"
    sync(pipeline_of(world))
    assert world.loaded() == world.expected()
    assert_one_outcome_each(world, dict.fromkeys(range(1, 10), 1))
    assert_ledger_and_receipts_agree(world)


def test_a_run_that_was_killed_before_it_heard_of_its_commit(
    world: SnowflakeWorld, proxy: Proxy, runs: Forks
) -> None:
    """The batch is at the target and, for the ledger, only prepared."""
    world.put((n, n, "x") for n in range(1, 10))

    proxy.lose_reply_to(b'"sqlText":"MERGE.*"sqlText":"COMMIT', partial(kill, world))
    run_until_killed(runs, world)
    assert world.loaded().keys() == {1, 2, 3}
    result = pipeline_of(world).run()
    assert [note for note in result.recovered if "closed from its manifest" in note]
    assert world.loaded() == world.expected()
    assert_one_outcome_each(world, dict.fromkeys(range(1, 10), 1))
    assert_ledger_and_receipts_agree(world)


# A reply that is lost

STATEMENTS = {
    "staging table": b'"sqlText":"CREATE OR REPLACE TRANSIENT',
    "PUT": b'"sqlText":"PUT',
    "upload": b"PUT /fs_bucket",
    "BEGIN": b'"sqlText":"BEGIN',
    "owner row": b'"sqlText":"UPDATE [^ ]*_ROWTRAIL_OWNER',
    "COPY": b'"sqlText":"COPY',
    "MERGE": b'"sqlText":"MERGE',
    "receipt": b'"sqlText":"INSERT INTO [^ ]*_ROWTRAIL_RECEIPTS',
    "COMMIT": b'"sqlText":"COMMIT',
    "REMOVE": b'"sqlText":"REMOVE',
}


@pytest.mark.parametrize("attempts", [1, 3], ids=["the connector gives up", "it asks again"])
def test_a_lost_reply_to_any_statement_of_a_batch(
    world: SnowflakeWorld, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, attempts: int
) -> None:
    """To another one in each batch. The run goes on, and applies each batch once."""
    connector_tries(monkeypatch, attempts)
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0)
    world.put((n, n, "x") for n in range(3 * len(STATEMENTS)))
    lost: list[str] = []

    def lose(point: Point) -> None:
        left = [name for name in STATEMENTS if name not in lost]
        if point is Point.PREPARED and left:
            lost.append(left[0])
            proxy.lose_reply_to(STATEMENTS[left[0]])
        if point is Point.WRITTEN:
            assert proxy.cuts == len(lost), lost[-1]

    # With a transform each batch is uploaded in its turn.
    sync(world.pipeline(batch_rows=3, transforms=[picky]), lose)
    assert lost == list(STATEMENTS)
    assert world.loaded() == world.expected()
    assert_one_outcome_each(world, dict.fromkeys(world.expected(), 1))
    assert_ledger_and_receipts_agree(world)
    assert pipeline_of(world).run().complete
    assert_nothing_is_left_staged(world)


CLAIMING = {
    "stage": b'"sqlText":"CREATE STAGE',
    "last table": b'"sqlText":"CREATE TABLE IF NOT EXISTS [^ ]*_ROWTRAIL_WATERMARKS',
    "owner row": b'"sqlText":"INSERT INTO [^ ]*_ROWTRAIL_OWNER.*"sqlText":"INSERT',
}


@pytest.mark.parametrize("statement", CLAIMING)
def test_a_lost_reply_while_the_schema_is_claimed(
    world: SnowflakeWorld, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """What was made of Rowtrail's own tables and stage is made whole by the next try."""
    connector_tries(monkeypatch, 1)
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0)
    world.put([(1, 1, "x")])
    proxy.lose_reply_to(CLAIMING[statement])
    assert world.pipeline().run().complete
    assert proxy.cuts == 1
    assert world.loaded() == world.expected()
    owners = world.query("SELECT pipeline, format FROM _rowtrail_owner ORDER BY pipeline")
    assert owners == [("", 0), ("test", 1)]


def test_no_reply_to_any_commit_until_patience_ends(
    world: SnowflakeWorld, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run says what it could not do; its batch is closed, for its receipt is there."""
    world.put((n, n, "x") for n in range(1, 7))
    connector_tries(monkeypatch, 1)

    def lose_again() -> None:
        proxy.lose_reply_to(b'"sqlText":"COMMIT', lose_again)

    with monkeypatch.context() as patched:
        patched.setattr(retrying, "FIRST_WAIT", 0)
        patched.setattr(retrying, "PATIENCE", 0)
        result = run_pipeline(
            pipeline_of(world).definition,
            faults=lambda point: lose_again() if point is Point.PREPARED else None,
        )
    error = result.streams["orders"].error
    assert error is not None and "Snowflake at local" in error and "network" in error
    assert world.loaded().keys() == {1, 2, 3}
    proxy.pass_all()
    assert pipeline_of(world).run().complete
    assert world.loaded() == world.expected()
    assert_one_outcome_each(world, dict.fromkeys(range(1, 7), 1))
    assert_ledger_and_receipts_agree(world)


# A server that goes away


def test_a_server_that_is_away_for_a_moment(
    world: SnowflakeWorld, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At another point of each batch; it is back when the run says that it waits."""
    connector_tries(monkeypatch, 1)
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0)
    world.put((n, n, "x") for n in range(3 * len(Point)))
    batches_begun = 0

    def go_away(point: Point) -> None:
        nonlocal batches_begun
        batches_begun += point is Point.OPENED
        if point in list(Point)[batches_begun - 1 : batches_begun]:
            refuse(proxy)

    reporter = Reopening(proxy)
    result = run_pipeline(pipeline_of(world).definition, reporter=reporter, faults=go_away)
    assert result.complete and result.recovered == ()
    assert len([note for note in reporter.notes if "Trying again" in note]) == len(Point)
    assert world.loaded() == world.expected()
    assert_one_outcome_each(world, dict.fromkeys(world.expected(), 1))
    assert_ledger_and_receipts_agree(world)


def test_a_server_that_stays_away(
    world: SnowflakeWorld, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends with the reason, and the next one goes on where it was."""
    connector_tries(monkeypatch, 1)
    world.put((n, n, "x") for n in range(1, 10))
    with monkeypatch.context() as patched:
        patched.setattr(retrying, "FIRST_WAIT", 0)
        patched.setattr(retrying, "PATIENCE", 0)
        patched.setattr(retrying, "OPENING_PATIENCE", 0)
        faults = FaultAt(proxy, refuse, Point.PREPARED, occurrence=2)
        result = run_pipeline(pipeline_of(world).definition, faults=faults)
        error = result.streams["orders"].error
        assert error is not None and "Connection refused" in error and "the network" in error
        with pytest.raises(TransientError, match="could not connect"):
            sync(pipeline_of(world))
    assert world.loaded().keys() == {1, 2, 3}
    reopen(proxy)
    assert pipeline_of(world).run().complete
    assert world.loaded() == world.expected()
    assert_one_outcome_each(world, dict.fromkeys(range(1, 10), 1))
    assert_ledger_and_receipts_agree(world)


def test_a_connection_that_breaks_within_the_transaction(
    world: SnowflakeWorld, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server knows nothing of it: the run itself ends its old session, which holds the owner
    row."""
    connector_tries(monkeypatch, 1)
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0)
    monkeypatch.setattr(retrying, "PATIENCE", 0)
    monkeypatch.setitem(snowflake_client.SESSION, "LOCK_TIMEOUT", 0)
    world.put((n, n, "x") for n in range(1, 10))
    reporter = Reopening(proxy)
    proxy.lose_reply_to(b'"sqlText":"MERGE', partial(refuse, proxy))
    result = run_pipeline(pipeline_of(world).definition, reporter=reporter)
    assert result.complete, result.streams["orders"].error
    assert [note for note in reporter.notes if "Trying again" in note]
    assert world.loaded() == world.expected()
    assert_one_outcome_each(world, dict.fromkeys(range(1, 10), 1))
    assert_ledger_and_receipts_agree(world)
    assert world.query("SHOW LOCKS") == []


# A process that was taken over


def test_a_paused_process_that_was_taken_over_changes_nothing(
    world: SnowflakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands still for an hour before its second write; another run goes to the end."""
    world.put((n, n, "x") for n in range(1, 10))
    seen: list[tuple[object, ...]] = []
    reached: list[Point] = []

    def everything() -> tuple[object, ...]:
        return world.loaded(), *(
            world.query(f"SELECT * FROM _rowtrail_{table} ORDER BY 1, 2")
            for table in ("owner", "receipts", "gaps", "watermarks")
        )

    def asleep(point: Point) -> None:
        reached.append(point)
        if reached.count(Point.PREPARED) == 2 and not seen:
            assert run_pipeline(pipeline.definition, ledger_opener=opened_later).complete
            monkeypatch.setattr(lease, "monotonic", lambda: monotonic() + 3600)
            seen.append(everything())

    pipeline = pipeline_of(world)
    with pytest.raises(OwnershipError, match="A later run"):
        run_pipeline(pipeline.definition, faults=asleep)
    assert everything() == seen[0]
    assert world.loaded() == world.expected()
    assert_one_outcome_each(world, dict.fromkeys(range(1, 10), 1))
    assert_ledger_and_receipts_agree(world)
