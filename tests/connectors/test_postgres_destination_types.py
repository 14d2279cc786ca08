"""What types PostgreSQL has for values, and that each value arrives as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowtrail.connectors.destinations.postgres_copy import copy_bytes
from rowtrail.connectors.destinations.postgres_types import TYPES, postgres_type, takes
from rowtrail.connectors.errors import ConfigurationError, RecordError
from tests.postgres_server import GivenServer, PostgresServer

from .builders import load_of, orders, target_of, upsert
from .postgres_warehouse import PostgresWarehouse


@pytest.fixture
def warehouse(postgres_url: str) -> PostgresWarehouse:
    return PostgresWarehouse(postgres_url)


@pytest.mark.parametrize(
    ("arrow", "name"), [*TYPES, (pa.decimal128(38, 5), "numeric(38,5)")], ids=str
)
def test_the_tables_of_types_are_true(
    warehouse: PostgresWarehouse, arrow: pa.DataType, name: str
) -> None:
    """PostgreSQL itself calls each type as the table does."""
    warehouse.run(f"CREATE TABLE t (a {name})")
    found = warehouse.query("SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
                            "WHERE attrelid = 't'::regclass AND attnum = 1")  # fmt: skip
    assert found == [(name,)]
    assert takes(name, name)
    assert postgres_type(arrow) == name


@pytest.mark.parametrize("kind", [pa.timestamp("ns"), pa.timestamp("ns", "UTC"), pa.time64("ns")])
def test_nanoseconds_are_refused_by_name(warehouse: PostgresWarehouse, kind: pa.DataType) -> None:
    with pytest.raises(ConfigurationError, match="Column at of table orders"):
        warehouse.alter(target_of({"id": pa.int64(), "at": kind}))


FIRST_DAY = -2_440_588  # 4714-11-24 BC
FIRST_SECOND = FIRST_DAY * 86_400


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (pa.date32(), [FIRST_DAY, 2_145_042_905], [FIRST_DAY - 1, 2_145_042_906, 2**31 - 1]),
        (pa.timestamp("us"), [FIRST_SECOND * 10**6, 2**63 - 1], [-(2**63)]),
        (pa.timestamp("us", "UTC"), [FIRST_SECOND * 10**6], [FIRST_SECOND * 10**6 - 1]),
        (pa.timestamp("ms"), [FIRST_SECOND * 10**3], [2**62, -(2**62)]),
        (pa.timestamp("s"), [FIRST_SECOND], [2**62, -(2**62), 2**44]),
        (pa.time64("us"), [0, 86_399_999_999], [-1, 86_400_000_001]),
    ],
    ids=str,
)
def test_times_at_the_ends_of_their_range(
    warehouse: PostgresWarehouse, kind: pa.DataType, good: list[int], bad: list[int]
) -> None:
    target = target_of({"id": pa.int64(), "at": kind})
    width = pa.int32() if kind == pa.date32() else pa.int64()
    warehouse.alter(target)

    def write(version: int, *numbers: int) -> None:
        load = load_of(target, *(upsert(version, id=i, at=None) for i in range(len(numbers))))
        column = pa.array(numbers, width).view(kind)
        rows = pa.RecordBatch.from_arrays([load.rows["id"], column], schema=load.rows.schema)
        warehouse.write(replace(load, rows=rows))

    write(1, *good)
    each = {"s": 10**6, "ms": 10**3, "us": 1}.get(getattr(kind, "unit", ""), 86_400 * 10**6)
    assert sorted(microseconds(warehouse, kind)) == sorted(number * each for number in good)
    for number in bad:
        with pytest.raises(RecordError, match="Column at of table orders") as caught:
            write(2, good[0], number)
        assert caught.value.column == "at"


def microseconds(warehouse: PostgresWarehouse, kind: pa.DataType) -> list[int]:
    """Since 1970, told by the server in days, seconds and microseconds: one number it rounds."""
    if pa.types.is_date(kind):
        days = warehouse.query("SELECT at - date '1970-01-01' FROM orders")
        return [day * 86_400 * 10**6 for (day,) in days]
    moment = "date '1970-01-01' + at" if pa.types.is_time(kind) else "at"
    parts = warehouse.query(
        "SELECT to_char(at, 'J')::int, to_char(at, 'SSSS')::int, to_char(at, 'US')::int "
        f"FROM (SELECT {moment} AS at FROM orders) AS moments"
    )
    return [((day + FIRST_DAY) * 86_400 + second) * 10**6 + rest for day, second, rest in parts]


def test_text_that_is_no_text_is_the_records_fault(warehouse: PostgresWarehouse) -> None:
    warehouse.alter(orders())
    load = load_of(orders(), upsert(1, id=1, note="ab"))
    offsets = pa.py_buffer(b"\0\0\0\0\2\0\0\0")
    broken = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"\xff\xfe"))
    rows = pa.RecordBatch.from_arrays([load.rows["id"], broken], schema=load.rows.schema)
    with pytest.raises(RecordError, match="invalid byte sequence") as caught:
        warehouse.write(replace(load, rows=rows))
    assert caught.value.column == "note"
    assert warehouse.rows() == {}


# --- the bytes of COPY ----------------------------------------------------------------------------


def exact(number: int, scale: int) -> Decimal:
    """Without the rounding of Python's decimal context."""
    return Decimal((number < 0, tuple(map(int, str(abs(number)))), -scale))


