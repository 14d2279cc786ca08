"""Great Expectations on rows of every type: what it says of a DataFrame holds for the rows."""

from __future__ import annotations

import gc
import logging
import weakref
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from rowtrail.connectors.base import Capture
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.pipelines import expectation_library
from rowtrail.pipelines.checks import Severity
from rowtrail.pipelines.definition import StreamDefinition
from rowtrail.pipelines.expectations import Expected, Found, expected
from rowtrail.pipelines.redaction import NOTHING_REDACTED, Redaction
from rowtrail.pipelines.suites import read_suite
from rowtrail.pipelines.transforms import Transform
from tests.pipelines.suite_files import expectation, write_suite

NAN = float("nan")
BIG = 2**53


def made(folder: Path, schema: TableSchema, *expectations: dict[str, Any]) -> Expected:
    stream = StreamDefinition(
        name="orders",
        table="orders",
        target="orders",
        capture=Capture.SNAPSHOT,
        expectations=(read_suite(write_suite(folder / "s.json", *expectations)),),
    )
    found = expected(stream, schema, schema)
    assert found is not None
    return found


def schema_of(rows: pa.RecordBatch) -> TableSchema:
    columns = tuple(Column(name=one.name, type=one.type) for one in rows.schema)
    return TableSchema(table="orders", columns=columns, key=())


def look(
    folder: Path,
    columns: dict[str, pa.Array],
    *expectations: dict[str, Any],
    redaction: Redaction = NOTHING_REDACTED,
    whole: bool = True,
) -> Found:
    rows = pa.record_batch(columns)
    return made(folder, schema_of(rows), *expectations).look(rows, redaction, whole=whole)


VALUES: dict[str, pa.Array] = {
    "int64": pa.array([1, BIG + 1, None, -5]),
    "int16": pa.array([1, 2, None, -5], pa.int16()),
    "float64": pa.array([1.5, NAN, None, -5.0]),
    "float32": pa.array([1.5, NAN, None, -5.0], pa.float32()),
    "decimal": pa.array(
        [Decimal("0.10"), Decimal("0.25"), None, Decimal("-5")], pa.decimal128(10, 2)
    ),
    "text": pa.array(["a", "bb", None, "x1"]),
    "boolean": pa.array([True, False, None, True]),
    "blob": pa.array([b"a", b"", None, b"x"]),
    "date": pa.array([date(2020, 1, 1), date(2021, 1, 1), None, date(1969, 1, 1)]),
    "time": pa.array([time(1), time(2), None, time(3)], pa.time64("us")),
    "timestamp": pa.array(
        [datetime(2020, 1, 1), datetime(2021, 1, 1), None, datetime(1969, 1, 1)], pa.timestamp("us")
    ),
    "timestamptz": pa.array(
        [datetime(2020, 1, 1), datetime(2021, 1, 1), None, datetime(1969, 1, 1)],
        pa.timestamp("us", tz="UTC"),
    ),
}
BETWEEN: dict[str, tuple[Any, Any, list[int]]] = {
    "int64": (0, BIG, [1, 3]),
    "int16": (0, 1.5, [1, 3]),
    "float64": (0, 9, [1, 3]),
    "float32": (-5, 1.5, [1]),
    "decimal": (0.1, 0.2, [1, 3]),
    "boolean": (1, 1, [1]),
    "date": ("2020-01-01", "2020-12-31", [1, 3]),
    "timestamp": ("2020-01-01", "2020-12-31T23:59:59", [1, 3]),
    "timestamptz": ("2020-01-01T00:00:00Z", "2020-12-31T23:59:59Z", [1, 3]),
}
MEMBERS: dict[str, tuple[list[Any], list[int]]] = {
    "int64": ([1, BIG], [1, 3]),
    "int16": ([1, -5], [1]),
    "float64": ([1.5], [1, 3]),
    "float32": ([1.5, -5], [1]),
    "decimal": ([0.1, 0.25], [3]),
    "text": (["a", "x1"], [1]),
    "boolean": ([True], [1]),
    "date": (["2020-01-01"], [1, 3]),
    "timestamp": (["2020-01-01"], [1, 3]),
    "timestamptz": (["2020-01-01T00:00:00Z"], [1, 3]),
}


def rows_of(found: Found) -> list[int]:
    assert found.batch == ()
    return [row for one in found.rows for row in one.rows.to_pylist()]


