"""The parts of the Snowflake source that need no server: names, types, values, SQL."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import pyarrow as pa
import pytest

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.sources.snowflake_connection import Connection
from rowtrail.connectors.sources.snowflake_names import listed, meanings
from rowtrail.connectors.sources.snowflake_rows import row_beyond
from rowtrail.connectors.sources.snowflake_select import falling, repeated
from rowtrail.connectors.sources.snowflake_table import SourceTable, find_table
from rowtrail.connectors.sources.snowflake_types import DeclaredType, arrow_type
from rowtrail.connectors.sources.snowflake_values import (
    ValueReader,
    as_text,
    cursor_text,
    describe_misfit,
    typed,
    value_reader,
)

UTC = pa.timestamp("us", tz="UTC")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("orders", [("RAW", "ORDERS"), ("RAW", "orders")]),
        ("Orders", [("RAW", "ORDERS"), ("RAW", "Orders")]),
        ('"orders"', [("RAW", "orders"), ("RAW", '"orders"')]),
        ("sales.orders", [("SALES", "ORDERS"), ("sales", "orders"), ("RAW", "sales.orders")]),
        ('sales."Order.Items"', [("SALES", "Order.Items"), ("sales", "Order.Items")]),
        ("order lines", [("RAW", "order lines")]),
        ('Select "It"', [("RAW", 'Select "It"')]),
    ],
)
def test_what_a_name_means(name: str, meant: list[tuple[str, str]]) -> None:
    assert meanings(name, "RAW")[: len(meant)] == meant


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("ORDERS", "orders"),
        ("orders", '"orders"'),
        ("Orders", '"Orders"'),
        ("order lines", "order lines"),
        ("A.B", '"A.B"'),
        ('Select "It"', '"Select ""It"""'),
        ("_X$1", "_x$1"),
    ],
)
def test_a_table_is_listed_by_a_name_that_means_it(stored: str, name: str) -> None:
    assert listed(stored) == name
    assert meanings(name, "RAW")[0] == ("RAW", stored)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("NUMBER(18,0)", pa.int64()),
        ("NUMBER(19,0)", pa.decimal128(19, 0)),
        ("NUMBER(38,0)", pa.decimal128(38, 0)),
        ("NUMBER(12,2)", pa.decimal128(12, 2)),
        ("NUMBER(5, 5)", pa.decimal128(5, 5)),
        ("FLOAT", pa.float64()),
        ("BOOLEAN", pa.bool_()),
        ("VARCHAR(16777216)", pa.string()),
        ("VARCHAR(10) COLLATE 'en-ci'", pa.string()),
        ("BINARY(8388608)", pa.binary()),
        ("DATE", pa.date32()),
        ("TIME(9)", pa.time64("us")),
        ("TIMESTAMP_NTZ(9)", pa.timestamp("us")),
        ("TIMESTAMP_LTZ(3)", UTC),
        ("TIMESTAMP_TZ(9)", UTC),
    ],
)
def test_the_type_that_holds_every_value(declared: str, expected: pa.DataType) -> None:
    assert arrow_type("t", "c", DeclaredType.parse(declared), {}) == expected


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("VARIANT", ['types."c" = "text"', 'types."VARIANT"', "exclude", "JSON"]),
        ("OBJECT", ['types."c" = "text"']),
        ("ARRAY", ['types."c" = "text"']),
        ("GEOGRAPHY", ["exclude", "view", "ST_ASWKT"]),
        ("VECTOR(FLOAT, 3)", ["VECTOR(FLOAT, 3)", "view"]),
        ("MAP(VARCHAR(16777216), NUMBER(38,0))", ["MAP(VARCHAR(16777216), NUMBER(38,0))", "view"]),
    ],
)
def test_what_has_no_type_is_refused_with_the_way_out(declared: str, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        arrow_type("t", "c", DeclaredType.parse(declared), {})
    for word in ["Column t.c", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "types", "expected"),
    [
        ("VARIANT", {"c": "text"}, pa.string()),
        ("ARRAY", {"*": "text"}, pa.string()),
        ("OBJECT", {"object": "text"}, pa.string()),
        ("NUMBER(38,0)", {"NUMBER(38,0)": "int64"}, pa.int64()),
        ("NUMBER(38,0)", {"NUMBER": "int64", "C": "decimal(20,0)"}, pa.decimal128(20, 0)),
        ("NUMBER(38,0)", {"*": "text"}, pa.decimal128(38, 0)),
        ("FLOAT", {"c": "float32"}, pa.float32()),
        ("TIMESTAMP_NTZ(9)", {"c": "text"}, pa.string()),
    ],
)
def test_types_of_the_stream_decide(
    declared: str, types: dict[str, str], expected: pa.DataType
) -> None:
    assert arrow_type("t", "c", DeclaredType.parse(declared), types) == expected


