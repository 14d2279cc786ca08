"""The blob of a batch: every change is found by its key, nothing else is, and it is small."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowtrail.checkpoints import keyset
from rowtrail.checkpoints.key_layout import Codec, KeyLayout
from rowtrail.checkpoints.packing import pack, pack_counted, unpack, unpack_counted
from rowtrail.checkpoints.places import places
from rowtrail.checkpoints.record_id import KeyValue, RecordId, from_arrow
from rowtrail.checkpoints.states import Outcome

int64s = st.integers(-(2**63), 2**63 - 1)


@settings(deadline=None)
@given(st.one_of(st.lists(int64s), st.lists(int64s).map(sorted), st.lists(st.integers(-3, 3))))
def test_integers_unpack_to_what_was_packed(values: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    assert unpack(pack(array), len(array)).tolist() == values
    assert unpack_counted(pack_counted(array)).tolist() == values


@pytest.mark.parametrize("width", range(64))
def test_every_width_unpacks(width: int) -> None:
    random = np.random.default_rng(width)
    values = random.integers(0, 2**width, 1_000, dtype=np.int64)
    values[:2] = 0, 2**width - 1
    assert (unpack(pack(values), len(values)) == values).all()


def batch(*columns: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns), names=[f"k{n}" for n in range(len(columns))])


def encode(keys: pa.RecordBatch, versions: np.ndarray[Any, Any] | None = None) -> keyset.Keyset:
    """Row n has position 1000 + n, operation 1 or 2, and one of the four outcomes in turn."""
    rows = len(keys)
    if versions is None:
        zeros = np.zeros(rows, dtype=np.int64)
        versions = np.stack([zeros + 1, 1_000 + np.arange(rows), zeros, zeros])
    return keyset.encode(
        keys,
        pa.RecordBatch.from_arrays([pa.array(part) for part in versions], names=list("epor")),
        pa.array((np.arange(rows) % 2 + 1).astype(np.uint8)),
        pa.array((np.arange(rows) % 4 + 1).astype(np.uint8)),
    )


def find(blob: keyset.Keyset, key: tuple[KeyValue, ...]) -> list[keyset.Found]:
    """As the ledger does it: from bytes alone."""
    layout = KeyLayout.from_bytes(blob.layout.to_bytes())
    header = keyset.read_header(layout, blob.header)
    row = layout.row(key)
    if row is None:
        return []
    place = int(places(layout, row)[0])
    if not blob.first_place <= place <= blob.last_place:
        return []
    return [
        found
        for number in header.segments(place)
        for found in keyset.search(layout, header, number, blob.segments[number], row)
    ]


def check(keys: pa.RecordBatch) -> keyset.Keyset:
    """Every row is found under its key with what belongs to it, and all keys decode."""
    blob = encode(keys)
    records = from_arrow("s", keys)
    rows: dict[RecordId, list[int]] = {}
    for row, record in enumerate(records):
        rows.setdefault(record, []).append(row)
    stored = keyset.stored_rows(blob, pa.array(np.arange(len(keys), dtype=np.uint32)))
    for record, expected in list(rows.items())[:: max(1, len(rows) // 50)]:
        found = sorted(find(blob, record.key), key=lambda one: one.version)
        assert [one.version for one in found] == [(1, 1_000 + row, 0, 0) for row in expected]
        assert [one.operation for one in found] == [row % 2 + 1 for row in expected]
        assert [one.outcome for one in found] == [Outcome(row % 4 + 1) for row in expected]
        assert [one.row for one in found] == stored[expected].tolist()
    header = keyset.read_header(blob.layout, blob.header)
    decoded = keyset.decode_keys(blob.layout, header, blob.segments).take(pa.array(stored))
    assert decoded.equals(pa.Table.from_batches([keys]))
    return blob


RANDOM = np.random.default_rng(7)
ROWS = keyset.SEGMENT_ROWS * 2 + 100
UUIDS = [str(uuid.UUID(bytes=RANDOM.bytes(16), version=4)) for _ in range(ROWS)]
SEQUENCE = np.arange(ROWS)

COLUMNS: dict[str, list[pa.Array]] = {
    "ordered integers": [pa.array(SEQUENCE + 10)],
    "integers with gaps": [pa.array(np.cumsum(RANDOM.integers(1, 9, ROWS)))],
    "random integers": [pa.array(RANDOM.integers(-(2**63), 2**63 - 1, ROWS))],
    "falling integers": [pa.array(SEQUENCE[::-1].copy())],
    "small integers": [pa.array(SEQUENCE.astype(np.int16))],
    "large unsigned integers": [pa.array(RANDOM.integers(0, 2**64 - 1, ROWS, dtype=np.uint64))],
    "uuids as text": [pa.array(UUIDS)],
    "uuids": [pa.array([uuid.UUID(one).bytes for one in UUIDS], pa.uuid())],
    "uuids in capitals": [pa.array([one.upper() for one in UUIDS])],
    "text": [pa.array([f"customer-{n:07d} 🙂" for n in SEQUENCE])],
    "large text": [pa.array([f"{'x' * (n % 90)}{n}" for n in SEQUENCE], pa.large_string())],
    "bytes": [pa.array([n.to_bytes(4, "big") for n in SEQUENCE.tolist()], pa.binary())],
    "fixed bytes": [pa.array([n.to_bytes(4, "big") for n in SEQUENCE.tolist()], pa.binary(4))],
    "decimals": [pa.array([Decimal(n) / 100 for n in SEQUENCE.tolist()], pa.decimal128(12, 2))],
    "dates": [pa.array(SEQUENCE.astype(np.int32), pa.date32())],
    "milliseconds of dates": [pa.array(SEQUENCE * 86_400_000, pa.date64())],
    "timestamps": [pa.array(SEQUENCE * 1_000_003, pa.timestamp("us"))],
    "timestamps with a zone": [pa.array(SEQUENCE * 1_000, pa.timestamp("ms", tz="UTC"))],
    "times": [pa.array(SEQUENCE * 1_000, pa.time64("us"))],
    "floats": [pa.array(SEQUENCE / 8)],
    "booleans": [pa.array(SEQUENCE % 2 == 0)],
    "two integers": [pa.array(SEQUENCE // 4), pa.array((SEQUENCE % 4).astype(np.int32))],
    "an integer and text": [pa.array(SEQUENCE // 2), pa.array([f"{n % 2}" for n in SEQUENCE])],
    "a constant and an integer": [pa.array(np.full(ROWS, 9)), pa.array(SEQUENCE)],
    "text with NULL": [pa.array([None, *UUIDS[1:]])],
    "integers with NULL": [pa.array([None, *range(1, ROWS)], pa.int64())],
}


@pytest.mark.parametrize("name", COLUMNS)
def test_every_key_is_found(name: str) -> None:
    check(batch(*COLUMNS[name]))


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("rows", [1, 2, keyset.SEGMENT_ROWS, keyset.SEGMENT_ROWS + 1])
def test_every_key_is_found_in_batches_of_any_size(name: str, rows: int) -> None:
    check(batch(*(column.slice(33, rows) for column in COLUMNS[name])))


def test_keys_that_occur_often_are_found_across_segments() -> None:
    keys = np.concatenate([np.full(keyset.SEGMENT_ROWS, 5), np.arange(10), np.full(3_000, 5)])
    blob = encode(batch(pa.array(keys)))
    assert len(find(blob, (5,))) == keyset.SEGMENT_ROWS + 3_001
    assert len(find(blob, (4,))) == 1


@pytest.mark.parametrize(
    ("column", "others"),
    [
        (pa.array([1, 2, 3]), [True, 1.0, Decimal(1), "1", b"1", None, 4, 2**70, date(1, 1, 1)]),
        (pa.array([1, 2], pa.int8()), [300, True]),
        (pa.array(["1", "2"]), [1, b"1", None, "1 ", "\ud800", True]),
        (pa.array([UUIDS[0]]), [uuid.UUID(UUIDS[0]), UUIDS[0].upper(), UUIDS[1], "x"]),
        (pa.array([Decimal("1.50")], pa.decimal128(9, 2)), [1.5, "1.50", Decimal("1.501"), 1]),
        (pa.array([datetime(2024, 1, 31)]), [datetime(2024, 1, 31, tzinfo=UTC), date(2024, 1, 31)]),
        (pa.array([date(2024, 1, 31)]), [datetime(2024, 1, 31), 19_753]),
        (pa.array([time(1)]), [3_600_000_000]),
        (pa.array([True]), [1, 1.0, "true"]),
        (pa.array([1.0]), [1, True, Decimal(1)]),
    ],
)
def test_keys_of_another_type_or_value_are_not_found(
    column: pa.Array, others: list[KeyValue]
) -> None:
    blob = encode(batch(column))
    assert len(find(blob, (column[0].as_py(),))) == 1
    for other in others:
        assert find(blob, (other,)) == []
    assert find(blob, (column[0].as_py(), 1)) == []


def test_equal_decimals_and_zeros_are_one_key() -> None:
    assert find(encode(batch(pa.array([Decimal("1.5")], pa.decimal128(9, 1)))), (Decimal("1.50"),))
    assert find(encode(batch(pa.array([-0.0]))), (0.0,))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.text(max_size=80)), st.integers(-5, 5)),
        min_size=1,
        max_size=30,
    )
)
def test_any_text_is_found(rows: list[tuple[str | None, int]]) -> None:
    texts, numbers = zip(*rows, strict=True)
    check(batch(pa.array(texts, pa.string()), pa.array(numbers, pa.int64())))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(int64s, int64s, int64s, int64s), min_size=1, max_size=20))
def test_any_version_is_kept(versions: list[tuple[int, int, int, int]]) -> None:
    keys = np.arange(len(versions))[::-1].copy()
    blob = encode(batch(pa.array(keys)), np.array(versions, dtype=np.int64).T)
    for key, version in zip(keys.tolist(), versions, strict=True):
        assert [found.version for found in find(blob, (key,))] == [version]


def test_only_uuids_in_their_usual_spelling_are_stored_as_such() -> None:
    valid = UUIDS[0]
    for spelling in (valid.upper(), valid.replace("-", "_"), valid[:-1] + "g", valid[:-1] + "é"):
        assert KeyLayout.of(batch(pa.array([valid, spelling]))).codecs == (Codec.ARROW,)
    assert KeyLayout.of(batch(pa.array(UUIDS))).codecs == (Codec.UUID,)
    assert KeyLayout.of(batch(pa.array([valid, None]))).codecs == (Codec.ARROW,)


_PRINT = """
import pyarrow as pa
from rowtrail.checkpoints.key_layout import KeyLayout
from rowtrail.checkpoints.places import places
keys = pa.RecordBatch.from_arrays([pa.array(["é", "x" * 100, None, ""]), pa.array([1, 2, 3, 4])],
                                  names=["a", "b"])
