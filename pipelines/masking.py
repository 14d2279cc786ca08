"""Takes known texts out of a message, however many are known: in time for the message's length.

A text counts wherever it stands, in whatever case, whole or cut off behind its first characters.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator

MASK = "***"
SHORT = 4
"""A shorter text counts as a word of its own only, else `a` would go out of every word."""
PREFIX = 12
"""A text that the message cuts off is known by so many characters."""
LONGEST = 20_000
"""Of a longer message the rest is left out, so that the time it takes has an end."""


def without(message: str, texts: Collection[str]) -> str:
    """The message with `***` for each of the texts; two that overlap are one."""
    if len(message) > LONGEST:
        # Less what may be the beginning of a text.
        return f"{without(message[:LONGEST], texts)[:-PREFIX]}…"
    spans = sorted(_spans(message, {_small(text) for text in texts if text}))
    told, end = [], 0
    for start, stop in spans:
        if start >= end:
            told += [message[end:start], MASK]
        end = max(end, stop)
    return "".join((*told, message[end:]))


def _spans(message: str, known: set[str]) -> Iterator[tuple[int, int]]:
    small = _small(message)
    lengths = sorted({len(text) for text in known if len(text) <= PREFIX})
    longer = sorted(text for text in known if len(text) > PREFIX)
    for start in range(len(small)):
        for length in lengths:
            stop = start + length
            if small[start:stop] in known and (length >= SHORT or _is_word(small, start, stop)):
                yield start, stop
        # Whole or cut off, a longer one is told by how far the message goes along with it.
        common = _in_common(small[start:], longer)
        if common >= PREFIX:
            yield start, start + common


def _in_common(rest: str, in_order: list[str]) -> int:
    """How many characters at most one of the texts begins with as the rest does.

    The one that has most of them is a neighbour of the rest's own place among them.
    """
    place = bisect_left(in_order, rest)
    return max((_common(rest, text) for text in in_order[max(place - 1, 0) : place + 1]), default=0)


def _common(one: str, other: str) -> int:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length


def _is_word(text: str, start: int, stop: int) -> bool:
    before, after = text[start - 1 : start], text[stop : stop + 1]
    return not (_in_word(before) or _in_word(after))


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _small(text: str) -> str:
    """In small letters, of the same length: a few letters have two characters for one."""
    small = text.lower()
    if len(small) == len(text):
        return small
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
