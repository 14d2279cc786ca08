"""Key values as text that a person can read and type, and that reads back as the same value.

Integers, true, false and null stand for themselves; so does text that can be nothing else. Other
text is quoted as in JSON. All other types carry their name: decimal'1.5', date'2024-01-31'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from uuid import UUID

from rowtrail.checkpoints.canonical import KeyValue

_SHIELDED = re.compile(r"""[,:"'\s]""")  # text that holds one of these is quoted
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_NUMBER_LIKE = re.compile(r"[+-]?\.?[0-9][0-9._]*([eE][+-]?[0-9]*)?")
_WORDS: dict[str, KeyValue] = {"true": True, "false": False, "null": None}
LITERAL = re.compile(r"(decimal|float|date|timestamp|time|uuid|x)'([^']*)'")
_LONGEST = 100  # digits of a decimal that is written without an exponent
_JSON = json.JSONDecoder()


def name(stream: str) -> str:
    """A stream's name, quoted where it needs to be: it is always text, so `42` does not."""
    plain = stream and stream.isprintable() and not _SHIELDED.search(stream)
    return stream if plain else _quoted(stream)


def to_text(value: KeyValue) -> str:
    """The text of one key value; equal keys have equal texts."""
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
            return f"decimal'{_plain(value)}'"
        case float():
            return f"float'{value + 0.0!r}'"  # one zero
        case datetime():
            instant = value if value.tzinfo is None else value.astimezone(UTC)
            return f"timestamp'{instant.isoformat(' ')}'"
        case date():
            return f"date'{value.isoformat()}'"
        case time():
            return f"time'{value.isoformat()}'"
        case UUID():
            return f"uuid'{value}'"


def _plain(value: Decimal) -> str:
    """The same for equal decimals: 1.50 and 1.5 are one key."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):  # NaN and infinity
        return str(value)
    text = "".join(map(str, digits)).lstrip("0")
    stripped = text.rstrip("0")
    if not stripped:
        return "0"
    short = Decimal((sign, tuple(map(int, stripped)), exponent + len(text) - len(stripped)))
    return f"{short:f}" if abs(short.adjusted()) < _LONGEST else str(short)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _needs_quotes(text: str) -> bool:
    return (
        not text
        or not text.isprintable()
        or text in _WORDS
        or _SHIELDED.search(text) is not None
        or _NUMBER_LIKE.fullmatch(text) is not None
    )


def unquote(text: str, start: int) -> tuple[str, int]:
    """The quoted text that begins there, and where it ends. Raises ValueError."""
    try:
        value, end = _JSON.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"the quoted text that begins at character {start + 1} of {text!r} does not end; "
            "write it as in JSON"
        ) from error
    assert isinstance(value, str)  # it begins with a quotation mark
    return value, end


def split(text: str) -> list[str]:
    """The parts of a key's text, divided by the commas that are neither quoted nor in a literal."""
    parts, start = [], 0
    while (end := text.find(",", _shielded_end(text, start))) >= 0:
        parts.append(text[start:end])
        start = end + 1
    return [*parts, text[start:]]


def _shielded_end(text: str, start: int) -> int:
    """Where the quoted text or the literal ends that begins at `start`; else `start`."""
    if text.startswith('"', start):
        return unquote(text, start)[1]
    literal = LITERAL.match(text, start)
    return literal.end() if literal else start


def to_value(part: str) -> KeyValue:
    """The value that one part of a key's text stands for. Raises ValueError."""
    if part.startswith('"'):
        return whole_quoted(part)
    if part in _WORDS:
        return _WORDS[part]
    if _INTEGER.fullmatch(part):
        return int(part)
    if match := LITERAL.fullmatch(part):
        return _literal(match[1], match[2])
    if _needs_quotes(part):
        hint = (
            f"decimal'{part}' for a number or {_quoted(part)} for text"
            if _NUMBER_LIKE.fullmatch(part)
            else f"{_quoted(part)} for text"
        )
        raise ValueError(f"{part!r} is not a key value; write {hint}")
    return part


def whole_quoted(part: str) -> str:
    """The text that a part stands for which is all in quotes. Raises ValueError."""
    value, end = unquote(part, 0)
    if end != len(part):
        raise ValueError(f"{part!r} goes on after the quoted text; divide key values by commas")
    return value


def unhex(text: str) -> bytes:
    if not re.fullmatch(r"([0-9a-fA-F]{2})*", text):
        raise ValueError(f"{text!r} is no sequence of hexadecimal bytes")
    return bytes.fromhex(text)


READERS: dict[str, Callable[[str], KeyValue]] = {
    "decimal": Decimal,
    "float": float,
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "time": time.fromisoformat,
    "uuid": UUID,
    "x": unhex,
}


def _literal(kind: str, text: str) -> KeyValue:
    try:
        return READERS[kind](text)
    except (ValueError, InvalidOperation) as error:
        raise ValueError(f"{kind}'{text}' is not a valid {kind}") from error
