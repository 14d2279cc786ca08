"""`rowtrail prune`: what goes, what is said of it before and afterwards, and the file's size."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.place import FILE, PICKY, Place

SECRET = "a-note-of-the-row"
YES = ("--older-than", "0d", "--yes")


def today() -> str:
    """Not once for all tests: they may begin before midnight."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def ledger_files(place: Place) -> bytes:
    return b"".join(path.read_bytes() for path in place.ledger.parent.iterdir())


def age(place: Place, days: int) -> None:
    """Moves everything in the ledger into the past."""
    shift = round(timedelta(days=days).total_seconds() * 1_000_000)
    with closing(sqlite3.connect(place.ledger)) as connection, connection:
        for table, column in (
            ("batches", "closed_at"), ("failures", "first_at"), ("failures", "last_at"),
            ("failures", "ended_at"), ("attempts", "at"), ("decisions", "created_at"),
            ("decisions", "finished_at"), ("runs", "ended_at"), ("pruned", "looked_at"),
        ):  # fmt: skip
            connection.execute(f"UPDATE {table} SET {column} = {column} - {shift}")


@pytest.fixture
def story(spoiled: Place) -> Place:
    """Order 2 failed, was mended and retried; order 5 has failed and still does."""
    spoiled.put((5, 5, "bad"), (6, 6, SECRET))
    spoiled.type("run")
    spoiled.put((2, 2, "good"))
    assert spoiled.type("retry", "orders", "2", "--from", "extract").code == 0
    return spoiled


def retained(place: Place, settings: str) -> None:
    place.write(FILE.replace("\n[streams.orders]\n", f"\n[retention]\n{settings}\n{PICKY}"))


def test_without_an_age_or_a_choice_it_asks_for_them(story: Place) -> None:
    for line in (
        (), ("--images",), ("--older-than", "90d"), ("--older-than", "9 moons", "--images"),
        ("--older-than", "1d", "--trails", "--open"), ("nothing", *YES, "--trails"),
    ):  # fmt: skip
        answer = story.type("prune", *line)
        assert answer.code == 2, line
        assert answer.err.startswith("Error: ")
    assert story.type("record", "orders", "2", "--json").document["pruned"] == []


def test_a_dry_run_tells_what_would_go_and_changes_nothing(story: Place) -> None:
    before = story.type("record", "orders", "2").out
    line = ("prune", "--older-than", "0d", "--images", "--open", "--trails", "--dry-run")
    answer = story.type(*line)
    assert answer.code == 0
    for what in ("images of ended failures", "images of open failures", "batches", "decisions"):
        assert f"orders  {what}" in answer.out
    document = story.type(*line, "--json").document
    assert document["dry_run"] and len(document["pruned"]) >= 4
    assert story.type("record", "orders", "2").out == before


def test_it_asks_first(story: Place) -> None:
    line = ("prune", "--older-than", "0d", "--images")
    assert story.spawn(*line, typed="n\n").code == 1
    assert story.type(*line, "--json").code == 2, "nobody can be asked"
    assert story.type("prune", "--older-than", "1y", "--trails").out.endswith("There are none.\n")
    assert story.type("record", "orders", "2", "--json").document["pruned"] == []
    assert story.spawn(*line, typed="y\n").code == 0
    (pruned,) = story.type("record", "orders", "2", "--json").document["pruned"]
    assert pruned["what"] == "images"


def test_a_pruned_image_is_in_no_file_of_the_ledger(place: Place) -> None:
    place.use_transform()
    place.put((1, 1, "bad"), (2, 2, "fine"))
    place.sql("ALTER TABLE orders ADD COLUMN more TEXT")
    place.sql(f"UPDATE orders SET more = '{SECRET}'")
    assert place.type("run").code == 3
    assert SECRET.encode() in ledger_files(place)
    assert place.type("prune", *YES, "--images", "--open").code == 0
    assert SECRET.encode() not in ledger_files(place)
    told = place.type("record", "orders", "1").out
    assert f"Image   none is kept (pruned on {today()}); a retry reads the row" in told
    place.use_transform("def picky(orders):\n    return orders\n")
    answer = place.type("retry", "orders", "1")
    assert f"from the row at the source (no image: pruned on {today()}): 1 loaded" in answer.out
    assert place.loaded() == {1, 2}


def test_a_record_whose_trail_was_pruned_says_so(story: Place) -> None:
    age(story, 100)
    story.put((4, 4, "new"))
    story.type("run")
    assert story.type("prune", "--older-than", "90d", "--trails", "--yes").code == 0
    gone = story.type("record", "orders", "1")
    assert gone.code == 1
    assert "The ledger knows nothing of orders:1 now." in gone.out
    assert f"was pruned on {today()}" in gone.out and "it may have been seen before" in gone.out
    assert "never seen" not in gone.out
    assert "came after the last run" in gone.out, "or so it may be"
    never = story.type("record", "orders", "99")
    assert "it may have been seen before" in never.out, "that is all that can be said"
    kept = story.type("record", "orders", "4")
    assert kept.code == 0 and "is in the warehouse" in kept.out
    assert f"pruned on {today()}" in kept.out and "there may have been more" in kept.out
    document = story.type("record", "orders", "1", "--json").document
    assert (document["state"], document["trail"]) == ("unknown", [])
    assert [one["what"] for one in document["pruned"]] == ["trails"]


