"""The small parts that captures share: positions as text, hashes of rows, ranges of keys."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from rowtrail.connectors.capture.position import BrokenText, decode, encode
from rowtrail.connectors.capture.reconcile import KeyRange, KnownHashes, key_range
from rowtrail.connectors.capture.row_hash import HASH_COLUMN, row_hashes, scratch
from rowtrail.connectors.errors import PositionLostError
from rowtrail.connectors.schema import Column, TableSchema


def test_a_position_keeps_every_value() -> None:
    values = (
        None, True, 0, -(2**63), 0.1, -0.0, math.inf, "", "é😀\0\"", b"\x00\xff",
        Decimal("1.50"), date(1, 1, 1), datetime(2024, 1, 31, 10, 0, 0, 1), BrokenText(b"\xff"),
    )  # fmt: skip
    found = decode(
        "t",
        "snapshot",
        encode("snapshot", {"after": values, "read": 7, "known": None}),
        {"after", "read", "known"},
    )
    assert found == {"after": values, "read": 7, "known": None}
    assert [type(value) for value in found["after"]] == [type(value) for value in values]
    assert math.copysign(1, found["after"][5]) == -1


@pytest.mark.parametrize(
    "token",
    [
        encode("snapshot", {"read": 1}),
        encode("cursor", {"read": 1, "more": 2}),
        encode("cursor", {}),
        '{"capture":"cursor","read":[{"kind of later":"1"}]}',
        '{"capture":"cursor","read":[{}]}',
        '{"read":1}',
        "[]",
        "7",
        "no JSON",
    ],
)
def test_a_position_that_is_not_this_capture_s(token: str) -> None:
    with pytest.raises(PositionLostError, match="rowtrail run --resnapshot t"):
        decode("t", "cursor", token, {"read"})


def test_hashes_tell_apart_what_equality_does_not() -> None:
    rows = pa.record_batch(
        {
            "a": pa.array([0.0, -0.0, math.nan, None, 0.0, 0.0]),
            "b": pa.array(["", "", "", "", None, "\0"]),
            "c": pa.array([1.5] * 6, pa.float32()),
        }
    )
    with scratch() as engine:
        hashes = row_hashes(engine, rows)
        again = row_hashes(engine, rows.slice(2, 2))
    assert hashes.dtype == np.uint64
    assert len(set(hashes.tolist())) == 6
    assert again.tolist() == hashes[2:4].tolist()


def test_known_hashes_are_walked_range_by_range() -> None:
    schema = TableSchema(table="t", columns=(Column(name="k", type=pa.int64()),), key=("k",))
    other = pa.record_batch({"k": ["x"], HASH_COLUMN: pa.array([99], pa.uint64())})
    pages = [
        pa.record_batch({"k": keys, HASH_COLUMN: pa.array([k * 10 for k in keys], pa.uint64())})
        for keys in ([1, 2, 3], [5, 8], [9])
    ]
    hashes = KnownHashes(iter([pages[0], other, *pages[1:]]), schema)
    assert hashes.within(None).tolist() == []
    assert hashes.upto((0,)).tolist() == []
    assert hashes.upto((2,)).tolist() == [10, 20]
    assert hashes.within(KeyRange((2,), (6,))).tolist() == [30, 50]
    assert hashes.upto((6,)).tolist() == []
    assert hashes.upto(None).tolist() == [80, 90]
    assert hashes.upto(None).tolist() == []


def test_the_range_of_a_page() -> None:
    keys = pa.record_batch({"k": [4, 6]})
    assert key_range(keys, (3,), more=True) == KeyRange((3,), (6,))
    assert key_range(keys, (3,), more=False) == KeyRange((3,), None)
    assert key_range(keys.slice(0, 0), None, more=False) == KeyRange(None, None)
    assert key_range(keys.slice(0, 0), None, more=True) is None
