"""Keys that are put aside: each once, in batches, whatever their type and number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import date
from decimal import Decimal
from uuid import UUID, uuid5

import pyarrow as pa
import pytest

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.pipelines import key_spool
from rowtrail.pipelines.key_spool import distinct, spooled
from rowtrail.pipelines.record_keys import cast_keys

SPACE = UUID(int=7)
COLUMNS = {
    "integers": pa.array(range(1000), pa.int32()),
    "texts": pa.array([f"text {n}" for n in range(1000)]),
    "UUIDs and others": pa.array(
        [str(uuid5(SPACE, str(n))) if n % 10 else f"other {n}" for n in range(1000)]
    ),
    "decimals": pa.array([Decimal(n) / 4 for n in range(1000)], pa.decimal128(12, 2)),
    "bytes": pa.array([str(n).encode() for n in range(1000)], pa.binary()),
    "dates": pa.array([date.fromordinal(700_000 + n) for n in range(1000)]),
    "floats": pa.array([n / 3 for n in range(1000)]),
    "times": pa.array(range(1000), pa.timestamp("us", "UTC")),
}


def keys_of(*columns: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns), names=[f"k{n}" for n in range(len(columns))])


@pytest.mark.parametrize("parts", [1, 5])
@pytest.mark.parametrize("name", COLUMNS)
def test_each_key_comes_once(name: str, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its batch has other keys of another look."""
    monkeypatch.setattr(key_spool, "_IN_MEMORY", 1000)
    monkeypatch.setattr(key_spool, "_KEYS_IN_A_PART", 2500 // parts)
    keys = keys_of(COLUMNS[name], pa.array([n % 3 for n in range(1000)]))
    taken = [keys, keys.slice(101, 9), keys.slice(0, 1), keys.slice(3, 996), keys.slice(0, 0)]
    with closing(distinct(iter(taken), keys.schema, 300, at_most=2_500)) as spool:
        found = list(spool.batches())
        assert [len(one) for one in found] == [300, 300, 300, 100]
        assert spool.count == 1000
        table = pa.Table.from_batches(found, keys.schema)
    order = [("k0", "ascending")]
    assert table.sort_by(order) == pa.Table.from_batches([keys]).sort_by(order)


def test_keys_that_come_once_keep_their_order() -> None:
    keys = keys_of(COLUMNS["integers"])

    def batches() -> Iterator[pa.RecordBatch]:
        for start in (500, 0, 700):
            yield keys.slice(start, 150)

    with closing(spooled(batches(), keys.schema, 200)) as spool:
        found = pa.Table.from_batches(spool.batches()).column("k0").to_pylist()
    assert found == [*range(500, 650), *range(150), *range(700, 850)]
    with closing(spooled(iter(()), keys.schema, 200)) as empty:
        assert (empty.count, list(empty.batches())) == (0, [])


def test_keys_in_another_type_are_the_same_keys_or_none() -> None:
    """A number is no text, and a key keeps its type; only the width of a type is no matter."""
    fields = pa.schema([("k0", pa.int64())])
    for stored, fits, unfit in (
        (pa.array([1, 2], pa.int32()), [1, 2], []),
        (pa.array([1, 2**63], pa.uint64()), [1], [2**63]),
        (pa.array(["1"]), [], ["1"]),
        (pa.array([1.0]), [], [1.0]),
        (pa.array([1, None], pa.int64()), [1], [None]),
    ):
        found, left = cast_keys("orders", keys_of(stored), fields)
        assert found.schema == fields
        assert found.column(0).to_pylist() == fits
        assert left == [RecordId("orders", (one,)) for one in unfit]
    found, left = cast_keys("orders", keys_of(pa.array([1]), pa.array([2])), fields)
    assert (len(found), left) == (0, [RecordId("orders", (1, 2))])
    wide = pa.schema([("k0", pa.decimal128(20, 4))])
    found, left = cast_keys("orders", keys_of(COLUMNS["decimals"]), wide)
    assert (len(found), left) == (1000, [])
    narrow = pa.schema([("k0", pa.decimal128(12, 1))])
    found, left = cast_keys("orders", keys_of(COLUMNS["decimals"]), narrow)
    assert len(found) == 500 and len(left) == 500
