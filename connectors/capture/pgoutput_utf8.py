"""Values of tuples as text. A database with encoding SQL_ASCII can hold bytes that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from rowtrail.connectors.capture.pgoutput_wire import Mask

_PIECE = 1024


def as_text(values: Any) -> tuple[Any, Mask | None]:
    """Binary or large_binary values as string or large_string, NULL where they are not UTF-8.

    The mask is true there; None when there is no such value.
    """
    text = pa.large_string() if pa.types.is_large_binary(values.type) else pa.string()
    try:
        return values.cast(text), None
    except pa.ArrowInvalid:
        broken = _broken(values)
        valid = values.is_valid().to_numpy(zero_copy_only=False) & ~broken
        rows = pa.array(np.arange(len(values)), mask=~valid)
        return values.take(rows).cast(text), broken


def _broken(values: Any) -> Mask:
    """Where a value is not UTF-8: only pieces that hold such a value are looked at one by one."""
    broken = np.zeros(len(values), np.bool_)
    for start in range(0, len(values), _PIECE):
        piece = values.slice(start, _PIECE)
        try:
            piece.cast(pa.large_string() if piece.type == pa.large_binary() else pa.string())
        except pa.ArrowInvalid:
            broken[start : start + len(piece)] = [
                value is not None and not _is_text(value) for value in piece.to_pylist()
            ]
    return broken


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
