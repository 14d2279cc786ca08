"""The reader of pgoutput against the slow reference, on any log, cut anywhere and damaged."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from unittest.mock import patch

import pyarrow as pa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rowtrail.connectors.capture import pgoutput_tuples
from rowtrail.connectors.capture.pgoutput_wire import LogFormatError
from tests.connectors import pgoutput_reference
from tests.connectors.pgoutput_reading import (
    begin,
    commit,
    insert,
    read,
    relation,
    row_tuple,
    truncate,
)
from tests.connectors.pgoutput_reference import Log, RefusedError

OIDS = (1, 2, 0x01020304)
SETTINGS = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

names = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5).map(str.encode)
texts = st.one_of(
    st.binary(max_size=12), st.text(max_size=8).map(str.encode), st.sampled_from([b"", b"x" * 300])
)
cells = st.one_of(texts, texts, st.none(), st.just("u"))


@st.composite
def logs(draw: st.DrawFn) -> list[bytes]:
    """Messages of a whole log that is as the protocol says."""
    messages: list[bytes] = []
    widths: dict[int, int] = {}
    lsn = draw(st.integers(1, 2**62))
    for _ in range(draw(st.integers(0, 4))):
        lsn += draw(st.integers(1, 1000))
        time = draw(st.integers(-(2**63), 2**63 - 1 - 946_684_800_000_000))
        messages.append(begin(lsn, draw(st.integers(0, 2**32 - 1)), time))
        for _ in range(draw(st.integers(0, 8))):
            messages += draw(steps(widths))
        messages.append(commit(lsn, time))
        messages += draw(st.lists(logical(), max_size=1))
    return messages


@st.composite
def steps(draw: st.DrawFn, widths: dict[int, int]) -> list[bytes]:
    """Some messages within a transaction; `widths` are the columns of the known tables."""
    kind = draw(st.sampled_from("IIIIUUUUDDRTYOM"))
    if kind == "Y":
        return [b"Y" + struct.pack(">I", 5) + draw(names) + b"\0" + draw(names) + b"\0"]
    if kind == "O":
        return [b"O" + struct.pack(">q", 5) + draw(names) + b"\0"]
    if kind == "M":
        return [draw(logical())]
    oid = draw(st.sampled_from(OIDS))
    if kind == "R" or oid not in widths:
        columns = draw(st.lists(names, unique=True, max_size=4))
        widths[oid] = len(columns)
        identity = draw(st.sampled_from([b"d", b"n", b"f", b"i"]))
        flags = [draw(st.booleans()) for _ in columns]
        return [relation(oid, list(zip(columns, flags, strict=True)), draw(names), identity)]
    if kind == "T":
        oids = draw(st.lists(st.sampled_from(sorted(widths)), min_size=1, max_size=2))
        return [truncate(draw(st.integers(0, 3)), *oids)]
    found = []
    for _ in range(draw(st.integers(1, 3))):
        head = kind.encode() + struct.pack(">I", oid)
        rows = [
            row_tuple(mark, [draw(cells) for _ in range(widths[oid])])
            for mark in (draw(st.sampled_from([b"K", b"O"])), b"N")
        ]
        if kind == "I":
            rows = rows[1:]
        elif kind == "D":
            rows = rows[:1]
        elif draw(st.booleans()):
            rows = rows[1:]
        found.append(head + b"".join(rows))
    return found


@st.composite
def logical(draw: st.DrawFn) -> bytes:
    content = draw(st.binary(max_size=5))
    head = struct.pack(">bq", draw(st.integers(0, 1)), 5) + draw(names) + b"\0"
    return b"M" + head + struct.pack(">I", len(content)) + content


@st.composite
def damaged(draw: st.DrawFn) -> list[bytes]:
    """A log in which something is cut, changed, left out, told twice or put elsewhere."""
    messages = draw(logs().filter(bool))
    row = draw(st.integers(0, len(messages) - 1))
    message = messages[row]
    how = draw(st.sampled_from(["cut", "flip", "byte", "byte", "add", "drop", "double", "move"]))
    if how == "cut":
        messages[row] = message[: draw(st.integers(0, len(message) - 1))]
    elif how in ("flip", "byte"):
        place = draw(st.integers(0, len(message) - 1))
        octet = message[place] ^ 1 << draw(st.integers(0, 7))
        if how == "byte":
            octet = draw(st.sampled_from(b"BCRYIUDTOMNKOntub\0\1\2\3\4\xff"))
        messages[row] = message[:place] + bytes([octet]) + message[place + 1 :]
    elif how == "add":
        messages[row] += draw(st.binary(min_size=1, max_size=9))
    elif how == "double":
        messages.insert(row, message)
    else:
        del messages[row]
        if how == "move":
            messages.insert(draw(st.integers(0, len(messages))), message)
    return messages


def batches(messages: Sequence[bytes], cuts: Sequence[int]) -> list[pa.Array]:
    """Slices of one array, so that most do not begin where their buffer does."""
    whole = pa.array(messages, type=pa.binary())
    edges = [0, *sorted(cut % (len(messages) + 1) for cut in cuts), len(messages)]
    return [whole.slice(start, end - start) for start, end in itertools.pairwise(edges)]


def expected(messages: Sequence[bytes]) -> Log | None:
    try:
        return pgoutput_reference.read(messages)
    except RefusedError:
        return None


def got(parts: Sequence[pa.Array]) -> Log | None:
    try:
        return read(parts)
    except LogFormatError:
        return None


@SETTINGS
@given(logs(), st.lists(st.integers(0, 1000), max_size=6))
def test_any_log_cut_anywhere_is_read_as_the_reference_reads_it(
    messages: list[bytes], cuts: list[int]
) -> None:
    known = pgoutput_reference.read(messages)
    assert read(batches(messages, [])) == known
    assert read(batches(messages, cuts)) == known
    assert read(batches(messages, range(len(messages)))) == known
    with patch.object(pgoutput_tuples, "_BLOCK_ROWS", (2, 2)):
        assert read(batches(messages, [])) == known


@SETTINGS
@given(damaged(), st.lists(st.integers(0, 1000), max_size=3))
@example([begin(1), relation(1, []), insert(1), b"C"], [])
def test_a_damaged_log_is_refused_or_read_as_the_reference_reads_it(
    messages: list[bytes], cuts: list[int]
) -> None:
    known = expected(messages)
    assert got(batches(messages, [])) == known
    assert got(batches(messages, cuts)) == known
    with patch.object(pgoutput_tuples, "_BLOCK_ROWS", (1, 1)):
        assert got(batches(messages, [])) == known


def test_every_way_to_cut_or_flip_a_small_log() -> None:
    """Not at random: each length of each message, and each bit of all of them."""
    old = row_tuple(b"O", [b"1", b"ab", None])
    messages = [
        begin(5),
        relation(1, [(b"a", True), (b"b", False), (b"c", False)]),
        insert(1, b"1", b"\xc3\xa4", None),
        b"U" + struct.pack(">I", 1) + old + row_tuple(b"N", [b"1", "u", b""]),
        b"D" + struct.pack(">I", 1) + row_tuple(b"K", [b"1", None, None]),
        truncate(1, 1),
        commit(5),
    ]
    for row, message in enumerate(messages):
        cut = [message[:size] for size in range(len(message))]
        flipped = [
            message[:place] + bytes([message[place] ^ 1 << bit]) + message[place + 1 :]
            for place in range(len(message))
            for bit in range(8)
        ]
        for other in (*cut, *flipped):
            changed = [*messages[:row], other, *messages[row + 1 :]]
            assert got(batches(changed, [])) == expected(changed)
