"""PostgreSQL as a destination: the suite of all destinations; its names, keys and tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, time, timedelta
from decimal import Decimal
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from rowtrail.connectors.base import Deletes
from rowtrail.connectors.destinations import postgres_layout
from rowtrail.connectors.destinations.postgres import PostgresDestination
from rowtrail.connectors.errors import ConfigurationError

from .builders import FENCE, delete, gap_of, load_of, orders, target_of, upsert
from .destination_conformance import DestinationConformance
from .history_conformance import HistoryConformance
from .postgres_warehouse import PostgresWarehouse
from .rules_conformance import RulesConformance


@pytest.fixture
def warehouse(postgres_url: str) -> PostgresWarehouse:
    return PostgresWarehouse(postgres_url)


class TestPostgres(DestinationConformance, RulesConformance):
    pass


class TestPostgresHistory(HistoryConformance):
    pass


# --- names --------------------------------------------------------------------------------------

LONGEST = "é" * 31 + "x"  # 63 bytes


def test_the_longest_names(warehouse: PostgresWarehouse) -> None:
    """The tombstones of such a table are under a name of their own, and are found again."""
    target = target_of({"id": pa.int64(), LONGEST: pa.string()}, table=f"{LONGEST}.{LONGEST}")
    other = replace(orders(table=f"{LONGEST}.{LONGEST[:-1]}y"), stream="lines")
    assert len(warehouse.alter(target)) == 3
    assert warehouse.alter(target) == []
    warehouse.alter(other)
    warehouse.load(target, upsert(1, id=1, **{LONGEST: "a"}), delete(1, id=2))
    assert warehouse.load(target, upsert(1, id=2)) == [True]
    assert warehouse.load(other, upsert(1, id=2)) == [False]
    assert warehouse.table(target.table)[LONGEST].to_pylist() == ["a"]


@pytest.mark.parametrize("table", [LONGEST + "x", f"{LONGEST}x.orders", f"sales.{LONGEST}x"])
def test_a_table_name_that_would_be_cut_off(warehouse: PostgresWarehouse, table: str) -> None:
    with pytest.raises(ConfigurationError, match=r"cut off the name .* after 63 bytes"):
        warehouse.alter(orders(table=table))


@pytest.mark.parametrize(
    ("name", "why"), [(LONGEST + "x", "after 63 bytes"), ("ctid", "a system column's")]
)
def test_column_names_that_postgresql_refuses(
    warehouse: PostgresWarehouse, name: str, why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        warehouse.alter(target_of({"id": pa.int64(), name: pa.string()}))


def test_capitals_are_kept_and_tell_names_apart(warehouse: PostgresWarehouse) -> None:
    types = {"id": pa.int64(), "Note": pa.string(), "note": pa.string()}
    target = target_of(types, table="Orders")
    warehouse.alter(target)
    warehouse.alter(replace(orders(), stream="lines"))
    warehouse.load(target, upsert(1, id=1, Note="upper", note="lower"))
    assert warehouse.rows("Orders")[1]["Note"] == "upper"
    assert warehouse.rows("orders") == {}


def test_the_search_path_decides_nothing(warehouse: PostgresWarehouse) -> None:
    warehouse.alter(orders())
    warehouse.load(orders(), upsert(1, id=1, note="a"))
    warehouse.run("CREATE SCHEMA elsewhere")
    url = f"{warehouse.url}&options=-csearch_path%3Delsewhere"
    destination = PostgresDestination(url, FENCE)
    try:
        assert destination.alter(orders()) == []
        assert destination.write(load_of(orders(), upsert(2, id=1, note="b"))).to_pylist() == [
            False
        ]
        assert destination.keys(orders(), None, None, 9).num_rows == 1
    finally:
        destination.close()
    assert warehouse.notes() == {1: "b"}
    assert warehouse.query("SELECT FROM pg_tables WHERE schemaname = 'elsewhere'") == []


# --- keys ---------------------------------------------------------------------------------------


@pytest.fixture
def english(warehouse: PostgresWarehouse) -> Iterator[PostgresWarehouse]:
    """A database that puts `a` before `B`, and `é` between `e` and `f`."""
    if not warehouse.query("SELECT FROM pg_collation WHERE collprovider = 'i' LIMIT 1"):
        pytest.skip("this PostgreSQL was built without ICU")
    ((name,),) = warehouse.query("SELECT current_database() || '_english'")
    warehouse.run(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'")
    try:
        yield PostgresWarehouse(urlsplit(warehouse.url)._replace(path=f"/{name}").geturl())
    finally:
        warehouse.run(f"DROP DATABASE {name} WITH (FORCE)")


def test_keys_are_in_binary_order_whatever_the_database_prefers(
    english: PostgresWarehouse,
) -> None:
    texts = ["Z", "a", "B", "é", "e", "f", "", " ", "ß", "😀"]
    assert english.query("SELECT 'a' < 'B'") == [(True,)]
    target = target_of({"a": pa.string(), "b": pa.string()}, key=("a", "b"))
    destination = english.open()
    try:
        destination.alter(target)
        for at, part in enumerate((texts[:5], texts[5:], texts)):
            rows = [upsert(at + 1, a=text, b=text) for text in part]
            assert not any(destination.write(load_of(target, *rows)).to_pylist())
        ordered = sorted(texts, key=str.encode)
        for text in texts:
            found = destination.keys(target, (text, text), None, 9)["a"].to_pylist()
            assert found == ordered[ordered.index(text) + 1 :]
    finally:
        destination.close()


# --- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE VIEW orders AS SELECT * FROM elsewhere",
        "CREATE MATERIALIZED VIEW orders AS SELECT * FROM elsewhere",
        "CREATE INDEX orders ON elsewhere (note)",
        "CREATE SEQUENCE orders",
    ],
)
def test_what_is_no_table_is_refused(warehouse: PostgresWarehouse, sql: str) -> None:
    """Even where all of Rowtrail's columns are there."""
    warehouse.alter(orders(table="elsewhere"))
    warehouse.run(sql)
    with pytest.raises(ConfigurationError, match="not made by Rowtrail"):
        warehouse.alter(orders())


