"""The reader of pgoutput against messages written by hand from the specification.

https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

import pyarrow as pa
import pytest

from rowtrail.connectors.capture import pgoutput_wire
from rowtrail.connectors.capture.pgoutput import Relation, RelationColumn, Truncation
from rowtrail.connectors.capture.pgoutput_scan import LogScan
from rowtrail.connectors.capture.pgoutput_tuples import decode
from rowtrail.connectors.capture.pgoutput_wire import LogFormatError
from rowtrail.connectors.errors import StopError
from tests.connectors.pgoutput_reading import begin, commit, insert, relation, row_tuple, truncate

BEGIN = (
    b"B"
    b"\x00\x00\x00\x00\x01\x6b\x37\x48"  # the commit's LSN, 0/16B3748
    b"\x00\x00\x00\x00\x00\x0f\x42\x40"  # one second after 2000-01-01
    b"\x00\x00\x02\xda"  # xid 730
)
COMMIT = (
    b"C"
    b"\x00"  # flags
    b"\x00\x00\x00\x00\x01\x6b\x37\x48"
    b"\x00\x00\x00\x00\x01\x6b\x37\x78"  # the end
    b"\x00\x00\x00\x00\x00\x0f\x42\x40"
)
RELATION = (
    b"R"
    b"\x00\x00\x40\x01"  # oid 16385
    b"public\x00"
    b"orders\x00"
    b"d"
    b"\x00\x03"
    b"\x01id\x00\x00\x00\x00\x17\xff\xff\xff\xff"  # in the identity, int4, no modifier
    b"\x00total\x00\x00\x00\x06\xa4\x00\x0c\x00\x06"  # numeric(12, 2)
    b"\x00note\x00\x00\x00\x00\x19\xff\xff\xff\xff"
)
TYPE = b"Y\x00\x00\x40\x09public\x00mood\x00"
ORIGIN = b"O\x00\x00\x00\x00\x01\x00\x00\x00other\x00"
LOGICAL = b"M\x01\x00\x00\x00\x00\x01\x00\x00\x00prefix\x00\x00\x00\x00\x05hello"
INSERT = b"I\x00\x00\x40\x01N\x00\x03t\x00\x00\x00\x0242t\x00\x00\x00\x049.50n"
UPDATE = b"U\x00\x00\x40\x01N\x00\x03t\x00\x00\x00\x0242t\x00\x00\x00\x00u"
UPDATE_KEY = (
    b"U\x00\x00\x40\x01"
    b"K\x00\x03t\x00\x00\x00\x0242nn"
    b"N\x00\x03t\x00\x00\x00\x0243t\x00\x00\x00\x011u"
)
UPDATE_FULL = (
    b"U\x00\x00\x40\x01"
    b"O\x00\x03t\x00\x00\x00\x0242nt\x00\x00\x00\x04long"
    b"N\x00\x03t\x00\x00\x00\x0242t\x00\x00\x00\x011u"
)
DELETE_KEY = b"D\x00\x00\x40\x01K\x00\x03t\x00\x00\x00\x0242nn"
DELETE_FULL = b"D\x00\x00\x40\x01O\x00\x03t\x00\x00\x00\x0242nt\x00\x00\x00\x01\xc3"
TRUNCATE = b"T\x00\x00\x00\x01\x03\x00\x00\x40\x01"

ORDERS = Relation(
    oid=16385,
    schema="public",
    table="orders",
    identity="d",
    columns=(
        RelationColumn(name="id", type_oid=23, typmod=-1, in_identity=True),
        RelationColumn(name="total", type_oid=1700, typmod=786_438, in_identity=False),
        RelationColumn(name="note", type_oid=25, typmod=-1, in_identity=False),
    ),
)
SECOND = 946_684_801_000_000


def binary(*messages: bytes) -> pa.Array:
    return pa.array(messages, type=pa.binary())


def test_scan_of_each_kind_of_message() -> None:
    scan = LogScan()
    scanned = scan.scan(
        binary(BEGIN, ORIGIN, TYPE, RELATION, INSERT, LOGICAL, UPDATE, DELETE_KEY, TRUNCATE, COMMIT)
    )
    assert bytes(scanned.kinds) == b"BOYRIMUDTC"
    assert scanned.oids.tolist() == [0, 0, 0, 0, 16385, 0, 16385, 16385, 0, 0]
    assert scanned.layouts.tolist() == [-1, -1, -1, -1, 0, -1, 0, 0, -1, -1]
    assert scanned.ordinals.tolist() == [0, 0, 0, 0, 1, 0, 2, 3, 4, 0]
    assert set(scanned.commit_lsns.tolist()) == {0x16B3748}
    assert set(scanned.xids.tolist()) == {730}
    assert set(scanned.times.tolist()) == {SECOND}
    assert scanned.commits.rows.tolist() == [9]
    assert scanned.commits.commit_lsns.tolist() == [0x16B3748]
    assert scanned.commits.end_lsns.tolist() == [0x16B3778]
    assert scanned.commits.xids.tolist() == [730]
    assert scanned.commits.times.tolist() == [SECOND]
    assert scanned.relations == ((3, ORDERS),)
    assert scanned.truncations == (
        Truncation(row=8, oids=(16385,), cascade=True, restart_identity=True),
    )
    assert scan.relations == {16385: ORDERS}
    assert not scan.in_transaction


def test_rows_of_each_kind_of_change() -> None:
    messages = (INSERT, UPDATE, UPDATE_KEY, UPDATE_FULL, DELETE_KEY, DELETE_FULL)
    tuples = decode(ORDERS, binary(*messages))
    assert bytes(tuples.kinds) == b"IUUUDD"
    assert bytes(tuples.old_kinds) == b"\0\0KOKO"
    assert tuples.has_new.tolist() == [True, True, True, True, False, False]
    assert tuples.new["id"].values.to_pylist() == ["42", "42", "43", "42", None, None]
    assert tuples.new["total"].values.to_pylist() == ["9.50", "", "1", "1", None, None]
    assert tuples.new["note"].values.to_pylist() == [None, None, None, "long", None, None]
    unchanged = tuples.new["note"].unchanged
    assert unchanged is not None
    assert unchanged.tolist() == [False, True, True, False, False, False]
    assert tuples.new["id"].unchanged is None
    assert tuples.old["id"].values.to_pylist() == [None, None, "42", "42", "42", "42"]
    assert tuples.old["total"].values.to_pylist() == [None] * 6
    note = tuples.old["note"]
    assert note.values.to_pylist() == [None, None, None, "long", None, None]
    assert note.broken is not None
    assert note.broken.tolist() == [False] * 5 + [True]
    assert note.octets[5].as_py() == b"\xc3"
    assert note.values.type == pa.string()


def test_an_unchanged_column_of_the_key_is_taken_from_the_old_key() -> None:
    message = b"U" + INSERT[1:5]
    message += row_tuple(b"K", [b"long key", None, None]) + row_tuple(b"N", ["u", b"1", "u"])
    tuples = decode(ORDERS, binary(message))
    assert tuples.new["id"].values.to_pylist() == ["long key"]
    assert tuples.new["id"].unchanged is None
    note = tuples.new["note"].unchanged
    assert note is not None
    assert note.tolist() == [True]  # NULL in an old key says nothing


def test_only_the_named_columns_are_given_out() -> None:
    tuples = decode(ORDERS, binary(INSERT), columns=["note"], old_columns=[])
    assert list(tuples.new) == ["note"]
    assert list(tuples.old) == []


def test_no_messages() -> None:
    scanned = LogScan().scan(binary())
    assert len(scanned.kinds) == len(scanned.commits.rows) == 0
    assert decode(ORDERS, binary()).new["id"].values.to_pylist() == []


def test_a_new_layout_holds_for_what_comes_after_it() -> None:
    wider = relation(16385, [(b"id", True), (b"total", False), (b"note", False), (b"new", False)])
    scan = LogScan()
    scanned = scan.scan(
        binary(begin(1), RELATION, INSERT, wider, insert(16385, b"1", None, None, b"x"), commit(1))
    )
    assert scanned.layouts.tolist() == [-1, -1, 0, -1, 1, -1]
    scanned = scan.scan(binary(begin(2), insert(16385, b"1", None, None, b"x"), RELATION, INSERT))
    assert scanned.layouts.tolist() == [-1, 1, -1, 0]
    assert scan.layouts[0] == ORDERS
    assert len(scan.layouts) == 2
    assert scan.in_transaction


def test_values_past_the_reach_of_64_bits_arithmetic_are_refused() -> None:
    huge = b"I\x00\x00\x40\x01N\x00\x03t\xff\xff\xff\xff42t\x00\x00\x00\x049.50n"
    with pytest.raises(LogFormatError, match="ends within its column id"):
        decode(ORDERS, binary(INSERT, huge, INSERT))


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_slices_and_chunks_are_read_alike(kind: pa.DataType) -> None:
    whole = pa.array([b"rubbish", INSERT, UPDATE, DELETE_KEY, b"more rubbish"], type=kind)
    for data in (
        whole.slice(1, 3),
        pa.chunked_array([whole.slice(1, 3)]),
        pa.chunked_array([whole.slice(1, 1), whole.slice(2, 2)]),
    ):
        assert decode(ORDERS, data).new["id"].values.to_pylist() == ["42", "42", None]
    assert decode(ORDERS, pa.chunked_array([], type=kind)).new["id"].values.to_pylist() == []


def test_past_the_reach_of_32_bits_text_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [INSERT, UPDATE_FULL, DELETE_FULL]
    small = decode(ORDERS, binary(*messages))
    monkeypatch.setattr(pgoutput_wire, "_SMALL", 50)
    chunks = pa.chunked_array([[message] for message in messages], type=pa.binary())
    for data in (binary(*messages), chunks):
        large = decode(ORDERS, data)
        for name in ("id", "total", "note"):
            for a, b in ((large.new, small.new), (large.old, small.old)):
                assert a[name].values.type == pa.large_string()
                assert a[name].values.to_pylist() == b[name].values.to_pylist()


def test_broken_text_is_told_by_row_among_many() -> None:
    rows = [b"\xc3", b"\xa9", None, b"\xed\xa0\x80", b"ok", b"\xc0\xaf"]  # the first two are one é
    messages = [insert(16385, b"1", b"2", row) for row in rows * 1000]
    note = decode(ORDERS, binary(*messages)).new["note"]
    assert note.broken is not None
    assert note.broken.tolist() == [True, True, False, True, False, True] * 1000
    assert note.values.to_pylist() == [None, None, None, None, "ok", None] * 1000
    assert note.octets.to_pylist() == rows * 1000


MESSAGES_AND_WHY = [
    ([BEGIN, BEGIN], "Begin.* begins a transaction within another one"),
    ([COMMIT], "Commit.* has not begun"),
    ([BEGIN, COMMIT, COMMIT], "has not begun"),
    ([RELATION, INSERT], "outside a transaction"),
    ([BEGIN, INSERT], "table 16385, whose columns the log has not told"),
    ([BEGIN, INSERT, RELATION], "table 16385, whose columns"),
    ([BEGIN, TRUNCATE], "table 16385, whose columns"),
    ([RELATION, TRUNCATE], "outside a transaction"),
    ([BEGIN, b""], "is empty"),
    ([BEGIN, b"X123"], r"kind 0x58, 4 bytes, in the transaction that commits at 0/16B3748\) is of"),
    ([BEGIN[:-1]], "21 bytes"),
    ([BEGIN + b"\0"], "21 bytes"),
    ([BEGIN, COMMIT[:-1]], "26 bytes"),
    ([BEGIN, b"C\1" + COMMIT[2:]], "unknown flags"),
    ([BEGIN, commit(9)], "another LSN than its Begin"),
    ([begin(5), commit(5), begin(5), commit(5)], "before the transaction that came before it"),
    ([begin(-5)], "impossible LSN"),
    ([begin(5, time=2**63 - 1)], "impossible time"),
    ([BEGIN, RELATION[:-1]], "Relation.* ends too early"),
    ([BEGIN, RELATION + b"\0"], "1 bytes more than it should"),
    ([BEGIN, relation(1, [(b"a", True), (b"a", False)])], "a column of public.t twice"),
    ([BEGIN, relation(0, [])], "table 0"),
    ([BEGIN, relation(1, [(b"\xff", True)])], "a name that is not valid UTF-8"),
    ([BEGIN, relation(1, [], identity=b"q")], "replica identity 'q'"),
    ([BEGIN, TYPE[:-1]], "Type.* ends within a name"),
    ([BEGIN, ORIGIN + b"x"], "Origin.* 1 bytes more"),
    ([BEGIN, LOGICAL[:-1]], "Message.* ends too early"),
    ([BEGIN, RELATION, TRUNCATE[:-1]], "Truncate.* ends too early"),
    ([BEGIN, RELATION, truncate(4, 16385)], "options 4"),
    ([BEGIN, RELATION, truncate(0)], "names no table"),
    ([BEGIN, RELATION, INSERT[:7]], "Insert.* ends too early"),
]


@pytest.mark.parametrize(("messages", "why"), MESSAGES_AND_WHY)
def test_a_log_that_is_not_as_the_protocol_says(messages: list[bytes], why: str) -> None:
    with pytest.raises(LogFormatError, match=why) as caught:
        LogScan().scan(binary(*messages))
    assert isinstance(caught.value, StopError)
    scan = LogScan()  # and the same message by message
    with pytest.raises(LogFormatError, match=why):
        for message in messages:
            scan.scan(binary(message))


ROWS_AND_WHY = [
    (INSERT[:-1], "ends before its column note"),
    (INSERT + b"n", "is longer than its columns"),
    (INSERT[:-6], "ends within its column total"),
    (INSERT.replace(b"N\0\3", b"N\0\2"), "does not have the 3 columns"),
    (INSERT.replace(b"t\0\0\0\x0242", b"b\0\0\0\x0242"), "has column id in binary form"),
    (INSERT.replace(b"t\0\0\0\x0242", b"q\0\0\0\x0242"), "unknown kind of value in column id"),
    (INSERT.replace(b"N", b"K"), "kind of row that it cannot have"),
    (INSERT.replace(b"\x40\1", b"\x40\2"), "about another table"),
    (b"D" + INSERT[1:], "kind of row that it cannot have"),
    (DELETE_KEY + b"N", "is longer than its columns"),
    (UPDATE_KEY[: UPDATE_KEY.index(b"N")], "ends before its new row"),
    (UPDATE_KEY.replace(b"N", b"K"), "lacks its new row"),
    (UPDATE_KEY[: UPDATE_KEY.index(b"N") + 2], "ends before the number of its columns"),
    (BEGIN, "does not change a row"),
    (b"I", "ends too early"),
]


@pytest.mark.parametrize(("message", "why"), ROWS_AND_WHY)
@pytest.mark.parametrize("before", [0, 1, 20_000])
def test_a_row_that_is_not_as_the_protocol_says(message: bytes, why: str, before: int) -> None:
    with pytest.raises(LogFormatError, match=why) as caught:
        decode(ORDERS, binary(*[UPDATE_FULL] * before, message, DELETE_KEY))
    assert caught.value.row == before


def test_a_null_message_is_refused() -> None:
    with pytest.raises(LogFormatError, match="Message 2 of 2 is NULL"):
        LogScan().scan(pa.array([BEGIN, None], type=pa.binary()))
