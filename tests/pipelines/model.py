"""What must be true of source, ledger and target, as plain dictionaries and sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

Row = tuple[float | str, str]
"""Amount and note. Text as an amount does not fit; two notes mean something to the transform."""
Shown = tuple[str, str] | None
"""A row as the target shows it; None when it does not."""

WRONG_TYPE = "twelve"
BAD = "bad"
DROP = "drop"


class Fate(StrEnum):
    """What the ledger holds of a record after the newest of its changes."""

    FINE = "fine"  # loaded, deleted or dropped: nothing is held back
    EXTRACT = "failed at extract"
    TRANSFORM = "failed at transform"
    IGNORED_EXTRACT = "ignored at extract"
    IGNORED_TRANSFORM = "ignored at transform"


FAILED = (Fate.EXTRACT, Fate.TRANSFORM)
IGNORED = {Fate.EXTRACT: Fate.IGNORED_EXTRACT, Fate.TRANSFORM: Fate.IGNORED_TRANSFORM}
UNDONE = {after: before for before, after in IGNORED.items()}


@dataclass(frozen=True)
class Life:
    """How things stand with one record."""

    fate: Fate = Fate.FINE
    shown: Shown = None
    image: Row | None = None  # what a retry of a failed transform goes on with


@dataclass(frozen=True)
class Code:
    """The transform: it drops some notes, and appends its number to all others."""

    number: int = 1
    broken: bool = True  # raises on a bad note

    def show(self, row: Row) -> Shown:
        amount, note = row
        assert not isinstance(amount, str)
        return None if note == DROP else (f"{amount:.2f}", f"{note}/{self.number}")


@dataclass
class Model:
    """Knows exactly what a run leads to, and after a crash all that it may have led to."""

    code: Code = Code()
    source: dict[int, Row] = field(default_factory=dict)
    lives: dict[int, set[Life]] = field(default_factory=dict)  # possible ones
    unread: set[int] = field(default_factory=set)  # changed since the last run
    maybe_unread: set[int] = field(default_factory=set)  # changed before a run that crashed
    asked_twice: set[int] = field(default_factory=set)
    """Replayed by a process that crashed, and by the next one under the same number."""

    def put(self, key: int, row: Row) -> None:
        self.source[key] = row
        self._changed(key)

    def delete(self, key: int) -> None:
        del self.source[key]
        self._changed(key)

    def _changed(self, key: int) -> None:
        self.unread.add(key)
        self.maybe_unread.discard(key)
        self.lives.setdefault(key, {Life()})

    def captured(self) -> None:
        """A run went to its end."""
        for key in self.unread:
            self._each(key, self._read_now)
        for key in self.maybe_unread:
            self._each(key, self._read_now, certain=False)
        self.unread.clear()
        self.maybe_unread.clear()

    def maybe_captured(self) -> None:
        """A run crashed somewhere."""
        self.maybe_unread |= self.unread
        self.unread.clear()
        for key in self.maybe_unread:
            self._each(key, self._read_now, certain=False)

    def retried(self, key: int | None, *, fetched: bool, certain: bool = True) -> None:
        """What has failed goes on: with its image, or with the row at the source."""

        def retry(one: int, life: Life) -> set[Life]:
            if life.fate is Fate.EXTRACT or (life.fate is Fate.TRANSFORM and fetched):
                return self._read_now(one, life)
            if life.fate is not Fate.TRANSFORM or self.code.broken:
                return {life}
            assert life.image is not None
            loaded = Life(shown=self.code.show(life.image))
            # After the same replay twice, the target may have had this version all along.
            return {loaded, Life(shown=life.shown)} if one in self.asked_twice else {loaded}

        for one in list(self.lives) if key is None else [key]:
            self._each(one, retry, certain=certain)

    def replayed(self, key: int, *, certain: bool = True) -> None:
        self._each(key, self._read_now, certain=certain)

    def decided(self, key: int, before: Fate, after: Fate) -> None:
        """A failure is ignored, or no longer."""
        self.lives[key] = {
            replace(life, fate=after) for life in self.lives[key] if life.fate is before
        }

    def saw(self, actual: dict[int, tuple[Fate, Shown]]) -> None:
        """Takes over how things are; raises AssertionError where they cannot be so."""
        for key in {*self.lives, *actual}:
            fate, shown = actual.get(key, (Fate.FINE, None))
            possible = self.lives.get(key, {Life()})
            self.lives[key] = {one for one in possible if (one.fate, one.shown) == (fate, shown)}
            assert self.lives[key], f"{key} is {fate} and shown as {shown}, not {possible}"

    def _each(
        self, key: int, change: Callable[[int, Life], set[Life]], *, certain: bool = True
    ) -> None:
        before = self.lives.get(key, {Life()})
        after = {new for life in before for new in change(key, life)}
        self.lives[key] = after if certain else before | after

    def _read_now(self, key: int, life: Life) -> set[Life]:
        """The row as it is now goes through all stages."""
        row = self.source.get(key)
        if row is None:
            return {Life()}
        amount, note = row
        if isinstance(amount, str):
            return {Life(fate=Fate.EXTRACT, shown=life.shown)}
        if note == BAD and self.code.broken:
            return {Life(fate=Fate.TRANSFORM, shown=life.shown, image=row)}
        return {Life(shown=self.code.show(row))}