@pytest.mark.parametrize("kind", VALUES)
def test_null_is_told_from_values(tmp_path: Path, kind: str) -> None:
    columns = {"value": VALUES[kind]}
    assert rows_of(
        look(tmp_path, columns, expectation("column_values_to_not_be_null", column="value"))
    ) == [2]
    assert rows_of(
        look(tmp_path, columns, expectation("column_values_to_be_null", column="value"))
    ) == [0, 1, 3]


@pytest.mark.parametrize("kind", VALUES)
def test_equal_values_are_found(tmp_path: Path, kind: str) -> None:
    values = pa.concat_arrays([VALUES[kind], VALUES[kind].slice(0, 1)])
    unique = expectation("column_values_to_be_unique", column="value")
    more = [3] if kind == "boolean" else []
    assert rows_of(look(tmp_path, {"value": values}, unique)) == [0, *more, 4]


@pytest.mark.parametrize("kind", BETWEEN)
def test_ranges_are_exact(tmp_path: Path, kind: str) -> None:
    low, high, bad = BETWEEN[kind]
    asked = expectation(
        "column_values_to_be_between", column="value", min_value=low, max_value=high
    )
    assert rows_of(look(tmp_path, {"value": VALUES[kind]}, asked)) == bad


@pytest.mark.parametrize("kind", MEMBERS)
def test_sets_are_exact(tmp_path: Path, kind: str) -> None:
    members, bad = MEMBERS[kind]
    asked = expectation("column_values_to_be_in_set", column="value", value_set=members)
    assert rows_of(look(tmp_path, {"value": VALUES[kind]}, asked)) == bad


def test_texts_are_matched(tmp_path: Path) -> None:
    columns = {"value": VALUES["text"]}
    for asked, bad in (
        (expectation("column_values_to_match_regex", column="value", regex="^[a-z]+$"), [3]),
        (expectation("column_values_to_not_match_regex", column="value", regex="^b"), [1]),
        (expectation("column_value_lengths_to_equal", column="value", value=1), [1, 3]),
        (
            expectation("column_values_to_match_regex_list", column="value", regex_list=["a", "1"]),
            [1],
        ),
    ):
        assert rows_of(look(tmp_path, columns, asked)) == bad


def test_columns_are_compared_with_each_other(tmp_path: Path) -> None:
    columns = {
        "a": pa.array([1, 2, 1, None]),
        "b": pa.array([1, 3, 1, 5]),
        "c": pa.array(["x", "y", "x", "z"]),
    }
    equal = expectation("column_pair_values_to_be_equal", column_A="a", column_B="b")
    together = expectation("compound_columns_to_be_unique", column_list=["a", "c"])
    found = look(tmp_path, columns, equal, together)
    assert [one.rows.to_pylist() for one in found.rows] == [[1, 3], [0, 2]]
    pair, several = found.rows
    assert pair.words + pair.observed(1) == (
        "columns a and b break the expectation expect_column_pair_values_to_be_equal: its values "
        "are '2', '3'"
    )
    assert several.check == "expectation expect_compound_columns_to_be_unique of columns a and c"


COMPARED: dict[str, tuple[list[Any], list[Any], pa.DataType]] = {
    "int64": ([1, 2, None, None, BIG + 1], [1, None, 3, None, BIG], pa.int64()),
    "float64": ([1.5, 2.0, None, None, 3.5], [1.5, None, 3.0, None, 3.0], pa.float64()),
    "decimal": (
        [Decimal("1.1"), Decimal(2), None, None, Decimal("3.3")],
        [Decimal("1.1"), None, Decimal(3), None, Decimal("3.2")],
        pa.decimal128(10, 2),
    ),
    "text": (["1", "2", None, None, "z"], ["1", None, "3", None, "y"], pa.string()),
    "date": (
        [date(2020, 1, 1), date(2020, 1, 1), None, None, date(2020, 1, 2)],
        [date(2020, 1, 1), None, date(2020, 1, 1), None, date(2020, 1, 1)],
        pa.date32(),
    ),
    "timestamp": (
        [datetime(2020, 1, 1), datetime(2020, 1, 1), None, None, datetime(2020, 1, 2)],
        [datetime(2020, 1, 1), None, datetime(2020, 1, 1), None, datetime(2020, 1, 1)],
        pa.timestamp("us"),
    ),
}


