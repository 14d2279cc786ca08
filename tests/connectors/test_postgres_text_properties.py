"""Casts of any text: never another value, and the same whatever stands beside it."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from rowtrail.connectors.capture.postgres_text import cast_text
from rowtrail.connectors.capture.postgres_text_casts import read_decimal

NAIVE, UTC = pa.timestamp("us"), pa.timestamp("us", tz="UTC")
USUAL: list[tuple[pa.DataType, str, list[str]]] = [
    (pa.bool_(), "bool", ["t", "f"]),
    (pa.int16(), "int2", ["32767", "-1"]),
    (pa.int64(), "int8", ["-9223372036854775808", "12"]),
    (pa.int32(), "numeric", ["12.00", "2147483647"]),
    (pa.float64(), "float8", ["1.5", "-1e-320", "NaN", "-Infinity", "1e+22", "1.7976931348e+308"]),
    (pa.float32(), "float4", ["1.5", "1e-45", "Infinity", "3.4028235e+38"]),
    (pa.float64(), "float4", ["0.1", "1e-45"]),
    (pa.float32(), "float8", ["0.5", "0.1"]),
    (pa.decimal128(12, 2), "numeric", ["1234567890.12", "-0.01", "12"]),
    (pa.date32(), "date", ["2024-02-29", "0001-01-01", "9999-12-31", "0044-03-15 BC"]),
    (pa.time64("us"), "time", ["12:34:56", "23:59:59.123456", "24:00:00"]),
    (NAIVE, "timestamp", ["2024-01-02 03:04:05", "9999-12-31 23:59:59.999999"]),
    (UTC, "timestamptz", ["2024-01-02 03:04:05+00", "2024-01-02 03:04:05.123456+00"]),
    (pa.binary(), "bytea", [r"\x00ff", r"\x"]),
]
numbers = st.from_regex(r"-?[0-9]{1,45}(\.[0-9]{0,45})?", fullmatch=True)


@st.composite
def near(draw: st.DrawFn) -> tuple[pa.DataType, str, list[str]]:
    """Texts of a type, some with a few characters changed, left out or put in."""
    data_type, kind, usual = draw(st.sampled_from(USUAL))
    texts = []
    for _ in range(draw(st.integers(1, 5))):
        text = draw(st.sampled_from(usual))
        for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
            place = draw(st.integers(0, len(text)))
            cut = draw(st.integers(0, 1))
            new = draw(st.sampled_from([*"0123456789-+:. TZeEnaifxBC", ""]))
            text = text[:place] + new + text[place + cut :]
        texts.append(text)
    return data_type, kind, texts


@settings(deadline=None, max_examples=150)
@given(near())
def test_a_value_does_not_depend_on_those_beside_it(
    case: tuple[pa.DataType, str, list[str]],
) -> None:
    data_type, kind, texts = case
    together, bad = cast_text(pa.array([*texts, None]), data_type, kind)
    for row, text in enumerate(texts):
        alone, alone_bad = cast_text(pa.array([text]), data_type, kind)
        assert repr(alone[0]) == repr(together[row])
        assert (bad is not None and bool(bad[row])) == (alone_bad is not None)
        assert alone[0].is_valid == (alone_bad is None)
    assert not together[-1].is_valid


@settings(deadline=None, max_examples=150)
@given(st.lists(numbers, min_size=1, max_size=5), st.integers(1, 38), st.data())
def test_a_decimal_is_the_number_or_is_not_held(
    texts: list[str], precision: int, data: st.DataObject
) -> None:
    scale = data.draw(st.integers(0, precision))
    array, bad = cast_text(pa.array(texts), pa.decimal128(precision, scale), "numeric")
    for row, text in enumerate(texts):
        value = array[row].as_py()
        assert value == read_decimal(precision, scale, text)
        fits = abs(Decimal(text)) < Decimal(10) ** (precision - scale)
        assert (bad is not None and bool(bad[row])) == (value is None)
        if value is not None:
            assert value == Decimal(text)
        elif fits:  # then it has digits past the scale
            assert text.partition(".")[2].rstrip("0")[scale:]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.floats(width=32), min_size=1), st.lists(st.floats(), min_size=1))
def test_floats_are_the_very_same(singles: list[float], doubles: list[float]) -> None:
    def text(value: float) -> str:
        return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(repr(value), repr(value))

    for values, data_type in ((singles, pa.float32()), (doubles, pa.float64())):
        kind = "float4" if data_type == pa.float32() else "float8"
        array, bad = cast_text(pa.array([text(value) for value in values]), data_type, kind)
        assert bad is None
        assert list(map(repr, array.to_pylist())) == list(map(repr, values))
