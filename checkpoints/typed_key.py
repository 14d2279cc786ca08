"""What a person types as a key, read with the stream's key types known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import InvalidOperation
from typing import TYPE_CHECKING, NoReturn

from rowtrail.checkpoints import key_text
from rowtrail.checkpoints.canonical import KeyValue

if TYPE_CHECKING:
    import pyarrow as pa


def parse_key(text: str, types: Sequence[pa.DataType]) -> tuple[KeyValue, ...]:
    """The key that a person typed for columns of these types, in key order.

    `42` is text for a text key and an integer for an integer key; the literals of `str(RecordId)`
    are taken too. A key of one text column is taken whole, commas included. A timestamp without
    zone for a column with one is UTC. Raises ValueError, which names the part and the type.
    """
    parts = [text] if len(types) == 1 else key_text.split(text)
    if len(parts) != len(types):
        raise ValueError(
            f"{text!r} has {len(parts)} parts but the key has {len(types)}: "
            f"{', '.join(map(str, types))}; divide them by commas, and quote text that holds one"
        )
    return tuple(_typed(part, data_type) for part, data_type in zip(parts, types, strict=True))


def _typed(part: str, data_type: pa.DataType) -> KeyValue:
    kind = _kind(data_type)
    quoted = len(part) >= 2 and part[0] == part[-1] == '"'
    bare = key_text.whole_quoted(part) if quoted else part
    if kind == "text":
        return bare
    if part == "null":
        return None
    if match := key_text.LITERAL.fullmatch(bare):
        bare = match[2] if match[1] == kind else _refuse(part, data_type)
    try:
        return _of_kind(kind, bare, data_type)
    except (ValueError, InvalidOperation):
        _refuse(part, data_type)


def _refuse(part: str, data_type: pa.DataType) -> NoReturn:
    raise ValueError(f"{part!r} is not a value of the key's type {data_type}")


def _kind(data_type: pa.DataType) -> str:
    """What values of the type are called in the text of keys."""
    import pyarrow as pa
    from pyarrow import types

    if data_type == pa.uuid():
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
            return _boolean(text)
        case "integer":
            return _integer(text, data_type)
        case "timestamp":
            return _timestamp(text, data_type)
        case "x":
            return key_text.unhex(text.removeprefix("0x"))
        case _:
            return key_text.READERS[kind](text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("neither true nor false")
    return text.lower() in ("true", "1")


def _integer(text: str, data_type: pa.DataType) -> int:
    from pyarrow import types

    if not re.fullmatch("[+-]?[0-9]+", text):  # int() takes more than that
        raise ValueError("no integer")
    value = int(text)
    if types.is_signed_integer(data_type):
        half = 1 << (data_type.bit_width - 1)
        in_range = -half <= value < half
    else:
        in_range = 0 <= value < 1 << data_type.bit_width
    if not in_range:
        raise ValueError("out of range")
    return value


def _timestamp(text: str, data_type: pa.DataType) -> datetime:
    moment = datetime.fromisoformat(text)
    if data_type.tz is not None:
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    if moment.tzinfo is not None:
        raise ValueError("the column has no zone")
    return moment
