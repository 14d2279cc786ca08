"""Checks in the pipeline file: mistakes with their lines, and what a run tells of rows."""

from __future__ import annotations

import pytest

from tests.cli.place import FILE, Place

CHECKS = """
[streams.orders.checks]
amount = { min = 0 }
note = [{ not_null = true }, { pattern = "[a-z]+", severity = "warn" }]
"""


@pytest.fixture
def filled(place: Place) -> Place:
    place.put((1, 1, "a"), (2, -2, "b"), (3, 3, None), (4, 4, "D"), (5, 5, "E"))
    return place


def test_a_run_names_who_is_held_back_and_tells_of_the_warnings(filled: Place) -> None:
    filled.write(FILE + CHECKS)
    answer = filled.type("run")
    assert answer.code == 3
    assert answer.out.partition("\n\n")[2].startswith(
        "orders:2 failed at validate: column amount breaks the check min = 0: its value is "
        "'-2.00'\n"
        "orders:3 failed at validate: column note breaks the check not_null = true: it is NULL\n"
        "orders: warning: column note: pattern = '[a-z]+': broken by 2 rows, for example orders:4\n"
        "Complete except 2 records"
    )
    assert "failed=2 warned=2\n" in answer.err
    assert filled.loaded() == {1, 4, 5}


def test_warnings_alone_leave_a_run_complete(filled: Place) -> None:
    filled.write(FILE + '[streams.orders.checks]\nnote = { in = ["a"], severity = "warn" }\n')
    answer = filled.type("run", "--json")
    assert (answer.code, answer.document["state"]) == (0, "complete")
    assert answer.document["streams"]["orders"]["warnings"] == [
        {"check": "column note: in = ['a']", "rows": 3, "record": "orders:2", "observed": None}
    ]


def test_each_mistake_is_told_with_its_line(place: Place) -> None:
    place.write(
        FILE
        + """[streams.orders.checks]
amount = { mim = 0 }
note = [{ not_null = true }, { unique = 3 }]
id = { min = 2, max = 1 }
"""
    )
    answer = place.type("check")
    assert answer.code == 2
    assert answer.err.splitlines()[1:] == [
        "  - line 12, streams.orders.checks.amount.mim: there is no such setting; did you mean "
        "min?",
        "  - line 13, streams.orders.checks.note.unique: should be a valid boolean, unable to "
        "interpret input",
        "  - line 14, streams.orders.checks.id: min = 2 is above max = 1: nothing passes",
    ]


def test_a_check_finds_what_the_columns_have_no_answer_to(filled: Place) -> None:
    filled.write(FILE + "[streams.orders.checks]\namount = { pattern = '1' }\n")
    answer = filled.type("check")
    assert answer.code == 1
    assert "column amount, which is decimal(10,2): a pattern is for text" in answer.out
    filled.write(FILE + "[streams.orders.checks]\namuont = { min = 1 }\n")
    assert "amuont, which its rows do not have" in filled.type("check").out


def test_defaults_hold_where_a_stream_says_nothing_else(filled: Place) -> None:
    defaults = """
[defaults.checks]
seen_at = { not_null = true }
note = { not_null = true }
amount = { min = 0 }
"""
    filled.write(FILE.replace("\n[streams.orders]", defaults + "\n[streams.orders]"))
    assert filled.type("run", "--json").document["streams"]["orders"]["held_back"] == 2
    own = "[streams.orders.checks]\nNOTE = []\n"
    filled.write(FILE.replace("\n[streams.orders]", defaults + "\n[streams.orders]") + own)
    failed = filled.type("run", "--json").document["streams"]["orders"]["failed_records"]
    assert [one["record"] for one in failed] == ["orders:2"]


def test_a_pattern_of_tables_has_checks_where_a_table_has_the_column(filled: Place) -> None:
    filled.sql("CREATE TABLE others (id INTEGER PRIMARY KEY, name TEXT)")
    filled.sql("INSERT INTO others VALUES (1, 'x')")
    text = FILE.replace("[streams.orders]", '[streams."*"]')
    filled.write(text + '\n[streams."*".checks]\namount = { min = 0 }\n')
    streams = filled.type("run", "--json").document["streams"]
    assert streams["others"]["counts"]["loaded"] == 1
    assert [one["record"] for one in streams["orders"]["failed_records"]] == ["orders:2"]