layout = KeyLayout.of(keys)
print(places(layout, layout.columns(keys)).tolist())
"""


def test_places_are_the_same_in_every_process() -> None:
    """Ledgers hold them: another hash would not find what an older version stored."""

    def in_process(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", _PRINT], env=environment, check=True, capture_output=True
        ).stdout.decode()

    expected = (
        "[-5330437949515570399, 2990481112494684645, 3775024008144629945, 5214066152346494007]"
    )
    assert in_process("1").strip() == expected
    assert in_process("2").strip() == expected


def test_long_texts_that_differ_in_the_middle_are_told_apart() -> None:
    texts = ["a" * 100 + middle + "z" * 100 for middle in ("x", "y")]
    blob = encode(batch(pa.array(texts)))
    assert blob.first_place == blob.last_place  # they share a place
    assert [found.version[1] for found in find(blob, (texts[1],))] == [1_001]


@pytest.mark.parametrize(
    ("column", "most"),
    [
        (pa.array(np.arange(50_000)), 0.2),
        (pa.array(RANDOM.integers(0, 2**63 - 1, 50_000)), 7.0),
        (pa.array(UUIDS * 6), 19.0),
    ],
)
def test_a_record_takes_few_bytes(column: pa.Array, most: float) -> None:
    rows = np.full((4, len(column)), 1)
    blob = keyset.encode(
        batch(column),
        pa.RecordBatch.from_arrays([pa.array(part) for part in rows], names=list("epor")),
        pa.array(np.full(len(column), 1, dtype=np.uint8)),
        pa.array(np.full(len(column), 1, dtype=np.uint8)),
    )
    assert sum(map(len, (blob.header, *blob.segments))) / len(column) <= most


def test_one_key_needs_one_segment() -> None:
    keys = np.arange(keyset.SEGMENT_ROWS * 10)
    blob = encode(batch(pa.array(keys)))
    header = keyset.read_header(blob.layout, blob.header)
    assert len(blob.segments) == 10
    assert all(len(header.segments(key)) == 1 for key in (1, 5_000, len(keys) - 1))
    # A key at which a segment begins may also end the segment before it.
    assert list(header.segments(keyset.SEGMENT_ROWS)) == [0, 1]