@pytest.mark.parametrize("kind", COMPARED)
def test_null_beside_a_value_is_not_what_was_expected(tmp_path: Path, kind: str) -> None:
    one, other, values_type = COMPARED[kind]
    columns = {"a": pa.array(one, values_type), "b": pa.array(other, values_type)}
    both = {"column_A": "a", "column_B": "b"}
    found = look(
        tmp_path,
        columns,
        expectation("column_pair_values_to_be_equal", **both),
        expectation("column_pair_values_a_to_be_greater_than_b", **both),
        expectation(
            "column_pair_values_to_be_equal", **both, ignore_row_if="either_value_is_missing"
        ),
    )
    assert [one.rows.to_pylist() for one in found.rows] == [[1, 2, 4], [0, 1, 2], [4]]


def test_decimals_with_more_digits_than_a_double_stay_decimals(tmp_path: Path) -> None:
    values = pa.array(
        [Decimal("1.00000000000000000001"), Decimal("1"), Decimal("1")], pa.decimal128(38, 20)
    )
    unique = expectation("column_values_to_be_unique", column="value")
    most = expectation("column_values_to_be_between", column="value", max_value=1)
    assert rows_of(look(tmp_path, {"value": values}, unique)) == [1, 2]
    assert rows_of(look(tmp_path, {"value": values}, most)) == [0]
    with pytest.raises(ConfigurationError, match=r"more digits than a double, and 0\.1 would be"):
        look(
            tmp_path,
            {"value": values},
            expectation("column_values_to_be_between", column="value", min_value=0.1),
        )


def test_a_bound_that_would_be_rounded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        look(
            tmp_path,
            {"value": VALUES["int64"]},
            expectation("column_values_to_be_between", column="value", max_value=BIG + 1),
        )
    assert "would take max_value = 9007199254740993 as 9007199254740992" in str(caught.value)


def test_a_message_has_column_expectation_and_value(tmp_path: Path) -> None:
    asked = expectation("column_values_to_be_between", column="value", min_value=0, max_value=9)
    (one,) = look(tmp_path, {"value": VALUES["decimal"]}, asked).rows
    assert one.words + one.observed(3) == (
        "column value breaks the expectation expect_column_values_to_be_between (min_value = 0, "
        "max_value = 9): its value is '-5.00'"
    )
    redaction = Redaction(columns=frozenset({"value"}))
    (one,) = look(tmp_path, {"value": VALUES["decimal"]}, asked, redaction=redaction).rows
    assert one.observed(3) == "its value is ***"


def test_severity_and_mostly(tmp_path: Path) -> None:
    columns = {"value": VALUES["int16"]}
    for severity, mostly, becomes in (
        ("critical", None, Severity.FAIL),
        ("warning", None, Severity.WARN),
        ("info", None, Severity.WARN),
        (None, 0.6, Severity.WARN),  # two of three are enough
        (None, 0.7, Severity.FAIL),
    ):
        kwargs = {"column": "value", "min_value": 0} | ({"mostly": mostly} if mostly else {})
        asked = expectation("column_values_to_be_between", severity, **kwargs)
        (one,) = look(tmp_path, columns, asked).rows
        assert (one.severity, one.rows.to_pylist()) == (becomes, [3])


def test_what_is_about_a_whole_batch_is_asked_of_whole_batches_alone(tmp_path: Path) -> None:
    columns = {"value": VALUES["int16"], "name": VALUES["text"]}
    asked = (
        expectation("column_mean_to_be_between", column="value", min_value=0),
        expectation("table_row_count_to_equal", "warning", value=3),
        expectation("column_values_to_not_be_null", column="value"),
        expectation("column_to_exist", column="nowhere"),
        expectation("column_distinct_values_to_be_in_set", column="name", value_set=["a"]),
        expectation("column_max_to_be_between", column="value", max_value=9),
    )
    found = look(tmp_path, columns, *asked)
    assert [(one.check.split(" (")[0], one.severity, one.observed) for one in found.batch] == [
        (
            "expectation expect_column_mean_to_be_between of column value",
            Severity.FAIL,
            "'-0.6666666666666666'",
        ),
        ("expectation expect_table_row_count_to_equal", Severity.WARN, "'4'"),
        ("expectation expect_column_to_exist of column nowhere", Severity.FAIL, "otherwise"),
        (
            "expectation expect_column_distinct_values_to_be_in_set of column name",
            Severity.FAIL,
            found.batch[3].observed,
        ),
    ]
    assert "bb" in found.batch[3].observed
    chosen = look(tmp_path, columns, *asked, whole=False)
    assert (rows_of(chosen), len(chosen.rows)) == ([2], 1)


