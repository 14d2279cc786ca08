"""Connections to PostgreSQL that are cut for real, at every phase of a run, at either end.

A run is cut after so many bytes, at places that are spread over all that an undisturbed run sends
and gets: on the way it connects, reads catalogs, rows and the log, claims the target, copies,
merges, commits and acknowledges. It goes on by itself each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rowtrail import Pipeline
from rowtrail.connectors.errors import TransientError
from rowtrail.pipelines import retrying
from tests.pipelines.copied_table import CopiedTable, Notes
from tests.postgres_server import PostgresServer
from tests.proxy import Proxy, Way
from tests.soak import times

COMMIT = b"Q\0\0\0\x0bCOMMIT\0"
"""The message of the protocol, as psycopg sends it when a transaction of the target ends."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(network=True) as server:
        yield server


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[Proxy]:
    with closing(Proxy(server.port)) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0.01)


def cut_everywhere(table: CopiedTable, pipeline: Pipeline, proxy: Proxy, points: int) -> None:
    """Once in each of so many parts of a run over changes, and of one that reads all anew."""
    for resnapshot in ((), ("orders",)):
        table.happen()
        pipeline.run(resnapshot=resnapshot)  # what is learnt of a server once is no part of it
        before = dict(proxy.passed)
        assert pipeline.run(resnapshot=resnapshot).complete
        total = {way: proxy.passed[way] - before[way] for way in Way}
        for part in range(points):
            # Requests and answers by turns: what is asked is short, what is answered may be long.
            way = (Way.UP, Way.DOWN)[part % 2]
            table.happen()
            cuts = proxy.cuts
            proxy.cut_after(int(total[way] * (part + 0.5) / points), way)
            result = pipeline.run(resnapshot=resnapshot)
            proxy.pass_all()
            assert result.complete, (way, part, result.streams["orders"].error)
            assert result.recovered == ()
            assert proxy.cuts > cuts or part > points - 3, "the run ended before it was cut"
            table.check()
    again = pipeline.run()
    assert again.complete
    # Where it was left is where it goes on: nothing is read a second time.
    if pipeline.definition.streams[0].capture != "cursor":
        assert again.streams["orders"].counts.total == 0


@pytest.mark.parametrize(
    ("capture", "points"),
    [("log", times(6, 10)), ("trigger", times(5, 7)), ("cursor", times(4, 5))],
    ids=["log", "trigger", "cursor"],
)
def test_a_source_that_is_cut_off_anywhere(
    from_server: CopiedTable, proxy: Proxy, capture: str, points: int
) -> None:
    pipeline = from_server.pipeline(source=proxy.url(from_server.source), capture=capture)
    assert pipeline.run().complete
    cut_everywhere(from_server, pipeline, proxy, points)


@pytest.mark.parametrize("deletes", ["soft", "hard"])
def test_a_target_that_is_cut_off_anywhere(
    to_server: CopiedTable, proxy: Proxy, deletes: str
) -> None:
    pipeline = to_server.pipeline(
        destination=proxy.url(to_server.target), capture="trigger", deletes=deletes
    )
    assert pipeline.run().complete
    cut_everywhere(to_server, pipeline, proxy, points=times(6, 10))


@pytest.mark.parametrize("capture", ["log", "trigger"])
def test_a_first_run_that_is_cut_off_while_it_sets_up(
    server: PostgresServer, proxy: Proxy, tmp_path: Path, capture: str
) -> None:
    """Publication and slot, or triggers, then the target's own tables and the table itself."""
    total = 0
    for part in range(4):
        with server.database() as source, server.database() as target:
            folder = tmp_path / str(part)
            folder.mkdir()
            table = CopiedTable(folder, source, target)
            table.make()
            if part:
                proxy.cut_after(total * part // 5, Way.UP)
            before = proxy.passed[Way.UP]
            result = table.pipeline(
                source=proxy.url(source), destination=proxy.url(target), capture=capture
            ).run()
            assert result.complete, result
            total = total or proxy.passed[Way.UP] - before
            table.check()


@pytest.mark.parametrize("number", range(1, 6))
def test_committed_at_the_target_but_nobody_was_told(
    to_server: CopiedTable, proxy: Proxy, number: int
) -> None:
    """The claim, the table that is made, and each of its three batches, one after another."""
    pipeline = to_server.pipeline(destination=proxy.url(to_server.target), capture="trigger")
    seen = 0

    class LosesOne(Notes):
        """Begins to lose answers when the run has come so far."""

        def batch_done(self, name: str, batch: object) -> None:
            nonlocal seen
            seen += 1
            if seen == number - 2:
                proxy.lose_reply_to(COMMIT)

    if number <= 2:
        proxy.lose_reply_to(COMMIT)
        if number == 2:  # the second COMMIT is that of the table
            proxy.pass_all()
            proxy.lose_reply_to(b'CREATE TABLE "public"."orders"')
    told = LosesOne()
    result = pipeline.run(reporter=told)
    assert result.complete, result
    assert proxy.cuts == (number < 5), "a fourth batch there is not"
    assert any("Trying again in" in note for note in told.notes) == (number < 5)
    assert result.streams["orders"].counts.loaded == 600
    assert result.streams["orders"].counts.superseded == 0, "the receipt says what was loaded"
    to_server.check()
    receipts = to_server.ask_target("SELECT sequence FROM _rowtrail_receipts ORDER BY 1")
    assert receipts == [(1,), (2,), (3,)]


@pytest.mark.parametrize("capture", ["log", "trigger"])
def test_forgotten_at_the_source_but_nobody_was_told(
    from_server: CopiedTable, proxy: Proxy, capture: str
) -> None:
    pipeline = from_server.pipeline(source=proxy.url(from_server.source), capture=capture)
    assert pipeline.run().complete
    words = b"pg_replication_slot_advance" if capture == "log" else b"DELETE FROM"
    for _ in range(2):
        from_server.happen()
        proxy.lose_reply_to(words)
        cuts = proxy.cuts
        assert pipeline.run().complete
        assert proxy.cuts == cuts + 1
        from_server.check()


@pytest.mark.parametrize("end", ["source", "target"])
def test_a_server_that_stays_away_ends_the_run_with_clear_words(
    from_server: CopiedTable,
    to_server: CopiedTable,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    monkeypatch.setattr(retrying, "PATIENCE", 0.5)
    monkeypatch.setattr(retrying, "OPENING_PATIENCE", 0.5)
    if end == "source":
        table = from_server
        pipeline = table.pipeline(source=proxy.url(table.source), capture="log")
    else:
        table = to_server
        pipeline = table.pipeline(destination=proxy.url(table.target), capture="trigger")

    class Away(Notes):
        def batch_done(self, name: str, batch: object) -> None:
            proxy.refuse()
            proxy.cut()

    told = Away()
    stopped = pipeline.run(reporter=told)
    error = stopped.streams["orders"].error
    assert error is not None
    assert f"127.0.0.1:{proxy.port}" in error and "then try again" in error
    assert any("Trying again in" in note for note in told.notes)

    with pytest.raises(TransientError, match="Check that the server runs and can be reached"):
        pipeline.run()

    proxy.accept()
    again = pipeline.run()
    assert again.complete
    counts = again.streams["orders"].counts
    assert counts.loaded < 600, "what was loaded before is not read again"
    table.check()
