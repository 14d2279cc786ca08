"""Light checks: each against a model that looks at one row after the other, per type of Arrow."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowtrail.connectors.base import Capture
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.pipelines.checking import bind
from rowtrail.pipelines.checks import Severity, checks_of
from rowtrail.pipelines.definition import PatternDefinition, StreamDefinition
from rowtrail.pipelines.redaction import NOTHING_REDACTED, Redaction
from rowtrail.pipelines.transforms import Transform
from rowtrail.pipelines.validation import Validation

NAN = float("nan")
MOMENTS = [datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime(1970, 1, 1), datetime(2026, 5, 4)]
VALUES: list[tuple[pa.DataType, list[Any]]] = [
    (pa.bool_(), [True, False]),
    (pa.int16(), [-(2**15), -1, 0, 1, 2**15 - 1]),
    (pa.int32(), [-(2**31), -1, 0, 7, 2**31 - 1]),
    (pa.int64(), [-(2**63), -1, 0, 2**53, 2**53 + 1, 2**63 - 1]),
    (pa.float32(), [0.5, -0.0, 0.0, 1.0, NAN, math.inf, float(np.float32(0.1))]),
    (pa.float64(), [0.5, -0.0, 0.0, 0.1, NAN, -math.inf, float(2**53)]),
    (
        pa.decimal128(10, 2),
        [Decimal("0.00"), Decimal("0.01"), Decimal("-0.01"), Decimal("99999999.99")],
    ),
    (
        pa.decimal128(38, 0),
        [Decimal(10**38 - 1), Decimal(0), Decimal(-(10**38) + 1), Decimal(2**53 + 1)],
    ),
    (pa.string(), ["", "a", "A", "é", "ab\n", "10", "9", "😀"]),
    (pa.binary(), [b"", b"a", b"\x00\xff"]),
    (pa.date32(), [date(1, 1, 1), date(1969, 12, 31), date(1970, 1, 1), date(9999, 12, 31)]),
    (pa.time64("us"), [time(0), time(12, 30), time(23, 59, 59, 999_999)]),
    (pa.timestamp("us"), MOMENTS),
    (pa.timestamp("us", tz="UTC"), [one.replace(tzinfo=UTC) for one in MOMENTS]),
]
IDS = [str(one) for one, _ in VALUES]
PLUS_TWO = timezone(timedelta(hours=2))
BOUNDS: dict[str, list[Any]] = {
    "int16": [0, -1, 0.5, 2**15, -(10**30), 1e300],
    "int32": [0, 7, 6.5, 2**40],
    "int64": [0, 2**53, 2**53 + 1, 2**63, -(2**63), Decimal("0.5")],
    "float": [0, 0.5, 1, math.inf],
    "double": [0, 0.1, 2**53, -math.inf],
    "decimal128(10, 2)": [0, 0.01, "0.005", Decimal("-0.015"), 10**12],
    "decimal128(38, 0)": [0, 2**53 + 1, "0.5", 10**40, -(10**40)],
    "string": ["", "a", "b", "é"],
    "date32[day]": [date(1970, 1, 1), "1969-12-31"],
    "time64[us]": [time(12, 30), "23:59"],
    "timestamp[us]": [datetime(1970, 1, 1), "1969-12-31T23:59:59.999999", date(2026, 5, 4)],
    "timestamp[us, tz=UTC]": [
        datetime(1970, 1, 1, 2, tzinfo=PLUS_TWO),
        "2026-05-04T00:00:00Z",
    ],
}
READERS: dict[str, Callable[[Any], Any]] = {
    "date32[day]": lambda one: date.fromisoformat(one) if isinstance(one, str) else one,
    "time64[us]": lambda one: time.fromisoformat(one) if isinstance(one, str) else one,
    "timestamp[us]": lambda one: (
        datetime.fromisoformat(one)
        if isinstance(one, str)
        else one
        if isinstance(one, datetime)
        else datetime(one.year, one.month, one.day)
    ),
    "timestamp[us, tz=UTC]": lambda one: (
        datetime.fromisoformat(one) if isinstance(one, str) else one
    ),
    "string": lambda one: one,
    "float": lambda one: float(np.float32(one)),
    "double": float,
}


def stream(checks: dict[str, Any], **settings: Any) -> StreamDefinition:
    parsed = tuple(one for column, table in checks.items() for one in checks_of(column, table))
    return StreamDefinition(
        name="orders",
        table="orders",
        target="orders",
        capture=Capture.SNAPSHOT,
        checks=parsed,
        **settings,
    )


def schema(values_type: pa.DataType, name: str = "value") -> TableSchema:
    columns = (Column(name="id", type=pa.int64()), Column(name=name, type=values_type))
    return TableSchema(table="orders", columns=columns, key=("id",))


def validation(table: Any, values_type: pa.DataType, **settings: Any) -> Validation:
    shape = schema(values_type)
    return Validation(checks=bind(stream({"value": table}, **settings), shape, shape))


def broken(table: Any, values_type: pa.DataType, values: list[Any]) -> set[int]:
    """The rows that break the check."""
    column = pa.array(values, values_type)
    rows = pa.record_batch({"id": pa.array(range(len(values)), pa.int64()), "value": column})
    found = validation(table, values_type).light(rows, NOTHING_REDACTED)
    return {row for one in found for row in one.rows.to_pylist()}


def same(one: Any, other: Any) -> bool:
    return bool(one == other) or (one != one and other != other)


def rows_of(values_type: pa.DataType) -> st.SearchStrategy[list[Any]]:
    values = dict(zip(IDS, (found for _, found in VALUES), strict=True))[str(values_type)]
    return st.lists(st.none() | st.sampled_from(values), max_size=12)


@pytest.mark.parametrize("values_type", [one for one, _ in VALUES], ids=IDS)
@given(st.data())
def test_null_and_repeated_values_are_found(values_type: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(rows_of(values_type))
    assert broken({"not_null": True}, values_type, values) == {
        row for row, one in enumerate(values) if one is None
    }
    assert broken({"unique": True}, values_type, values) == {
        row
        for row, one in enumerate(values)
        if one is not None and sum(other is not None and same(one, other) for other in values) > 1
    }


@pytest.mark.parametrize("name", BOUNDS)
@given(st.data())
def test_values_outside_a_range_are_found(name: str, data: st.DataObject) -> None:
    values_type = dict(zip(IDS, (one for one, _ in VALUES), strict=True))[name]
    values = data.draw(rows_of(values_type))
    bound = data.draw(st.sampled_from(BOUNDS[name]))
    written = READERS.get(name, lambda one: Decimal(str(one)))(bound)

    def rows(is_outside: Callable[[Any], bool]) -> set[int]:
        return {
            row
            for row, one in enumerate(values)
            if one is not None and (one != one or is_outside(one))
        }

    assert broken({"min": bound}, values_type, values) == rows(lambda one: one < written)
    assert broken({"max": bound}, values_type, values) == rows(lambda one: one > written)


@pytest.mark.parametrize(
    "values_type",
    [one for one, _ in VALUES if one != pa.binary()],
    ids=[one for one in IDS if one != "binary"],
)
@given(st.data())
def test_values_that_are_not_in_a_set_are_found(
    values_type: pa.DataType, data: st.DataObject
) -> None:
    values = data.draw(rows_of(values_type))
    known = dict(zip(IDS, (found for _, found in VALUES), strict=True))[str(values_type)]
    members = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
    assert broken({"in": members}, values_type, values) == {
        row
        for row, one in enumerate(values)
        if one is not None and not any(same(one, member) for member in members)
    }


@pytest.mark.parametrize(
    ("pattern", "bad"),
    [
        ("[a-z]+", {"", "A", "é", "ab\n", "10", "9", "😀", "a b"}),
        (".", {"", "ab\n", "10", "a b"}),  # a character, whatever its bytes
        ("a|b|10", {"", "A", "é", "ab\n", "9", "😀", "a b"}),
        ("(?i)A", {"", "é", "ab\n", "10", "9", "😀", "a b"}),
        ("ab", {"", "a", "A", "é", "ab\n", "10", "9", "😀", "a b"}),  # `$` alone takes the newline
        (r"\S*", {"ab\n", "a b"}),
    ],
)
def test_a_pattern_is_that_of_the_whole_value(pattern: str, bad: set[str]) -> None:
    values = ["", "a", "A", "é", "ab\n", "10", "9", "😀", "a b", None]
    assert {values[row] for row in broken({"pattern": pattern}, pa.string(), values)} == bad
    assert all(re.fullmatch(pattern, one) is None for one in bad)


def test_a_value_that_is_written_with_decimals_is_the_one_that_is_meant() -> None:
    assert broken({"min": 0.1, "max": 0.1}, pa.float32(), [0.1]) == set()
    assert broken({"in": [0.1]}, pa.float32(), [0.1]) == set()
    assert broken({"in": [0.1]}, pa.decimal128(10, 2), [Decimal("0.10")]) == set()


@pytest.mark.parametrize(
    ("values_type", "table", "words"),
    [
        (pa.int64(), {"min": "abc"}, "`min = 'abc'` of column value, which is int64: 'abc' is not"),
        (pa.int64(), {"min": "5"}, "'5' is not a whole number"),
        (pa.int64(), {"in": [1, True]}, "True is not a whole number"),
        (pa.int64(), {"in": [0.5]}, "no value of the column can be 0.5"),
        (pa.int16(), {"in": [2**15]}, "no value of the column can be 32768"),
        (pa.decimal128(4, 1), {"in": ["0.05"]}, "no value of the column can be 0.05"),
        (pa.decimal128(4, 1), {"in": [10_000]}, "no value of the column can be 10000"),
        (pa.float64(), {"max": "1"}, "'1' is not a number"),
        (pa.float64(), {"max": NAN}, "nothing is above or below NaN"),
        (pa.string(), {"max": 1}, "1 is not text"),
        (pa.string(), {"in": ["a", 1]}, "1 is not text"),
        (pa.bool_(), {"min": 0}, "no order"),
        (pa.bool_(), {"in": ["yes"]}, "true and false alone"),
        (pa.binary(), {"min": "a"}, "no order"),
        (pa.binary(), {"in": ["a"]}, "cannot be written"),
        (pa.date32(), {"min": datetime(2026, 1, 1)}, "is not a date"),
        (pa.date32(), {"min": "1.2.2026"}, "'1.2.2026' is not a date"),
        (pa.time64("us"), {"min": "noon"}, "'noon' is not a time"),
        (pa.timestamp("us"), {"min": "2026-01-01T00:00:00Z"}, "is not a timestamp without zone"),
        (pa.timestamp("us", tz="UTC"), {"min": "2026-01-01T00:00:00"}, "with its zone, such as"),
        (pa.timestamp("us", tz="UTC"), {"min": date(2026, 1, 1)}, "with its zone, such as"),
        (pa.int64(), {"pattern": "1"}, "a pattern is for text"),
        (pa.string(), {"pattern": "a("}, "no regular expression as RE2 has them"),
        (pa.string(), {"pattern": "a)(b"}, "no regular expression as RE2 has them"),
        (pa.string(), {"pattern": "(?<=a)b"}, "no regular expression as RE2 has them"),
        (pa.list_(pa.int64()), {"unique": True}, "cannot be told apart"),
    ],
)
def test_what_a_type_has_no_answer_to_is_told(
    values_type: pa.DataType, table: Any, words: str
) -> None:
    with pytest.raises(ConfigurationError, match="Stream orders cannot check") as caught:
        validation(table, values_type)
    assert words in str(caught.value)
    assert str(caught.value).endswith("Correct it under `checks`.")


@pytest.mark.parametrize(
    ("given_checks", "words"),
    [
        ({"mim": 0}, "has mim, which is no check; there are not_null, unique, min"),
        ({}, "asks nothing"),
        ({"severity": "warn"}, "asks nothing"),
        ({"min": 0, "severity": "stop"}, "severity = 'stop' should be fail or warn"),
        ({"not_null": 1}, "not_null should be true or false"),
        ({"min": True}, "min should be a number"),
        ({"max": [1]}, "max cannot be [1]"),
        ({"pattern": 1}, "pattern should be text"),
        ({"in": "abc"}, "in should be a list"),
        ({"in": []}, "in has no values: nothing passes"),
        ({"in": [None]}, "in cannot be None"),
        ({"min": 2, "max": 1}, "min = 2 is above max = 1: nothing passes"),
        ("not_null", "should be a table"),
        (["not_null"], "should be a table"),
    ],
)
def test_what_is_no_check_is_told(given_checks: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        checks_of("value", given_checks)


def test_what_is_switched_off_is_not_asked() -> None:
    assert checks_of("value", {"not_null": False}) == ()
    assert checks_of("value", []) == ()


def test_a_column_is_found_in_any_case_and_is_told_as_the_table_spells_it() -> None:
    shape = schema(pa.int64(), "Value")
    (bound,) = bind(stream({"value": {"min": 0}}), shape, shape)
    assert bound.check.column == "Value"


def test_a_missing_column_is_told_with_the_ones_that_are_there() -> None:
    shape = schema(pa.int64())
    with pytest.raises(ConfigurationError) as caught:
        bind(stream({"valeu": {"min": 0}}), shape, shape)
    assert str(caught.value) == (
        "Stream orders checks `min = 0` of column valeu, which its rows do not have; they have id, "
        "value. Did you mean value? Correct the column's name, or take the check out."
    )


def test_a_column_that_a_transform_drops_is_told_as_just_that() -> None:
    step = Transform(name="mine:slim", function=lambda frame: frame, drops=("value",))
    source = schema(pa.int64())
    with pytest.raises(ConfigurationError, match="value, which transform mine:slim drops"):
        bind(stream({"value": {"min": 0}}, transforms=(step,)), source, step.output(source))


def test_a_column_that_the_contract_leaves_out_is_told_as_just_that() -> None:
    target = TableSchema(table="orders", columns=schema(pa.int64()).columns[:1], key=("id",))
    with pytest.raises(ConfigurationError, match="value, which the stream's contract leaves out"):
        bind(stream({"value": {"min": 0}}), schema(pa.int64()), target)


def test_where_many_tables_are_meant_a_column_that_one_lacks_is_no_mistake() -> None:
    pattern = PatternDefinition(template=stream({"value": {"min": 0}, "note": {"not_null": True}}))
    shape = schema(pa.int64())
    (bound,) = bind(pattern.template, shape, shape)
    assert bound.check.column == "value"


def told(table: Any, value: Any, values_type: pa.DataType, **settings: Any) -> str:
    rows = pa.record_batch({"id": [1, 2], "value": pa.array([value, value], values_type)})
    redaction = Redaction(**settings)
    (one,) = validation(table, values_type).light(rows, redaction)
    return one.words + one.observed(0)


def test_a_message_has_column_check_and_value() -> None:
    start = "column value breaks the check "
    assert told({"min": 0}, -5, pa.int64()) == f"{start}min = 0: its value is '-5'"
    assert told({"max": 0}, NAN, pa.float64()) == f"{start}max = 0: its value is 'nan'"
    assert told({"in": ["a", "b"]}, "x'", pa.string()) == (
        f"{start}in = ['a', 'b']: its value is \"x'\""
    )
    assert told({"in": list("abcdefg")}, "x", pa.string()) == (
        f"{start}in = ['a', 'b', 'c', 'd', 'e', …]: its value is 'x'"
    )
    assert told({"not_null": True}, None, pa.int64()) == f"{start}not_null = true: it is NULL"
    assert told({"unique": True}, b"\xff", pa.binary()) == (
        f"{start}unique = true: other rows of the batch have the value 'ff' too"
    )
    assert told({"pattern": "b"}, "a" * 200, pa.string()) == (
        f"{start}pattern = 'b': its value is '{'a' * 100}…'"
    )


def test_a_redacted_value_is_not_told() -> None:
    words = told({"min": 0}, -4711, pa.int64(), columns=frozenset({"value"}))
    assert words == "column value breaks the check min = 0: its value is ***"


def test_severity_belongs_to_all_checks_of_its_table() -> None:
    found = checks_of("value", [{"min": 0, "max": 9, "severity": "warn"}, {"not_null": True}])
    assert [one.severity for one in found] == [Severity.WARN, Severity.WARN, Severity.FAIL]
