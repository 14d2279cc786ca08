"""What the stages make of the changes of one batch, as values."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import Stage


@dataclass(frozen=True, kw_only=True)
class FailedRow:
    """A row of the changes that did not get through."""

    row: int  # its number in the changes
    stage: Stage
    error_class: str
    message: str
    transformed: pa.RecordBatch | None = None  # one row, where the load failed
    waits_for: RecordId | None = None  # it has not failed, but is to follow a change of that one


@dataclass(frozen=True, kw_only=True)
class Warned:
    """Rows that broke a check with severity `warn` and go on."""

    check: str  # `column amount: min = 0`
    rows: pa.Array  # int64: their numbers in the changes; empty where it is about them all
    observed: str | None = None  # where it is about them all: what they had, in words


@dataclass(frozen=True, kw_only=True)
class Staged:
    """The rows of a batch, sorted by what is to become of them. Numbers are rows of the changes."""

    rows: pa.RecordBatch  # what the target is to hold, of the target's schema
    kept: pa.Array  # int64, aligned with `rows`
    dropped: pa.Array  # int64: a transform dropped them
    dropped_by: tuple[tuple[str, int], ...]  # transform's name and how many it dropped
    deleted: pa.Array  # int64
    folded: pa.Array  # int64: a later change of the same key is in the batch
    failed: tuple[FailedRow, ...]
    waiting: tuple[FailedRow, ...] = ()  # did not go through the stages
    warned: tuple[Warned, ...] = ()
    seconds: dict[Stage, float] = field(default_factory=dict)
