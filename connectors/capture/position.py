"""Positions as text: JSON with the capture's name in it, values typed so that nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from rowtrail.connectors.errors import PositionLostError

Values = tuple[object, ...]


@dataclass(frozen=True)
class BrokenText:
    """Text of the source that is not valid UTF-8; it can still be a key that a page ends at."""

    data: bytes


def encode(capture: str, fields: dict[str, object]) -> str:
    """The token of a position; tuples among the fields are values of any type."""
    packed = {
        name: [_pack(value) for value in field] if isinstance(field, tuple) else field
        for name, field in fields.items()
    }
    return json.dumps({"capture": capture, **packed}, separators=(",", ":"), ensure_ascii=False)


def decode(stream: str, capture: str, token: str, names: Set[str]) -> dict[str, Any]:
    """What `encode` was given, which must be fields of these `names`.

    Raises PositionLostError when the token is not this capture's.
    """
    try:
        fields = json.loads(token)
        if fields.pop("capture") == capture and fields.keys() == names:
            return {
                name: tuple(map(_unpack, field)) if isinstance(field, list) else field
                for name, field in fields.items()
            }
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise PositionLostError(
        f"The position of stream {stream} was not written by capture `{capture}` of this version, "
        f"so that nothing can be read from it. Read the stream anew: "
        f"rowtrail run --resnapshot {stream}"
    )


def _pack(value: object) -> object:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, BrokenText):
        return {"text": value.data.hex()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, time):
        return {"time": value.isoformat()}
    raise TypeError(f"a position cannot hold a {type(value).__name__}")


def _unpack(value: Any) -> object:
    if not isinstance(value, dict):
        return value
    ((kind, text),) = value.items()
    return _READERS[kind](text)


_READERS: dict[str, Any] = {
    "float": float.fromhex,
    "bytes": bytes.fromhex,
    "text": lambda text: BrokenText(bytes.fromhex(text)),
    "decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
}