def test_a_table_that_is_gone_is_said_to_be(warehouse: PostgresWarehouse) -> None:
    warehouse.alter(orders())
    warehouse.run("DROP TABLE orders")
    with pytest.raises(ConfigurationError, match=r"Table orders .* is gone"):
        warehouse.load(orders(), upsert(1, id=1, note="a"))
    assert len(warehouse.alter(orders())) == 1


def test_tombstones_of_another_key_do_not_stay(warehouse: PostgresWarehouse) -> None:
    """The table was dropped, and the stream made it again with another key or a wider one."""
    warehouse.alter(target_of({"id": pa.int32(), "note": pa.string()}))
    warehouse.load(target_of({"id": pa.int32(), "note": pa.string()}), delete(9, id=1))
    for target in (orders(), target_of({"note": pa.string(), "id": pa.int64()}, key=("note",))):
        warehouse.run("DROP TABLE orders")
        assert len(warehouse.alter(target)) == 3
        row = upsert(1, id=1, note="a")
        assert warehouse.load(target, row) == [False]
        assert warehouse.load(target, row) == [True]


@pytest.mark.parametrize("write", [False, True])
def test_a_lost_primary_key_is_asked_for(warehouse: PostgresWarehouse, write: bool) -> None:
    warehouse.alter(orders())
    warehouse.run("ALTER TABLE orders DROP CONSTRAINT orders_pkey")
    with pytest.raises(ConfigurationError, match="lost its primary key") as caught:
        warehouse.load(orders(), upsert(1, id=1)) if write else warehouse.alter(orders())
    remedy = str(caught.value).partition("Put it back: ")[2]
    warehouse.run(remedy)
    assert warehouse.alter(orders()) == []


def test_a_key_of_another_kind_is_made_so_by_what_the_message_says(
    warehouse: PostgresWarehouse,
) -> None:
    narrow = target_of({"id": pa.int32(), "note": pa.string()})
    wide = target_of({"id": pa.decimal128(20, 0), "note": pa.string()})
    warehouse.alter(narrow)
    warehouse.load(narrow, upsert(1, id=1, note="a"), delete(1, id=2))
    with pytest.raises(ConfigurationError, match="run on the target: ALTER TABLE") as caught:
        warehouse.alter(wide)
    remedy = str(caught.value).partition("run on the target: ")[2].partition(" Otherwise")[0]
    warehouse.run(remedy)
    assert warehouse.alter(wide) == []
    assert warehouse.load(wide, upsert(2, id=10**15), upsert(1, id=2)) == [False, True]


