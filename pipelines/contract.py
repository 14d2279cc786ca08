"""What a stream has agreed with its source: which changes of its shape it takes, and how.

The shape that was agreed on is in the lock file (`lock_file`); what a table has become since is
its drift. A contract says of each kind of drift what becomes of the stream: it goes along, it
stops, the column is left out, or the rows that do not fit are held back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum

import pyarrow as pa

from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.connectors.type_names import type_name


class Change(StrEnum):
    """The kinds of drift."""

    NEW_COLUMN = "new_column"
    DROPPED_COLUMN = "dropped_column"
    TYPE_CHANGE = "type_change"  # of a column that is not in the key
    NULLABILITY = "nullability"  # a column may be NULL now
    KEY_CHANGE = "key_change"  # other columns, another order, or another type of one


class Mode(StrEnum):
    """What becomes of a stream that has drifted."""

    EVOLVE = "evolve"  # it goes along
    FREEZE = "freeze"  # it stops; others go on
    DISCARD = "discard"  # the column is left out
    QUARANTINE = "quarantine"  # rows that do not fit are held back


MODES: Mapping[Change, tuple[Mode, ...]] = {
    Change.NEW_COLUMN: tuple(Mode),
    Change.DROPPED_COLUMN: (Mode.EVOLVE, Mode.FREEZE),
    Change.TYPE_CHANGE: tuple(Mode),
    Change.NULLABILITY: (Mode.EVOLVE, Mode.FREEZE, Mode.QUARANTINE),
    Change.KEY_CHANGE: (Mode.EVOLVE, Mode.FREEZE),
}
"""A column that is gone cannot be left out, and without its key no row can be held back."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """A mode for each kind of drift."""

    new_column: Mode = Mode.EVOLVE
    dropped_column: Mode = Mode.EVOLVE
    type_change: Mode = Mode.EVOLVE
    nullability: Mode = Mode.EVOLVE
    key_change: Mode = Mode.EVOLVE

    def mode(self, change: Change) -> Mode:
        return Mode(getattr(self, change.value))

    @property
    def restricts(self) -> bool:
        """Whether it does anything but go along."""
        return any(getattr(self, one.name) is not Mode.EVOLVE for one in fields(self))

    @classmethod
    def all(cls, mode: Mode) -> Contract:
        """One that has this mode for every kind, which must be `evolve` or `freeze`."""
        return cls(**{change.value: mode for change in Change})


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One thing in which a table differs from what was agreed on."""

    change: Change
    column: str  # empty for a key of other columns
    before: str  # the type, `not null`, or the key; empty for a new column
    after: str

    def __str__(self) -> str:
        return {
            Change.NEW_COLUMN: f"column {self.column} is new ({self.after})",
            Change.DROPPED_COLUMN: f"column {self.column} ({self.before}) is gone",
            Change.TYPE_CHANGE: f"column {self.column} was {self.before} and is {self.after}",
            Change.NULLABILITY: f"column {self.column} may be NULL now",
            Change.KEY_CHANGE: f"key column {self.column} was {self.before} and is {self.after}"
            if self.column
            else f"the key was ({self.before}) and is ({self.after})",
        }[self.change]


def drift(agreed: TableSchema, now: TableSchema) -> tuple[Drift, ...]:
    """All drift of a table, in the order of its columns; those that are gone come last.

    A column that takes no NULL any more is none: all that may come was agreed on. Nor is another
    order of columns, or another length of a text.
    """
    found: list[Drift] = []
    if agreed.key != now.key:
        before, after = ", ".join(agreed.key), ", ".join(now.key)
        found.append(Drift(change=Change.KEY_CHANGE, column="", before=before, after=after))
    for column in now.columns:
        if column.name not in agreed.names:
            found.append(
                Drift(
                    change=Change.NEW_COLUMN,
                    column=column.name,
                    before="",
                    after=type_name(column.type),
                )
            )
        else:
            found += _changed(agreed.column(column.name), column, in_key=column.name in now.key)
    return (
        *found,
        *(
            Drift(
                change=Change.DROPPED_COLUMN,
                column=column.name,
                before=type_name(column.type),
                after="",
            )
            for column in agreed.columns
            if column.name not in now.names
        ),
    )


def _changed(before: Column, after: Column, *, in_key: bool) -> list[Drift]:
    found = []
    if before.type != after.type:
        found.append(
            Drift(
                change=Change.KEY_CHANGE if in_key else Change.TYPE_CHANGE,
                column=after.name,
                before=type_name(before.type),
                after=type_name(after.type),
            )
        )
    if after.nullable and not before.nullable and not in_key:
        found.append(
            Drift(change=Change.NULLABILITY, column=after.name, before="not null", after="nullable")
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is done with each batch so that it keeps to the contract. By default nothing."""

    left_out: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()  # left out too, and to hold nothing
    types: Mapping[str, pa.DataType] = field(default_factory=dict)  # that values have to fit
    required: frozenset[str] = frozenset()  # that may not be NULL

    def __bool__(self) -> bool:
        return bool(self.left_out or self.unknown or self.types or self.required)

    @property
    def text(self) -> str:
        """The same text for the same terms, for a fingerprint."""
        types = sorted(f"{name}:{type_name(kind)}" for name, kind in self.types.items())
        parts = (sorted(self.left_out), sorted(self.unknown), types, sorted(self.required))
        return repr(parts) if self else ""

    def output(self, schema: TableSchema) -> TableSchema:
        """The shape of the rows that keep to them."""
        columns = tuple(
            replace(column, type=self.types.get(column.name, column.type))
            for column in schema.columns
            if column.name not in self.left_out and column.name not in self.unknown
        )
        return replace(schema, columns=columns)


NO_TERMS = Terms()


def terms(contract: Contract, drifted: Sequence[Drift], agreed: TableSchema) -> Terms:
    """What the contract makes of the drift that does not stop the stream."""

    def named(change: Change, mode: Mode) -> frozenset[str]:
        return frozenset(
            one.column for one in drifted if one.change is change and contract.mode(change) is mode
        )

    return Terms(
        left_out=named(Change.NEW_COLUMN, Mode.DISCARD) | named(Change.TYPE_CHANGE, Mode.DISCARD),
        unknown=named(Change.NEW_COLUMN, Mode.QUARANTINE),
        types={
            name: agreed.column(name).type for name in named(Change.TYPE_CHANGE, Mode.QUARANTINE)
        },
        required=named(Change.NULLABILITY, Mode.QUARANTINE),
    )
