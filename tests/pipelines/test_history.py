"""`deletes = "history"`: every version of a record stays at the target, in the order of the source.

What one load does to a table is in tests/connectors/history_conformance.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rowtrail import Breakers, Pipeline
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.copied_table import CopiedTable
from tests.pipelines.crashing import Crash, CrashAt
from tests.pipelines.world import World
from tests.postgres_server import GivenServer, PostgresServer

Row = tuple[Any, ...]

CAPTURES = ["trigger", "cursor", "snapshot"]


@pytest.fixture(params=[*CAPTURES, "log"])
def any_capture(request: pytest.FixtureRequest, each_pair: CopiedTable) -> str:
    if request.param == "log" and not each_pair.source.startswith("postgres"):
        pytest.skip("SQLite has no log")
    return str(request.param)


def keeping(table: CopiedTable, capture: str, **given: Any) -> Pipeline:
    return table.pipeline(capture=capture, deletes="history", retries=0, **given)


def versions(table: CopiedTable, key: int) -> list[Row]:
    """note, from, to and whether it is current, in the order of the versions."""
    return table.ask_target(
        "SELECT note, _rowtrail_valid_from, _rowtrail_valid_to, _rowtrail_is_current FROM orders "
        f"WHERE id = {key} ORDER BY _rowtrail_epoch, _rowtrail_position, _rowtrail_ordinal"
    )


def notes(table: CopiedTable, key: int) -> list[str]:
    return [row[0] for row in versions(table, key)]


def current(table: CopiedTable) -> dict[int, str]:
    found = table.ask_target("SELECT id, note FROM orders WHERE _rowtrail_is_current")
    assert len(found) == len({row[0] for row in found})
    return dict(found)


def at_source(table: CopiedTable) -> dict[int, str]:
    return dict(table.ask("SELECT id, note FROM orders"))


def check_chain(found: Sequence[Row]) -> None:
    """Each version ends no later than the next one begins, and only the last one is current."""
    for (_, starts, ends, is_current), (_, next_starts, *_) in pairwise(found):
        assert not is_current
        assert starts <= ends <= next_starts
    for _, _, ends, is_current in found:
        assert is_current == (ends is None)


def set_note(table: CopiedTable, key: int, note: str) -> str:
    now = "clock_timestamp()" if table.source.startswith("postgres") else "datetime('now','subsec')"
    return f"UPDATE orders SET note = '{note}', seen = {now} WHERE id = {key}"


def test_what_runs_have_seen_stays(each_pair: CopiedTable, any_capture: str) -> None:
    """Under each capture: versions of separate runs, deletes and rows that come back."""
    pipeline = keeping(each_pair, any_capture)
    first = dict(at_source(each_pair))
    pipeline.run()
    assert current(each_pair) == first
    each_pair.change(set_note(each_pair, 1, "second"))
    each_pair.change("DELETE FROM orders WHERE id = 2")
    pipeline.run()
    each_pair.change(set_note(each_pair, 1, "third"))
    now = "clock_timestamp()" if each_pair.source.startswith("postgres") else "datetime('now')"
    each_pair.change(f"INSERT INTO orders VALUES (2, 1, 'again', {now})")
    pipeline.run()
    pipeline.run()
    assert current(each_pair) == at_source(each_pair)
    assert notes(each_pair, 1) == [first[1], "second", "third"]
    assert notes(each_pair, 2) == [first[2], "again"]
    (_, _, gone, _), (_, back, _, _) = versions(each_pair, 2)
    assert gone < back
    assert notes(each_pair, 3) == [first[3]]
    for key in (1, 2, 3):
        check_chain(versions(each_pair, key))
    result = each_pair.ask_target("SELECT count(*) FROM orders WHERE NOT _rowtrail_is_current")
    assert result == [(3,)]


# --- the log tells every change -------------------------------------------------------------------


@pytest.fixture(params=["duckdb", "postgres"])
def logged(
    request: pytest.FixtureRequest, postgres_server: PostgresServer | GivenServer, tmp_path: Path
) -> Iterator[CopiedTable]:
    with ExitStack() as stack:
        source = stack.enter_context(postgres_server.database())
        target = f"duckdb:///{tmp_path / 'target.duckdb'}"
        if request.param == "postgres":
            target = stack.enter_context(postgres_server.database())
        table = CopiedTable(tmp_path, source, target)
        table.make()
        yield table


def test_every_logged_version_stays(logged: CopiedTable) -> None:
    """Of several between two runs, too, with the times at which they were committed."""
    pipeline = keeping(logged, "log")
    pipeline.run()
    (first,) = notes(logged, 1)
    before = datetime.now(UTC)
    for note in ("b", "c", "c", "d"):
        logged.change(set_note(logged, 1, note))
    after = datetime.now(UTC)
    result = pipeline.run().streams["orders"]
    assert (result.counts.loaded, result.counts.folded) == (4, 0)
    assert notes(logged, 1) == [first, "b", "c", "c", "d"]
    found = versions(logged, 1)
    check_chain(found)
    starts = [row[1] for row in found[1:]]
    assert before <= starts[0] and starts[-1] <= after
    assert len(set(starts)) == 4


def test_versions_of_one_transaction(logged: CopiedTable) -> None:
    """They have one time: all but the last one hold for no time at all, and are there."""
    pipeline = keeping(logged, "log")
    pipeline.run()
    logged.change(*(set_note(logged, 1, note) for note in ("b", "c")))
    logged.change(
        "DELETE FROM orders WHERE id = 2",
        "INSERT INTO orders VALUES (2, 1, 'again', clock_timestamp())",
    )
    pipeline.run()
    (first, b, c), (second, again) = versions(logged, 1), versions(logged, 2)
    assert [row[0] for row in (b, c, again)] == ["b", "c", "again"]
    assert first[2] == b[1] == b[2] == c[1]
    assert second[2] == again[1]
    assert current(logged) == at_source(logged)


def test_a_changed_key_ends_one_record_and_begins_another(logged: CopiedTable) -> None:
    pipeline = keeping(logged, "log")
    pipeline.run()
    logged.change("UPDATE orders SET id = 5000 WHERE id = 1")
    pipeline.run()
    ((note, _, ended, _),) = versions(logged, 1)
    assert versions(logged, 5000)[0][:2] == (note, ended)


def test_a_truncated_table_keeps_its_past(logged: CopiedTable) -> None:
    pipeline = keeping(logged, "log")
    pipeline.run()
    count = len(current(logged))
    logged.change("TRUNCATE orders")
    pipeline.run()
    assert current(logged) == {}
    assert logged.ask_target("SELECT count(*) FROM orders") == [(count,)]


# --- failures -------------------------------------------------------------------------------------


class Rule:
    """A transform that refuses some notes."""

    def __init__(self, *bad: str) -> None:
        self.bad = set(bad)

    def step(self, frame: Any) -> Any:
        if refused := self.bad & set(frame["note"]):
            raise ValueError(f"refused: {min(refused)}")
        return frame


def test_later_versions_wait_and_follow_in_order(logged: CopiedTable) -> None:
    """Of one batch, too. Once mended all are there, with the times of their commits."""
    rule = Rule("bad")
    pipeline = keeping(logged, "log", transforms=[rule.step])
    pipeline.run()
    (first,) = notes(logged, 1)
    before = datetime.now(UTC)
    for note in ("b", "bad", "c", "d"):
        logged.change(set_note(logged, 1, note))
    after = datetime.now(UTC)
    counts = pipeline.run().streams["orders"].counts
    assert (counts.loaded, counts.failed, counts.waiting) == (1, 1, 2)
    assert notes(logged, 1) == [first, "b"]
    assert logged.ask_target("SELECT count(*) FROM _rowtrail_gaps") == [(1,)]
    logged.change(set_note(logged, 1, "e"))
    assert pipeline.run().streams["orders"].counts.waiting == 1
    rule.bad.clear()
    pipeline.retry("orders", 1)
    assert notes(logged, 1) == [first, "b", "bad", "c", "d", "e"]
    found = versions(logged, 1)
    check_chain(found)
    starts = [row[1] for row in found]
    assert before <= starts[1] and starts[4] <= after
    assert starts == sorted(set(starts))
    assert logged.ask_target("SELECT count(*) FROM _rowtrail_gaps") == [(0,)]


def test_what_was_ignored_can_still_take_its_place(logged: CopiedTable) -> None:
    """A later version that loads does not put it to an end: the history still lacks it."""
    rule = Rule("bad")
    pipeline = keeping(logged, "log", transforms=[rule.step])
    pipeline.run()
    (first,) = notes(logged, 1)
    logged.change(set_note(logged, 1, "bad"))
    pipeline.run()
    logged.change(set_note(logged, 1, "b"))
    pipeline.run()
    pipeline.ignore("orders", 1, reason="not now")
    logged.change(set_note(logged, 1, "c"))
    pipeline.run()
    assert notes(logged, 1) == [first, "b", "c"]
    assert logged.ask_target("SELECT count(*) FROM _rowtrail_gaps") == [(1,)]
    pipeline.unignore("orders", 1)
    rule.bad.clear()
    pipeline.retry("orders", 1)
    assert notes(logged, 1) == [first, "bad", "b", "c"]
    check_chain(versions(logged, 1))


def test_a_row_that_the_target_refuses(logged: CopiedTable) -> None:
    """It is named, the rest is loaded, and what comes after it waits."""
    pipeline = keeping(logged, "log")
    pipeline.run()
    if logged.target.startswith("postgres"):
        logged.change_target("ALTER TABLE orders ADD CONSTRAINT c CHECK (note <> 'bad')")
    else:
        logged.change_target(
            "CREATE UNIQUE INDEX one_bad ON orders ((CASE WHEN note = 'bad' THEN 1 END))"
        )
        logged.change(set_note(logged, 9, "bad"))
        pipeline.run()
    for key, note in ((1, "b"), (1, "bad"), (1, "c"), (2, "x"), (3, "y")):
        logged.change(set_note(logged, key, note))
    result = pipeline.run().streams["orders"]
    assert {one.record for one in result.failed_records} == {"orders:1"}
    assert (result.counts.loaded, result.counts.failed, result.counts.waiting) == (3, 1, 1)
    assert [notes(logged, key)[-1] for key in (1, 2, 3)] == ["b", "x", "y"]
    logged.change_target(
        "ALTER TABLE orders DROP CONSTRAINT c"
        if logged.target.startswith("postgres")
        else "DROP INDEX one_bad"
    )
    pipeline.retry("orders", 1)
    assert notes(logged, 1)[1:] == ["b", "bad", "c"]
    assert current(logged) == at_source(logged)


@pytest.mark.parametrize("point", list(Point))
def test_a_crash_at_any_point_adds_and_loses_nothing(logged: CopiedTable, point: Point) -> None:
    keeping(logged, "log").run()
    pipeline = keeping(logged, "log", batch_rows=4)
    (first,) = notes(logged, 1)
    changes = [set_note(logged, key, note) for note in "bcdef" for key in (1, 2)]
    for change in changes:
        logged.change(change)
    for occurrence in (1, 2):
        with pytest.raises(Crash):
            run_pipeline(pipeline.definition, faults=CrashAt(point, occurrence))
    pipeline.run()
    assert notes(logged, 1) == [first, *"bcdef"]
    assert current(logged) == at_source(logged)


def test_versions_of_one_record_may_have_a_unique_value(logged: CopiedTable) -> None:
    """Two records may not."""
    pipeline = keeping(logged, "log", checks={"note": {"unique": True}})
    pipeline.run()
    for key, note in ((1, "b"), (1, "b"), (2, "x"), (3, "x")):
        logged.change(set_note(logged, key, note))
    result = pipeline.run().streams["orders"]
    assert {one.record for one in result.failed_records} == {"orders:2", "orders:3"}
    assert notes(logged, 1)[1:] == ["b", "b"]


# --- replays --------------------------------------------------------------------------------------


def test_a_replay_of_what_has_not_changed_adds_nothing(
    each_pair: CopiedTable, any_capture: str
) -> None:
    pipeline = keeping(each_pair, any_capture)
    pipeline.run()
    before = versions(each_pair, 1)
    pipeline.replay("orders", 1)
    pipeline.replay("orders", 1)
    assert versions(each_pair, 1) == before
    pipeline.run(resnapshot=["orders"])
    assert versions(each_pair, 1) == before
    assert each_pair.ask_target("SELECT count(*) FROM orders") == [(len(at_source(each_pair)),)]


def test_a_table_that_is_read_anew(each_pair: CopiedTable, any_capture: str) -> None:
    """What has changed since is another version, what is gone ends, the rest goes on."""
    pipeline = keeping(each_pair, any_capture)
    pipeline.run()
    (first,), (second,) = notes(each_pair, 1), notes(each_pair, 2)
    each_pair.change(set_note(each_pair, 1, "b"))
    each_pair.change("DELETE FROM orders WHERE id = 2")
    pipeline.run(resnapshot=["orders"])
    assert notes(each_pair, 1) == [first, "b"]
    assert notes(each_pair, 2) == [second]
    assert current(each_pair) == at_source(each_pair)
    each_pair.change(set_note(each_pair, 1, "c"))
    pipeline.run()
    assert notes(each_pair, 1) == [first, "b", "c"]


def test_a_history_rebuilt_from_the_archive(logged: CopiedTable, tmp_path: Path) -> None:
    """With the same versions and the same times."""
    pipeline = keeping(logged, "log")
    archive = str(tmp_path / "archive")
    pipeline.definition = replace(pipeline.definition, archive=archive)
    pipeline.run()
    for note in ("b", "c"):
        logged.change(set_note(logged, 1, note))
    logged.change("DELETE FROM orders WHERE id = 2")
    pipeline.run()
    before = logged.ask_target(EVERYTHING)
    logged.change_target("DROP TABLE orders")
    logged.change_target("DROP TABLE _rowtrail_tombstones_orders")
    pipeline.replay_archive("orders")
    after = logged.ask_target(EVERYTHING)
    # What was read, and not logged, was written a moment after its batch was opened.
    assert [row[:2] for row in after] == [row[:2] for row in before]
    assert [row[2:] for row in after if row[0] == 1][1:] == [
        row[2:] for row in before if row[0] == 1
    ][1:]
    assert all(
        abs(new[2] - old[2]).total_seconds() < 60 for new, old in zip(after, before, strict=True)
    )


def test_a_mended_transform(logged: CopiedTable, tmp_path: Path) -> None:
    """From the archive each version is corrected at its place; from the source the row as it is
    now is another version."""

    def shout(frame: Any) -> Any:
        return frame.assign(note=frame["note"].str.upper())

    pipeline = keeping(logged, "log")
    pipeline.definition = replace(pipeline.definition, archive=str(tmp_path / "archive"))
    pipeline.run()
    for note in ("b", "c"):
        logged.change(set_note(logged, 1, note))
    pipeline.run()
    before = [row[1:] for row in versions(logged, 1)]
    mended = keeping(logged, "log", transforms=[shout])
    mended.definition = replace(mended.definition, archive=str(tmp_path / "archive"))
    mended.replay("orders", 2)
    old, new = notes(logged, 2)
    assert new == old.upper() != old
    mended.replay_archive("orders")
    assert notes(logged, 1)[1:] == ["B", "C"]
    assert [row[1:] for row in versions(logged, 1)] == before


def test_a_new_column_filled_for_older_rows(logged: CopiedTable) -> None:
    pipeline = keeping(logged, "log")
    pipeline.run()
    logged.change("ALTER TABLE orders ADD COLUMN size int DEFAULT 7")
    logged.change("UPDATE orders SET size = NULL WHERE id = 2")
    pipeline.run()
    pipeline.backfill("orders", "size")
    sizes = "SELECT size FROM orders WHERE id = {} ORDER BY _rowtrail_valid_from"
    assert logged.ask_target(sizes.format(1)) == [(None,), (7,)]
    assert logged.ask_target(sizes.format(2))[0] == (None,)
    pipeline.run()
    assert logged.ask_target(sizes.format(1)) == [(None,), (7,)]


def test_what_waits_behind_a_row_that_can_only_be_fetched(logged: CopiedTable) -> None:
    """Its image was too large to be kept. What came after it does not get lost."""
    rule = Rule("bad")
    pipeline = keeping(logged, "log", transforms=[rule.step], image_bytes=1)
    pipeline.run()
    (first,) = notes(logged, 1)
    for note in ("bad", "c", "d"):
        logged.change(set_note(logged, 1, note))
    counts = pipeline.run().streams["orders"].counts
    assert (counts.failed, counts.waiting) == (1, 2)
    rule.bad.clear()
    pipeline.retry("orders", 1)
    assert notes(logged, 1)[:3] == [first, "c", "d"]
    assert set(notes(logged, 1)[2:]) == {"d"}
    check_chain(versions(logged, 1))
    assert current(logged) == at_source(logged)
    assert logged.ask_target("SELECT count(*) FROM _rowtrail_gaps") == [(0,)]


def test_what_has_waited_and_can_only_be_fetched_ends_with_the_row(tmp_path: Path) -> None:
    """Its value fits no image, so that nothing but the row of today can take its place."""
    world = World(tmp_path)
    broken = True

    def picky(rows: pd.DataFrame) -> pd.DataFrame:
        if broken and (rows["note"] == "bad").any():
            raise ValueError("a bad note")
        return rows

    pipeline = world.pipeline(capture="snapshot", deletes="history", retries=0, transforms=[picky])
    world.put([(1, 1, "fine"), (2, 1, "fine")])
    pipeline.run()
    world.put([(1, 2, "bad")])
    pipeline.run()
    world.put([(1, "a word", "behind it")])
    assert pipeline.run().streams["orders"].counts.waiting == 1
    world.put([(1, 3, "last")])
    assert pipeline.run().streams["orders"].counts.waiting == 1
    broken = False
    pipeline.retry("orders")
    (status,) = pipeline.status().streams
    assert status.held_back == 0
    notes = "SELECT note FROM orders WHERE id = 1 ORDER BY _rowtrail_valid_from"
    assert [note for (note,) in world.query(notes)] == ["fine", "bad", "last"]
    assert pipeline.run().complete and world.gaps() == set()


@pytest.mark.parametrize("capture", CAPTURES)
def test_a_replay_before_the_next_run_keeps_what_was_there(
    each_pair: CopiedTable, capture: str
) -> None:
    """Of rows in the last page of the last read, whose version a fetched row gets."""
    pipeline = keeping(each_pair, capture)
    pipeline.run()
    (first,), (second,) = notes(each_pair, 599), notes(each_pair, 600)
    each_pair.change(set_note(each_pair, 599, "b"))
    each_pair.change("DELETE FROM orders WHERE id = 600")
    pipeline.replay("orders", 599)
    pipeline.replay("orders", 600)
    assert notes(each_pair, 599) == [first, "b"]
    assert notes(each_pair, 600) == [second]


def test_versions_that_a_replay_has_fetched_stay(each_pair: CopiedTable) -> None:
    pipeline = keeping(each_pair, "trigger")
    pipeline.run()
    (first,) = notes(each_pair, 1)
    for note in ("b", "c"):
        each_pair.change(set_note(each_pair, 1, note))
        pipeline.replay("orders", 1)
    assert notes(each_pair, 1) == [first, "b", "c"]


def test_a_key_that_goes_and_comes_back_behind_a_failure(logged: CopiedTable) -> None:
    """The changes of one batch do not wait for each other in a circle."""
    rule = Rule("bad")
    pipeline = keeping(logged, "log", transforms=[rule.step])
    pipeline.run()
    (first,) = notes(logged, 1)
    logged.change("UPDATE orders SET id = 5000, note = 'bad' WHERE id = 1")
    logged.change("UPDATE orders SET id = 1, note = 'back' WHERE id = 5000")
    pipeline.run()
    rule.bad.clear()
    pipeline.retry("orders")
    assert current(logged) == at_source(logged)
    assert notes(logged, 1) == [first, "back"]
    assert notes(logged, 5000) == ["bad"]


@pytest.mark.parametrize("capture", CAPTURES)
def test_what_has_waited_keeps_its_own_time(each_pair: CopiedTable, capture: str) -> None:
    """A version does not hold before it was there."""
    rule = Rule("bad")
    pipeline = keeping(each_pair, capture, transforms=[rule.step])
    pipeline.run()
    changed = []
    for note in ("bad", "c"):
        time.sleep(0.01)
        changed.append(datetime.now(UTC))
        each_pair.change(set_note(each_pair, 1, note))
        pipeline.run()
    rule.bad.clear()
    pipeline.retry("orders")
    _, (_, bad_from, *_), (_, c_from, *_) = versions(each_pair, 1)
    assert changed[0] < bad_from < changed[1] < c_from


@pytest.mark.parametrize("capture", CAPTURES)
def test_what_was_ignored_takes_its_place_under_each_capture(
    each_pair: CopiedTable, capture: str
) -> None:
    rule = Rule("bad")
    pipeline = keeping(each_pair, capture, transforms=[rule.step])
    pipeline.run()
    (first,) = notes(each_pair, 1)
    each_pair.change(set_note(each_pair, 1, "bad"))
    pipeline.run()
    pipeline.ignore("orders", 1, reason="not now")
    each_pair.change(set_note(each_pair, 1, "c"))
    pipeline.run()
    pipeline.unignore("orders", 1)
    rule.bad.clear()
    pipeline.retry("orders", 1)
    assert notes(each_pair, 1) == [first, "bad", "c"]


@pytest.mark.parametrize("how", ["replay", "resnapshot"])
def test_the_archive_adds_no_version_that_was_confirmed(
    logged: CopiedTable, tmp_path: Path, how: str
) -> None:
    pipeline = keeping(logged, "log")
    pipeline.definition = replace(pipeline.definition, archive=str(tmp_path / "archive"))
    pipeline.run()
    logged.change(set_note(logged, 1, "b"))
    pipeline.run()
    before = notes(logged, 1)
    if how == "replay":
        pipeline.replay("orders", 1)
    else:
        pipeline.run(resnapshot=["orders"])
    assert notes(logged, 1) == before
    pipeline.replay_archive("orders")
    assert notes(logged, 1) == before


def test_versions_of_one_batch_count_against_what_may_wait(logged: CopiedTable) -> None:
    rule = Rule("bad")
    pipeline = keeping(logged, "log", transforms=[rule.step])
    pipeline.definition = replace(
        pipeline.definition, breakers=Breakers(waiting_records=5, deleted_share=1.0)
    )
    pipeline.run()
    logged.change(*(set_note(logged, 1, note) for note in ("bad", *"abcdefghijk")))
    result = pipeline.run().streams["orders"]
    assert result.error is not None and "waiting_records" in result.error


@pytest.mark.parametrize("capture", CAPTURES)
def test_a_row_that_went_back_to_what_it_was_before_an_ignored_version(
    each_pair: CopiedTable, capture: str
) -> None:
    """It is a version, although it adds nothing as long as nobody takes up what was ignored."""
    rule = Rule("bad")
    pipeline = keeping(each_pair, capture, transforms=[rule.step], exclude=["seen"])
    pipeline.run()
    (first,) = notes(each_pair, 1)
    each_pair.change(set_note(each_pair, 1, "bad"))
    pipeline.run()
    pipeline.ignore("orders", 1, reason="not now")
    each_pair.change(set_note(each_pair, 1, first))
    pipeline.run()
    pipeline.unignore("orders", 1)
    rule.bad.clear()
    pipeline.retry("orders", 1)
    assert notes(each_pair, 1) == [first, "bad", first]
    assert current(each_pair) == at_source(each_pair)


EVERYTHING = (
    "SELECT id, note, _rowtrail_valid_from, _rowtrail_valid_to FROM orders "
    "ORDER BY id, _rowtrail_epoch, _rowtrail_position, _rowtrail_ordinal"
)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"policy": "reread"}, "always wait behind it"),
        ({"capture_images": False}, "history keeps the changes that wait in the ledger"),
        ({"redact": ["note"]}, "history keeps the changes that wait in the ledger as they are"),
    ],
)
def test_settings_that_a_history_does_not_go_with(
    tmp_path: Path, setting: dict[str, Any], said: str
) -> None:
    table = CopiedTable(tmp_path, f"sqlite:///{tmp_path / 'a.db'}", f"duckdb:///{tmp_path / 'b'}")
    with pytest.raises(ConfigurationError, match=said):
        keeping(table, "trigger", **setting)


def test_a_table_that_was_not_kept_so_far(logged: CopiedTable) -> None:
    """The stream stops and says what to do; another table has the history from then on."""
    logged.pipeline(capture="log").run()
    result = keeping(logged, "log").run().streams["orders"]
    assert result.error is not None and "Name another table" in result.error
    assert keeping(logged, "log", target="orders_history").run().complete
    (count,) = logged.ask_target("SELECT count(*) FROM orders_history")[0]
    assert count == len(at_source(logged))
