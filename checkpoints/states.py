"""The states of runs, batches, streams and records, their transitions, and the ledger's values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.selections import Origin, Selection

if TYPE_CHECKING:
    import pyarrow as pa

VersionTuple = tuple[int, int, int, int]
"""(epoch, position, ordinal, revision); compared as a tuple. The ledger never looks inside."""


class Outcome(IntEnum):
    """What became of a change that needs no row of its own; stored in a batch's blob."""

    LOADED = 1
    FILTERED = 2  # a transform dropped it
    FOLDED = 3  # a later change of the same key in the same batch took its place
    SUPERSEDED = 4  # the target already had this version or a newer one


class Stage(StrEnum):
    """Where a record can fail."""

    EXTRACT = "extract"
    TRANSFORM = "transform"
    VALIDATE = "validate"
    LOAD = "load"


class RunKind(StrEnum):
    RUN = "run"  # of the pipeline: all that the source has to report
    REQUEST = "request"  # what a person asked for: a few records
    RECOVERY = "recovery"  # what a target knew and the ledger did not


class RunState(StrEnum):
    RUNNING = "running"
    COMPLETE = "complete"
    COMPLETE_EXCEPT = "complete except"  # finished; some records are failed or waiting
    FAILED = "failed"
    ABANDONED = "abandoned"  # its process died; found at the next start


class BatchState(StrEnum):
    OPEN = "open"
    PREPARED = "prepared"  # its manifest is in the ledger; its rows may be at the target
    CLOSED = "closed"
    ABANDONED = "abandoned"  # nothing of it is at the target; what it held is read again


class BatchKind(StrEnum):
    CAPTURE = "capture"  # changes that a read of the source reported; moves the position
    RETRY = "retry"
    REPLAY = "replay"


class StreamState(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"  # by a person
    STOPPED = "stopped"  # by an error or a breaker; the next run tries again
    NEEDS_SNAPSHOT = "needs snapshot"  # the position is of no use; only a new snapshot mends it


class FailureState(StrEnum):
    """A change that is held back, and how that ended."""

    FAILED = "failed"
    WAITING = "waiting"  # blocked behind a failed change of the same record
    IGNORED = "ignored"  # a person's decision; can be undone
    LOADED = "loaded"  # an end: a retry or replay loaded it
    SUPERSEDED = "superseded"  # an end: a later change of the record was loaded


class DecisionKind(StrEnum):
    RETRY = "retry"
    REPLAY = "replay"
    IGNORE = "ignore"
    UNIGNORE = "unignore"


class DecisionState(StrEnum):
    PENDING = "pending"  # asked for; the holder of the lease carries it out
    DONE = "done"
    FAILED = "failed"


RUN_TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.RUNNING: frozenset(
        {RunState.COMPLETE, RunState.COMPLETE_EXCEPT, RunState.FAILED, RunState.ABANDONED}
    ),
}
BATCH_TRANSITIONS: Mapping[BatchState, frozenset[BatchState]] = {
    BatchState.OPEN: frozenset({BatchState.PREPARED, BatchState.ABANDONED}),
    # A load that fails on a value is prepared again with that record among the failures.
    BatchState.PREPARED: frozenset({BatchState.PREPARED, BatchState.CLOSED, BatchState.ABANDONED}),
}
FAILURE_TRANSITIONS: Mapping[FailureState, frozenset[FailureState]] = {
    FailureState.FAILED: frozenset(
        {FailureState.IGNORED, FailureState.LOADED, FailureState.SUPERSEDED}
    ),
    FailureState.WAITING: frozenset(
        {
            FailureState.FAILED,
            FailureState.IGNORED,
            FailureState.LOADED,
            FailureState.SUPERSEDED,
        }
    ),
    FailureState.IGNORED: frozenset(
        {FailureState.FAILED, FailureState.LOADED, FailureState.SUPERSEDED}
    ),
}
DECISION_TRANSITIONS: Mapping[DecisionState, frozenset[DecisionState]] = {
    DecisionState.PENDING: frozenset({DecisionState.DONE, DecisionState.FAILED}),
}

AUTOMATIC = "rowtrail"
"""The actor of decisions that a run made by itself."""

OPEN_FAILURES = (FailureState.FAILED, FailureState.WAITING)
"""What makes a stream `complete except N`."""
HELD_BACK = (*OPEN_FAILURES, FailureState.IGNORED)
"""What a reconciliation leaves out: the target rightly lacks these."""


@dataclass(frozen=True, kw_only=True)
class StreamRecord:
    """All that the ledger holds of a stream."""

    name: str
    capture: str
    target: str  # the table that its rows are in
    epoch: int
    position: str | None  # None: never read in this epoch
    read_number: int  # the last one issued
    sequence: int  # of the last closed batch; 0 before the first
    last_batch_id: str | None  # of the last closed batch
    state: StreamState
    state_reason: str | None
    watermark: datetime | None  # what the source committed up to then is at the target
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class NewFailure:
    """A change that failed, as the manifest of its batch holds it."""

    record_id: RecordId
    operation: int
    version: VersionTuple
    stage: Stage
    error_class: str
    message: str  # values of redacted columns are masked already
    fingerprint: str  # equal for failures of one cause
    code_fingerprint: str | None  # of the transforms that ran
    extracted: bytes | None  # an image of one row, as the engine made it; None when it is not kept
    transformed: bytes | None  # likewise, where the load failed
    image_note: str | None = None  # what the image lacks, or why there is none
    state: FailureState = FailureState.FAILED
    waits_for: RecordId | None = None  # of the same stream: the record that a waiting one is behind
    since: datetime | None = None  # where it is known from a target's gaps; None: now
    happened_at: datetime | None = None  # when it was committed at the source, or else read (UTC)
    committed: bool = False  # which of the two


