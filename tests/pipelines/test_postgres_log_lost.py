"""A log that a stream can no longer go on with: it stops with the reason, nothing is lost silently,
and `--resnapshot` makes it whole. Streams that it does not concern go on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from rowtrail import Stream
from rowtrail.checkpoints.states import StreamState
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.stream_actions import pause
from tests.pipelines.logged_shop import Shop, assert_lost
from tests.postgres_server import GivenServer, PostgresServer

_slots = count(1)


@pytest.fixture(scope="module")
def url(postgres_server: PostgresServer | GivenServer) -> Iterator[str]:
    with postgres_server.database() as url:
        yield url


@pytest.fixture
def shop(url: str, tmp_path: Path) -> Iterator[Shop]:
    """Two tables, both loaded."""
    shop = Shop(tmp_path, url, f"lost_{tmp_path.parent.name.replace('-', '_')}_{next(_slots)}")
    shop.make()
    assert shop.pipeline().run().complete
    shop.change(1)
    assert shop.pipeline().run().complete
    yield shop
    shop.sql(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
        "WHERE database = current_database()",
        f"DROP PUBLICATION IF EXISTS {shop.slot}",
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
    )


def mended(shop: Shop, *streams: str) -> None:
    """A new snapshot of these streams, and then all is as if nothing had happened."""
    shop.change(5)
    assert shop.pipeline().run(resnapshot=streams).complete
    assert shop.equal()
    shop.change(6)
    assert shop.pipeline().run().complete
    assert shop.equal()


@pytest.mark.parametrize("installs", [True, False], ids=["installs", "by hand"])
@pytest.mark.parametrize("again", [True, False], ids=["made again", "dropped"])
def test_the_slot(shop: Shop, again: bool, installs: bool) -> None:
    shop.sql(f"SELECT pg_drop_replication_slot('{shop.slot}')")
    shop.change(2)
    if again:
        shop.sql(f"SELECT pg_create_logical_replication_slot('{shop.slot}', 'pgoutput')")
    shop.change(3)
    result = shop.pipeline(install_capture=installs).run()
    for stream in ("orders", "lines"):
        words = "made again" if again or installs else "is gone"
        assert_lost(result, stream, words)
        assert shop.record(stream).state is StreamState.NEEDS_SNAPSHOT
    mended(shop, "orders", "lines")


@pytest.mark.parametrize("first", ["a run", "a new snapshot at once"])
@pytest.mark.parametrize("again", [True, False], ids=["made again", "dropped"])
def test_the_publication(shop: Shop, again: bool, first: str) -> None:
    """The log of the time when it was not there cannot be read."""
    shop.sql(f"DROP PUBLICATION {shop.slot}")
    shop.change(2)
    if again:
        shop.sql(f"CREATE PUBLICATION {shop.slot} FOR TABLE orders, lines")
        shop.change(3)
    if first == "a run":
        result = shop.pipeline().run()
        for stream in ("orders", "lines"):
            assert_lost(result, stream, "publication" if again else "made again")
    elif again:
        # Nobody can tell that the slot is older than it; the server says so when it is read.
        result = shop.pipeline().run(resnapshot=["orders", "lines"])
        for stream in ("orders", "lines"):
            assert_lost(result, stream, "was not there at some place")
    mended(shop, "orders", "lines")


@pytest.mark.parametrize("again", [True, False], ids=["added again", "taken out"])
def test_a_table_that_is_taken_out_of_the_publication(shop: Shop, again: bool) -> None:
    shop.sql(f"ALTER PUBLICATION {shop.slot} DROP TABLE lines")
    shop.change(2)
    if again:
        shop.sql(f"ALTER PUBLICATION {shop.slot} ADD TABLE lines")
    shop.change(3)
    result = shop.pipeline(install_capture=False).run()
    assert_lost(result, "lines", "added again" if again else "not in publication")
    assert result.streams["orders"].complete and shop.equal("orders")
    shop.change(4)
    assert shop.pipeline(install_capture=False).run().streams["orders"].complete
    assert shop.equal("orders")
    mended(shop, "lines")


def test_a_table_that_is_dropped(shop: Shop) -> None:
    shop.change(2)
    shop.sql("DROP TABLE lines")
    shop.change(3, "orders")
    result = shop.pipeline().run()
    assert "no table lines" in (result.streams["lines"].error or "")
    assert result.streams["orders"].complete and shop.equal("orders")
    shop.make("lines")
    shop.change(4)
    result = shop.pipeline().run()
    assert_lost(result, "lines", "made again")
    assert result.streams["orders"].complete and shop.equal("orders")
    mended(shop, "lines")


def test_a_table_that_is_dropped_and_made_again_at_once(shop: Shop) -> None:
    shop.change(2)
    shop.sql("DROP TABLE lines")
    shop.make("lines")
    shop.change(3)
    result = shop.pipeline().run()
    assert_lost(result, "lines", "made again")
    assert result.streams["orders"].complete and shop.equal("orders")
    mended(shop, "lines")


def test_another_primary_key(shop: Shop) -> None:
    shop.sql(
        "ALTER TABLE lines ADD code int",
        "UPDATE lines SET code = id + 1000",
        "ALTER TABLE lines DROP CONSTRAINT lines_pkey, ADD PRIMARY KEY (code)",
    )
    shop.sql("UPDATE orders SET n = 50 WHERE id = 2")
    result = shop.pipeline().run()
    stream = result.streams["lines"]
    assert stream.error is not None and "key" in stream.error
    assert result.streams["orders"].complete and shop.equal("orders")


def test_a_stream_that_is_paused_past_its_budget(shop: Shop) -> None:
    """The log moves on at once, for the sake of the server's disk."""
    pause(shop.pipeline().definition, "lines")
    shop.change(2)
    place = shop.slot_place()
    assert shop.pipeline().run().streams["orders"].complete
    assert shop.slot_place() == place, "it waits for the paused one"
    shop.sql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 300000))")
    result = shop.pipeline(retained_log="200kB").run()
    assert result.given_up.keys() == {"lines"}
    assert_lost(result, "lines", "retained_log")
    assert result.streams["orders"].complete and shop.slot_place() > place
    mended(shop, "lines")


