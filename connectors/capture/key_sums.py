"""Compares integer keys by sums over ranges, so that only ranges that differ are read key by key.

A million keys are summed at the source in a fraction of the time that it takes to send them. A sum
is of mixed keys, in two ways: those of two sets of keys of equal number are equal by chance once in
2^60, and not for sets that have equal sums of powers, as 0, 4, 5 and 1, 2, 6 have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rowtrail.connectors.base import Known

Keys = npt.NDArray[np.int64]

RANGE_KEYS = 100_000
"""About so many keys are compared by one sum; all of them are read where it differs."""


class Mixer(NamedTuple):
    """Mixes a key k: x = k % prime * first % prime; (x xor x >> 15) * second % prime.

    Remainders have the sign of the key, as in SQL; no product is beyond 63 bits.
    """

    prime: int
    first: int
    second: int


MIXERS = (
    Mixer(2_147_483_647, 1_597_334_677, 1_103_515_245),
    Mixer(2_147_483_629, 1_181_783_497, 1_412_376_245),
)


class KeySum(NamedTuple):
    """The number of keys, and the sums of what each mixer makes of them."""

    number: int
    sums: tuple[int, ...]


NO_KEYS = KeySum(0, (0,) * len(MIXERS))


@runtime_checkable
class SummedTable(Protocol):
    """A table that may have one integer for its key, and can sum keys where it is."""

    def key_starts(self) -> list[int] | None:
        """The first keys of ranges of about RANGE_KEYS keys, less the first range's, in order;
        None where keys cannot be summed. Every key is in a range: the first and the last are open.
        """
        ...

    def key_sums(self, starts: Sequence[int]) -> Mapping[int, KeySum]:
        """The sums of each range by its number; a range without keys may be left out."""
        ...


class Span(NamedTuple):
    """The keys beyond `after` and up to `upto` inclusively; None is unbounded."""

    after: int | None
    upto: int | None


def differing(table: SummedTable, known: Known, starts: Sequence[int]) -> Iterator[Span]:
    """The ranges whose keys at the source are not those that are known, in key order."""
    sums = table.key_sums(starts)
    spans = zip(
        [None, *(start - 1 for start in starts)], [*(s - 1 for s in starts), None], strict=True
    )
    for number, (after, upto) in enumerate(spans):
        at_source = sums.get(number, NO_KEYS)
        if _known_sum(known, Span(after, upto), at_source.number) != at_source:
            yield Span(after, upto)


def _known_sum(known: Known, span: Span, enough: int) -> KeySum:
    """Of the known keys in the range; no more are looked at once there are more than `enough`."""
    total, after, more = NO_KEYS, span.after, True
    while more and total.number <= enough:
        keys = known.keys(
            None if after is None else (after,),
            None if span.upto is None else (span.upto,),
            2 * RANGE_KEYS,
        ).column(0)
        more = len(keys) == 2 * RANGE_KEYS
        after = keys[-1].as_py() if more else after
        found = key_sum(keys)
        sums = tuple(map(sum, zip(total.sums, found.sums, strict=True)))
        total = KeySum(total.number + found.number, sums)
    return total


def key_sum(keys: pa.ChunkedArray) -> KeySum:
    """Of keys without NULLs, as `key_sums` gives it."""
    values = keys.cast(pa.int64()).to_numpy()
    return KeySum(len(values), tuple(int(_mixed(values, mixer).sum()) for mixer in MIXERS))


def _mixed(values: Keys, mixer: Mixer) -> Keys:
    mixed: Keys = np.fmod(np.fmod(values, mixer.prime) * mixer.first, mixer.prime)
    remainders: Keys = np.fmod((mixed ^ (mixed >> 15)) * mixer.second, mixer.prime)
    return remainders


def mixed_sql(key: str, mixer: Mixer) -> str:
    """The same in SQL, for an expression of a 64-bit integer; `#` is the exclusive or of
    PostgreSQL. It fits 32 bits."""
    x = f"({key} % {mixer.prime} * {mixer.first} % {mixer.prime})"
    return f"(({x} # ({x} >> 15)) * {mixer.second} % {mixer.prime})::int4"
