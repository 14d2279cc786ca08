"""Names of tables: which pattern means which table, and how a table's stream is called."""

from __future__ import annotations

import hashlib
import re

_VALID = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_DERIVED = re.compile(r"(.+)_h[0-9a-f]{8}")
_LONGEST = 63
"""Bytes that databases take for the name of a table."""


def is_pattern(name: str) -> bool:
    """Whether a section's name stands for many tables."""
    return "*" in name


def matches(pattern: str, table: str) -> bool:
    """Whether a pattern means this table, named as `Catalog.tables` gives it.

    `*` stands for any characters, dots among them; all else for itself, in the same case. A table
    without a schema in its name is also meant by its name behind `public.`, and one that is listed
    in quotes by its name without them.
    """
    fits = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL).fullmatch
    plain = _unquoted(table)
    names = [table, plain] if "." in plain else [table, plain, f"public.{plain}"]
    return any(fits(name) for name in names)


def same_table(one: str, other: str) -> bool:
    """Whether two names differ at most in quotes and `public.`."""
    first, second = (_unquoted(name).removeprefix("public.") for name in (one, other))
    return first == second


def weight(pattern: str) -> int:
    """Where several patterns mean one table, the heaviest counts: the one that says most."""
    return len(pattern) - pattern.count("*")


def stream_name(table: str) -> str:
    """The name of a table's stream, and of its target: the same at all times, and its alone.

    The table's own where it is made of letters, digits, `_`, `-` and dots between them. Otherwise
    what is left of it, with `_h` and eight digits of a hash of the whole name.
    """
    if _VALID.fullmatch(table):
        return table
    suffix = f"_h{hashlib.sha256(table.encode()).hexdigest()[:8]}"
    schema, dot, name = _safe(table).rpartition(".")
    return f"{schema}{dot}{name[: _LONGEST - len(suffix)]}{suffix}"


def may_be_of(pattern: str, stream: str) -> bool:
    """Whether a stream of this name can be that of a table that the pattern means.

    For those who know the stream but cannot ask the source for its table.
    """
    derived = _DERIVED.fullmatch(stream)
    return matches(pattern, stream) or (
        derived is not None and matches(_safe(pattern, keep="*"), derived[1])
    )


def _unquoted(table: str) -> str:
    return table.replace('"', "")


def _safe(name: str, keep: str = "") -> str:
    """Without quotes, and with `_` for what may not stand in a stream's name."""
    parts = _unquoted(name).split(".")
    return ".".join(re.sub(rf"[^A-Za-z0-9_{keep}-]", "_", part) or "_" for part in parts)