def test_what_a_redacted_column_has_as_a_whole_is_not_told(tmp_path: Path) -> None:
    asked = expectation("column_max_to_be_between", column="value", max_value=1)
    redaction = Redaction(columns=frozenset({"value"}))
    (one,) = look(tmp_path, {"value": VALUES["int64"]}, asked, redaction=redaction).batch
    assert one.observed == "***"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            expectation("column_values_to_be_beween", column="value"),
            "has none of this name; did you mean expect_column_values_to_be_between?",
        ),
        (expectation("column_values_to_be_in_set", column="value"), "value_set: field required"),
        (
            expectation("column_values_to_be_null", column="value", mostley=0.5),
            "mostley: extra fields not permitted",
        ),
        (
            expectation("column_values_to_be_between", column="value"),
            "min_value and max_value cannot both be None",
        ),
        (
            expectation("table_row_count_to_equal_other_table", other_table_name="x"),
            "it asks a database by SQL",
        ),
        (
            expectation("column_values_to_match_regex", column="value", regex="("),
            "Invalid regular expression",
        ),
        (
            expectation("column_mean_to_be_between", column="value", min_value=0),
            "does not support operation 'mean'",
        ),
        (
            expectation("column_values_to_not_be_null", column="valeu"),
            "of column valeu, which its rows do not have; they have value. Did you mean value?",
        ),
    ],
)
def test_what_cannot_be_asked_is_a_mistake_of_the_suite(
    tmp_path: Path, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match="Stream orders ") as caught:
        look(tmp_path, {"value": VALUES["text"]}, asked)
    assert words in str(caught.value)
    assert "s.json" in str(caught.value) or "Correct the column's name" in str(caught.value)


def test_an_exception_tells_no_redacted_value(tmp_path: Path) -> None:
    asked = expectation("column_sum_to_be_between", column="value", min_value=0)
    values = pa.array(["secret-word", "secret-word"])
    with pytest.raises(ConfigurationError) as caught:
        look(
            tmp_path,
            {"value": values},
            asked,
            redaction=Redaction(columns=frozenset({"value"})),
        )
    assert "secret" not in str(caught.value)


def test_a_column_that_a_transform_drops_is_told_as_just_that(tmp_path: Path) -> None:
    source = schema_of(pa.record_batch({"id": pa.array([1]), "value": pa.array([1])}))
    step = Transform(name="mine:slim", function=lambda frame: frame, drops=("value",))
    suite = read_suite(
        write_suite(
            tmp_path / "s.json", expectation("column_values_to_not_be_null", column="value")
        )
    )
    stream = StreamDefinition(
        name="orders",
        table="orders",
        target="orders",
        capture=Capture.SNAPSHOT,
        transforms=(step,),
        expectations=(suite,),
    )
    with pytest.raises(ConfigurationError) as caught:
        expected(stream, source, step.output(source))
    assert str(caught.value) == (
        "Stream orders expects `expect_column_values_to_not_be_null` of column value, which "
        "transform mine:slim drops: rows are looked at as they are loaded. Keep the column, or "
        "take the expectation out."
    )


def test_a_column_is_found_in_any_case(tmp_path: Path) -> None:
    asked = expectation("column_values_to_not_be_null", column="VALUE")
    assert rows_of(look(tmp_path, {"value": VALUES["text"]}, asked)) == [2]


def test_no_rows_are_asked_nothing(tmp_path: Path) -> None:
    asked = expectation("table_row_count_to_equal", value=3)
    assert look(tmp_path, {"value": pa.array([], pa.int64())}, asked) == Found()


def test_nothing_is_printed_logged_or_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    values = pa.array([Decimal("1.00000000000000000001")], pa.decimal128(38, 20))
    rows = pa.record_batch({"value": values})
    asked = made(
        tmp_path,
        schema_of(rows),
        expectation("column_max_to_be_between", column="value", max_value=0),
        expectation("column_values_to_be_unique", column="value"),
    )
    with pytest.raises(ConfigurationError):
        made(tmp_path, schema_of(rows), expectation("nothing"))
    kept: list[weakref.ref[pd.DataFrame]] = []

    def of(frame: pd.DataFrame) -> list[expectation_library.Answer]:
        kept.append(weakref.ref(frame))
        return expectation_library.Asked.of(asked.whole[0].asked, frame)

    frame = pa.Table.from_batches([rows]).to_pandas(types_mapper=pd.ArrowDtype)
    assert [one.success for one in of(frame)] == [False, True]
    del frame
    gc.collect()
    assert [one() for one in kept] == [None]
    assert capfd.readouterr() == ("", "")
    assert not [one for one in caplog.records if one.name.startswith("great_expectations")]
