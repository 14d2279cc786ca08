"""Canonical bytes of key values: equal in every process and on every platform.

A field is a tag of one byte, the length of the payload in four bytes (big-endian) and the payload,
so two different lists of fields never give the same bytes. Payloads: UTF-8 for text, two's
complement for integers, the digits without trailing zeros for decimals, microseconds since 1970 for
times.
"""

from __future__ import annotations

import math
import struct
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

KeyValue = int | str | bytes | bool | Decimal | float | date | datetime | time | UUID | None

_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)


def stream_field(name: str) -> bytes:
    """The field of a stream's name, which differs from that of a text."""
    return _field(b"S", name.encode("utf-8", "surrogatepass"))


def value_field(value: KeyValue) -> bytes:
    """The field of one key value."""
    return _field(*_tagged(value))


def _field(tag: bytes, payload: bytes) -> bytes:
    return tag + struct.pack(">I", len(payload)) + payload


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
    if value.tzinfo is None:
        return b"s", _integer_bytes((value - _EPOCH) // _MICROSECOND)
    return b"z", _integer_bytes((value - _EPOCH.replace(tzinfo=UTC)) // _MICROSECOND)
