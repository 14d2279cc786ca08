"""What must be true of source, ledger and target, as plain dictionaries and sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

Row = tuple[float | str, str]
"""Amount and note. An amount that is text does not fit; the notes `bad` and `drop` mean something
to the transform."""
Visible = tuple[str, str]
"""A row as the target shows it."""

WRONG_TYPE = "twelve"
BAD = "bad"
DROP = "drop"


class Fate(StrEnum):
    """What the ledger holds of a record after the newest of its changes."""

    FINE = "fine"  # loaded, deleted or dropped, and nothing is held back
    EXTRACT = "failed at extract"
    TRANSFORM = "failed at transform"
    IGNORED_EXTRACT = "ignored at extract"
    IGNORED_TRANSFORM = "ignored at transform"


FAILED = (Fate.EXTRACT, Fate.TRANSFORM)
IGNORED = {
    Fate.EXTRACT: Fate.IGNORED_EXTRACT,
    Fate.TRANSFORM: Fate.IGNORED_TRANSFORM,
}


def visible(row: Row) -> Visible | None:
    """None for a row that the target can never show."""
    amount, note = row
    return None if isinstance(amount, str) or note == DROP else (f"{amount:.2f}", note)


@dataclass
class Model:
    """Knows exactly what a run leads to, and after a crash all that it may have led to."""

    broken: bool = True  # the transform raises on a bad note
    source: dict[int, Row] = field(default_factory=dict)
    fates: dict[int, set[Fate]] = field(default_factory=dict)  # possible ones; absent: FINE
    unread: set[int] = field(default_factory=set)  # changed since the last run
    maybe_unread: set[int] = field(default_factory=set)  # changed before a run that crashed
    stale: dict[int, set[Visible]] = field(default_factory=dict)
    """What the target may show of a record that is held back: nothing from before its delete."""

    def put(self, key: int, row: Row) -> None:
        self.source[key] = row
        self._changed(key)
        shown = visible(row)
        if shown is not None:
            self.stale.setdefault(key, set()).add(shown)

    def delete(self, key: int) -> None:
        del self.source[key]
        self._changed(key)

    def possible(self, key: int) -> set[Fate]:
        return self.fates.get(key, {Fate.FINE})

    def retried(self, key: int | None, *, fetched: bool) -> None:
        """Records that have failed go on: with their image, or with the row at the source."""
        for one in list(self.fates) if key is None else [key]:
            self.fates[one] = {
                self._retry(one, fate, fetched=fetched) for fate in self.possible(one)
            }

    def replayed(self, key: int) -> None:
        self.fates[key] = {self._fate(key)}

    def captured(self) -> None:
        """A run went to its end."""
        for key in self.unread:
            self.fates[key] = {self._fate(key)}
        for key in self.maybe_unread:
            self.fates[key] = self.possible(key) | {self._fate(key)}
        self.unread.clear()
        self.maybe_unread.clear()

    def maybe_captured(self) -> None:
        """A run crashed somewhere."""
        self.maybe_unread |= self.unread
        self.unread.clear()
        for key in self.maybe_unread:
            self.fates[key] = self.possible(key) | {self._fate(key)}

    def settle(self, actual: dict[int, Fate], target: dict[int, Visible]) -> None:
        """Takes over what was seen after a run; raises AssertionError where it cannot be."""
        for key in {*self.source, *self.fates, *actual}:
            fate = actual.get(key, Fate.FINE)
            assert fate in self.possible(key), f"{key} is {fate}, not {self.possible(key)}"
            self._settle_one(key, fate, target.get(key))

    def _settle_one(self, key: int, fate: Fate, shown: Visible | None) -> None:
        row = self.source.get(key)
        if row is None:
            assert fate is Fate.FINE, f"{key} is gone at the source and still {fate}"
            assert shown is None, f"{key} is gone at the source and shown as {shown}"
        elif fate is Fate.FINE:
            assert shown == visible(row), f"{key} is shown as {shown}, not {visible(row)}"
        else:
            assert shown is None or shown in self.stale.get(key, ()), f"{key} never was {shown}"
        self.fates[key] = {fate}
        # From here on: what is shown now, and the row whose image is kept.
        images = visible(row) if row is not None else None
        self.stale[key] = {one for one in (shown, images) if one is not None}

    def _changed(self, key: int) -> None:
        self.unread.add(key)
        self.maybe_unread.discard(key)

    def _fate(self, key: int) -> Fate:
        """What becomes of the row as it is now, under the code as it is now."""
        row = self.source.get(key)
        if row is None:
            return Fate.FINE
        amount, note = row
        if isinstance(amount, str):
            return Fate.EXTRACT
        return Fate.TRANSFORM if note == BAD and self.broken else Fate.FINE

    def _retry(self, key: int, fate: Fate, *, fetched: bool) -> Fate:
        if fate is Fate.EXTRACT or (fate is Fate.TRANSFORM and fetched):
            return self._fate(key)
        if fate is Fate.TRANSFORM:
            return fate if self.broken else Fate.FINE
        return fate
