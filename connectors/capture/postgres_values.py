"""Single values in PostgreSQL's text output, read strictly: what `postgres_text` cannot do at once.

Each function gives a value as Arrow takes it, or None where the Arrow type cannot hold it: dates as
days and times as microseconds since 1970-01-01, since Python's own end at the year 9999.
https://www.postgresql.org/docs/current/datatype-datetime.html
"""

from __future__ import annotations

import binascii
import math
import re
from decimal import Context, Decimal, Inexact, InvalidOperation

import numpy as np
import pyarrow as pa

_INTEGER = re.compile(r"(-?[0-9]+)(\.0*)?")
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]*)?")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SPECIAL = ("NaN", "Infinity", "-Infinity")
_DATE = r"([0-9]{4,7})-([0-9]{2})-([0-9]{2})"
_TIME = r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?"
_ZONE = r"(?P<sign>[+-])(?P<h>[0-9]{2})(?::(?P<m>[0-9]{2}))?(?::(?P<s>[0-9]{2}))?"
_FULL_DATE = re.compile(_DATE + "( BC)?")
_FULL_TIME = re.compile(_TIME)
_FULL_TIMESTAMP = re.compile(f"{_DATE} {_TIME}(?:{_ZONE})?(?P<era> BC)?")
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAYS_BEFORE_1970 = 719_162  # from 0001-01-01
_DAY_MICROSECONDS = 86_400_000_000


def read_boolean(text: str) -> bool | None:
    return {"t": True, "f": False}.get(text)


def read_integer(bits: int, text: str) -> int | None:
    """A numeric such as 12.00 is the integer 12."""
    match = _INTEGER.fullmatch(text)
    if match is None or len(match[1]) > 20:
        return None
    value = int(match[1])
    return value if -(2 ** (bits - 1)) <= value < 2 ** (bits - 1) else None


def read_decimal(precision: int, scale: int, text: str) -> Decimal | None:
    """NaN and infinities, and digits past the precision or the scale, cannot be held."""
    if _DECIMAL.fullmatch(text) is None:
        return None
    exact = Context(prec=precision, traps=[Inexact, InvalidOperation])
    try:
        return Decimal(text).quantize(Decimal(1).scaleb(-scale), context=exact)
    except (Inexact, InvalidOperation):
        return None


def read_float(bits: int, kind: str, text: str) -> float | None:
    """A float of PostgreSQL is that float; another number must be the shortest text of a float.

    So 0.1 can be held as a numeric, and 0.1000000000000000055511151231257827 cannot.
    """
    if text in _SPECIAL:
        return float(text)
    if _NUMBER.fullmatch(text) is None:
        return None
    read_as = pa.float32() if kind == "float4" or bits == 32 else pa.float64()
    value: float = pa.scalar(text).cast(read_as).as_py()
    if math.isinf(value):
        return None
    if kind == "float4" or (kind == "float8" and bits == 64):
        return value
    shortest = str(np.float32(value)) if bits == 32 else repr(value)
    return value if Decimal(text) in (Decimal(shortest), Decimal(value)) else None


def read_date(text: str) -> int | None:
    """Days since 1970-01-01."""
    match = _FULL_DATE.fullmatch(text)
    if match is None:
        return None
    return _days(match[1], match[2], match[3], before_christ=match[4] is not None)


def read_time(text: str) -> int | None:
    """Microseconds since midnight; PostgreSQL's 24:00:00 is not a time of a day in Arrow."""
    match = _FULL_TIME.fullmatch(text)
    return None if match is None else _microseconds(*match.groups())


def read_timestamp(zoned: bool, text: str) -> int | None:
    """Microseconds since 1970-01-01. A text without a zone is not a `timestamptz`, and reversed."""
    match = _FULL_TIMESTAMP.fullmatch(text)
    if match is None or zoned != (match["sign"] is not None):
        return None
    days = _days(match[1], match[2], match[3], before_christ=match["era"] is not None)
    within = _microseconds(match[4], match[5], match[6], match[7])
    if days is None or within is None:
        return None
    value = days * _DAY_MICROSECONDS + within
    if zoned:
        offset = 3600 * int(match["h"]) + 60 * int(match["m"] or 0) + int(match["s"] or 0)
        value -= (offset if match["sign"] == "+" else -offset) * 1_000_000
    return value if -(2**63) <= value < 2**63 else None


def read_bytes(text: str) -> bytes | None:
    if not text.startswith("\\x"):
        return None
    try:
        return binascii.unhexlify(text[2:])
    except ValueError:
        return None


def _days(year: str, month: str, day: str, *, before_christ: bool) -> int | None:
    """Days since 1970-01-01 in the Gregorian calendar, as PostgreSQL counts back too."""
    y, m, d = int(year), int(month), int(day)
    if not (y and 1 <= m <= 12):
        return None
    y = 1 - y if before_christ else y
    leap = y % 4 == 0 and (y % 100 != 0 or y % 400 == 0)
    if not 1 <= d <= _MONTH_DAYS[m - 1] + (leap and m == 2):
        return None
    before = y - 1
    days = 365 * before + before // 4 - before // 100 + before // 400
    days += sum(_MONTH_DAYS[: m - 1]) + (leap and m > 2) + d - 1
    return days - _DAYS_BEFORE_1970


def _microseconds(hours: str, minutes: str, seconds: str, fraction: str | None) -> int | None:
    h, m, s = int(hours), int(minutes), int(seconds)
    if h > 23 or m > 59 or s > 59:
        return None
    return (h * 3600 + m * 60 + s) * 1_000_000 + int((fraction or "").ljust(6, "0"))
