"""Record ids: canonical bytes keep apart what is apart, texts read back."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowtrail.checkpoints.record_id import KeyValue, RecordId, from_arrow, parse_key

offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
values: st.SearchStrategy[KeyValue] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(st.characters(codec=None), max_size=12),
    st.text("0123456789.-+e,:\"' \\truefalsn", max_size=6),
    st.binary(max_size=8),
    st.decimals(allow_nan=False),
    st.floats(),
    st.dates(),
    st.datetimes(),
    st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=offsets),
    st.times(),
    st.uuids(),
)
keys = st.lists(values, min_size=1, max_size=3).map(tuple)
streams = st.one_of(st.sampled_from(["orders", "public.orders"]), st.text(max_size=6))


def same(one: KeyValue, other: KeyValue) -> bool:
    """Whether two values are one key: written without the code under test."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and one != one:
        return other != other
    if isinstance(one, datetime) and isinstance(other, datetime):
        return (one.tzinfo is None) == (other.tzinfo is None) and one == other
    return one == other


@settings(deadline=None)
@given(st.tuples(streams, keys), st.tuples(streams, keys))
def test_canonical_bytes_are_equal_only_for_equal_ids(
    one: tuple[str, tuple[KeyValue, ...]], other: tuple[str, tuple[KeyValue, ...]]
) -> None:
    equal = one[0] == other[0] and len(one[1]) == len(other[1]) and all(map(same, one[1], other[1]))
    first, second = RecordId(*one), RecordId(*other)
    assert (first.canonical() == second.canonical()) == equal
    assert (first == second) == equal
    assert (str(first) == str(second)) == equal


@settings(deadline=None)
@given(values, values)
def test_canonical_bytes_of_one_value_are_equal_only_for_equal_values(
    one: KeyValue, other: KeyValue
) -> None:
    equal = RecordId("s", (one,)).canonical() == RecordId("s", (other,)).canonical()
    assert equal == same(one, other)


@settings(deadline=None)
@given(streams, keys)
def test_text_reads_back(stream: str, key: tuple[KeyValue, ...]) -> None:
    record = RecordId(stream, key)
    again = RecordId.parse(str(record))
    assert again == record
    assert again.stream == stream
    assert [type(value) for value in again.key] == [type(value) for value in key]
    assert str(again) == str(record)
    assert "\n" not in str(record)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ((42,), "orders:42"),
        ((42, 3), "orders:42,3"),
        (("42",), 'orders:"42"'),
        (("a b",), 'orders:"a b"'),
        (("a,b", 1), 'orders:"a,b",1'),
        (("true", True), 'orders:"true",true'),
        ((None,), "orders:null"),
        (("größe",), "orders:größe"),
        (("zero\u200bwidth",), 'orders:"zero\\u200bwidth"'),
        ((" padded ",), 'orders:" padded "'),
        ((Decimal("1.50"),), "orders:decimal'1.5'"),
        ((Decimal("1E+3"),), "orders:decimal'1000'"),
        ((b"\x00\xff",), "orders:x'00ff'"),
        ((date(2024, 1, 31),), "orders:date'2024-01-31'"),
        ((datetime(2024, 1, 31, 12),), "orders:timestamp'2024-01-31 12:00:00'"),
        ((datetime(2024, 1, 31, 12, tzinfo=UTC),), "orders:timestamp'2024-01-31 12:00:00+00:00'"),
        ((time(1, 2, 3),), "orders:time'01:02:03'"),
        ((2.5,), "orders:float'2.5'"),
        ((UUID(int=1),), "orders:uuid'00000000-0000-0000-0000-000000000001'"),
        (
            ("00000000-0000-0000-0000-000000000001",),
            "orders:00000000-0000-0000-0000-000000000001",
        ),
    ],
)
def test_text(key: tuple[KeyValue, ...], text: str) -> None:
    assert str(RecordId("orders", key)) == text
    assert RecordId.parse(text) == RecordId("orders", key)


