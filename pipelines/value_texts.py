"""The texts in which a value may stand in a message of a database, of Arrow or of Python code."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_WORD = 4
"""Shorter parts of a value are no secret by themselves."""
_PLAIN = r"^[!#-&(-\[\]-~]([ !#-&(-\[\]-~]*[!#-&(-\[\]-~])?$"
"""Printable ASCII with neither quotes nor backslashes, and no blank at either end."""


def texts_of(value: pa.Scalar) -> Iterator[str]:
    """The usual spellings of the value, none of them empty; nothing for NULL."""
    if not value.is_valid:
        return
    try:
        plain = value.as_py()
    except (ValueError, OverflowError):  # a time that Python has no form for
        plain = str(value)
    for text in _spelled(plain):
        if text.strip():
            yield text
            yield text.strip()


def texts_in(column: pa.Array) -> Iterator[str]:
    """The spellings of all values of a column. Of plain text there is but one, and it is quick."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        values = column.unique().drop_null()
        plain = pc.match_substring_regex(values, _PLAIN)
        yield from values.filter(plain).to_pylist()
        rest = values.filter(pc.invert(plain))
    else:
        # Arrow has no `unique` of nested types.
        rest = column if pa.types.is_nested(column.type) else column.unique()
    for value in rest:
        yield from texts_of(value)


def words_of(value: pa.Scalar) -> Iterator[str]:
    """The parts of a value that is one word, such as the two sides of an address's `@`."""
    if not value.is_valid or not (
        pa.types.is_string(value.type) or pa.types.is_large_string(value.type)
    ):
        return
    text = value.as_py()
    if not re.search(r"\s", text):
        yield from (word for word in re.split(r"[\W_]+", text) if len(word) >= _WORD)


def _spelled(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        yield repr(value)[1:-1]
        yield ascii(value)[1:-1]
        yield json.dumps(value)[1:-1]
        yield value.replace("'", "''")
        yield value.replace('"', '""')
    elif isinstance(value, bytes):
        yield value.hex()
        yield repr(value)[2:-1]
        yield value.decode(errors="replace")
        yield base64.b64encode(value).decode()
    elif isinstance(value, bool):
        yield str(value)
    elif isinstance(value, int):
        yield str(value)
        yield f"{value:,}"
    elif isinstance(value, float):
        yield repr(value)
        yield f"{value:g}"
        if value.is_integer():
            yield str(int(value))
    elif isinstance(value, Decimal):
        yield str(value)
        yield f"{value:f}"
        yield f"{value:,f}"
        yield f"{value.normalize():f}"
    elif isinstance(value, datetime):
        yield from _moments(value)
    elif isinstance(value, date):
        yield value.isoformat()
        yield repr(value)
    elif isinstance(value, Mapping):
        yield str(value)
        yield json.dumps(value, default=str)
        for inner in value.values():
            yield from _spelled(inner)
    elif isinstance(value, list):
        yield str(value)
        for inner in value:
            yield from _spelled(inner)
    elif value is not None:
        yield str(value)


def _moments(value: datetime) -> Iterator[str]:
    whole = value.replace(microsecond=0)
    for one in (value, whole, value.replace(tzinfo=None), whole.replace(tzinfo=None)):
        yield one.isoformat()
        yield one.isoformat(sep=" ")
    yield repr(value)
    yield value.date().isoformat()
