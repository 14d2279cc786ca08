"""A pattern of tables in the file: every command knows its streams."""

from __future__ import annotations

import pytest

from rowtrail.pipelines.table_names import stream_name
from tests.cli.place import FILE, Place

PATTERN = FILE.replace("[streams.orders]", '[streams."public.*"]')


@pytest.fixture
def shop(place: Place) -> Place:
    """orders and lines behind a pattern; a row of orders fails."""
    place.sql("CREATE TABLE lines (id INTEGER PRIMARY KEY, note TEXT)")
    place.sql("INSERT INTO lines VALUES (1, 'a')")
    place.put((1, 1, "a"), (2, "no number", "b"))
    place.write(PATTERN)
    return place


def test_before_its_first_run_status_knows_the_pattern_alone(shop: Place) -> None:
    document = shop.type("status", "--json").document
    assert [(one["stream"], one["state"]) for one in document["streams"]] == [
        ("public.*", "never loaded")
    ]
    assert shop.type("failures").code == 2
    assert shop.type("stream", "pause", "orders").code == 2
    ready = shop.type("check")
    assert (ready.code, ready.out.splitlines()[-1]) == (0, "Ready: 2 streams can be run.")


def test_a_whole_life(shop: Place) -> None:
    run = shop.type("run")
    assert run.code == 3 and "complete except 1" in run.out
    status = shop.type("status", "--json").document["streams"]
    assert [(one["stream"], one["state"]) for one in status] == [
        ("lines", "complete"),
        ("orders", "complete except 1"),
    ]
    assert "orders:2" in shop.type("failures", "orders").out
    assert shop.type("failures", "ordres").code == 2
    assert "orders:2 is missing" in shop.type("record", "orders:2").out
    assert "yet" not in shop.type("record", "lines", "1").out
    shop.put((2, 2, "mended"))
    assert shop.type("retry", "orders", "2", "--from", "extract").code == 0
    assert "1 loaded" in shop.type("replay", "lines", "1").out
    assert shop.type("run", "orders").code == 0
    assert shop.type("run", "orders", "--resnapshot", "orders").code == 0
    assert shop.type("run", "ordres").code == 2
    assert shop.type("status").code == 0


def test_what_cannot_be_a_stream_is_told_by_name(shop: Place) -> None:
    shop.put((2, 2, "b"))
    shop.sql("CREATE TABLE journal (line TEXT)")
    check = shop.type("check")
    assert check.code == 0
    assert "Note: shop: table journal is left out: journal has no primary key" in check.out
    run = shop.type("run")
    assert run.code == 3
    assert "Table journal is left out: journal has no primary key" in run.out
    assert run.out.splitlines()[-1].startswith("Not complete: something was left out")
    assert "journal" in shop.type("run", "--json").document["left_out"]
    shop.write(PATTERN + 'exclude_tables = ["jour*"]\n')
    assert shop.type("run").code == 0


def test_a_table_that_is_gone_stays_in_status(shop: Place) -> None:
    shop.put((2, 2, "b"))
    shop.type("run")
    shop.sql("DROP TABLE lines")
    check = shop.type("check")
    assert check.code == 1 and "Problem: lines: The table of stream lines, which" in check.out
    run = shop.type("run")
    assert run.code == 1 and "`rowtrail stream drop lines` forgets it" in run.out
    status = shop.type("status")
    assert status.code == 1 and "lines is stopped: The table of stream lines" in status.out
    assert "lines:1 is in the warehouse" in shop.type("record", "lines", "1").out
    assert shop.type("init", "--capture", "--yes").code == 0
    refused = shop.type("stream", "drop", "orders", "--yes")
    assert refused.code == 2 and "`exclude_tables` of public.* first" in refused.err
    assert shop.type("stream", "drop", "lines", "--yes").code == 0
    assert shop.type("run").code == 0
    assert shop.type("status").code == 0


def test_new_tables_that_are_only_reported(shop: Place) -> None:
    shop.put((2, 2, "b"))
    shop.write(PATTERN + 'new_tables = "report"\n')
    assert shop.type("run").code == 0
    shop.sql("CREATE TABLE payments (id INTEGER PRIMARY KEY)")
    run = shop.type("run")
    assert run.code == 0
    assert "Table payments is left out: it is new, and public.* only reports" in run.out
    assert "payments" in shop.type("run", "--json").document["new_tables"]
    check = shop.type("check")
    assert check.code == 0 and "Note: shop: table payments is left out: it is new" in check.out
    shop.write(PATTERN + 'new_tables = "report"\n\n[streams."payments"]\n')
    assert "payments" in shop.type("run", "--json").document["streams"]


def test_odd_names_on_the_command_line(shop: Place) -> None:
    shop.sql('CREATE TABLE "my lines" (id INTEGER PRIMARY KEY, note TEXT)')
    shop.sql("INSERT INTO \"my lines\" VALUES (1, 'a')")
    name = stream_name("my lines")
    shop.type("run")
    assert f"{name}:1 is in the warehouse" in shop.type("record", name, "1").out
    unknown = shop.type("record", name, "7")
    assert "The source has no such row either" in unknown.out
    assert shop.type("replay", name, "1").code == 0
    assert shop.type("stream", "pause", name).code == 0


def test_a_source_that_does_not_answer_leaves_the_ledgers_answers(shop: Place) -> None:
    shop.type("run")
    shop.source.rename(shop.source.with_suffix(".away"))
    assert shop.type("status").code == 3
    assert "orders:2" in shop.type("failures").out
    assert "orders:2 is missing" in shop.type("record", "orders", "2").out
    assert shop.type("stream", "pause", "orders").code == 0
    assert shop.type("ignore", "orders", "2", "--reason", "test").code == 0
