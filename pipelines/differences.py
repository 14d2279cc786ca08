"""What a load would change at the target: counted for all records, told by column for a few."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.checkpoints.record_id import from_arrow
from rowtrail.checkpoints.states import NewFailure
from rowtrail.connectors.base import RowsThere
from rowtrail.connectors.changes import Operation
from rowtrail.pipelines.plan import Plan

EXAMPLES = 10
"""So many records are told column by column; the others are counted."""
HIDDEN = "***"

Mask = npt.NDArray[np.bool_]


class Becomes(StrEnum):
    """What a load makes of a record at the target."""

    FAILED = "failed again"
    DELETED = "deleted"
    FILTERED = "filtered"  # its row goes, since a transform drops it
    UPDATED = "updated"
    INSERTED = "inserted"
    SUPERSEDED = "superseded"  # the target has this version or a newer one
    UNCHANGED = "unchanged"  # the row is, or is not, as it would be after it


@dataclass(frozen=True, kw_only=True)
class ColumnDifference:
    """One value, as text; None is NULL, or that there is no row."""

    column: str
    now: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True)
class RecordDifference:
    """What becomes of one record."""

    record: str
    becomes: Becomes
    columns: tuple[ColumnDifference, ...] = ()  # that differ; of an inserted row all
    stage: str | None = None  # where it fails, and why
    error_class: str | None = None
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class Differences:
    """What a load, or several, would change."""

    counts: Mapping[str, int]  # by all values of Becomes
    examples: tuple[RecordDifference, ...]  # of each kind that there is, EXAMPLES at most

    def plus(self, other: Differences) -> Differences:
        return Differences(
            counts={kind: self.counts[kind] + other.counts[kind] for kind in self.counts},
            examples=_few([*self.examples, *other.examples]),
        )


NO_DIFFERENCES = Differences(counts={kind.value: 0 for kind in Becomes}, examples=())


def differences(
    plan: Plan, superseded: pa.Array, there: RowsThere, hidden: Collection[str] = ()
) -> Differences:
    """Compares the rows of a plan with what the target has of their keys, column by column.

    `superseded` is what a probe of the load gave, `there` is aligned with the plan's rows. Values
    of `hidden` columns (in small letters) are not told, only that they differ.
    """
    late = _mask(superseded)
    deletes = plan.operations.to_numpy() == int(Operation.DELETE)
    dropped = _mask(plan.filtered)
    known = _mask(there.versions.column(0).is_valid())
    live = known & ~_mask(there.deleted_at.is_valid())
    unequal = {
        name: _unequal(plan.rows.column(name), _there(there, name, plan.rows.column(name).type))
        for name in plan.rows.schema.names
    }
    changed = np.logical_or.reduce([*unequal.values(), np.zeros(len(plan), dtype=np.bool_)])
    masks = {
        Becomes.SUPERSEDED: late,
        Becomes.DELETED: ~late & deletes & ~dropped & live,
        Becomes.FILTERED: ~late & deletes & dropped & live,
        Becomes.INSERTED: ~late & ~deletes & ~live,
        Becomes.UPDATED: ~late & ~deletes & live & changed,
    }
    masks[Becomes.UNCHANGED] = ~np.logical_or.reduce(list(masks.values()))
    counts = {kind.value: int(mask.sum()) for kind, mask in masks.items()}
    failed = [_failure(one) for one in plan.failures[:EXAMPLES]]
    teller = _Teller(plan, there, unequal, frozenset(hidden))
    found = [one for kind, mask in masks.items() for one in teller.examples(kind, mask)]
    return Differences(
        counts={kind.value: counts.get(kind.value, len(plan.failures)) for kind in Becomes},
        examples=_few([*failed, *found]),
    )


@dataclass(frozen=True)
class _Teller:
    """Tells the first records of each kind, which alone become Python objects."""

    plan: Plan
    there: RowsThere
    unequal: Mapping[str, Mask]
    hidden: frozenset[str]

    def examples(self, kind: Becomes, mask: Mask) -> Iterator[RecordDifference]:
        rows = np.flatnonzero(mask)[:EXAMPLES]
        ids = from_arrow(self.plan.target.stream, self.plan.keys().take(pa.array(rows)))
        for row, record_id in zip(rows.tolist(), ids, strict=True):
            yield RecordDifference(
                record=str(record_id), becomes=kind, columns=tuple(self._columns(kind, row))
            )

    def _columns(self, kind: Becomes, row: int) -> Iterator[ColumnDifference]:
        if kind not in (Becomes.INSERTED, Becomes.UPDATED):
            return
        for name, unequal in self.unequal.items():
            if kind is Becomes.UPDATED and not unequal[row]:
                continue
            after = self.plan.rows.column(name)
            now = _there(self.there, name, after.type)
            before = None if kind is Becomes.INSERTED else self._text(name, now[row])
            yield ColumnDifference(column=name, now=before, after=self._text(name, after[row]))

    def _text(self, name: str, value: pa.Scalar) -> str | None:
        if not value.is_valid:
            return None
        return HIDDEN if name.lower() in self.hidden else _text(value.as_py())


def _text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case bytes():
            return f"x'{value.hex()}'"
        case _:
            return str(value)


def _failure(failure: NewFailure) -> RecordDifference:
    return RecordDifference(
        record=str(failure.record_id),
        becomes=Becomes.FAILED,
        stage=failure.stage.value,
        error_class=failure.error_class,
        message=failure.message,
    )


def _few(examples: Sequence[RecordDifference]) -> tuple[RecordDifference, ...]:
    """Some of each kind, in turn, so that many of one kind do not hide the others."""
    by_kind = [[one for one in examples if one.becomes is kind] for kind in Becomes]
    in_turn = [one for turn in zip_longest(*by_kind) for one in turn if one is not None]
    order = list(Becomes)
    return tuple(sorted(in_turn[:EXAMPLES], key=lambda one: order.index(one.becomes)))


def _there(there: RowsThere, name: str, kind: pa.DataType) -> pa.Array:
    """A column of the target; one that it does not have is NULL."""
    if name in there.rows.schema.names:
        return there.rows.column(name)
    return pa.nulls(len(there), kind)


def _mask(array: pa.Array) -> Mask:
    mask: Mask = array.to_numpy(zero_copy_only=False).astype(np.bool_)
    return mask


def _unequal(mine: pa.Array, theirs: pa.Array) -> Mask:
    """Where two columns differ; NULL equals NULL, and NaN equals NaN."""
    mine, theirs = _same_type(_plain(mine), _plain(theirs))
    try:
        equal = _mask(pc.equal(mine, theirs).fill_null(False))
    except pa.ArrowNotImplementedError:  # lists and the like
        pairs = zip(mine.to_pylist(), theirs.to_pylist(), strict=True)
        equal = np.array([one == other for one, other in pairs], dtype=np.bool_)
    equal |= _mask(mine.is_null()) & _mask(theirs.is_null())
    if pa.types.is_floating(mine.type) and pa.types.is_floating(theirs.type):
        both = pc.and_(pc.is_nan(mine), pc.is_nan(theirs))
        equal |= _mask(both.fill_null(False))
    return ~equal


def _plain(array: pa.Array) -> pa.Array:
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _same_type(mine: pa.Array, theirs: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Both in the type of one of them, where nothing is lost by it, else as texts."""
    if mine.type == theirs.type:
        return mine, theirs
    if (cast := _cast(theirs, mine.type)) is not None:
        return mine, cast
    if (cast := _cast(mine, theirs.type)) is not None:
        return cast, theirs
    return _texts(mine), _texts(theirs)


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    try:
        return array.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _texts(array: pa.Array) -> pa.Array:
    values = [None if value is None else _text(value) for value in array.to_pylist()]
    return pa.array(values, pa.string())