@pytest.mark.parametrize(
    ("declared", "wanted", "words"),
    [
        ("FLOAT", "text", "Take the entry away"),
        ("VARCHAR(9)", "int64", 'types."c" = "text"'),
        ("GEOGRAPHY", "text", "ST_ASWKT"),
        ("DATE", "no such type", "is not a type"),
    ],
)
def test_types_that_would_change_the_meaning(declared: str, wanted: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        arrow_type("t", "c", DeclaredType.parse(declared), {"c": wanted})


@pytest.mark.parametrize(
    ("declared", "collated"),
    [
        ("VARCHAR(10) COLLATE 'en-ci'", True),
        ("VARCHAR(10) COLLATE 'upper'", True),
        ("VARCHAR(10) COLLATE 'utf8'", False),
        ("VARCHAR(10) COLLATE ''", False),
        ("VARCHAR(10)", False),
    ],
)
def test_a_collation_is_taken_away_where_texts_are_compared(declared: str, collated: bool) -> None:
    read = reader(declared)
    assert read.ordered('t."C"') == ("COLLATE(t.\"C\", '')" if collated else 't."C"')
    assert read.select('t."C"') == ['t."C"']
    assert read.declared.text == "VARCHAR(10)"


def reader(declared: str, wanted: pa.DataType | None = None) -> ValueReader:
    kind = DeclaredType.parse(declared)
    natural = kind.natural
    assert wanted is not None or natural is not None
    return value_reader("c", "C", kind, wanted or natural, not_null=False)


@pytest.mark.parametrize(
    ("declared", "selects"),
    [
        ("NUMBER(12,2)", ["c"]),
        ("TIMESTAMP_NTZ(6)", ["c"]),
        ("TIMESTAMP_NTZ(9)", ["c", "MOD(DATE_PART(NANOSECOND, c), 1000)"]),
        ("TIMESTAMP_LTZ(7)", ["c", "MOD(DATE_PART(NANOSECOND, c), 1000)"]),
        ("TIME(9)", ["c", "MOD(DATE_PART(NANOSECOND, c), 1000)"]),
    ],
)
def test_what_is_selected(declared: str, selects: list[str]) -> None:
    assert reader(declared).select("c") == selects


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ("NUMBER(12,2)", "CAST(c AS VARCHAR)"),
        ("BINARY(9)", "TO_VARCHAR(c, 'HEX')"),
        ("DATE", "TO_VARCHAR(c, 'YYYY-MM-DD')"),
        ("TIMESTAMP_NTZ(9)", "TO_VARCHAR(c, 'YYYY-MM-DD HH24:MI:SS.FF9')"),
        ("TIMESTAMP_TZ(9)", "TO_VARCHAR(c, 'YYYY-MM-DD HH24:MI:SS.FF9TZH:TZM')"),
        ("TIME(9)", "TO_VARCHAR(c, 'HH24:MI:SS.FF9')"),
        ("VARIANT", "TO_JSON(c)"),
    ],
)
def test_a_column_as_text_says_all_of_its_value(declared: str, text: str) -> None:
    """Whatever formats the session has; and it is ordered and compared as that text."""
    read = reader(declared, pa.string())
    assert read.select("c") == [text]
    assert (read.ordered("c"), read.bound) == (text, "?")


