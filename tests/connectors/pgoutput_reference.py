"""A slow, obvious reader of pgoutput, one message after the other, to compare the real one with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

UNCHANGED = "<unchanged>"
_EPOCH = 946_684_800_000_000


class RefusedError(Exception):
    """The log is not as the protocol says."""


def require(condition: bool) -> None:
    if not condition:
        raise RefusedError


Value = str | bytes | None
"""A text; bytes that are not UTF-8; None for NULL. UNCHANGED is given in capital brackets."""


@dataclass
class Change:
    kind: str
    relation: tuple[object, ...]
    commit: tuple[int, int, int]  # LSN, xid, time
    ordinal: int
    old_kind: str = ""
    old: list[Value] | None = None
    new: list[Value] | None = None


@dataclass
class Log:
    changes: list[Change] = field(default_factory=list)
    commits: list[tuple[int, int, int, int]] = field(default_factory=list)
    relations: list[tuple[object, ...]] = field(default_factory=list)
    truncations: list[tuple[tuple[int, ...], int, tuple[int, int, int], int]] = field(
        default_factory=list
    )


class Cursor:
    def __init__(self, message: bytes) -> None:
        self.message = message
        self.place = 0

    def take(self, size: int) -> bytes:
        require(size >= 0 and self.place + size <= len(self.message))
        self.place += size
        return self.message[self.place - size : self.place]

    def number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "big", signed=signed)

    def name(self) -> str:
        found = b""
        while (octet := self.take(1)) != b"\0":
            found += octet
        try:
            return found.decode()
        except UnicodeDecodeError:
            raise RefusedError from None

    def end(self) -> None:
        require(self.place == len(self.message))


def read(messages: Sequence[bytes]) -> Log:
    """Raises RefusedError."""
    log = Log()
    relations: dict[int, tuple[object, ...]] = {}
    commit: tuple[int, int, int] | None = None
    last = ordinal = 0
    for message in messages:
        cursor = Cursor(message)
        kind = cursor.take(1).decode("latin-1")
        if kind == "B":
            require(commit is None)
            lsn = cursor.number(8, signed=True)
            time = cursor.number(8, signed=True) + _EPOCH
            require(lsn > 0 and time < 2**63)
            commit = (lsn, cursor.number(4), time)
            ordinal = 0
        elif kind == "C":
            if commit is None:
                raise RefusedError
            require(cursor.number(1) == 0)
            lsn, end = cursor.number(8, signed=True), cursor.number(8, signed=True)
            time = cursor.number(8, signed=True) + _EPOCH
            require(last < lsn == commit[0] < end and time < 2**63)
            log.commits.append((lsn, end, commit[1], time))
            commit, last = None, lsn
        elif kind == "R":
            relation = read_relation(cursor)
            relations[int(str(relation[0]))] = relation
            log.relations.append(relation)
        elif kind == "Y":
            cursor.take(4)
            cursor.name()
            cursor.name()
        elif kind == "O":
            cursor.take(8)
            cursor.name()
        elif kind == "M":
            require(cursor.number(1) < 2)
            cursor.take(8)
            cursor.name()
            cursor.take(cursor.number(4))
        elif kind == "T":
            ordinal += 1
            count, options = cursor.number(4), cursor.number(1)
            require(count > 0 and options < 4)
            oids = tuple(cursor.number(4) for _ in range(count))
            if commit is None or not set(oids) <= set(relations):
                raise RefusedError
            log.truncations.append((oids, options, commit, ordinal))
        elif kind in "IUD":
            ordinal += 1
            oid = cursor.number(4)
            if commit is None or oid not in relations:
                raise RefusedError
            change = Change(kind, relations[oid], commit, ordinal)
            read_tuples(cursor, change)
            log.changes.append(change)
        else:
            raise RefusedError
        cursor.end()
    return log


def read_relation(cursor: Cursor) -> tuple[object, ...]:
    oid, schema, table = cursor.number(4), cursor.name() or "pg_catalog", cursor.name()
    identity = cursor.take(1).decode("latin-1")
    require(oid > 0 and identity in "dnfi")
    columns = []
    for _ in range(cursor.number(2)):
        flags = cursor.number(1)
        require(flags < 2)
        name, type_oid, typmod = cursor.name(), cursor.number(4), cursor.number(4, signed=True)
        columns.append((name, type_oid, typmod, flags == 1))
    require(len({column[0] for column in columns}) == len(columns))
    return (oid, schema, table, identity, tuple(columns))


def read_tuples(cursor: Cursor, change: Change) -> None:
    columns = change.relation[4]
    assert isinstance(columns, tuple)
    mark = cursor.take(1)
    if mark in (b"K", b"O"):
        require(change.kind in "UD")
        change.old_kind = mark.decode()
        change.old = read_tuple(cursor, len(columns))
        if change.kind == "D":
            return
        mark = cursor.take(1)
    require(mark == b"N" and change.kind in "IU")
    change.new = read_tuple(cursor, len(columns))
    if change.old is not None:
        for number, value in enumerate(change.old):
            known = value is not None or change.old_kind == "O"
            if change.new[number] is UNCHANGED and known:
                change.new[number] = value


def read_tuple(cursor: Cursor, count: int) -> list[Value]:
    require(cursor.number(2) == count)
    values: list[Value] = []
    for _ in range(count):
        status = cursor.take(1)
        if status == b"n":
            values.append(None)
        elif status == b"u":
            values.append(UNCHANGED)
        else:
            require(status == b"t")
            content = cursor.take(cursor.number(4))
            try:
                values.append(content.decode())
            except UnicodeDecodeError:
                values.append(content)
    return values