def test_what_is_held_back_is_not_said_to_be_missing(spoiled: Place) -> None:
    """Whether an older version is at the target stood in the trail that was pruned."""
    spoiled.put((1, 1, "bad"))
    spoiled.type("run")
    assert "out of date in the warehouse" in spoiled.type("record", "orders", "1").out
    age(spoiled, 100)
    spoiled.put((8, 8, "good"))
    spoiled.type("run")
    spoiled.type("prune", "--older-than", "90d", "--trails", "--yes")
    told = spoiled.type("record", "orders", "1").out
    assert "is missing from, or out of date in, the warehouse: its update failed." in told
    assert "Target  not known: what was loaded before " in told and "was pruned" in told
    assert "failed at stage transform" in told, "what is held back keeps its own trail"
    held = spoiled.type("failures", "--json").document["failures"]
    assert {one["record_id"] for one in held} == {"orders:1", "orders:2"}


def test_the_pipeline_goes_on_after_everything_was_pruned(story: Place) -> None:
    """Recovery, deletes, retries and new changes find what they need."""
    assert story.type("prune", *YES, "--images", "--open", "--trails").code == 0
    story.put((7, 7, "good"))
    story.sql("DELETE FROM orders WHERE id = 1")
    story.sql("DELETE FROM orders WHERE id = 3")
    assert story.type("run").code == 3
    story.use_transform("def picky(orders):\n    return orders\n")
    assert story.type("retry").code == 0
    assert story.type("run").code == 0
    assert story.loaded() == story.expected()
    answer = story.type("replay", "orders", "1")
    assert answer.code == 0, "its delete is in the trail"


def test_a_replay_of_what_may_have_been_pruned_says_so(story: Place) -> None:
    story.sql("DELETE FROM orders WHERE id = 6")
    story.type("run")
    story.type("run")
    age(story, 100)
    story.put((7, 7, "good"))
    story.type("run")
    story.type("prune", "--older-than", "90d", "--trails", "--yes")
    answer = story.type("replay", "orders", "6")
    assert answer.code == 2
    assert "the ledger knows nothing of it now" in answer.err
    assert f"were pruned on {today()}" in answer.err


def test_a_replay_by_run_or_time_says_what_may_be_missing(story: Place) -> None:
    words = "Trails before"
    for line in (("--run", "last"), ("--since", "1h")):
        assert words not in story.type("replay", "orders", *line, "--dry-run").out
    assert story.type("prune", "--trails", *YES).code == 0
    for line in (("--run", "last"), ("--since", "1h")):
        told = " ".join(story.type("replay", "orders", *line, "--dry-run").out.split())
        assert f"{words} {today()}" in told
        assert f"were pruned on {today()}, so that there may have been more records" in told
    assert words not in story.type("replay", "orders", "--where", "id = 1", "--dry-run").out
    story.put((7, 7, "good"))
    assert story.type("run").code == 3
    assert words not in story.type("replay", "orders", "--run", "last", "--dry-run").out


def test_shrink_makes_the_file_smaller(place: Place) -> None:
    place.put(*((one, 1, "x" * 100) for one in range(3_000)))
    place.sql("UPDATE orders SET amount = 'bad' WHERE id < 900")
    assert place.type("run").code == 3
    size = place.ledger.stat().st_size
    answer = place.type("prune", *YES, "--images", "--open")
    assert "keeps its size and uses the room again" in answer.out
    assert place.ledger.stat().st_size >= size
    answer = place.type("prune", "--shrink")
    assert answer.code == 0 and "The ledger's file had" in answer.out
    assert place.ledger.stat().st_size < size / 2
    assert place.type("prune", "--shrink", "--json").document["file_bytes"] > 0
    assert place.type("run").code == 3


def test_a_run_prunes_by_the_settings_once_a_day(story: Place) -> None:
    age(story, 40)
    story.put((8, 8, "good"))
    retained(story, 'images = "30d"\ntrails = "1y"')
    answer = story.type("run")
    assert "Pruned, as retention.images says: orders: 1 images of ended failures" in answer.err
    assert "retention.trails" not in answer.err
    (pruned,) = story.type("record", "orders", "2", "--json").document["pruned"]
    assert pruned["what"] == "images"
    retained(story, 'images = "1h"\ntrails = "30d"')
    assert "Pruned" not in story.type("run").err, "it was looked at today"
    age(story, 1)
    assert "retention.trails says: orders:" in story.type("run").err
    assert story.type("record", "orders", "1").code == 1


def test_prune_without_options_does_what_the_settings_say(story: Place) -> None:
    age(story, 40)
    story.put((8, 8, "good"))
    story.type("run")
    retained(story, 'trails = "30d"')
    answer = story.type("prune", "--yes")
    assert answer.code == 0
    assert "orders  batches" in answer.out and "images" not in answer.out
    assert story.type("prune", "--images", "--yes").code == 2, "there is no retention.images"
