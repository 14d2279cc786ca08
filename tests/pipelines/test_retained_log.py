"""How much log a stream may hold back: what the engine decides, over a source that only pretends.

`LoggedSource` has no log: it tells the sizes that a test gave it. That a real one forgets what it
may is shown with the sources that have one.
"""

from __future__ import annotations

from contextlib import closing

import pytest

from rowtrail import Pipeline, Stream
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.states import RunState, StreamRecord, StreamState
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.stream_actions import pause, resume
from tests.pipelines import logged_source
from tests.pipelines.logged_source import Server, pipeline
from tests.pipelines.world import World

LIMIT = 10 * 10**9
OVER = LIMIT + 1


@pytest.fixture
def server(world: World, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Two tables with a row each."""
    world.put([(1, 1, "a")])
    world.sql("CREATE TABLE lines (id INTEGER PRIMARY KEY, note TEXT)")
    world.sql("INSERT INTO lines VALUES (1, 'a')")
    return logged_source.use(monkeypatch)


def record(world: World, stream: str) -> StreamRecord:
    with closing(open_ledger(world.ledger, "test")) as ledger:
        found = ledger.streams.get(stream)
    assert found is not None
    return found


def loaded(world: World) -> Pipeline:
    """Both streams have a position."""
    both = pipeline(world.folder)
    assert both.run().complete
    return both


def test_a_first_read_asks_nothing_and_is_never_given_up(world: World, server: Server) -> None:
    server.kept = {"orders": OVER, "lines": OVER}
    result = pipeline(world.folder).run()
    assert result.complete and result.given_up == {}
    assert not any(server.asked)


def test_streams_that_are_read_are_never_given_up(world: World, server: Server) -> None:
    both = loaded(world)
    server.kept = {"orders": OVER, "lines": OVER}
    assert both.run().complete
    assert not any(server.asked), "whoever is read catches up"


@pytest.mark.parametrize(("kept", "over"), [(LIMIT, False), (OVER, True)])
def test_a_paused_stream_may_hold_back_so_much_and_no_more(
    world: World, server: Server, kept: int, over: bool
) -> None:
    both = loaded(world)
    pause(both.definition, "lines")
    server.kept, server.asked = {"orders": OVER, "lines": kept}, []
    result = both.run()
    assert server.asked[0] == {"lines"}
    assert set(result.given_up) == ({"lines"} if over else set())
    if not over:
        assert record(world, "lines").state is StreamState.PAUSED
        assert (
            result.streams["lines"].skipped
            == "paused; `rowtrail stream resume lines` lets it go on"
        )
        return
    lines = record(world, "lines")
    assert lines.state is StreamState.NEEDS_SNAPSHOT
    reason = (
        "the source kept 10 GB of its log for it, more than the 10 GB that `retained_log` allows "
        "(it was paused). What it missed is no longer in the log. Read the table anew: "
        "rowtrail run --resnapshot lines"
    )
    assert lines.state_reason == reason
    assert result.streams["lines"].skipped == f"needs snapshot: {reason}"
    assert result.state is RunState.FAILED
    assert result.streams["orders"].complete


def test_the_budget_is_the_pipelines_own(world: World, server: Server) -> None:
    loaded(world)
    small = pipeline(world.folder, retained_log="1kB")
    pause(small.definition, "lines")
    server.kept = {"lines": 1_001}
    assert "more than the 1 kB that" in small.run().given_up["lines"]


def test_the_ledger_knows_it_before_the_log_moves_on(
    world: World, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = loaded(world)
    pause(both.definition, "lines")
    server.kept, server.acknowledged = {"lines": OVER}, []
    seen = []
    acknowledge = logged_source.LoggedSource.acknowledge

    def look(self: logged_source.LoggedSource, streams: object) -> None:
        seen.append(record(world, "lines").state)
        acknowledge(self, streams)  # type: ignore[arg-type]

    monkeypatch.setattr(logged_source.LoggedSource, "acknowledge", look)
    both.run()
    assert set(seen) == {StreamState.NEEDS_SNAPSHOT}
    assert all(streams == {"orders"} for streams in server.acknowledged)


def test_a_stream_that_is_not_run_is_given_up(world: World, server: Server) -> None:
    both = loaded(world)
    server.kept = {"lines": OVER}
    result = both.run("orders")
    assert "(it was not run)" in result.given_up["lines"]
    assert result.streams["orders"].complete and result.state is RunState.COMPLETE_EXCEPT
    skipped = both.run()
    assert (skipped.streams["lines"].needs_snapshot, skipped.given_up) == (True, {})


def test_a_stopped_stream_is_tried_before_it_is_given_up(world: World, server: Server) -> None:
    both = loaded(world)
    world.sql("ALTER TABLE lines RENAME TO lines_away")
    assert both.run().streams["lines"].error is not None
    server.kept = {"lines": OVER}
    world.sql("ALTER TABLE lines_away RENAME TO lines")
    assert both.run().complete, "it went on in time"
    world.sql("ALTER TABLE lines RENAME TO lines_away")
    lines = both.run().streams["lines"]
    assert lines.needs_snapshot and lines.error is not None
    assert "There is no table lines" in lines.error and "was given up" in lines.error
    reason = record(world, "lines").state_reason or ""
    assert "(it was stopped: There is no table lines" in reason


def test_after_it_was_given_up_the_log_moves_on_at_once(world: World, server: Server) -> None:
    both = loaded(world)
    pause(both.definition, "orders")
    server.kept, server.acknowledged = {"orders": OVER}, []
    both.run()
    assert server.acknowledged[-1] == {"lines"}
    assert all("orders" not in streams for streams in server.acknowledged)


def test_a_new_snapshot_brings_it_back(world: World, server: Server) -> None:
    both = loaded(world)
    pause(both.definition, "lines")
    server.kept = {"lines": OVER}
    both.run()
    world.sql("DELETE FROM lines")
    world.sql("INSERT INTO lines VALUES (2, 'b')")
    with pytest.raises(ConfigurationError, match="cannot go on from its position: the source kept"):
        resume(both.definition, "lines")
    server.asked, before = [], record(world, "lines").epoch
    assert both.run(resnapshot=["lines"]).complete
    assert not any(server.asked)
    assert record(world, "lines").epoch == before + 1
    rows = world.query("SELECT id FROM lines WHERE _rowtrail_deleted_at IS NULL")
    assert rows == [(2,)]


@pytest.mark.parametrize("scheme", ["logged", "releasing"])
def test_a_log_that_nobody_reads_any_more(world: World, server: Server, scheme: str) -> None:
    alone = pipeline(world.folder, "orders", scheme=scheme)
    alone.run()
    pause(alone.definition, "orders")
    server.kept, server.acknowledged = {"orders": OVER}, []
    assert set(alone.run().given_up) == {"orders"}
    assert server.acknowledged == []
    assert server.released == ([{"orders"}] if scheme == "releasing" else [])
    alone.run()
    assert server.released == ([{"orders"}] * 2 if scheme == "releasing" else [])


def test_a_source_that_cannot_say_stops_nothing(world: World, server: Server) -> None:
    both = loaded(world)
    pause(both.definition, "lines")
    server.error = ConfigurationError("permission denied")
    result = both.run()
    assert result.given_up == {} and result.streams["orders"].complete
    assert record(world, "lines").state is StreamState.PAUSED


def test_all_streams_of_a_log_hold_it_whatever_their_tables(world: World, server: Server) -> None:
    both = loaded(world)
    server.acknowledged = []
    both.run("orders")
    assert server.acknowledged == [{"orders", "lines"}]
    pause(both.definition, "lines")
    both.run()
    assert server.acknowledged[-1] == {"orders", "lines"}


def test_a_stream_that_was_never_read_or_read_otherwise_does_not_hold_it(
    world: World, server: Server
) -> None:
    both = pipeline(world.folder)
    both.run("orders")
    assert all(streams == {"orders"} for streams in server.acknowledged)
    other = pipeline(world.folder, "orders", Stream("lines", capture="snapshot"))
    other.run()
    server.acknowledged = []
    both.run("orders")
    assert server.acknowledged == [{"orders"}], "the position of lines is that of another capture"
    moved = pipeline(world.folder, "orders", Stream("lines", capture="log", target="elsewhere"))
    both.run()
    server.acknowledged = []
    moved.run("orders")
    assert server.acknowledged == [{"orders"}], "it will be read anew into its new target"
