"""The verdict on a single column, without any database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pytest

from rowtrail.connectors.base import TargetTable
from rowtrail.connectors.registry import capabilities_of
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.pipelines.schema_verdicts import ColumnVerdict, column_verdicts

DUCKDB, POSTGRES = "duckdb:///w.duckdb", "postgresql://host/w"


def key_of(url: str) -> Column:
    declared = capabilities_of(url).type_of(pa.int64())
    return Column(name="id", type=pa.int64(), nullable=False, declared=declared or "")


def table(url: str, *columns: Column) -> TableSchema:
    return TableSchema(table="t", columns=(key_of(url), *columns), key=("id",))


def verdicts(
    url: str, source: Sequence[Column], target: Sequence[Column], rows: int = 1
) -> tuple[ColumnVerdict, ...]:
    """On all columns but the key."""
    wanted = table(url, *source)
    there = TargetTable(schema=table(url, *target), live_rows=rows)
    key, *others = column_verdicts(wanted, wanted, there, capabilities_of(url))
    assert (key.name, key.verdict) == ("id", "same")
    return tuple(others)


def one(url: str, source: Column | None, target: Column | None, rows: int = 1) -> ColumnVerdict:
    (found,) = verdicts(url, [source] if source else [], [target] if target else [], rows)
    return found


def at_source(kind: pa.DataType, declared: str = "x", **more: bool) -> Column:
    return Column(name="c", type=kind, declared=declared, **more)


def at_target(declared: str, **more: bool) -> Column:
    return Column(name="c", type=pa.string(), declared=declared, **more)


@pytest.mark.parametrize(
    ("url", "kind", "declared", "verdict"),
    [
        (DUCKDB, pa.int32(), "INTEGER", "same"),
        (DUCKDB, pa.int32(), "BIGINT", "widened"),
        (DUCKDB, pa.int32(), "DECIMAL(12,2)", "widened"),
        (DUCKDB, pa.int32(), "DOUBLE", "widened"),
        (DUCKDB, pa.int64(), "DOUBLE", "lossy"),
        (DUCKDB, pa.int32(), "UINTEGER", "lossy"),
        (DUCKDB, pa.int64(), "INTEGER", "narrow"),
        (DUCKDB, pa.int64(), "UINTEGER", "narrow"),
        (DUCKDB, pa.float64(), "FLOAT", "narrow"),
        (DUCKDB, pa.float64(), "INTEGER", "lossy"),
        (DUCKDB, pa.decimal128(10, 2), "SMALLINT", "narrow"),
        (DUCKDB, pa.string(), "BLOB", "lossy"),
        (DUCKDB, pa.decimal128(10, 2), "DECIMAL(10,3)", "lossy"),
        (DUCKDB, pa.decimal128(10, 2), "DECIMAL(11,3)", "widened"),
        (DUCKDB, pa.timestamp("us"), "TIMESTAMP_NS", "lossy"),
        (POSTGRES, pa.int32(), "integer", "same"),
        (POSTGRES, pa.int16(), "bigint", "widened"),
        (POSTGRES, pa.string(), "character varying", "compatible"),
        (POSTGRES, pa.string(), "character varying(20)", "narrow"),
        (POSTGRES, pa.string(), "character(20)", "lossy"),
        (POSTGRES, pa.int64(), "integer", "narrow"),
        (POSTGRES, pa.int64(), "real", "lossy"),
        (POSTGRES, pa.decimal128(10, 2), "numeric", "widened"),
        (POSTGRES, pa.timestamp("ns"), "timestamp without time zone", "lossy"),
    ],
    ids=str,
)
def test_types(url: str, kind: pa.DataType, declared: str, verdict: str) -> None:
    found = one(url, at_source(kind), at_target(declared))
    assert (found.verdict, found.loses) == (verdict, verdict == "lossy")
    assert bool(found.why) is (verdict in ("lossy", "narrow"))


def test_a_key_of_integers_does_not_become_one_of_decimals() -> None:
    decimals = Column(name="id", type=pa.decimal128(12, 0), declared="x")
    wanted = TableSchema(table="t", columns=(decimals,), key=("id",))
    integers = Column(name="id", type=pa.int32(), declared="INTEGER")
    there = TargetTable(schema=replace(wanted, columns=(integers,)), live_rows=1)
    (found,) = column_verdicts(wanted, wanted, there, capabilities_of(DUCKDB))
    assert (found.verdict, found.loses) == ("lossy", True)


def test_a_column_that_may_not_be_null() -> None:
    refusing = at_target("INTEGER", nullable=False)
    assert one(DUCKDB, at_source(pa.int32()), refusing).verdict == "lossy"
    assert one(DUCKDB, at_source(pa.int32(), nullable=False), refusing).verdict == "same"
    extra = one(DUCKDB, None, refusing)
    assert (extra.verdict, extra.loses) == ("extra", True)
    assert "every new row would be refused" in extra.why
    filled = one(DUCKDB, None, at_target("INTEGER", nullable=False, default=True))
    assert not filled.loses and "new rows get its default" in filled.why


def test_a_missing_column_is_lost_only_where_there_are_rows() -> None:
    assert one(DUCKDB, at_source(pa.int32()), None, rows=5).loses
    assert not one(DUCKDB, at_source(pa.int32()), None, rows=0).loses


def test_a_type_that_the_target_lacks() -> None:
    found = one(POSTGRES, at_source(pa.timestamp("ns")), None)
    assert (found.verdict, found.target, found.loses) == ("lossy", None, True)
    assert "choose one under `types`" in found.why


def test_names_are_compared_as_the_database_does() -> None:
    upper = Column(name="C", type=pa.int32(), declared="INTEGER")
    assert one(DUCKDB, at_source(pa.int32()), upper).verdict == "same"
    found = verdicts(POSTGRES, [at_source(pa.int32())], [upper])
    assert [(one.name, one.verdict) for one in found] == [("c", "missing"), ("C", "extra")]


@pytest.mark.parametrize(
    ("declared", "length", "precision", "scale"),
    [
        ("VARCHAR(254)", 254, None, None),
        ("character varying(20)", 20, None, None),
        ("bit varying(3)", 3, None, None),
        ("NUMERIC( 10 , 2 )", None, 10, 2),
        ("decimal(5)", None, 5, None),
        ("timestamp(3) with time zone", None, 3, None),
        ("text", None, None, None),
        ("INTEGER(11)", None, None, None),
    ],
)
def test_sizes(declared: str, length: int | None, precision: int | None, scale: int | None) -> None:
    side = one(DUCKDB, at_source(pa.string(), declared), at_target("VARCHAR")).source
    assert side is not None
    assert (side.length, side.precision, side.scale) == (length, precision, scale)


def test_columns_that_changed_places() -> None:
    def columns(order: str) -> list[Column]:
        return [Column(name=name, type=pa.int32(), declared="INTEGER") for name in order]

    found = verdicts(DUCKDB, columns("abcde"), columns("bcdae"))
    assert [one.verdict for one in found] == ["order", "same", "same", "same", "same"]
    assert [one.name for one in found] == list("abcde")
