"""Lengths of time as people write them: `90d`, `12h`."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}
_TEXT = re.compile(r"([0-9]{1,6})\s*([hdwy])", re.IGNORECASE)


def parse_age(value: object) -> timedelta:
    """The time that a text names; raises ValueError that says what is right.

    Hours (h), days (d), weeks (w) or years (y, of 365 days).
    """
    if isinstance(value, timedelta):
        return value
    match = _TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            f'{value!r} is no length of time: write a number and h, d, w or y, such as "90d"'
        )
    try:
        return int(match[1]) * _UNITS[match[2].lower()]
    except OverflowError:
        raise ValueError(f"{value!r} is longer than any calendar") from None
