"""The rare messages of pgoutput (protocol 1, text mode): relations, truncations and others.

Formats: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
The frequent ones (Begin, Commit, Insert, Update, Delete) are read by columns: see `pgoutput_scan`
and `pgoutput_tuples`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rowtrail.connectors.capture.pgoutput_wire import BrokenMessageError

_IDENTITIES = "dnfi"  # default, nothing, full, index
_CASCADE, _RESTART = 1, 2


@dataclass(frozen=True, kw_only=True)
class RelationColumn:
    """One published column."""

    name: str
    type_oid: int
    typmod: int  # -1: none
    in_identity: bool


@dataclass(frozen=True, kw_only=True)
class Relation:
    """One layout of a table: the columns of its tuples, in order, until the next one comes."""

    oid: int
    schema: str
    table: str
    identity: str  # the replica identity: `d`efault, `n`othing, `f`ull, `i`ndex
    columns: tuple[RelationColumn, ...]

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """One TRUNCATE of some tables; `row` is the message's number in its batch."""

    row: int
    oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


def parse_relation(message: bytes) -> Relation:
    """Raises BrokenMessageError."""
    reader = _Reader(message)
    oid = reader.number(4)
    if not oid:
        raise BrokenMessageError("names table 0")
    schema = reader.text() or "pg_catalog"
    table = reader.text()
    identity = chr(reader.number(1))
    if identity not in _IDENTITIES:
        raise BrokenMessageError(f"has the unknown replica identity {identity!r}")
    columns = tuple(_column(reader) for _ in range(reader.number(2)))
    reader.finish()
    if len({column.name for column in columns}) != len(columns):
        raise BrokenMessageError(f"names a column of {schema}.{table} twice")
    return Relation(oid=oid, schema=schema, table=table, identity=identity, columns=columns)


def _column(reader: _Reader) -> RelationColumn:
    flags = reader.number(1)
    if flags > 1:
        raise BrokenMessageError(f"has a column with the unknown flags {flags}")
    return RelationColumn(
        name=reader.text(),
        type_oid=reader.number(4),
        typmod=reader.number(4, signed=True),
        in_identity=flags == 1,
    )


def parse_truncation(message: bytes, row: int) -> Truncation:
    """Raises BrokenMessageError."""
    reader = _Reader(message)
    count = reader.number(4)
    options = reader.number(1)
    if options & ~(_CASCADE | _RESTART):
        raise BrokenMessageError(f"has the unknown options {options}")
    if not count:
        raise BrokenMessageError("names no table")
    oids = tuple(reader.number(4) for _ in range(count))
    reader.finish()
    return Truncation(
        row=row,
        oids=oids,
        cascade=bool(options & _CASCADE),
        restart_identity=bool(options & _RESTART),
    )


def check_type(message: bytes) -> None:
    """A Type message names a type that is not built in. Raises BrokenMessageError."""
    reader = _Reader(message)
    reader.number(4)
    reader.text()
    reader.text()
    reader.finish()


def check_origin(message: bytes) -> None:
    """An Origin message: the server had this transaction from another one. Raises the same."""
    reader = _Reader(message)
    reader.number(8)
    reader.text()
    reader.finish()


def check_logical(message: bytes) -> None:
    """A message of `pg_logical_emit_message`, in a transaction or not. Raises the same."""
    reader = _Reader(message)
    flags = reader.number(1)
    if flags > 1:
        raise BrokenMessageError(f"has the unknown flags {flags}")
    reader.number(8)
    reader.text()
    reader.skip(reader.number(4))
    reader.finish()


class _Reader:
    """Reads one message from its second byte on."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._place = 1

    def number(self, size: int, *, signed: bool = False) -> int:
        self.skip(size)
        return int.from_bytes(self._message[self._place - size : self._place], "big", signed=signed)

    def text(self) -> str:
        end = self._message.find(b"\0", self._place)
        if end < 0:
            raise BrokenMessageError("ends within a name")
        try:
            found = self._message[self._place : end].decode()
        except UnicodeDecodeError:
            raise BrokenMessageError("holds a name that is not valid UTF-8") from None
        self._place = end + 1
        return found

    def skip(self, size: int) -> None:
        self._place += size
        if self._place > len(self._message):
            raise BrokenMessageError("ends too early")

    def finish(self) -> None:
        if self._place < len(self._message):
            raise BrokenMessageError(
                f"has {len(self._message) - self._place} bytes more than it should"
            )
