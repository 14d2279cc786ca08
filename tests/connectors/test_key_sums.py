"""Sums of integer keys: the server's and ours are the same, and tell sets of keys apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.capture import key_sums
from rowtrail.connectors.capture.key_sums import Span, differing, key_sum
from rowtrail.connectors.sources.postgres_cursor import open_cursor_rows
from rowtrail.connectors.sources.postgres_key_sums import key_starts as real_key_starts
from rowtrail.connectors.sources.postgres_streams import describe_stream
from tests.connectors.follower import Follower, reported_keys
from tests.connectors.postgres_database import PostgresDatabase

AWKWARD = [-(2**63), -(2**31), -1, 0, 1, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1]
STREAM = StreamSpec(name="items", table="items", capture=Capture.CURSOR, cursor="seen")


def column(keys: list[int]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(keys, pa.int64())])


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresDatabase]:
    with closing(PostgresDatabase(postgres_url)) as database:
        database.run("CREATE TABLE items (id bigint PRIMARY KEY, seen bigint)")
        yield database


class Keys:
    """`Known` of some keys, which says for which ranges it was asked."""

    def __init__(self, keys: list[int]) -> None:
        self.keys_there = sorted(keys)

    def keys(self, after: Any, upto: Any, limit: int) -> pa.Table:
        found = [
            key
            for key in self.keys_there
            if (after is None or key > after[0]) and (upto is None or key <= upto[0])
        ][:limit]
        return pa.table({"id": pa.array(found, pa.int64()), "present": [True] * len(found)})

    def pages(self) -> Any:
        raise AssertionError("nobody asks for pages here")


def test_the_server_sums_as_we_do(database: PostgresDatabase) -> None:
    keys = [*AWKWARD, *range(1_000, 3_000, 7)]
    database.run(*(("INSERT INTO items VALUES (?, 1)", (key,)) for key in keys))
    with closing(database.open()) as source:
        rows = open_cursor_rows(
            source._connection, STREAM, describe_stream(source._connection, STREAM)
        )
        assert rows.key_sums([])[0] == key_sum(column(keys))
        parts = rows.key_sums([0, 2_000])
        assert parts[0] == key_sum(column([key for key in keys if key < 0]))
        assert parts[1] == key_sum(column([key for key in keys if 0 <= key < 2_000]))
        assert parts[2] == key_sum(column([key for key in keys if key >= 2_000]))


@pytest.mark.parametrize(
    "known", [[1, 2, 6], [0, 4, 5, 5_000], [0, 4], [], [0, 4, 5 + 2_147_483_647], [-5, 0, 4]]
)
def test_only_ranges_that_differ_are_told(database: PostgresDatabase, known: list[int]) -> None:
    """0, 4, 5 and 1, 2, 6 have the same number, sum and sum of squares."""
    database.run(*(("INSERT INTO items VALUES (?, 1)", (key,)) for key in (0, 4, 5, 1_000, 1_001)))
    with closing(database.open()) as source:
        rows = open_cursor_rows(
            source._connection, STREAM, describe_stream(source._connection, STREAM)
        )
        told = list(differing(rows, Keys([*known, 1_000, 1_001]), [500, 1_500]))
        assert Span(499, 1_499) not in told
        assert told
        assert list(differing(rows, Keys([0, 4, 5, 1_000, 1_001]), [500, 1_500])) == []


@given(st.sets(st.integers(-(2**63), 2**63 - 1), min_size=1), st.integers(-(2**63), 2**63 - 1))
def test_one_key_more_is_another_sum(keys: set[int], other: int) -> None:
    if other not in keys:
        assert key_sum(column([*keys, other])) != key_sum(column([*keys]))
        (first, *rest) = keys
        assert key_sum(column([other, *rest])) != key_sum(column([first, *rest]))


def test_a_read_looks_only_where_keys_differ(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowtrail.connectors.sources.postgres_key_sums.RANGE_KEYS", 100)
    database.run("INSERT INTO items SELECT i, 1 FROM generate_series(1, 2000) AS i")
    database.run("ANALYZE items")
    follower = Follower(STREAM)
    with closing(database.open()) as source:
        follower.read(source)
    database.run("DELETE FROM items WHERE id IN (7, 1503)", "INSERT INTO items VALUES (5000, 0)")
    asked: list[Span] = []

    def watched(table: Any, known: Any, starts: Any) -> Iterator[Span]:
        assert len(starts) >= 19
        for span in differing(table, known, starts):
            asked.append(span)
            yield span

    monkeypatch.setattr("rowtrail.connectors.capture.cursor.differing", watched)
    with closing(database.open()) as source:
        keys = reported_keys(follower.read(source))
    assert len(asked) == 3
    assert sorted(keys) == [(7,), (1503,), (5000,)]
    assert follower.live().keys() == {(key,) for (key,) in database.select("SELECT id FROM items")}


def test_the_ranges_cover_any_integers(database: PostgresDatabase) -> None:
    database.run(*(("INSERT INTO items VALUES (?, 1)", (key,)) for key in AWKWARD))
    with closing(database.open()) as source:
        rows = open_cursor_rows(
            source._connection, STREAM, describe_stream(source._connection, STREAM)
        )
        assert real_key_starts(rows) == []
        assert list(differing(rows, Keys(AWKWARD), [-(2**62), 0, 2**62])) == []
    assert key_sums.RANGE_KEYS == 100_000
