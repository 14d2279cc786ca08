"""Numbers of bytes as people write them: `10GB`, `512 MiB`."""

from __future__ import annotations

import re

_DECIMAL = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BINARY = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_UNITS = {**_DECIMAL, **_BINARY}
_TEXT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")


def parse_size(value: object) -> int:
    """Bytes from a whole number or a text with a unit; raises ValueError that says what is right.

    kB, MB, GB and TB are powers of 1,000, KiB, MiB, GiB and TiB powers of 1,024; case is free.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        match = _TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
        unit = _UNITS.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise ValueError(
                f'{value!r} is no size: write bytes, or a number with a unit, such as "10GB" '
                f"(kB, MB, GB, TB; KiB, MiB, GiB, TiB)"
            )
        size = round(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit
    if size < 1:
        raise ValueError("should be more than 0 bytes")
    return size


def size_text(size: int) -> str:
    """The size for a person: `1.2 GB`, `512 bytes`."""
    for unit in ("TB", "GB", "MB", "kB"):
        scale = _DECIMAL[unit.lower()]
        if size >= scale:
            return f"{size / scale:,.1f}".removesuffix(".0") + f" {unit}"
    return f"{size} bytes"
