"""Record ids: which record of which stream, as bytes that are equal everywhere and as text.

Canonical bytes are a sequence of fields, the stream first, then each key value. A field is a tag of
one byte, the length of the payload in four bytes (big-endian) and the payload, so two different
lists of fields never give the same bytes. Payloads: UTF-8 for text, two's complement for integers,
the digits without trailing zeros for decimals, microseconds since 1970 for times.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

if TYPE_CHECKING:
    import pyarrow as pa

KeyValue = int | str | bytes | bool | Decimal | float | date | datetime | time | UUID | None

_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_SHIELDED = re.compile(r"""[,:"'\s]""")  # text that holds one of these is quoted
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_NUMBER_LIKE = re.compile(r"[+-]?\.?[0-9][0-9._]*([eE][+-]?[0-9]*)?")
_WORDS: dict[str, KeyValue] = {"true": True, "false": False, "null": None}
_LITERAL = re.compile(r"(decimal|float|date|timestamp|time|uuid|x)'([^']*)'")
_JSON = json.JSONDecoder()


@dataclass(frozen=True, eq=False, slots=True)
class RecordId:
    """One record: a stream and the values of its key, in key order.

    Two ids are equal when their canonical bytes are: 1, True, '1' and Decimal(1) are four different
    keys, Decimal('1.5') and Decimal('1.50') are one. Raises ValueError for an empty key and
    TypeError for a value that is not a KeyValue.
    """

    stream: str
    key: tuple[KeyValue, ...]

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError(f"a record id of stream {self.stream} needs at least one key value")
        for value in self.key:
            if not isinstance(value, KeyValue):
                raise TypeError(
                    f"a key of stream {self.stream} holds a {type(value).__name__}, which is no "
                    "type that a key can have"
                )

    def canonical(self) -> bytes:
        """Bytes that are the same in every process and on every platform."""
        return _field(b"S", self.stream.encode("utf-8", "surrogatepass")) + self.key_bytes()

    def key_bytes(self) -> bytes:
        """The canonical bytes of the key alone."""
        return b"".join(map(_canonical, self.key))

    def key_text(self) -> str:
        """The text of the key alone, without the stream."""
        return ",".join(map(_text, self.key))

    def __str__(self) -> str:
        stream = self.stream
        shielded = not stream or not stream.isprintable() or _SHIELDED.search(stream)
        return f"{_quoted(stream) if shielded else stream}:{self.key_text()}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RecordId):
            return NotImplemented
        return self.canonical() == other.canonical()

    def __hash__(self) -> int:
        return hash(self.canonical())

    @classmethod
    def parse(cls, text: str) -> RecordId:
        """The record id whose text this is: the inverse of `str`. Raises ValueError."""
        if text.startswith('"'):
            stream, end = _unquote(text, 0)
        else:
            end = text.find(":")
            stream = text[:end]
        if end <= 0 or text[end : end + 1] != ":":
            raise ValueError(f"{text!r} is no record id; write it as STREAM:KEY, as in orders:42")
        return cls.of_key_text(stream, text[end + 1 :])

    @classmethod
    def of_key_text(cls, stream: str, text: str) -> RecordId:
        """The record id of a stream and the text of a key. Raises ValueError."""
        return cls(stream, tuple(_value(part) for part in _split(text)))


def from_arrow(stream: str, keys: pa.RecordBatch) -> list[RecordId]:
    """The record ids of all rows of key columns, which are in key order.

    Raises ValueError for a timestamp that microseconds cannot hold.
    """
    columns = [_python_values(column) for column in keys.columns]
    return [RecordId(stream, key) for key in zip(*columns, strict=True)]


def _python_values(column: pa.Array) -> list[Any]:
    import pyarrow as pa

    # Nanoseconds would come as pandas objects.
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", tz=column.type.tz))
    elif column.type == pa.time64("ns"):
        column = column.cast(pa.time64("us"))
    return list(column.to_pylist())


# Canonical bytes.


def _field(tag: bytes, payload: bytes) -> bytes:
    return tag + struct.pack(">I", len(payload)) + payload


