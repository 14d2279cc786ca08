"""How figures are shown: plain tables, medians with their spread, limits held or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A figure that must not be above its limit, or with `least` not below it."""

    what: str
    figure: float
    most: float = inf
    least: float = -inf
    unit: str = ""

    @property
    def held(self) -> bool:
        return self.least <= self.figure <= self.most

    def text(self) -> str:
        word = "held" if self.held else "NOT HELD"
        bound = f"at most {self.most:g}" if self.least == -inf else f"at least {self.least:g}"
        return f"{word}: {self.what}: {self.figure:,.2f}{self.unit} ({bound})"

    def document(self) -> dict[str, Any]:
        """As JSON values; a bound that is not set is left out."""
        bounds = {"most": self.most, "least": self.least}
        set_ones = {name: bound for name, bound in bounds.items() if isfinite(bound)}
        return {"what": self.what, "figure": self.figure, **set_ones}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one benchmark found."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    limits: Sequence[Limit] = ()
    notes: Sequence[str] = ()
    raw: Mapping[str, Any]  # every single figure, as JSON values

    def text(self, *, judged: bool = True) -> str:
        """As a person reads it; the limits only where they are `judged`."""
        limits = [f"  {limit.text()}" for limit in self.limits if judged]
        notes = [f"  {note}" for note in self.notes]
        return "\n".join([self.title, *_table(self.columns, self.rows), *limits, *notes])


def spread(figures: Sequence[float], digits: int = 2) -> tuple[str, str]:
    """The median and the span from the least to the greatest, as two cells."""
    return (
        f"{median(figures):,.{digits}f}",
        f"{min(figures):,.{digits}f}-{max(figures):,.{digits}f}",
    )


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Round by round: what was measured in the same round saw the same machine."""
    return [one / other for one, other in zip(above, below, strict=True)]


def apart(some: Sequence[float], others: Sequence[float]) -> float:
    """How far apart two variants are: 0.3 when the greater takes 30% more, whichever it is."""
    ratio = median(ratios(some, others))
    return max(ratio, 1 / ratio) - 1


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column flush left, the others flush right."""
    cells = [columns, *rows]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    lines = [
        "  "
        + "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    rule = "  " + "  ".join("-" * width for width in widths)
    return [lines[0], rule, *lines[1:]]
