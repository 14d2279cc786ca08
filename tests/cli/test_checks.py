"""Checks in the pipeline file: mistakes with their lines, and what a run tells of rows."""

from __future__ import annotations

import os

import pytest

from tests.cli.place import FILE, Place
from tests.duckdb_files import write_into

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


SUITE = '{"name": "orders", "expectations": [%s]}'
NOT_NULL = (
    '{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "note"}, '
    '"severity": "warning"}'
)
MEAN = (
    '{"type": "expect_column_mean_to_be_between", "kwargs": {"column": "amount", '
    '"min_value": 100}, "severity": "info"}'
)


def use_suite(place: Place, text: str) -> None:
    (place.folder / "suites").mkdir(exist_ok=True)
    (place.folder / "suites" / "orders.json").write_text(text)
    place.write(FILE + 'expectations = "suites/orders.json"\n')


def test_a_suite_beside_the_file_is_asked_and_its_warnings_are_told(filled: Place) -> None:
    use_suite(filled, SUITE % f"{NOT_NULL}, {MEAN}")
    assert filled.type("check").code == 0
    answer = filled.type("run")
    assert answer.code == 0
    assert (
        "orders: warning: expectation expect_column_values_to_not_be_null of column note: broken "
        "by 1 row, orders:3\n"
        "orders: warning: expectation expect_column_mean_to_be_between of column amount "
        "(min_value = 100): the rows of a batch have '2.2'\n"
    ) in answer.out
    assert answer.err.count("\n") == len([line for line in answer.err.splitlines() if "Z " in line])


def test_a_check_finds_mistakes_of_a_suite_before_the_night(filled: Place) -> None:
    use_suite(filled, "{}")
    answer = filled.type("check")
    assert answer.code == 2
    assert "line 11, streams.orders.expectations: " in answer.err
    assert "it has no list of `expectations`" in answer.err
    use_suite(filled, SUITE % NOT_NULL.replace("note", "nose"))
    assert "of column nose, which its rows do not have" in filled.type("check").out
    regex = '{"type": "expect_column_values_to_match_regex", "kwargs": {"column": "note", %s}}'
    use_suite(filled, SUITE % (regex % '"regex": "("'))
    answer = filled.type("check")
    assert answer.code == 1
    assert "cannot be asked of its rows: Invalid regular expression" in answer.out
    # What a sample answers says nothing of the night's rows.
    use_suite(filled, SUITE % MEAN.replace("info", "critical"))
    assert filled.type("check").code == 0
    assert filled.type("run").code == 1


def test_a_missing_package_is_told_with_what_to_install(filled: Place) -> None:
    use_suite(filled, SUITE % NOT_NULL)
    (filled.folder / "great_expectations.py").write_text(
        "raise ModuleNotFoundError(name='great_expectations')"
    )
    answer = filled.spawn("check", PYTHONPATH=f"{filled.folder}:{os.environ.get('PYTHONPATH', '')}")
    assert answer.code == 1
    assert "pip install 'rowtrail[expectations]'" in answer.out


def test_expectations_are_lined_up_between_source_and_target(filled: Place) -> None:
    filled.write(FILE)
    assert filled.type("run").code == 0
    use_suite(filled, SUITE % f"{NOT_NULL}, {MEAN.replace('100', '0')}")
    answer = filled.type("check", "--expectations")
    assert answer.code == 0
    assert answer.out.startswith("orders: 5 rows at the source, 5 rows at the target (all of")
    assert answer.out.endswith("Source and target agree, and meet what is asked: 1 stream.\n")
    with write_into(filled.target) as connection:
        connection.execute("UPDATE orders SET note = 'x', amount = 0 WHERE id = 3")
    answer = filled.type("check", "--expectations", "orders")
    assert answer.code == 1
    assert answer.out.endswith("Not as asked: 2 checks with another answer on each side.\n")
    document = filled.type("check", "--expectations", "--rows", "4", "--json").document
    (stream,) = document["streams"]
    assert (document["passes"], stream["source_rows"], stream["whole"]) == (False, 4, False)
    assert stream["checks"][0] == {
        "check": "expectation expect_column_values_to_not_be_null of column note",
        "severity": "warn",
        "source": {"success": False, "unexpected": 1, "observed": None},
        "target": {"success": True, "unexpected": 0, "observed": None},
        "differs": True,
        "fails": False,
    }


def test_streams_and_rows_go_with_expectations(place: Place) -> None:
    for line in (("check", "orders"), ("check", "--rows", "3")):
        answer = place.type(*line)
        assert answer.code == 2
        assert "streams and --rows go with --expectations" in answer.err
    answer = place.type("check", "--expectations")
    assert answer.code == 2
    assert "Nothing is asked of orders" in answer.err