def _canonical(value: KeyValue) -> bytes:
    tag, payload = _tagged(value)
    return _field(tag, payload)


def _tagged(value: KeyValue) -> tuple[bytes, bytes]:
    # bool before int and datetime before date: each is a subclass of the other.
    match value:
        case None:
            return b"n", b""
        case bool():
            return b"b", b"\x01" if value else b"\x00"
        case int():
            return b"i", _integer_bytes(value)
        case str():
            return b"t", value.encode("utf-8", "surrogatepass")
        case bytes():
            return b"x", value
        case Decimal():
            return b"d", _decimal_bytes(value)
        case float():
            return b"f", _float_bytes(value)
        case datetime():
            return _timestamp_bytes(value)
        case date():
            return b"D", _integer_bytes(value.toordinal())
        case time():
            return b"h", value.isoformat("microseconds").encode()
        case UUID():
            return b"u", value.bytes


def _integer_bytes(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True)


def _decimal_bytes(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):  # NaN and infinity
        return str(value).encode()
    text = "".join(map(str, digits)).lstrip("0")
    stripped = text.rstrip("0")
    if not stripped:
        return b"0"
    return f"{'-' if sign else ''}{stripped}e{exponent + len(text) - len(stripped)}".encode()


def _float_bytes(value: float) -> bytes:
    # One zero and one NaN, as databases compare them.
    return struct.pack(">d", math.nan if math.isnan(value) else value + 0.0)


def _timestamp_bytes(value: datetime) -> tuple[bytes, bytes]:
    tag, naive = b"s", value
    if value.tzinfo is not None:
        tag, naive = b"z", value.astimezone(UTC).replace(tzinfo=None)
    return tag, _integer_bytes((naive - _EPOCH) // _MICROSECOND)


# Text.


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _text(value: KeyValue) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return _quoted(value) if _needs_quotes(value) else value
        case bytes():
            return f"x'{value.hex()}'"
        case Decimal():
            return f"decimal'{value}'"
        case float():
            return f"float'{value!r}'"
        case datetime():
            instant = value if value.tzinfo is None else value.astimezone(UTC)
            return f"timestamp'{instant.isoformat(' ')}'"
        case date():
            return f"date'{value.isoformat()}'"
        case time():
            return f"time'{value.isoformat()}'"
        case UUID():
            return f"uuid'{value}'"


def _needs_quotes(text: str) -> bool:
    return (
        not text
        or not text.isprintable()
        or text in _WORDS
        or _SHIELDED.search(text) is not None
        or _NUMBER_LIKE.fullmatch(text) is not None
    )


def _unquote(text: str, start: int) -> tuple[str, int]:
    try:
        value, end = _JSON.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"the quoted text that begins at character {start + 1} of {text!r} does not end; "
            "write it as in JSON"
        ) from error
    assert isinstance(value, str)  # it begins with a quotation mark
    return value, end


def _split(text: str) -> list[str]:
    """The parts of a key's text, divided by the commas that are not in quotes."""
    parts, start, position = [], 0, 0
    while position <= len(text):
        if position == len(text) or text[position] == ",":
            parts.append(text[start:position])
            start = position = position + 1
        elif text[position] == '"' and position == start:
            position = _unquote(text, position)[1]
        elif text[position] == "'" and text.find("'", position + 1) > 0:
            position = text.find("'", position + 1) + 1
        else:
            position += 1
    return parts


def _value(part: str) -> KeyValue:
    """The value that one part of a key's text stands for."""
    if part.startswith('"'):
        return _whole_quoted(part)
    if part in _WORDS:
        return _WORDS[part]
    if _INTEGER.fullmatch(part):
        return int(part)
    if match := _LITERAL.fullmatch(part):
        return _literal(match[1], match[2])
    if _needs_quotes(part):
        hint = (
            f"decimal'{part}' for a number or {_quoted(part)} for text"
            if _NUMBER_LIKE.fullmatch(part)
            else f"{_quoted(part)} for text"
        )
        raise ValueError(f"{part!r} is not a key value; write {hint}")
    return part