def test_values_of_different_types_are_different_keys() -> None:
    alike: list[KeyValue] = [1, True, 1.0, Decimal(1), "1", b"1", date(1, 1, 1), None, "", b""]
    records = {RecordId("s", (value,)) for value in alike}
    assert len(records) == len(alike)
    assert RecordId("s", ("a", "b")) != RecordId("s", ("ab",))
    assert RecordId("s", ("é",)) != RecordId("s", ("e\u0301",))  # not normalised
    assert RecordId("s", ("a ",)) != RecordId("s", ("a",))  # not trimmed


def test_values_that_databases_call_equal_are_one_key() -> None:
    assert RecordId("s", (Decimal("1.50"),)) == RecordId("s", (Decimal("1.5"),))
    assert RecordId("s", (0.0,)) == RecordId("s", (-0.0,))
    east = datetime(2024, 1, 31, 14, tzinfo=timezone(timedelta(hours=2)))
    assert RecordId("s", (east,)) == RecordId("s", (datetime(2024, 1, 31, 12, tzinfo=UTC),))
    assert RecordId("s", (datetime(2024, 1, 31, 12),)) != RecordId(
        "s", (datetime(2024, 1, 31, 12, tzinfo=UTC),)
    )


def test_a_long_decimal_keeps_all_its_digits() -> None:
    value = Decimal("12345678901234567890123456789012345678.5")
    assert RecordId.parse(str(RecordId("s", (value,)))).key == (value,)


_PRINT = """
from datetime import *; from decimal import Decimal; from uuid import UUID
from rowtrail.checkpoints.record_id import RecordId
key = (1, "é", Decimal("1.50"), 2.5, True, None, b"x", date(2024, 1, 31), UUID(int=7),
       datetime(2024, 1, 31, tzinfo=UTC), time(1, 2))
print(RecordId("orders", key).canonical().hex())
"""


def test_canonical_bytes_are_the_same_in_every_process() -> None:
    def in_process(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", _PRINT], env=environment, check=True, capture_output=True
        ).stdout.decode()

    assert in_process("1") == in_process("2")


def test_canonical_bytes_never_change() -> None:
    """Ledgers hold them: another form would lose the trail of every failed record."""
    key: tuple[KeyValue, ...] = (42, "a", Decimal("-1.50"), None, True)
    assert RecordId("s", key).canonical().hex() == (
        "530000000173"  # the stream
        "69000000012a"
        "740000000161"
        "64000000062d3135652d31"  # -15e-1
        "6e00000000"
        "620000000101"
    )


@pytest.mark.parametrize(
    "text", ["orders", "", ":1", "orders:", 'orders:"a', 'orders:"a"b', "orders:1.5", "orders:007"]
)
def test_what_is_no_record_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|does not end|goes on after"):
        RecordId.parse(text)


def test_a_number_that_is_no_integer_names_both_ways_to_write_it() -> None:
    with pytest.raises(ValueError, match=r"decimal'1\.5' for a number or \"1\.5\" for text"):
        RecordId.parse("orders:1.5")


@pytest.mark.parametrize("text", ["date'2024-13-01'", "x'0'", "decimal'one'", "uuid'1'"])
def test_a_literal_that_is_not_valid_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a valid"):
        RecordId.parse(f"orders:{text}")


def test_keys_without_values_or_of_unknown_types_are_refused() -> None:
    with pytest.raises(ValueError, match="stream orders needs at least one key value"):
        RecordId("orders", ())
    with pytest.raises(TypeError, match="stream orders holds a list"):
        RecordId("orders", ([1],))  # type: ignore[arg-type]


def test_from_arrow_keeps_types_and_order() -> None:
    keys = pa.RecordBatch.from_pydict(
        {"id": pa.array([1, 2]), "line": pa.array(["a", None]), "at": pa.array([0, 1_000])},
        pa.schema([("id", pa.int64()), ("line", pa.string()), ("at", pa.timestamp("ns"))]),
    )
    assert from_arrow("s", keys) == [
        RecordId("s", (1, "a", datetime(1970, 1, 1))),
        RecordId("s", (2, None, datetime(1970, 1, 1, 0, 0, 0, 1))),
    ]


