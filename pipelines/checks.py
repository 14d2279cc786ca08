"""Light checks as values: what a stream asks of the columns that it loads, as the file says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from enum import StrEnum
from typing import Any

_TOLD = 5
"""So many values of an `in` are told in a message."""


class Kind(StrEnum):
    """What a check asks of a value. NULL breaks NOT_NULL alone."""

    NOT_NULL = "not_null"
    UNIQUE = "unique"  # among the rows of one batch
    MIN = "min"
    MAX = "max"
    PATTERN = "pattern"  # a regular expression (RE2) that the whole value matches
    IN = "in"


class Severity(StrEnum):
    """What becomes of a row that breaks a check."""

    FAIL = "fail"  # it is a failed record
    WARN = "warn"  # it is loaded, and counted


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing asked of one column."""

    column: str
    kind: Kind
    bound: Any = None  # as the file has it; True for NOT_NULL and UNIQUE, a tuple for IN
    severity: Severity = Severity.FAIL

    @property
    def text(self) -> str:
        """As in the pipeline file: `min = 0`. A long `in` is cut."""
        if isinstance(self.bound, tuple):
            told = [_written(one) for one in self.bound[:_TOLD]]
            more = ["…"] if len(self.bound) > _TOLD else []
            return f"{self.kind} = [{', '.join(told + more)}]"
        return f"{self.kind} = {_written(self.bound)}"

    @property
    def fingerprint(self) -> str:
        """Changes with all that decides whether a row fails."""
        return f"{self.column}\0{self.kind}\0{self.bound!r}\0{self.severity}"


Given = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""What a file or Python code gives for a column: a table of checks, or several of them."""


def checks_of(column: str, given: Given) -> tuple[Check, ...]:
    """The checks of one column. Of an empty list there are none.

    Raises ValueError, which says what is wrong without naming the column.
    """
    tables = (given,) if isinstance(given, Mapping) else given
    if isinstance(tables, str) or not all(isinstance(one, Mapping) for one in tables):
        raise ValueError("should be a table, such as { not_null = true }, or a list of such tables")
    return tuple(check for table in tables for check in _of_table(column, table))


def _of_table(column: str, table: Mapping[str, Any]) -> list[Check]:
    rest = dict(table)
    try:
        severity = Severity(rest.pop("severity", Severity.FAIL))
    except ValueError:
        raise ValueError(f"severity = {table['severity']!r} should be fail or warn") from None
    unknown = [name for name in rest if name not in set(Kind)]
    if unknown:
        raise ValueError(f"has {unknown[0]}, which is no check; there are {', '.join(Kind)}")
    found = []
    for name, bound in rest.items():
        kind = Kind(name)
        bound = _bound(kind, bound)
        if bound is not False:
            found.append(Check(column=column, kind=kind, bound=bound, severity=severity))
    low, high = rest.get("min"), rest.get("max")
    if _is_above(low, high):
        raise ValueError(f"min = {_written(low)} is above max = {_written(high)}: nothing passes")
    if not rest:
        raise ValueError(f"asks nothing; set one of {', '.join(Kind)}")
    return found


def _is_above(low: Any, high: Any) -> bool:
    """Of what Python compares; what is of two kinds is refused when the column's type is known."""
    try:
        return low is not None and high is not None and bool(low > high)
    except TypeError:
        return False


def _bound(kind: Kind, given: Any) -> Any:
    if kind in (Kind.NOT_NULL, Kind.UNIQUE):
        if not isinstance(given, bool):
            raise ValueError(f"{kind} should be true or false")
        return given
    if kind is Kind.PATTERN:
        if not isinstance(given, str):
            raise ValueError("pattern should be text, a regular expression")
        return given
    if kind is Kind.IN:
        if isinstance(given, str | Mapping) or not isinstance(given, Sequence | set | frozenset):
            raise ValueError("in should be a list of values")
        if not given:
            raise ValueError("in has no values: nothing passes")
        values = tuple(sorted(given, key=repr) if isinstance(given, set | frozenset) else given)
        for one in values:
            _refuse_no_value(kind, one)
        return values
    if isinstance(given, bool):
        raise ValueError(f"{kind} should be a number, a date, a time or text")
    _refuse_no_value(kind, given)
    return given


def _refuse_no_value(kind: Kind, given: Any) -> None:
    # A moment is a date, for Python.
    if not isinstance(given, bool | int | float | Decimal | str | date | time):
        raise ValueError(
            f"{kind} cannot be {given!r}: it should be a number, a date, a time or text"
        )


def _written(value: Any) -> str:
    """As in TOML, in the quotes by which a value is told from a word."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str) else str(value)