@st.composite
def decimals(draw: st.DrawFn) -> tuple[pa.DataType, list[Decimal | None]]:
    """Some values of some decimal type: digits anywhere, at either end of the range, and NULL."""
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    largest = 10**precision - 1
    numbers = st.integers(-largest, largest) | st.sampled_from([0, 1, -1, largest, -largest])
    powers = st.integers(0, precision - 1).map(lambda power: 10**power)
    values = draw(st.lists(st.none() | numbers | powers, min_size=1, max_size=20))
    kind = draw(st.sampled_from([pa.decimal128, pa.decimal256]))(precision, scale)
    return kind, [None if value is None else exact(value, scale) for value in values]


@pytest.fixture(scope="module")
def server(postgres_server: PostgresServer | GivenServer) -> Iterator[psycopg.Connection]:
    with postgres_server.database() as url, psycopg.connect(url, autocommit=True) as connection:
        yield connection


def through_the_server(server: psycopg.Connection, values: pa.Array) -> list[str | None]:
    """What PostgreSQL reads out of the bytes, as it writes it."""
    kind = postgres_type(values.type)
    server.execute("DROP TABLE IF EXISTS t")
    server.execute(f"CREATE TABLE t (n integer, v {kind})")
    rows = pa.RecordBatch.from_arrays(
        [pa.array(range(len(values)), pa.int32()), values], ["n", "v"]
    )
    with server.cursor() as cursor, cursor.copy("COPY t FROM STDIN (FORMAT BINARY)") as copy:
        for portion in copy_bytes(rows):
            copy.write(portion)
    return [text for (text,) in server.execute("SELECT v::text FROM t ORDER BY n")]


@settings(max_examples=150, deadline=None, database=None)
@given(case=decimals())
def test_decimals(
    server: psycopg.Connection, case: tuple[pa.DataType, list[Decimal | None]]
) -> None:
    kind, values = case
    found = through_the_server(server, pa.array(values, kind))
    assert found == [None if value is None else f"{value:f}" for value in values]


VALUES = {
    pa.string(): st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    pa.int8(): st.integers(-(2**7), 2**7 - 1),
    pa.uint16(): st.integers(0, 2**16 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.bool_(): st.booleans(),
    pa.float64(): st.floats(allow_nan=False),
    pa.date32(): st.dates(),
}
LIKE_TEXT = [pa.large_string(), pa.string_view()]


@settings(max_examples=60, deadline=None, database=None)
@given(data=st.data())
def test_columns_of_all_widths_with_null(server: psycopg.Connection, data: st.DataObject) -> None:
    """In slices, as a batch is taken apart; the offsets of Arrow arrays are easily forgotten."""
    kind = data.draw(st.sampled_from(list(VALUES)))
    values = data.draw(st.lists(st.none() | VALUES[kind], min_size=1, max_size=40))
    start = data.draw(st.integers(0, len(values) - 1))
    array = pa.array(values, kind)
    if kind == pa.string():
        array = array.cast(data.draw(st.sampled_from([kind, *LIKE_TEXT])))
    found = through_the_server(server, array.slice(start))
    read = {
        pa.float64(): float,
        pa.bool_(): lambda text: text == "true",
        pa.string(): str,
        pa.date32(): date.fromisoformat,
    }.get(kind, int)
    assert [None if text is None else read(text) for text in found] == values[start:]


def test_blobs_of_one_width_and_of_any(server: psycopg.Connection) -> None:
    values = [b"\0\xff", None, b"ab"]
    for kind in (pa.binary(2), pa.binary(), pa.large_binary()):
        assert through_the_server(server, pa.array(values, kind)) == ["\\x00ff", None, "\\x6162"]


def test_a_batch_of_many_portions(server: psycopg.Connection) -> None:
    values = pa.array([f"{i:>1500}" if i % 7 else None for i in range(20_000)])
    assert through_the_server(server, values) == values.to_pylist()