def test_a_cursor_with_a_zone_is_kept_in_utc() -> None:
    text = cursor_text(DeclaredType.parse("TIMESTAMP_LTZ(9)")).replace("{c}", "c")
    assert text == (
        "TO_VARCHAR(CONVERT_TIMEZONE('UTC', c), 'YYYY-MM-DD HH24:MI:SS.FF9') || '+00:00'"
    )


def test_nanoseconds_are_not_cut_off() -> None:
    read = reader("TIMESTAMP_NTZ(9)")
    arrays = [pa.array([0, 1, None], pa.timestamp("us")), pa.array([0, 500, None], pa.int64())]
    fitted, lost = read.read(arrays)
    assert fitted.is_valid().to_pylist() == [True, False, False]
    assert lost is not None and lost.tolist() == [False, True, False]
    assert read.raw_text(arrays, 1) == "1970-01-01 00:00:00.000001500"
    told = describe_misfit(read, arrays, 1)
    assert "Column c, declared TIMESTAMP_NTZ(9) and read as timestamp" in told
    assert "nanoseconds" in told and 'types."c" = "text"' in told


@pytest.mark.parametrize(
    ("declared", "values", "kept"),
    [
        ("DATE", pa.array([-719_163, -719_162, 2_932_896, 2_932_897], pa.int32()), [1, 2]),
        ("TIMESTAMP_TZ(6)", pa.array([-(10**17), 0, 10**18], pa.int64()), [1]),
    ],
)
def test_years_that_python_does_not_know(declared: str, values: pa.Array, kept: list[int]) -> None:
    read = reader(declared)
    array = values.view(read.type)
    fitted, lost = read.read([array])
    assert lost is not None
    assert [number for number, gone in enumerate(lost) if not gone] == kept
    assert fitted.null_count == len(values) - len(kept)
    assert "the year 1 or after the year 9999" in describe_misfit(read, [array], 0)
    assert read.raw_text([array], 0)


@pytest.mark.parametrize(
    ("declared", "wanted", "values", "kept"),
    [
        ("NUMBER(38,0)", pa.int64(), [2**63 - 1, 2**63, -(2**63), None], [0, 2]),
        ("NUMBER(12,0)", pa.decimal128(5, 0), [99_999, 100_000], [0]),
        ("NUMBER(12,2)", pa.int64(), [Decimal("1.00"), Decimal("1.50")], [0]),
        ("NUMBER(12,2)", pa.decimal128(12, 1), [Decimal("1.50"), Decimal("1.55")], [0]),
        ("FLOAT", pa.float32(), [0.5, 0.1, float("nan"), float("inf")], [0, 2, 3]),
    ],
)
def test_numbers_that_do_not_fit(
    declared: str, wanted: pa.DataType, values: list[object], kept: list[int]
) -> None:
    read = reader(declared, wanted)
    array = pa.array(values, read.selected[0])
    fitted, lost = read.read([array])
    assert fitted.type == wanted
    assert [number for number, valid in enumerate(fitted.is_valid().to_pylist()) if valid] == kept
    assert lost is not None
    assert "does not fit into it exactly" in describe_misfit(read, [array], int(lost.argmax()))


def test_the_connector_s_smallest_types_become_the_one_that_was_asked_for() -> None:
    wanted = pa.decimal128(38, 2)
    pieces = [
        pa.array([1], pa.int8()),
        pa.array([Decimal("2.5")], pa.decimal128(9, 2)),
        pa.nulls(1, pa.null()),
        pa.nulls(0, pa.int64()),
    ]
    assert typed(pieces, wanted).to_pylist() == [Decimal(1), Decimal("2.5"), None]
    assert typed([], wanted).type == wanted
    zoned = pa.array([0], pa.timestamp("us", tz="Etc/UTC"))
    assert typed([zoned], UTC).type == UTC


