"""Which failures have one cause: the same stage, exception and message, but for the values in it.

A message quotes values (`invalid literal: 'abc'`) and names (`column "email"`) in the same way.
Names stay, since two columns are two causes; all else that is quoted, or has digits, counts for
nothing. What a word is, is told by the stream's columns, and by the words that databases and
libraries put before a name.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Collection
from functools import lru_cache

from rowtrail.checkpoints.states import Stage

DIGITS = 16
"""Of a fingerprint, hexadecimal. `rowtrail failures` shows the first of them."""

_VALUE = "?"
_LOOKED_AT = 4_000
"""Characters of a message: an exception may carry a table with it."""

# As Python escapes it, else up to the first quote after which no word goes on: O'Neil has one.
_QUOTED = r"""(?<!\w)(?:'(?:\\.|[^\\])*?'(?!\w)|"(?:\\.|[^\\])*?"(?!\w)|'.*?'(?!\w)|".*?"(?!\w))"""
_NAME = r"[^\W\d]\w*(?:\.\w+)*"
_NAMES_FOLLOW = (
    "columns?|fields?|attribute|relation|table|view|constraint|index|sequence|domain|function|"
    "trigger|schema|argument|parameter|variable|module|partition"
)
_TYPES = (
    r"(?:u?(?:tiny|small|big|huge)?int(?:eger)?|long|double|float|real|decimal|numeric|bool|"
    r"boolean|(?:large_)?(?:string|utf|binary)|fixed_size_binary|character varying|character|"
    r"(?:var|bp)?char|bit(?: varying)?|date|time(?:stamp)?(?:tz)?|duration|interval|complex|"
    r"latin|base|sha|md|iso)"
)

# The first that matches at a place decides what becomes of it.
_PARTS = re.compile(
    "|".join(
        (
            # PostgreSQL: Key (a, b)=(1, x) already exists.
            r"(?P<key>\bkey \(.*?\)=)\(.*?\)(?=\.?$| already exists\b| is not present in table\b|"
            r" is still referenced from table\b| conflicts with existing key\b)",
            r"(?P<row>\bfailing row contains )\(.*\)",
            # The rule itself, literals in it included: it tells one CHECK from another.
            r"(?P<rule>\b(?:constraint failed:? (?:on table )?|breaks the constraint |"
            r"with expression )(?:\w*\(.*\)|[\w.]+)(?:.*? with expression .*\))?)",
            # DuckDB: Duplicate key "email: a@b"
            r"(?P<duplicate>\bduplicate key \"[^:\"]+: ).*?\"(?!\w)",
            rf"(?P<kept>\b(?:{_NAMES_FOLLOW})\s+(?:{_QUOTED}|`[^`]*`|{_NAME}))",
            r"(?P<object>(?<!\w)'\w+'(?= object\b)|`[^`]*`|"
            r"(?<!\w)'(?:str|int|float|bool|bytes|NoneType|list|dict|tuple|Decimal|datetime\.\w+|"
            r"decimal\.Decimal|Timestamp|Timedelta|NAType|NaTType)'(?!\w))",
            rf"(?P<type>\b{_TYPES}-?\d*(?:\s?[(\[]\d+(?:, ?-?\d+)?[)\]])?(?!\w)|"
            r"\bprecision \d+, scale \d+)",
            r"\b(?P<pandas>unable to parse: |date string ).*?(?=, at position| not likely|$)",
            rf"(?P<quoted>{_QUOTED})",
            # Python ends a long quotation after 200 signs, without its second quote.
            r"(?P<cut>(?<!\w)['\"].{150,}$)",
            r"(?P<url>\b[a-z][a-z+.-]*://[^\s'\"]+)",
            r"(?P<mail>[\w.+-]+@[\w-]+(?:\.[\w-]+)*)",
            r"(?P<path>(?<![\w/.])(?:[a-z]:)?(?:~|\.{1,2})?[/\\][^\s'\",;:()]+)",
            r"(?P<date>\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?"
            r"(?: ?(?:Z|UTC|[+-]\d\d(?::?\d\d)?))?)?)(?!\w)",
            r"(?P<uuid>\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b[a-f]{8,}\b)",
            r"(?P<number>(?<![\w.])[-+]?\d+(?:[.,_]\d+)*(?:e[-+]?\d+)?%?(?![\w]))",
            r"(?P<word>\w+(?:[-/.]\w+)*)",
        )
    ),
    re.IGNORECASE | re.DOTALL,
)
_KEEP = ("kept", "object", "type", "rule")
_BEGIN = ("key", "row", "duplicate", "pandas")
"""Of these the beginning is kept, and what follows is a value."""

_SEVERAL = re.compile(r"\?(?:(?:\s*[,;]\s*|\s+and\s+|\s+or\s+|\s+)\?)+")
_ADVICE = re.compile(r"^(?:HINT|CONTEXT|LINE \d+):.*$", re.MULTILINE)
"""PostgreSQL adds these to some values and not to others."""
_SPACE = re.compile(r"\s+")


def error_fingerprint(
    stage: Stage, error_class: str, message: str, columns: Collection[str] = ()
) -> str:
    """Equal for failures of one cause; `columns` are names that are never taken for values."""
    normal = normalized(message, frozenset(columns))
    return hashlib.sha256(f"{stage}\0{error_class}\0{normal}".encode()).hexdigest()[:DIGITS]


@lru_cache(maxsize=1024)
def normalized(message: str, columns: frozenset[str] = frozenset()) -> str:
    """The message with a question mark for each value. Failures come in runs of one message."""

    def part(match: re.Match[str]) -> str:
        kind, text = match.lastgroup or "", match.group()
        if kind in _KEEP:
            return text
        if kind in _BEGIN:
            return f"{match.group(kind)}{_VALUE}"
        if kind == "quoted":
            return text if text[1:-1] in columns else _VALUE
        if kind == "word":
            return _word(text, columns)
        return _VALUE

    text = _PARTS.sub(part, _SPACE.sub(" ", _spoken(message[:_LOOKED_AT])).strip())
    return _SEVERAL.sub(_VALUE, text)


def _word(text: str, columns: frozenset[str]) -> str:
    """A word with digits is a value, unless it names a column, as in `orders.line_2`."""
    if not any(character.isdigit() for character in text) or text in columns:
        return text
    if text.rpartition(".")[2] in columns:
        return text
    return _VALUE


def _spoken(message: str) -> str:
    """The sentences alone; pyarrow says several as a tuple, in which quotes stand in quotes."""
    message = _ADVICE.sub("", message).strip()
    if not (message.startswith(("('", '("')) and message.endswith(")")):
        return message
    try:
        parts = ast.literal_eval(message)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return message
    return ". ".join(map(str, parts)) if isinstance(parts, tuple) else message