@dataclass(frozen=True, kw_only=True)
class FailureEnd:
    """An open failure that this batch brings to its end."""

    failure_id: int
    state: FailureState  # LOADED or SUPERSEDED
    decision_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A change that is or was held back."""

    id: int
    record_id: RecordId
    operation: int
    version: VersionTuple
    state: FailureState
    stage: Stage
    error_class: str
    message: str
    fingerprint: str
    code_fingerprint: str | None
    waits_for: RecordId | None  # of the same stream: the record that a waiting one is behind
    attempts: int
    first_at: datetime
    last_at: datetime
    run_id: str  # of the last attempt, as is `batch_id`
    batch_id: str | None  # None: restored from a target's gaps
    has_image: bool
    image_note: str | None = None  # what the image lacks, or why there is none
    happened_at: datetime | None = None  # when it was committed at the source, or else read (UTC)
    committed: bool = False  # which of the two


@dataclass(frozen=True, kw_only=True)
class FailureGroup:
    """Changes held back of one cause in one stream, with those that wait behind them.

    Stage, class and message are those of the newest.
    """

    group: str  # the beginning of the fingerprint by which a person names it
    stream: str
    fingerprint: str
    count: int  # of all that were asked for; the next three add up to it
    failed: int
    waiting: int
    ignored: int
    first_at: datetime
    last_at: datetime
    stage: Stage
    error_class: str
    message: str
    examples: tuple[RecordId, ...]  # a few, the oldest first


@dataclass(frozen=True, kw_only=True)
class LeaseRecord:
    """Who runs the pipeline, or ran it last."""

    generation: int
    holder: str
    since: datetime
    expires_at: datetime
    released: bool
    live: bool  # neither released nor expired, and its process has not ended as far as one can see


@dataclass(frozen=True, kw_only=True)
class HeldBack:
    """The little that the engine joins with each batch."""

    failure_id: int
    record_id: RecordId
    version: VersionTuple
    state: FailureState
    waits_for: RecordId | None = None
    batch: int | None = None  # of the last attempt, as the ledger numbers it; None: not known
    stage: Stage | None = None  # where it failed last; None: not known


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a batch is about to do. `keys`, `operations`, `versions` and `outcomes` are aligned.

    Failed changes are not among them; they are in `failures`. `load_rows` are the row numbers, in
    the order in which the load holds them, so that a receipt's superseded rows can be found.
    """

    batch_id: str
    keys: pa.RecordBatch  # the key columns, in key order, in their own types
    operations: pa.Array  # uint8
    versions: pa.RecordBatch  # four int64 columns
    outcomes: pa.Array  # uint8, values of Outcome: what they will be when nothing is superseded
    load_rows: pa.Array  # uint32: load row i is row load_rows[i] here
    failures: tuple[NewFailure, ...] = ()
    ends: tuple[FailureEnd, ...] = ()
    position_after: str | None = None  # None: unchanged (retries and replays)
    watermark: datetime | None = None
    page: pa.RecordBatch | None = None
    read_complete: bool = False


@dataclass(frozen=True, kw_only=True)
class BatchRecord:
    """A batch as the ledger knows it."""

    batch_id: str
    run_id: str
    stream: str
    kind: BatchKind
    state: BatchState
    sequence: int
    epoch: int
    opened_at: datetime
    closed_at: datetime | None
    position_after: str | None
    manifest_digest: str | None
    records: int  # changes with an outcome, failures included; 0 while open


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    id: str
    kind: RunKind
    state: RunState
    started_at: datetime
    ended_at: datetime | None
    message: str | None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Something that a person asked for. `id` is the revision of what it replays."""

    id: int
    kind: DecisionKind
    state: DecisionState
    stream: str
    record_ids: tuple[RecordId, ...]
    from_stage: str | None  # of a retry; None: where it failed; or `transform`, `extract`
    actor: str
    reason: str | None
    created_at: datetime
    finished_at: datetime | None
    result: str | None
    group: str | None = None  # the records are those that a group had when it was asked for
    origin: Origin | None = None  # of a replay; None: the source
    selection: Selection | None = None  # of a replay: instead of record ids


class Prunable(StrEnum):
    """What is pruned by age; see pruning.py."""

    IMAGES = "images"
    TRAILS = "trails"
    ARCHIVE = "archive"  # files beside the ledger, which only notes that they are gone


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What the ledger has kept of a stream and keeps no longer."""

    what: Prunable
    upto: datetime  # what ended before is gone, or as good as
    at: datetime  # when it was pruned last


@dataclass(frozen=True, kw_only=True)
class PruneCount:
    """What of one stream goes, or would go."""

    stream: str
    what: str  # images of ended failures, batches, …
    number: int
    size: int = 0  # bytes; 0 for what is small, and where it is not known
    remark: str = ""  # what can no longer be done


@dataclass(frozen=True, kw_only=True)
class TrailEntry:
    """One thing that happened to a record."""

    at: datetime
    event: str  # loaded, filtered, folded, superseded, failed, retry asked, ignored, …
    detail: str  # plain words
    version: VersionTuple | None = None
    operation: int | None = None
    batch_id: str | None = None
    run_id: str | None = None
    decision_id: int | None = None
    failure_id: int | None = None
    read_at: datetime | None = None  # when the batch began, its rows just read
    staged_at: datetime | None = None  # when all stages were behind it, and the load began
