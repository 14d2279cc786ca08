"""`rowtrail record`: the answer to the person who asks at 8 a.m. why order 42 is missing."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.cli.place import Place


def test_a_record_that_was_never_loaded(spoiled: Place) -> None:
    answer = spoiled.type("record", "orders", "2")
    assert answer.code == 0
    first, *_ = answer.out.splitlines()
    assert first == "orders:2 is missing from the warehouse: its insert failed."
    assert "Stage   transform" in answer.out
    assert "Cause   NoRateError: there is no rate for it" in answer.out
    assert re.search(r"Since   \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", answer.out)
    assert "    rowtrail retry orders 2\n" in answer.out
    assert "    rowtrail retry orders 2 --from extract\n" in answer.out
    assert "    rowtrail ignore orders 2 --reason 'why'\n" in answer.out


def test_a_record_whose_last_change_failed(spoiled: Place) -> None:
    spoiled.put((1, 7, "bad"))
    spoiled.type("run")
    answer = spoiled.type("record", "orders", "1")
    assert answer.out.startswith("orders:1 is out of date in the warehouse: its update failed.")
    assert re.search(r"Target  version 1\.\d+\.0\.0, loaded .* UTC; --compare looks", answer.out)
    trail = answer.out.partition("What happened (UTC):")[2]
    assert trail.index("insert: loaded") < trail.index("update: failed at stage transform")


def test_the_trail_after_it_was_mended(spoiled: Place) -> None:
    spoiled.put((2, 2, "mended"))
    spoiled.type("retry", "orders", "2", "--from", "extract", "--reason", "rate table mended")
    answer = spoiled.type("record", "orders", "2")
    assert answer.out.startswith("orders:2 is in the warehouse")
    trail = answer.out.partition("What happened (UTC):")[2]
    steps = ("failed at stage transform", "retry asked by ", "rate table mended", "loaded into the",
             "retry done: from the row at the source: 1 loaded")  # fmt: skip
    assert [trail.find(step) for step in steps] == sorted(trail.find(step) for step in steps)
    assert -1 not in [trail.find(step) for step in steps]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("SELECT 1", "is in the warehouse: its newest known change was loaded."),
        (
            "DELETE FROM orders WHERE id = 1",
            "was deleted at the source, and its delete was loaded.",
        ),
        ("UPDATE orders SET note = 'test' WHERE id = 1", "a transform left it out."),
    ],
    ids=["loaded", "deleted", "filtered"],
)
def test_a_record_that_is_as_it_should_be(spoiled: Place, statement: str, words: str) -> None:
    spoiled.sql(statement)
    spoiled.type("run")
    answer = spoiled.type("record", "orders", "1")
    assert (answer.code, answer.out.splitlines()[0].endswith(words)) == (0, True)
    assert "What to do" not in answer.out


def test_an_ignored_record(spoiled: Place) -> None:
    spoiled.type("ignore", "orders", "2", "--reason", "a test order")
    answer = spoiled.type("record", "orders", "2")
    assert "on purpose: a person chose to ignore it." in answer.out
    assert re.search(r"ignored by \S+: a test order", answer.out)
    assert "    rowtrail ignore orders 2 --undo\n" in answer.out


def test_a_record_that_nobody_has_seen(spoiled: Place) -> None:
    answer = spoiled.type("record", "orders", "99")
    assert answer.code == 1
    assert "never seen orders:99" in answer.out and "source has no such row either" in answer.out
    spoiled.put((99, 1, "new"))
    late = spoiled.type("record", "orders", "99")
    assert late.code == 1
    assert "It came after the last run" in late.out
    assert spoiled.type("record", "orders", "99", "--json").document == {
        "record": "orders:99",
        "state": "unknown",
        "failure": None,
        "trail": [],
        "pruned": [],
    }


def test_the_printed_name_of_a_record_is_taken_too(spoiled: Place) -> None:
    assert spoiled.type("record", "orders:2").out == spoiled.type("record", "orders", "2").out
    assert spoiled.type("record", "orders").code == 2
    assert spoiled.type("record", "nothing:2").code == 2


def test_without_the_source_the_ledger_still_answers(spoiled: Place) -> None:
    spoiled.source.rename(spoiled.folder / "away.db")
    answer = spoiled.type("record", "orders", "2")
    assert answer.code == 0
    assert answer.out.startswith("orders:2 is missing from the warehouse")
    assert "could not be asked" in spoiled.type("record", "orders", "99").out


def test_a_text_key_is_found_with_and_without_the_source(place: Place) -> None:
    place.sql("CREATE TABLE people (name TEXT PRIMARY KEY NOT NULL)")
    place.sql("INSERT INTO people VALUES ('42'), ('O''Neil, Ann'), ('a b')")
    place.file.write_text(f"{place.file.read_text()}\n[streams.people]\n")
    assert place.type("run").code == 0
    for key in ("42", "O'Neil, Ann", "a b"):
        assert place.type("record", "people", key).code == 0
    place.source.rename(place.folder / "away.db")
    assert 'people:"42" is in the warehouse' in place.type("record", "people", "42").out


def test_a_key_of_another_type_is_refused(spoiled: Place) -> None:
    answer = spoiled.type("record", "orders", "abc")
    assert answer.code == 2
    assert "abc is no key of stream orders" in answer.err and "int64" in answer.err


def test_json_has_state_failure_and_trail(spoiled: Place) -> None:
    document = spoiled.type("record", "orders", "2", "--json").document
    assert (document["record"], document["state"]) == ("orders:2", "failed")
    assert document["failure"]["error_class"] == "NoRateError"
    assert [entry["event"] for entry in document["trail"]] == ["failed"]


def test_what_is_advised_can_be_typed_whatever_the_key(place: Place) -> None:
    place.use_transform()
    place.put((-4, 1, "bad"))
    place.type("run")
    advice = [
        shlex.split(line)[1:]
        for line in place.type("record", "orders", "--", "-4").out.splitlines()
        if line.startswith("    rowtrail")
    ]
    assert [line[0] for line in advice] == ["retry", "retry", "ignore"]
    for line in advice:
        assert place.type(*line).code == (0 if line[0] == "ignore" else 3)
    (undo,) = [
        shlex.split(line)[1:]
        for line in place.type("record", "orders", "--", "-4").out.splitlines()
        if line.startswith("    rowtrail")
    ]
    assert place.type(*undo).code == 0


def test_why_the_source_has_it_and_the_warehouse_not(place: Place) -> None:
    place.put((7, 1, "x"))
    place.type("stream", "pause", "orders")
    assert "has no ledger" in place.type("record", "orders", "7").err
    place.sql("ALTER TABLE orders RENAME TO others")
    place.type("run")
    place.sql("ALTER TABLE others RENAME TO orders")
    place.put((8, 1, "x"))
    assert "has yet to be read from the start" in place.type("record", "orders", "8").out
    place.type("run")
    place.type("stream", "pause", "orders")
    place.put((9, 1, "x"))
    assert "Stream orders is paused" in place.type("record", "orders", "9").out


# --- the timeline --------------------------------------------------------------------------------


def test_the_timeline_has_versions_times_and_runs(spoiled: Place) -> None:
    spoiled.put((1, 7, "bad"))
    spoiled.type("run")
    spoiled.put((1, 8, "good"))
    spoiled.type("retry", "orders", "1", "--from", "extract")
    answer = spoiled.type("record", "orders", "1")
    trail = spoiled.type("record", "orders", "1", "--json").document["trail"]
    changes = [entry for entry in trail if entry["version"] and entry["event"] != "failure ended"]
    assert [entry["event"] for entry in changes] == ["loaded", "failed", "loaded"]
    lines = [line.strip() for line in answer.out.splitlines() if "; run " in line]
    assert len(lines) == len(changes)
    for line, entry in zip(lines, changes, strict=True):
        version = ".".join(map(str, entry["version"]))
        assert entry["read_at"] <= entry["staged_at"] <= entry["at"]
        read, staged, at = (entry[name][11:23] for name in ("read_at", "staged_at", "at"))
        there = "" if entry["event"] == "failed" else f", at the target {at}"
        assert line == (
            f"version {version}, read {read}, through its stages {staged}{there}; "
            f"run {entry['run_id']}"
        )
    newest = ".".join(map(str, changes[-1]["version"]))
    assert f"Target  version {newest}, loaded " in answer.out


@pytest.mark.parametrize("kept", [True, False])
def test_where_the_image_is(place: Place, kept: bool) -> None:
    place.use_transform()
    if not kept:
        place.file.write_text(place.file.read_text() + "capture_images = false\n")
    place.put((1, 1, "bad"), *((number, 1, "good") for number in range(2, 9)))
    place.type("run")
    words = (
        "in the ledger, the row as it was read"
        if kept
        else "none is kept (capture_images = false); a retry reads"
    )
    assert f"Image   {words}" in place.type("record", "orders", "1").out


def test_others_with_the_same_cause_are_pointed_at(spoiled: Place) -> None:
    assert "Group " not in spoiled.type("record", "orders", "2").out
    spoiled.put((4, 1, "bad"), *((number, 1, "good") for number in range(10, 20)))
    spoiled.type("run")
    (group,) = spoiled.type("failures", "--json").document["groups"]
    answer = spoiled.type("record", "orders", "2")
    assert f"Group   {group['group']}, of 2 records with this cause" in answer.out
    assert f"    rowtrail failures orders --group {group['group']}\n" in answer.out