def test_all_streams_are_paused_past_it(shop: Shop) -> None:
    for stream in ("lines", "orders"):
        pause(shop.pipeline().definition, stream)
    place = shop.slot_place()
    shop.sql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 300000))")
    shop.pipeline(retained_log="200kB").run()
    assert shop.slot_place() > place + 200_000, "all but what is not on the disk yet"
    mended(shop, "lines", "orders")


def test_from_cursor_to_the_log_and_back(shop: Shop) -> None:
    for number, capture in enumerate(("cursor", "log", "snapshot", "log", "trigger", "log"), 10):
        stream = Stream("lines", capture=capture, cursor="n", batch_rows=4)
        shop.change(number)
        assert shop.pipeline("orders", stream).run().complete
        assert shop.equal()
        shop.change(number + 20)
        assert shop.pipeline("orders", stream).run().complete
        assert shop.equal()
    assert shop.record("lines").capture == "log"


def test_a_user_without_rights(shop: Shop) -> None:
    shop.sql(
        "DROP ROLE IF EXISTS reader",
        "CREATE ROLE reader LOGIN",
        "GRANT USAGE ON SCHEMA public TO reader",
        "GRANT SELECT ON orders, lines TO reader",
    )
    reader = shop.url.replace("postgres@", "reader@")
    assert reader != shop.url
    try:
        pipeline = shop.pipeline(source=reader, install_capture=False)
        result = pipeline.run()
        for stream in result.streams.values():
            assert stream.error is not None and "REPLICATION" in stream.error.upper()
            assert not stream.needs_snapshot
        shop.sql("ALTER ROLE reader REPLICATION")
        shop.change(2)
        result = pipeline.run()
        assert result.complete and shop.equal(), [one.error for one in result.streams.values()]
        # One table that it may not read: the log tells it all the same, a snapshot cannot be had.
        shop.sql("REVOKE SELECT ON lines FROM reader")
        shop.change(3)
        result = pipeline.run(resnapshot=["lines"])
        assert "may not read lines" in (result.streams["lines"].error or "")
        assert result.streams["orders"].complete and shop.equal("orders")
        shop.sql("GRANT SELECT ON lines TO reader")
        result = pipeline.run()
        assert result.complete and shop.equal(), [one.error for one in result.streams.values()]
    finally:
        shop.sql("DROP OWNED BY reader", "DROP ROLE reader")


def test_all_slots_are_taken(shop: Shop) -> None:
    ((limit, used),) = shop.sql(
        "SELECT current_setting('max_replication_slots')::int, count(*) FROM pg_replication_slots"
    )
    for number in range(limit - used):
        shop.sql(f"SELECT pg_create_physical_replication_slot('{shop.slot}_{number}')")
    other = shop.pipeline(slot=f"{shop.slot}_other")
    try:
        with pytest.raises(ConfigurationError, match="all replication slots are in use"):
            other.run()
    finally:
        for number in range(limit - used):
            shop.sql(f"SELECT pg_drop_replication_slot('{shop.slot}_{number}')")
    assert other.run(resnapshot=["orders", "lines"]).complete and shop.equal()