def test_a_row_beyond_another_is_told_column_by_column() -> None:
    assert row_beyond(["a"], ["?"], None) == ([], [])
    assert row_beyond(["a"], ["?"], ("1",)) == (["a > ?"], ["1"])
    conditions, values = row_beyond(["a", "b", "c"], ["?", "CAST(? AS DATE)", "?"], (1, "2", "3"))
    assert conditions == [
        "a >= ?",
        "(a > ? OR (a = ? AND (b > CAST(? AS DATE) OR (b = CAST(? AS DATE) AND c > ?))))",
    ]
    assert values == ["1", "1", "1", "2", "2", "3"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1E+2"), "100"),
        (b"\x00\xff", "00ff"),
        (True, "true"),
        ("o'clock", "o'clock"),
        (-5, "-5"),
    ],
)
def test_a_value_as_a_text_that_is_bound(value: object, text: str) -> None:
    assert as_text(value) == text


def test_keys_that_come_twice_and_keys_that_fall() -> None:
    def keys(*rows: tuple[str | None, int]) -> pa.RecordBatch:
        schema = pa.schema([("a", pa.string()), ("b", pa.int64())])
        return pa.RecordBatch.from_pylist(
            [dict(zip("ab", row, strict=True)) for row in rows], schema
        )

    assert repeated(keys()) is None and falling(keys()) is None
    assert repeated(keys(("a", 1))) is None and falling(keys(("a", 1))) is None
    rising = keys(("A", 2), ("a", 1), ("a", 3), ("é", 0))
    assert repeated(rising) is None and falling(rising) is None
    assert repeated(keys(("A", 2), ("a", 1), ("a", 1))) == 2
    assert falling(keys(("a", 1), ("B", 1), ("C", 1))) == 1
    assert falling(keys(("a", 2), ("a", 1))) == 1
    nulls = keys((None, 1), (None, 1), ("a", 1))
    assert repeated(nulls) is None and falling(nulls) is None


class Catalogue:
    """Answers DESCRIBE as Snowflake does, where upper and lower case are two names."""

    name = "acme/SHOP/RAW"
    schema = "RAW"

    def __init__(self, **tables: dict[str, str]) -> None:
        self.tables = tables
        self.asked: list[str] = []

    def named(self, sql: str, *, doing: str) -> list[dict[str, Any]] | None:
        self.asked.append(sql)
        table = self.tables.get(sql.removeprefix('DESCRIBE TABLE "RAW".').strip('"'))
        if table is None:
            return None
        return [
            {"name": name, "type": kind, "null?": "N", "primary key": "N"}
            for name, kind in table.items()
        ]

    def records(self, *_: object, **__: object) -> list[tuple[str, str, str]]:
        return [
            (name, "BASE TABLE", column) for name, some in self.tables.items() for column in some
        ]


def found(name: str, **tables: dict[str, str]) -> SourceTable:
    return find_table(cast("Connection", Catalogue(**tables)), name)


def test_a_name_means_the_upper_case_table_and_in_quotes_the_other() -> None:
    both = {"ORDERS": {"D": "DATE"}, "orders": {"A": "DATE"}}
    assert found("orders", **both).place == ("RAW", "ORDERS")
    assert found('"orders"', **both).place == ("RAW", "orders")
    assert found("orders", orders={"A": "DATE"}).place == ("RAW", "orders")


def test_columns_that_differ_in_quotes_alone_are_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        found("items", ITEMS={"ID": "DATE", "id": "DATE", "N": "DATE"})
    for word in ("Table items", '"ID", "id"', "Rename"):
        assert word in str(caught.value)


def test_a_column_by_its_name_in_any_case() -> None:
    table = found("items", ITEMS={"ID": "DATE", "Note": "DATE", "order date": "DATE"})
    assert table.resolved(["id", "Note", "order date"]) == ("id", "Note", "order date")
    assert table.resolved(["ID", "Id"]) == ("id", "id")
    with pytest.raises(ConfigurationError, match=r"no column note\. It has id, Note, order date"):
        table.resolved(["note"])


def test_a_table_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match='schema has orders, "lower"'):
        found("nothing", ORDERS={"A": "DATE"}, lower={"A": "DATE"})