def test_the_rows_of_a_large_table_are_estimated(
    warehouse: PostgresWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = orders(Deletes.SOFT)
    warehouse.alter(target)
    warehouse.load(target, *(upsert(1, id=i) for i in range(2_000)))
    warehouse.load(target, *(delete(2, id=i) for i in range(500)))
    reader = warehouse.open(None)
    try:
        assert reader.describe("orders").live_rows == 1_500  # type: ignore[union-attr]
        monkeypatch.setattr(postgres_layout, "COUNTED", 100)
        warehouse.run("VACUUM ANALYZE orders")
        assert 1_400 < reader.describe("orders").live_rows < 1_600  # type: ignore[union-attr]
    finally:
        reader.close()


def test_a_table_of_others_can_be_described(warehouse: PostgresWarehouse) -> None:
    warehouse.run(
        "CREATE TABLE orders (id bigint PRIMARY KEY, at interval, n numeric, m numeric(5))"
    )
    warehouse.run("INSERT INTO orders VALUES (1, '1 day', 1.5, 3)")
    reader = warehouse.open(None)
    there = reader.describe("orders")
    assert reader.receipts() == []
    reader.close()
    assert there is not None
    types = {column.name: (column.type, column.declared) for column in there.schema.columns}
    assert types == {
        "id": (pa.int64(), "bigint"),
        "at": (pa.string(), "interval"),
        "n": (pa.string(), "numeric"),
        "m": (pa.decimal128(5, 0), "numeric(5,0)"),
    }
    assert (there.schema.key, there.live_rows) == ((), 1)


def test_tables_of_a_newer_rowtrail_are_refused(warehouse: PostgresWarehouse) -> None:
    warehouse.open().close()
    warehouse.run("UPDATE _rowtrail_owner SET format = 99")
    with pytest.raises(ConfigurationError, match="pip install --upgrade rowtrail"):
        warehouse.open()


def test_a_stream_goes_on_under_another_name(warehouse: PostgresWarehouse) -> None:
    warehouse.alter(orders())
    warehouse.write(load_of(orders(), upsert(1, id=1), gaps_opened=[gap_of("orders:2")]))
    destination = warehouse.open()
    try:
        for _ in range(2):
            destination.rename_stream("orders", "orders", "sales", {"orders:2": "sales:2"})
        assert [receipt.stream for receipt in destination.receipts()] == ["sales"]
        assert destination.alter(replace(orders(), stream="sales")) == []
        there = destination.describe("orders")
    finally:
        destination.close()
    assert there is not None
    assert there.gaps == (gap_of("sales:2"),)


def test_rows_of_columns_that_others_gave_another_type(warehouse: PostgresWarehouse) -> None:
    """They are shown as the server writes them, under the types that `describe` gives."""
    kinds = {"a": "jsonb", "b": "inet", "c": "interval", "d": "varchar(20)", "e": "numeric"}
    values = {"a": '{"x": 1}', "b": "10.0.0.0/8", "c": "P1D", "d": "text", "e": "1.50"}
    target = target_of({"id": pa.int64()} | dict.fromkeys(kinds, pa.string()))
    warehouse.alter(target)
    warehouse.load(target, upsert(1, id=1, **values), upsert(1, id=2))
    for name, kind in kinds.items():
        warehouse.run(f"ALTER TABLE orders ALTER COLUMN {name} TYPE {kind} USING {name}::{kind}")
    destination = warehouse.open(None)
    try:
        found = destination.rows(target, pa.record_batch({"id": pa.array([2, 1], pa.int64())}))
        there = destination.describe("orders")
    finally:
        destination.close()
    assert there is not None
    assert found.rows.to_pylist() == [{"id": 2} | dict.fromkeys(kinds), {"id": 1} | values]
    assert found.rows.schema.types == there.schema.arrow().types


# --- widening -------------------------------------------------------------------------------------

MIDNIGHT = datetime(2024, 1, 31)


@pytest.mark.parametrize(
    ("given", "wanted", "values"),
    [
        ("varchar(5)", pa.string(), ["short", "much longer than that"]),
        ("timestamp(0)", pa.timestamp("us"), [MIDNIGHT, MIDNIGHT + timedelta(microseconds=4)]),
        ("time(3)", pa.time64("us"), [time(10, 0, 0, 123_000), time(10, 0, 0, 123_456)]),
        ("numeric(4,1)", pa.decimal128(6, 2), [Decimal("1.5"), Decimal("1234.56")]),
    ],
)
def test_a_column_that_somebody_made_shorter(
    warehouse: PostgresWarehouse, given: str, wanted: pa.DataType, values: list[object]
) -> None:
    target = target_of({"id": pa.int64(), "n": wanted})
    warehouse.alter(target)
    warehouse.run(f"ALTER TABLE orders ALTER COLUMN n TYPE {given}")
    warehouse.load(target, upsert(1, id=1, n=values[0]))
    assert len(warehouse.alter(target)) == 1
    warehouse.load(target, upsert(2, id=2, n=values[1]))
    rows = warehouse.rows()
    assert [rows[1]["n"], rows[2]["n"]] == values


def test_blanks_at_the_end_are_not_taken_away(warehouse: PostgresWarehouse) -> None:
    target = orders()
    warehouse.alter(target)
    warehouse.run("ALTER TABLE orders ALTER COLUMN note TYPE char(5)")
    with pytest.raises(ConfigurationError, match=r"Column note of table orders is character\(5\)"):
        warehouse.alter(target)


def test_a_text_key_that_somebody_made_shorter_is_in_binary_order_again(
    warehouse: PostgresWarehouse,
) -> None:
    target = target_of({"id": pa.string(), "note": pa.string()})
    warehouse.alter(target)
    warehouse.run("ALTER TABLE orders ALTER COLUMN id TYPE varchar(5)")
    assert len(warehouse.alter(target)) == 1
    names = ["b", "a", "B", "á", "a longer name"]
    warehouse.load(target, *(upsert(1, id=name, note="") for name in names))
    assert [key[0] for key in warehouse.keys(target)] == sorted(names)
    assert warehouse.alter(target) == []


def test_all_columns_are_widened_in_one_rewrite(warehouse: PostgresWarehouse) -> None:
    warehouse.alter(target_of({"id": pa.int32(), "a": pa.int16(), "b": pa.float32()}))
    (statement, tombstones) = warehouse.alter(
        target_of({"id": pa.int64(), "a": pa.int64(), "b": pa.float64()})
    )
    assert statement.count("ALTER COLUMN") == 3 and tombstones.count("ALTER COLUMN") == 1
