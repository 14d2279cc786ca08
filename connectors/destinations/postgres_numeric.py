"""Decimals as PostgreSQL's binary numerics, many at once.

Format: numeric_send and numeric_recv in src/backend/utils/adt/numeric.c. Four 16-bit numbers (count
of digits, weight of the first one, sign, scale) precede digits to the base of 10,000. The server
takes zeros at either end, so that all values of one type have one width here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rowtrail.connectors.destinations.column_types import Range

Words = npt.NDArray[np.uint64]

_DIGITS = 4  # decimal digits in one digit to the base of 10,000
_BASE = np.uint64(10**_DIGITS)
_NEGATIVE = 0x4000
_ONE_WORD = 19  # decimal digits that 64 bits hold, whatever they are


def encode_decimals(low: Words, high: Words, size: Range) -> npt.NDArray[np.uint8]:
    """Rows of bytes, one for each number of 128 bits in two's complement.

    `size` is digits and scale of the type; `low` and `high` are the halves of the unscaled values.
    """
    precision, scale = size
    behind = -(-scale // _DIGITS)
    before = -(-(precision - scale) // _DIGITS)
    negative = high >= np.uint64(2**63)
    magnitude = _magnitude(low, high, negative, words=1 if precision < _ONE_WORD else 4)
    out = np.empty((len(low), 4 + before + behind), dtype=">u2")
    out[:, 0] = before + behind
    out[:, 1] = (before - 1) % 2**16
    out[:, 2] = np.where(negative, _NEGATIVE, 0)
    out[:, 3] = scale
    column = out.shape[1] - 1
    if odd := scale % _DIGITS:
        # The last digit is filled up with zeros on its right.
        magnitude, rest = _divide(magnitude, 10**odd)
        out[:, column] = rest * np.uint64(10 ** (_DIGITS - odd))
        column -= 1
    while column >= 4:
        magnitude, rest = _divide(magnitude, int(_BASE) ** 2)
        out[:, column] = rest % _BASE
        if column > 4:
            out[:, column - 1] = rest // _BASE
        column -= 2
    return out.view(np.uint8)


def _magnitude(low: Words, high: Words, negative: npt.NDArray[np.bool_], words: int) -> list[Words]:
    """The absolute values, the most significant word first: one of 64 bits or four of 32."""
    low_positive = np.where(negative, ~low + np.uint64(1), low)
    if words == 1:
        return [low_positive]
    high_positive = np.where(negative, ~high + (low_positive == 0), high)
    shift, mask = np.uint64(32), np.uint64(2**32 - 1)
    return [part for word in (high_positive, low_positive) for part in (word >> shift, word & mask)]


def _divide(words: list[Words], divisor: int) -> tuple[list[Words], Words]:
    """Quotient and rest; long division when there are several words. `divisor` is below 2**32."""
    by = np.uint64(divisor)
    if len(words) == 1:
        quotient, rest = np.divmod(words[0], by)
        return [quotient], rest
    rest = np.zeros_like(words[0])
    quotients = []
    for word in words:
        quotient, rest = np.divmod((rest << np.uint64(32)) | word, by)
        quotients.append(quotient)
    return quotients, rest
