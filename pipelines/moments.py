"""Moments as people write them: `2024-01-31`, `2024-01-31 08:30`, `2h` (so long ago)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_AGE = re.compile(r"([0-9]+)\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(text: str, now: datetime) -> datetime:
    """An aware moment; raises ValueError that says what is right.

    A time without a zone is UTC, as all times are that Rowtrail prints; an age counts back from
    `now`.
    """
    age = _AGE.fullmatch(text.strip())
    try:
        if age is not None:
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no moment: write a date or a time such as 2024-01-31 or "
            f"'2024-01-31 08:30' (UTC, or with a zone: 2024-01-31T08:30+02:00), or an age such as "
            f"90m, 2h, 3d or 1w"
        ) from None
