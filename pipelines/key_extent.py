"""The least and the greatest key of changes, and what they tell of ranges of keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.changes import Changes

Key = tuple[object, ...]


class UnknownExtentError(ValueError):
    """Nothing can be told of the keys."""


class Extent(NamedTuple):
    """Keys order as in SQL with binary collation, column by column, as Python values do."""

    least: Key
    greatest: Key

    def with_others(self, other: Extent) -> Extent:
        return Extent(min(self.least, other.least), max(self.greatest, other.greatest))

    def may_have(self, after: Key | None, upto: Key | None) -> bool:
        """Whether a key may be in the range (after, upto]; None is unbounded."""
        return (after is None or self.greatest > after) and (upto is None or self.least <= upto)


def extent_of(changes: Changes) -> Extent | None:
    """None where there are no changes.

    Raises UnknownExtentError for keys that Python and SQL order differently, and where a row was
    rejected, whose key may be of any type.
    """
    if changes.rejected or any(pa.types.is_floating(one.type) for one in changes.keys().schema):
        raise UnknownExtentError
    if not len(changes):
        return None
    try:
        return Extent(_outermost(changes.keys(), pc.min), _outermost(changes.keys(), pc.max))
    except pa.ArrowNotImplementedError as error:
        raise UnknownExtentError from error


def may_have(parts: Sequence[Changes], after: Key | None, upto: Key | None) -> bool:
    """Whether one of their keys may be in the range; True where that cannot be told."""
    try:
        extents = [extent_of(part) for part in parts]
        return any(one.may_have(after, upto) for one in extents if one is not None)
    except (UnknownExtentError, TypeError):
        return True


def _outermost(keys: pa.RecordBatch, of: Callable[[pa.Array], pa.Scalar]) -> Key:
    found = []
    for name in keys.schema.names:
        value = of(keys.column(name))
        found.append(value.as_py())
        keys = keys.filter(pc.equal(keys.column(name), value))
    return tuple(found)
