"""Changes: versions of records on their way from a source to a destination, as Arrow columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rowtrail.connectors.schema import TableSchema

OPERATION_TYPE = pa.uint8()
INSTANT_TYPE = pa.timestamp("us", tz="UTC")


class Operation(IntEnum):
    """What a change does. INSERT and UPDATE alike say: the row is there now, and this is it.

    A capture that cannot tell an insert from an update (cursor) reports UPDATE.
    """

    INSERT = 1
    UPDATE = 2
    DELETE = 3


class Version(NamedTuple):
    """Orders the changes of one record; compared as a tuple (DESIGN §3)."""

    epoch: int  # raised when the stream is read anew or under another capture; starts at 1
    position: int  # where in the source's history; 0 to 2**63 - 1
    ordinal: int  # order within one position
    revision: int  # 0 from capture, else the number of the decision that replayed the record


VERSION_SCHEMA = pa.schema([(name, pa.int64()) for name in Version._fields])


@dataclass(frozen=True)
class Times:
    """When changes happened. A target that keeps the history says for each version when it held."""

    at: pa.Array  # INSTANT_TYPE, no NULL
    committed: pa.Array
    """bool: `at` is when the source committed the change, which is an event of its own. Otherwise
    the row was read at that time, and is what had become of it by then."""
    fresh: bool = True  # what was read is so still; else it may have changed since

    def __len__(self) -> int:
        return len(self.at)

    @classmethod
    def of_commits(cls, microseconds: npt.NDArray[np.int64]) -> Times:
        """Of commits at these times, in microseconds since 1970 UTC."""
        return cls(
            at=pa.array(microseconds).view(INSTANT_TYPE),
            committed=pa.array(np.ones(len(microseconds), dtype=np.bool_)),
        )

    @classmethod
    def of_read(cls, at: datetime, count: int, *, fresh: bool = True) -> Times:
        """Of so many rows that were read at one time."""
        return cls(
            at=pa.repeat(pa.scalar(at, INSTANT_TYPE), count),
            committed=pa.array(np.zeros(count, dtype=np.bool_)),
            fresh=fresh,
        )

    @classmethod
    def of_all(cls, parts: Sequence[Times]) -> Times:
        """One after the other; fresh if all of them are."""
        return cls(
            at=pa.concat_arrays([part.at for part in parts]),
            committed=pa.concat_arrays([part.committed for part in parts]),
            fresh=all(part.fresh for part in parts),
        )

    def take(self, indices: pa.Array) -> Times:
        return replace(self, at=self.at.take(indices), committed=self.committed.take(indices))

    def filter(self, mask: pa.Array) -> Times:
        return replace(self, at=self.at.filter(mask), committed=self.committed.filter(mask))

    def slice(self, start: int, length: int) -> Times:
        at, committed = (one.slice(start, length) for one in (self.at, self.committed))
        return replace(self, at=at, committed=committed)


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A row that the source read but cannot represent in the stream's schema.

    It becomes a failure at stage extract, alone; the rest of its batch goes on.
    """

    key: tuple[object, ...]  # as the database gave it, one Python value per key column
    operation: Operation
    version: Version
    column: str
    message: str  # what is wrong, without the value
    image: pa.RecordBatch  # the raw row, one row, in whatever types the values have


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Some changes of one stream, in the order in which the source made them.

    `rows`, `operations` and `versions` have the same length. A DELETE has its key columns set and
    all others NULL. A key may occur several times; later rows are newer. `position` may be handed
    back to `Source.read` once these changes are durable at the target, and not before.
    """

    stream: str
    schema: TableSchema
    rows: pa.RecordBatch  # of schema.arrow()
    operations: pa.Array  # uint8, values of Operation
    versions: pa.RecordBatch  # of VERSION_SCHEMA
    position: str
    rejected: tuple[Rejected, ...] = ()
    watermark: datetime | None = None  # what the source committed up to this time is included (UTC)
    page: pa.RecordBatch | None = field(default=None, repr=False)
    """Key columns and `_rowtrail_hash` (uint64) of every row read, for captures that compare a read
    with the last one; the ledger keeps it and `Known.pages` gives it back. In key order."""
    read_complete: bool = False
    """True on the last changes of a full or bounded read: the pages of earlier reads can go."""
    times: Times | None = field(default=None, repr=False)  # None: rows as they were read just now

    def __post_init__(self) -> None:
        lengths = {len(self.rows), len(self.operations), len(self.versions)}
        if self.times is not None:
            lengths.add(len(self.times))
        if len(lengths) != 1:
            raise ValueError(f"changes of {self.stream} have uneven lengths: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.rows)

    def keys(self) -> pa.RecordBatch:
        """The key columns, in key order."""
        return self.rows.select(list(self.schema.key))

    def take(self, indices: pa.Array) -> Changes:
        """The rows at these indices; everything else stays, `rejected` included."""
        return replace(
            self,
            rows=self.rows.take(indices),
            operations=self.operations.take(indices),
            versions=self.versions.take(indices),
            times=None if self.times is None else self.times.take(indices),
        )

    def with_revision(self, revision: int) -> Changes:
        """The same changes as a deliberate replay, whose decision has this number."""
        columns = self.versions.columns
        columns[3] = pa.repeat(pa.scalar(revision, type=pa.int64()), len(self.versions))
        return replace(
            self,
            versions=pa.RecordBatch.from_arrays(columns, schema=VERSION_SCHEMA),
            rejected=tuple(
                replace(one, version=one.version._replace(revision=revision))
                for one in self.rejected
            ),
        )


def gathered(parts: Sequence[Changes]) -> Changes:
    """Parts that follow one another in a read as one, which ends as the last of them does.

    They have the same schema, and those with rows have either all times or none.
    """
    if len(parts) == 1:
        return parts[0]
    pages = [part.page for part in parts if part.page is not None]
    times = [part.times for part in parts if part.times is not None and len(part)]
    watermarks = [part.watermark for part in parts if part.watermark is not None]
    return replace(
        parts[-1],
        rows=pa.concat_batches([part.rows for part in parts]),
        operations=pa.concat_arrays([part.operations for part in parts]),
        versions=pa.concat_batches([part.versions for part in parts]),
        rejected=tuple(one for part in parts for one in part.rejected),
        watermark=watermarks[-1] if watermarks else None,
        page=pa.concat_batches(pages) if pages else None,
        times=Times.of_all(times) if times else None,
    )


def operations_array(values: Iterable[Operation]) -> pa.Array:
    return pa.array([int(value) for value in values], type=OPERATION_TYPE)


def constant_operations(operation: Operation, length: int) -> pa.Array:
    """`length` times the same operation."""
    return pa.array(np.full(length, int(operation), dtype=np.uint8))


def constant_versions(version: Version, length: int) -> pa.RecordBatch:
    """`length` times the same version, as rows of VERSION_SCHEMA."""
    # By numpy, which is a hundred times as fast as pyarrow.repeat.
    columns = [pa.array(np.full(length, part, dtype=np.int64)) for part in version]
    return pa.RecordBatch.from_arrays(columns, schema=VERSION_SCHEMA)


def are_distinct(keys: pa.RecordBatch) -> bool:
    """Whether each key comes once, where that is told in next to no time: for one integer column.

    False where it does not, or where it is not known.
    """
    if keys.num_columns != 1 or not pa.types.is_integer(keys.column(0).type):
        return False
    if keys.column(0).null_count:
        return False
    values = np.sort(keys.column(0).to_numpy())
    return bool((values[1:] != values[:-1]).all())


def version_at(versions: pa.RecordBatch, index: int) -> Version:
    return Version(*(versions.column(i)[index].as_py() for i in range(4)))