def test_nanoseconds_that_python_cannot_hold_are_refused() -> None:
    keys = pa.RecordBatch.from_arrays([pa.array([1], pa.timestamp("ns"))], names=["at"])
    with pytest.raises(ValueError, match="lose data"):
        from_arrow("s", keys)


@pytest.mark.parametrize(
    ("text", "types", "key"),
    [
        ("42", [pa.string()], ("42",)),
        ("42", [pa.int64()], (42,)),
        ("-5", [pa.int8()], (-5,)),
        ("18446744073709551615", [pa.uint64()], (2**64 - 1,)),
        ("a,b", [pa.string()], ("a,b",)),
        ('"a,b"', [pa.large_string()], ("a,b",)),
        ("null", [pa.string()], ("null",)),
        ("null", [pa.int64()], (None,)),
        ("42,3", [pa.int64(), pa.int32()], (42, 3)),
        ('7,"a,b"', [pa.int64(), pa.string()], (7, "a,b")),
        ("O'Brien,D'Arcy", [pa.string(), pa.string()], ("O'Brien", "D'Arcy")),
        ("true", [pa.bool_()], (True,)),
        ("0", [pa.bool_()], (False,)),
        ("1.50", [pa.decimal128(9, 2)], (Decimal("1.5"),)),
        ("decimal'1.50'", [pa.decimal128(9, 2)], (Decimal("1.5"),)),
        ("2.5", [pa.float64()], (2.5,)),
        ("2024-01-31", [pa.date32()], (date(2024, 1, 31),)),
        ("2024-01-31 12:00", [pa.timestamp("us")], (datetime(2024, 1, 31, 12),)),
        (
            "2024-01-31 12:00",
            [pa.timestamp("us", tz="UTC")],
            (datetime(2024, 1, 31, 12, tzinfo=UTC),),
        ),
        ("01:02", [pa.time64("us")], (time(1, 2),)),
        ("00ff", [pa.binary()], (b"\x00\xff",)),
        ("0x00ff", [pa.binary()], (b"\x00\xff",)),
        ("x'00ff'", [pa.binary(2)], (b"\x00\xff",)),
        ("00000000000000000000000000000001", [pa.uuid()], (UUID(int=1),)),
    ],
)
def test_what_a_person_types(
    text: str, types: list[pa.DataType], key: tuple[KeyValue, ...]
) -> None:
    parsed = parse_key(text, types)
    assert RecordId("s", parsed) == RecordId("s", key)


@pytest.mark.parametrize(
    ("text", "types", "message"),
    [
        ("x", [pa.int64()], "'x' is not a value of the key's type int64"),
        ("4_2", [pa.int64()], "'4_2' is not a value of the key's type int64"),
        ("128", [pa.int8()], "'128' is not a value of the key's type int8"),
        ("-1", [pa.uint8()], "'-1' is not a value of the key's type uint8"),
        ("maybe", [pa.bool_()], "'maybe' is not a value of the key's type bool"),
        ("date'2024-01-31'", [pa.int64()], "is not a value of the key's type int64"),
        ("1,2", [pa.int64()], "'1,2' is not a value of the key's type int64"),
        ("1", [pa.int64(), pa.int64()], "has 1 parts but the key has 2: int64, int64"),
        ("1.5.2", [pa.decimal128(9, 2)], r"'1.5.2' is not a value of the key's type decimal128"),
        ("2024-01-31T00:00Z", [pa.timestamp("us")], "is not a value of the key's type timestamp"),
        ("[1]", [pa.list_(pa.int64())], "cannot be typed at the command line"),
    ],
)
def test_what_does_not_fit_the_key_is_refused(
    text: str, types: list[pa.DataType], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parse_key(text, types)