def _whole_quoted(part: str) -> str:
    value, end = _unquote(part, 0)
    if end != len(part):
        raise ValueError(f"{part!r} goes on after the quoted text; divide key values by commas")
    return value


def _unhex(text: str) -> bytes:
    if not re.fullmatch(r"([0-9a-fA-F]{2})*", text):
        raise ValueError(f"{text!r} is no sequence of hexadecimal bytes")
    return bytes.fromhex(text)


_READERS: dict[str, Callable[[str], KeyValue]] = {
    "decimal": Decimal,
    "float": float,
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "time": time.fromisoformat,
    "uuid": UUID,
    "x": _unhex,
}


def _literal(kind: str, text: str) -> KeyValue:
    try:
        return _READERS[kind](text)
    except (ValueError, InvalidOperation) as error:
        raise ValueError(f"{kind}'{text}' is not a valid {kind}") from error


# What a person types, with the key's types known.


def parse_key(text: str, types: Sequence[pa.DataType]) -> tuple[KeyValue, ...]:
    """The key that a person typed for columns of these types, in key order.

    `42` is text for a text key and an integer for an integer key; the literals of `str(RecordId)`
    are taken too. A key of one text column is taken whole, commas included. A timestamp without
    zone for a column with one is UTC. Raises ValueError, which names the part and the type.
    """
    parts = [text] if len(types) == 1 else _split(text)
    if len(parts) != len(types):
        raise ValueError(
            f"{text!r} has {len(parts)} parts but the key has {len(types)}: "
            f"{', '.join(map(str, types))}; divide them by commas, and quote text that holds one"
        )
    return tuple(_typed(part, data_type) for part, data_type in zip(parts, types, strict=True))


def _typed(part: str, data_type: pa.DataType) -> KeyValue:
    kind = _kind(data_type)
    if kind == "text":
        return _whole_quoted(part) if _is_quoted(part) else part
    if part == "null":
        return None
    bare = _whole_quoted(part) if _is_quoted(part) else part
    if match := _LITERAL.fullmatch(bare):
        if match[1] != kind:
            _refuse(part, data_type)
        bare = match[2]
    try:
        return _of_kind(kind, bare, data_type)
    except (ValueError, InvalidOperation):
        _refuse(part, data_type)


def _refuse(part: str, data_type: pa.DataType) -> NoReturn:
    raise ValueError(f"{part!r} is not a value of the key's type {data_type}")


def _is_quoted(part: str) -> bool:
    return len(part) >= 2 and part[0] == part[-1] == '"'


def _kind(data_type: pa.DataType) -> str:
    from pyarrow import types

    if isinstance(data_type, types.lib.UuidType):
        return "uuid"
    tests = {
        "text": (types.is_string, types.is_large_string, types.is_string_view),
        "boolean": (types.is_boolean,),
        "integer": (types.is_integer,),
        "decimal": (types.is_decimal,),
        "float": (types.is_floating,),
        "date": (types.is_date,),
        "timestamp": (types.is_timestamp,),
        "time": (types.is_time,),
        "x": (types.is_binary, types.is_large_binary, types.is_fixed_size_binary),
    }
    for kind, checks in tests.items():
        if any(check(data_type) for check in checks):
            return kind
    raise ValueError(f"a key of type {data_type} cannot be typed at the command line")


def _of_kind(kind: str, text: str, data_type: pa.DataType) -> KeyValue:
    match kind:
        case "boolean":
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        case "integer":
            return _ranged(int(text), data_type)
        case "timestamp":
            moment = datetime.fromisoformat(text)
            if data_type.tz is None and moment.tzinfo is not None:
                raise ValueError("the column has no zone")
            zone = moment.tzinfo or (UTC if data_type.tz is not None else None)
            return moment.replace(tzinfo=zone)
        case "x":
            return _unhex(text.removeprefix("0x"))
        case _:
            return _READERS[kind](text)


def _ranged(value: int, data_type: pa.DataType) -> int:
    signed = not str(data_type).startswith("u")
    bits = data_type.bit_width - signed
    if not -(2**bits) * signed <= value < 2**bits:
        raise ValueError("out of range")
    return value
