"""Texts of PostgreSQL as Arrow values: against what a real server and psycopg make of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from time import perf_counter

import numpy as np
import pyarrow as pa
import pytest

from rowtrail.connectors.capture.postgres_text import cast_text
from rowtrail.connectors.postgres_client import PostgresUrl, connect

UTC = pa.timestamp("us", tz="UTC")
NAIVE = pa.timestamp("us")


def texts(url: str, kind: str, values: Sequence[str]) -> pa.Array:
    """What the server writes for these values."""
    with connect(PostgresUrl(url)) as connection:
        found = connection.execute(
            f"SELECT format('%%s', v::{kind}) "
            f"FROM unnest(%s::text[]) WITH ORDINALITY AS t(v, n) ORDER BY n",
            [list(values)],
        )
        return pa.array([text for (text,) in found], type=pa.string())


def known(url: str, kind: str, values: Sequence[str], as_kind: str = "") -> list[object]:
    """What psycopg gives for these values, or for what the server casts them to."""
    with connect(PostgresUrl(url)) as connection:
        found = connection.execute(
            f"SELECT v::{kind}{as_kind} FROM unnest(%s::text[]) WITH ORDINALITY AS t(v, n) "
            f"ORDER BY n",
            [list(values)],
        )
        return [value for (value,) in found]


def cast(values: pa.Array, data_type: pa.DataType, kind: str) -> list[object]:
    """Every value must be held; the result must not depend on the values beside it."""
    array, bad = cast_text(values, data_type, kind)
    assert bad is None
    assert array.type == data_type
    array.validate(full=True)
    for odd in ("", "odd"):  # neither is a value of any of these types
        mixed, bad = cast_text(pa.concat_arrays([values, pa.array([odd])]), data_type, kind)
        assert bad is not None
        assert np.flatnonzero(bad).tolist() == [len(values)]
        same(mixed[:-1].to_pylist(), array.to_pylist())
    for row in range(len(values)):
        single, bad = cast_text(values.slice(row, 1), data_type, kind)
        assert bad is None
        same(single.to_pylist(), array.slice(row, 1).to_pylist())
    result: list[object] = array.to_pylist()
    return result


def same(left: Sequence[object], right: Sequence[object]) -> None:
    """Equal, NaN and the sign of zero included."""
    assert list(map(repr, left)) == list(map(repr, right))


def refused(data_type: pa.DataType, kind: str, *values: str) -> None:
    """Each of these cannot be held; a NULL beside them is none of them."""
    array, bad = cast_text(pa.array([*values, None]), data_type, kind)
    assert bad is not None
    assert bad.tolist() == [True] * len(values) + [False]
    assert array.null_count == len(array)
    for value in values:
        array, bad = cast_text(pa.array([value]), data_type, kind)
        assert bad is not None
        assert bad.tolist() == [True]


def test_booleans(postgres_url: str) -> None:
    values = ["true", "false", "yes", "0"]
    got = cast(texts(postgres_url, "bool", values), pa.bool_(), "bool")
    assert got == known(postgres_url, "bool", values)
    refused(pa.bool_(), "bool", "true", "T", "1", "0", "")


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_integers(postgres_url: str, bits: int) -> None:
    kind, data_type = f"int{bits // 8}", getattr(pa, f"int{bits}")()
    values = ["0", "1", "-1", str(2 ** (bits - 1) - 1), str(-(2 ** (bits - 1)))]
    assert cast(texts(postgres_url, kind, values), data_type, kind) == [int(v) for v in values]
    refused(data_type, kind, str(2 ** (bits - 1)), str(-(2 ** (bits - 1)) - 1), "1.5", "0x1F")
    refused(data_type, kind, "+1", " 1", "1 ", "-", "1e3", "9" * 19 + "9", "9" * 400, "٣")


def test_a_numeric_without_a_fraction_is_an_integer() -> None:
    values = pa.array(["12.00", "-3", "0.0", "-2147483648", "2147483647.00000"])
    expected = [12, -3, 0, -(2**31), 2**31 - 1]
    assert cast(values, pa.int32(), "numeric") == expected
    refused(pa.int32(), "numeric", "2147483648", "-2147483649.0", "0.5", "NaN", "1e2", "9" * 39)
    refused(pa.int64(), "numeric", str(2**63), str(2**128 + 1), "9" * 400)


FLOATS = [
    "0", "-0", "1", "-1.5", "0.1", "NaN", "Infinity", "-Infinity", "1e-45", "1.17549435e-38",
    "3.4028235e38", "1e-37", "16777217", "123456.789", "-1e-40",
]  # fmt: skip


def test_float4(postgres_url: str) -> None:
    written = texts(postgres_url, "float4", FLOATS)
    same(cast(written, pa.float32(), "float4"), known(postgres_url, "float4", FLOATS, "::float8"))
    # The same in a wider column: the value of the float4, not that of its text.
    same(cast(written, pa.float64(), "float4"), known(postgres_url, "float4", FLOATS, "::float8"))


def test_float8(postgres_url: str) -> None:
    values = [*FLOATS, "5e-324", "1.7976931348623157e308", "0.1000000000000000055", "1e22", "1e23"]
    written = texts(postgres_url, "float8", values)
    same(cast(written, pa.float64(), "float8"), known(postgres_url, "float8", values))
    refused(pa.float64(), "float8", "1e400", "inf", "nan", "-nan", "infinity", "", "0x1p3")


def test_a_float_becomes_a_narrower_one_only_where_it_is_one() -> None:
    values = ["0.5", "-0", "NaN", "-Infinity", "16777216"]
    same(cast(pa.array(values), pa.float32(), "float8"), [float(value) for value in values])
    refused(pa.float32(), "float8", "0.1", "16777217", "1e39", "1e-46")


def test_decimals(postgres_url: str) -> None:
    values = ["0", "-0.01", "9999999999.99", "-9999999999.99", "1.5", "12"]
    written = texts(postgres_url, "numeric(12, 2)", values)
    got = cast(written, pa.decimal128(12, 2), "numeric")
    assert got == known(postgres_url, "numeric(12, 2)", values)
    plain = texts(postgres_url, "numeric", ["1.500", "1e2", "0.000000000000000000000000000000000"])
    assert cast(plain, pa.decimal128(5, 2), "numeric") == [Decimal("1.5"), Decimal(100), Decimal(0)]
    refused(pa.decimal128(5, 2), "numeric", "1.234", "1234.5", "NaN", "Infinity", "-Infinity")
    refused(pa.decimal128(5, 2), "numeric", "1e2", "+1.1", " 1", "", "-", ".", "1.2.3")
    refused(pa.decimal128(38, 0), "numeric", "9" * 39, "-" + "9" * 39, str(2**128 + 1), "9" * 400)
    # Arrow's own cast makes other numbers of these, although they have 37 digits, and 39.
    refused(pa.decimal128(38, 10), "numeric", "69999999999999999999999999999.99999999")
    refused(pa.decimal128(38, 20), "numeric", "123456789012345678901.5", "9" * 39)
    whole = pa.array(["9" * 38, "-" + "9" * 38, "9" * 38 + ".000"])
    limit, lowest = Decimal("9" * 38), Decimal("-" + "9" * 38)
    assert cast(whole, pa.decimal128(38, 0), "numeric") == [limit, lowest, limit]
    assert cast(pa.array(["0." + "9" * 38]), pa.decimal128(38, 38), "numeric") == [
        Decimal("0." + "9" * 38)
    ]
    refused(pa.decimal128(38, 38), "numeric", "1." + "9" * 38, "1", "9" * 38)


def test_dates(postgres_url: str) -> None:
    values = ["2024-02-29", "0001-01-01", "9999-12-31", "1969-12-31", "1970-01-01"]
    written = texts(postgres_url, "date", values)
    assert cast(written, pa.date32(), "date") == known(postgres_url, "date", values)
    far = ["10000-01-01", "5874897-12-31", "0001-12-31 BC", "0044-03-15 BC", "4713-01-01 BC"]
    far += ["infinity", "-infinity"]
    refused(pa.date32(), "date", *texts(postgres_url, "date", far).to_pylist())
    refused(pa.date32(), "date", "0000-01-01", "2023-02-29", "20240101")
    refused(pa.date32(), "date", "2024-13-01", "2024-00-01", "2024-01-00", "2024-1-1", "")


def test_times(postgres_url: str) -> None:
    values = ["00:00:00", "23:59:59.999999", "12:34:56.1", "12:34:56.000001", "01:02:03.12345"]
    written = texts(postgres_url, "time", values)
    assert cast(written, pa.time64("us"), "time") == known(postgres_url, "time", values)
    refused(pa.time64("us"), "time", *texts(postgres_url, "time", ["24:00:00"]).to_pylist())
    refused(pa.time64("us"), "time", "12:34", "12:34:60", "12:34:56.1234567", "12:34:56+00", "12")


STAMPS = [
    "2024-01-02 03:04:05", "2024-01-02 03:04:05.1", "2024-01-02 03:04:05.12",
    "2024-01-02 03:04:05.123", "2024-01-02 03:04:05.1234", "2024-01-02 03:04:05.12345",
    "2024-01-02 03:04:05.123456", "1969-12-31 23:59:59.999999", "0001-01-01 00:00:00",
    "9999-12-31 23:59:59.999999", "2000-02-29 12:00:00",
]  # fmt: skip
FAR_STAMPS = [
    "10000-01-01 00:00:00", "294247-01-10 04:00:54.775807", "294276-12-31 23:59:59.999999",
    "0001-12-31 23:59:59 BC", "4714-11-24 00:00:00 BC", "0044-03-15 12:00:00.5 BC",
    "infinity", "-infinity",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "data_type"), [("timestamp", NAIVE), ("timestamptz", UTC)])
def test_timestamps(postgres_url: str, kind: str, data_type: pa.DataType) -> None:
    written = texts(postgres_url, kind, STAMPS)
    assert cast(written, data_type, kind) == known(postgres_url, kind, STAMPS)
    refused(data_type, kind, *texts(postgres_url, kind, FAR_STAMPS).to_pylist())
    zone = "+00" if kind == "timestamptz" else ""
    for odd in ("0000-01-01 00:00:00", "2024-01-02 03:04", "2024-01-02 24:00:00"):
        refused(data_type, kind, odd + zone)
    refused(data_type, kind, "2023-02-29 00:00:00" + zone, "", "2024-01-02")


def test_bytes(postgres_url: str) -> None:
    values = [r"\x", r"\x00", r"\xdeadBEEF", r"\x" + "ab" * 1000, "abc"]
    written = texts(postgres_url, "bytea", values)
    assert cast(written, pa.binary(), "bytea") == known(postgres_url, "bytea", values)
    refused(pa.binary(), "bytea", "abc", r"\xd", r"\xzz", r"\xd d ", r"\\x00")
    with_null = pa.array([r"\x01", None, r"\x0203"]).slice(1)
    array, bad = cast_text(with_null, pa.binary(), "bytea")
    assert bad is None
    assert array.to_pylist() == [None, b"\2\3"]


def test_texts_stay_as_they_are() -> None:
    values = pa.array(["", None, "ä\n", "{1,2}"])
    for kind in ("text", "uuid", "jsonb", "_int4", "interval", "bpchar"):
        array, bad = cast_text(values, pa.string(), kind)
        assert bad is None
        assert array.equals(values)


@pytest.mark.parametrize(
    ("data_type", "kind"),
    [
        (pa.duration("us"), "int4"),
        (pa.timestamp("ns"), "timestamp"),
        (NAIVE, "timestamptz"),
        (UTC, "timestamp"),
        (pa.float64(), "numeric"),
        (pa.int64(), "text"),
        (pa.binary(), "text"),
    ],
)
def test_types_that_do_not_go_together(data_type: pa.DataType, kind: str) -> None:
    with pytest.raises(TypeError, match=f"type {kind} is not cast to"):
        cast_text(pa.array(["1"]), data_type, kind)


@pytest.mark.parametrize(
    ("data_type", "kind", "text"),
    [
        (pa.bool_(), "bool", "t"),
        (pa.int32(), "int4", "7"),
        (pa.float64(), "float8", "1.5"),
        (pa.decimal128(5, 2), "numeric", "1.50"),
        (pa.date32(), "date", "2024-01-02"),
        (pa.time64("us"), "time", "01:02:03"),
        (NAIVE, "timestamp", "2024-01-02 03:04:05"),
        (UTC, "timestamptz", "2024-01-02 03:04:05+00"),
        (pa.binary(), "bytea", r"\x01"),
        (pa.string(), "text", "a"),
    ],
)
def test_nulls_slices_and_large_strings(data_type: pa.DataType, kind: str, text: str) -> None:
    expected = cast_text(pa.array([text]), data_type, kind)[0][0].as_py()
    for string in (pa.string(), pa.large_string()):
        for values in (
            pa.array([], type=string),
            pa.array([None, None], type=string),
            pa.array(["rubbish", text, None, text, "rubbish"], type=string).slice(1, 3),
            pa.array([None, text, "Infinity"], type=string).slice(0, 2),
        ):
            array, bad = cast_text(values, data_type, kind)
            assert bad is None
            assert array.type == data_type
            array.validate(full=True)
            assert array.to_pylist() == [
                None if value is None else expected for value in values.to_pylist()
            ]


def test_one_odd_value_among_many_does_not_make_the_others_slow() -> None:
    rows = 50_000
    values = ["2024-01-02"] * rows
    values[7], values[30_000] = "infinity", "2023-02-30"
    start = perf_counter()
    array, bad = cast_text(pa.array(values), pa.date32(), "date")
    assert perf_counter() - start < 0.5
    assert bad is not None
    assert np.flatnonzero(bad).tolist() == [7, 30_000]
    assert array[10].as_py() == date(2024, 1, 2)
