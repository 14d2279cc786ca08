"""What a database must offer to be a source or a destination."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

import pyarrow as pa

from rowtrail.connectors.changes import Changes, Times
from rowtrail.connectors.schema import TableSchema

DEFAULT_BATCH_ROWS = 131_072
"""A row group of DuckDB, which is 122,880 rows, and some more: a smaller insert takes twice as long
to load, and a batch that has lost its bad rows shall not be one."""


class Capture(StrEnum):
    """How the changes of a table are found."""

    LOG = "log"  # the database's own log (pgoutput, binlog)
    TRIGGER = "trigger"  # a change-log table that triggers fill
    CURSOR = "cursor"  # an updated-at column, plus key reconciliation for deletes
    SNAPSHOT = "snapshot"  # a full read, compared with the last one


class Deletes(StrEnum):
    """What a delete does at the target."""

    SOFT = "soft"  # the row stays, `_rowtrail_deleted_at` is set
    HARD = "hard"  # the row goes, a tombstone stays
    HISTORY = "history"  # every version of a row stays (SCD2); a delete ends the last one


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """What a source needs to know of a stream."""

    name: str
    table: str
    capture: Capture
    key: tuple[str, ...] = ()  # empty: the table's primary key
    cursor: str | None = None  # the updated-at column, with capture `cursor`
    cursor_lag: float = 0.0  # cursor: re-read this many units (seconds, or the number's own) back
    columns: tuple[str, ...] = ()  # to take; empty: all
    exclude: tuple[str, ...] = ()  # those to leave out
    types: Mapping[str, str] = field(default_factory=dict)  # column, or declared type -> type name
    batch_rows: int = DEFAULT_BATCH_ROWS  # at most so many changes in one batch
    log: str = ""  # capture `log`: names the slot and publication that a pipeline's streams share
    readers: int = 2  # capture `log`: connections that read the first snapshot side by side


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that preflight found: what, where and what to do. `fatal`: a run would fail."""

    stream: str | None  # None: it concerns the whole pipeline
    message: str
    remedy: str
    fatal: bool = True
    capture: bool = False  # `rowtrail init --capture` mends it


class Known(Protocol):
    """What target and ledger know of a stream, for captures that compare."""

    def keys(
        self, after: tuple[object, ...] | None, upto: tuple[object, ...] | None, limit: int
    ) -> pa.Table:
        """The first keys, at most so many, in the range (after, upto], in key order; None is
        unbounded.

        The key columns and `present` (bool): true where the target has a live row or a record is
        held back; false where it is known to be absent on purpose (a transform dropped it). Either
        kind is known until its delete is reported, and is not new before. Keys order as in SQL with
        binary collation, column by column.
        """
        ...

    def pages(self) -> Iterator[pa.RecordBatch]:
        """The `Changes.page` batches of the last complete read, in the order they were given."""
        ...


def known_schema(schema: TableSchema) -> pa.Schema:
    """Of what `Known.keys` and `Destination.keys` give for a table of this schema."""
    return schema.arrow_key().append(pa.field("present", pa.bool_()))


@dataclass(frozen=True, kw_only=True)
class ReadState:
    """All the state a read needs: a source holds none itself."""

    epoch: int
    position: str | None  # None: the stream has never been read in this epoch
    read_number: int  # issued by the ledger for this read; above every one the target has seen
    known: Known
    fresh: bool = False  # the target's table was made for this read: there is nothing to compare
    asked_at: float = field(default_factory=time.monotonic)
    """When the read was asked for, by time.monotonic(). A bound that was taken after it will do:
    the streams of one run have the same, so that a log which they share is read once."""


class Source(Protocol):
    """A database that changes are read from. Opened from a URL; holds a connection and no state."""

    def describe(self, stream: StreamSpec) -> TableSchema:
        """The shape of the stream's rows: chosen columns, Arrow types, key.

        Raises ConfigurationError for a missing table or column, a table without a key, a type that
        cannot be mapped without loss (naming the column and the `types` entry that decides it).
        """
        ...

    def read(self, stream: StreamSpec, state: ReadState) -> Iterator[Changes]:
        """All changes since `state.position`, up to a bound taken when the read starts.

        Every committed change is reported at least once across reads that hand back positions, and
        changes of one key never go backwards. Each item has at most `stream.batch_rows` rows and
        can be made durable by itself. The last one has the read's watermark, and no rows where
        nothing changed: the target is to show how fresh it is.

        The next item is asked for, in a thread of its own, while the last one is being made
        durable. `state.known` waits for that and then shows it: ask it as late as possible. Between
        items no transaction stays open, and `acknowledge` may be called. Raises PositionLostError
        when the position is gone or the source is older than it, ConfigurationError when several
        rows have one key, before any of them is reported; `fetch` does so too.

        Where the table gets another shape meanwhile, rows that were read without it are not given
        out. An item without rows and with the new schema ends the read; its position means nothing.
        """
        ...

    def fetch(self, stream: StreamSpec, keys: pa.RecordBatch, state: ReadState) -> Changes:
        """The current rows of these keys (columns of `describe(stream).arrow_key()`).

        One change per key, in the order asked: UPDATE with the row, or DELETE where there is none.
        Versions are a lower bound of what was read (DESIGN §3). `position` is `state.position`.
        """
        ...

    def acknowledge(self, streams: Mapping[str, tuple[StreamSpec, str]]) -> None:
        """The source may forget what these streams have made durable up to their positions."""
        ...

    def preflight(self, streams: Sequence[StreamSpec]) -> list[Problem]:
        """What would stop or endanger a run, found without changing anything."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class ManagesCapture(Protocol):
    """A source whose captures need objects in the source database."""

    def capture_plan(self, streams: Sequence[StreamSpec]) -> list[str]:
        """The SQL that `install` would run, one statement each; empty when all is in place."""
        ...

    def removal_plan(self, streams: Sequence[StreamSpec]) -> list[str]:
        """The SQL that takes away all that `capture_plan` made for these streams."""
        ...

    def execute(self, statements: Sequence[str]) -> None:
        """Runs a plan in one transaction where the database allows it."""
        ...


@runtime_checkable
class RetainsLog(Protocol):
    """A source whose server keeps its log until every stream has read it."""

    def retained(self, streams: Mapping[str, tuple[StreamSpec, str]]) -> Mapping[str, int]:
        """Bytes of log that the server keeps because of each of these positions, by stream.

        Streams whose capture keeps no log are left out.
        """
        ...


@runtime_checkable
class ReleasesLog(Protocol):
    """A source whose log can move on although none of its streams reads it any more."""

    def release(self, streams: Sequence[StreamSpec]) -> None:
        """The server may forget all of its log up to now: these streams begin with a snapshot.

        Only called when no stream that shares their log has a position in it.
        """
        ...


@runtime_checkable
class FollowsLog(Protocol):
    """A source that can go on telling changes as they are committed."""

    def follow(
        self, streams: Mapping[str, tuple[StreamSpec, ReadState]], stop: Callable[[], bool]
    ) -> Generator[tuple[str, Changes] | None, None, None]:
        """Changes of these streams, each with its stream's name, until `stop` says so.

        Each stream has been read before: it has a position. None comes when nothing has changed
        for a moment, so that whoever waits can do other things. What was given out counts as
        durable when the next item is asked for. It may end by itself, where the streams are to be
        described anew before it goes on. Raises as `Source.read` does.
        """
        ...


@runtime_checkable
class ChoosesKeys(Protocol):
    """A source that can say which of its rows fit a condition in its own SQL."""

    def check_condition(self, stream: StreamSpec, condition: str) -> None:
        """Raises ConfigurationError, with the database's words, for what is not one expression
        over the stream's table. No row is read."""
        ...

    def keys_where(
        self, stream: StreamSpec, condition: str
    ) -> Generator[pa.RecordBatch, None, None]:
        """The keys of the rows for which the condition is true, as they are at one moment.

        Columns of `describe(stream).arrow_key()`, each key once, in key order, at most
        `batch_rows` at a time; keys that the schema cannot hold are left out. The condition is a
        person's own text: it cannot end the statement it is part of, which only reads. A
        transaction stays open until the last item was asked for. Raises as `check_condition`.
        """
        ...


@runtime_checkable
class Catalog(Protocol):
    """A source that can list its tables, for `rowtrail init`."""

    def tables(self) -> list[str]:
        """Names of the tables a person made, in the form that `StreamSpec.table` takes."""
        ...


@runtime_checkable
class ListsColumns(Protocol):
    """A source that can list the columns of its tables, for patterns that name many tables."""

    def columns(self) -> Mapping[str, Sequence[str]]:
        """The columns of each table by the name that `Catalog.tables` gives it; no views."""
        ...


@runtime_checkable
class OffersCaptures(Protocol):
    """A source that says how it can find changes; one that does not has `trigger`."""

    captures: tuple[Capture, ...]  # the best first


@dataclass(frozen=True, kw_only=True)
class Fence:
    """Who may write to a target (DESIGN 2.10). A lower generation of the same ledger may not."""

    pipeline: str
    ledger_id: str
    generation: int  # of the lease; rises at each take-over


@dataclass(frozen=True, kw_only=True)
class Target:
    """A table at the destination, as one stream fills it."""

    stream: str
    table: str  # may be `schema.table`
    schema: TableSchema  # columns and key of the rows that are written
    deletes: Deletes


@dataclass(frozen=True, kw_only=True)
class Gap:
    """One record that the target lacks or has stale, as users of the target see it."""

    record: str  # the record id's text
    stage: str
    reason: str
    since: datetime  # UTC


@dataclass(frozen=True, kw_only=True)
class TargetTable:
    """What is at the destination now."""

    schema: TableSchema  # without Rowtrail's own columns
    live_rows: int
    gaps: tuple[Gap, ...] = ()  # what `_rowtrail_gaps` says of this table


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Written in the same transaction as a batch's rows: proof that the batch is at the target."""

    pipeline: str
    batch_id: str  # UUID; unique at the target
    stream: str
    target: str  # the table
    ledger_id: str
    sequence: int  # rises by one with each batch of the stream
    run_id: str
    epoch: int
    capture: str
    read_number: int
    position_before: str | None
    position_after: str | None
    manifest_digest: str  # sha256 hex of the manifest in the ledger
    written_at: datetime  # UTC
    superseded: bytes = b""  # filled in by the destination: little-endian uint32 row numbers


@dataclass(frozen=True, kw_only=True)
class LoadRows:
    """The rows of a load.

    Keys are unique within it. Where the target keeps the history, keys with their versions are.
    """

    target: Target
    rows: pa.RecordBatch  # of target.schema.arrow(); only the key is set for deletes
    operations: pa.Array  # uint8; DELETE also for rows that a transform dropped
    filtered: pa.Array  # bool: a DELETE because a transform dropped the row
    versions: pa.RecordBatch  # of VERSION_SCHEMA
    times: Times | None = None  # for history alone; None: rows as they were read just now
    replaces: bool = False  # likewise: a version that is there is replaced, not kept

    def are_same(self, other: LoadRows) -> bool:
        """Whether they are the very same objects, and not only equal."""
        return all(getattr(self, one.name) is getattr(other, one.name) for one in fields(LoadRows))


@dataclass(frozen=True, kw_only=True)
class Load(LoadRows):
    """All that one destination transaction does."""

    receipt: Receipt
    gaps_opened: tuple[Gap, ...] = ()
    gaps_closed: tuple[str, ...] = ()  # record ids whose gap, if any, is no more
    watermark: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Gathering:
    """How much a destination would rather have in one batch than in several.

    What a source gives is gathered until one of these is reached.
    """

    rows: int  # changes
    size: int  # bytes, as Arrow
    seconds: float  # since the first of them was read
    quiet_seconds: float  # likewise, where nothing but the time has moved on


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a destination can do."""

    probes: bool  # a write can be tried and rolled back
    transactional_ddl: bool
    type_of: Callable[[pa.DataType], str | None]
    """The type of the database that holds every value of an Arrow type; None: there is none."""
    takes: Callable[[str, str], bool]
    """Whether a column of the first type takes every value of the second, unchanged."""
    widens: Callable[[str, str, bool], bool]
    """Whether `alter` gives a column of the first type the second one; True: it is in the key."""
    same_name: Callable[[str, str], bool]
    """Whether two names are one column's."""
    gathering: Gathering | None = None
    """None: what a source gives at a time is a batch."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a destination was asked to do, where that is billed by its use."""

    statements: int = 0
    seconds: float = 0.0  # waited for statements that a warehouse works on
    staged_bytes: int = 0  # uploaded

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            statements=self.statements + other.statements,
            seconds=self.seconds + other.seconds,
            staged_bytes=self.staged_bytes + other.staged_bytes,
        )

    def __sub__(self, other: Cost) -> Cost:
        return Cost(
            statements=self.statements - other.statements,
            seconds=self.seconds - other.seconds,
            staged_bytes=self.staged_bytes - other.staged_bytes,
        )


class Destination(Protocol):
    """A warehouse. Opened from a URL with a fence, or without one for reading only.

    Opening with a fence claims the target: the owner row is made or its generation raised, and
    OwnershipError is raised when another ledger, or a higher generation, owns it.
    """

    capabilities: Capabilities

    def describe(self, table: str) -> TargetTable | None:
        """What is there now; None when there is no such table."""
        ...

    def alter(self, target: Target) -> list[str]:
        """Creates the table, or adds the columns it lacks and widens those that are too narrow;
        returns the statements it ran, all of them or none.

        A column is widened where each value that it has stays what it is: to a larger type of the
        same kind, or from an integer to a decimal. The table is this stream's from then on, however
        its name is spelled, until it is dropped. Never part of `write`. Raises ConfigurationError
        when an existing column has another type that does not take the target's values without
        loss, live rows have keys beyond those that the target's narrower key can be, something
        depends on the table so that it cannot be widened, the table was not made by Rowtrail, or
        another stream or pipeline fills it.
        """
        ...

    def write(self, load: Load, *, probe: bool = False) -> pa.Array:
        """One transaction: owner row, fenced merge, tombstones, gaps, watermark, receipt.

        Returns a bool array aligned with `load.rows`: true where the target already had this
        version or a newer one, so that nothing was changed. A batch whose receipt is already there
        changes nothing and returns what the receipt says. With `probe`, all of it is done and
        rolled back. Raises RecordError when a value is at fault (nothing was written),
        OwnershipError when the fence does not hold, TransientError, StopError.
        """
        ...

    def receipts(self) -> list[Receipt]:
        """The newest receipt of every stream, from any ledger.

        With a fence those of its pipeline, without one those of all that share the target.
        """
        ...

    def keys(
        self,
        target: Target,
        after: tuple[object, ...] | None,
        upto: tuple[object, ...] | None,
        limit: int,
    ) -> pa.Table:
        """The first keys, at most so many, in (after, upto] in binary key order, with `present` as
        in `Known.keys`.

        Soft-deleted rows and tombstones of deletes are not among them.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class RenamesStreams(Protocol):
    """A destination that can go on with a stream under another name."""

    def rename_stream(self, table: str, old: str, new: str, records: Mapping[str, str]) -> None:
        """What is known of stream `old`, which fills `table`, is known of `new` afterwards.

        `records` gives the new text of each record id that may have a gap. One transaction; doing
        it again changes nothing. Only with a fence, and within its pipeline.
        """
        ...


@runtime_checkable
class TellsCost(Protocol):
    """A destination that is billed by its use, and counts it."""

    @property
    def cost(self) -> Cost:
        """Since it was opened."""
        ...


@runtime_checkable
class UploadsAhead(Protocol):
    """A destination to which rows can be brought before it is their turn to be written."""

    def upload(self, rows: LoadRows, run_id: str) -> None:
        """Brings the rows to where `write` takes them from; the target does not change.

        Called in another thread than `write` and while that is at work, for the load after the one
        that is being written. A `write` of the very same rows takes what was uploaded. What no
        write has taken is removed in time. Raises RecordError, TransientError, StopError.
        """
        ...


@runtime_checkable
class PlansTables(Protocol):
    """A destination that can say what it would do to a table before it does it."""

    def plan(self, target: Target) -> list[str]:
        """The statements that `alter` would run now; none are run. Works without a fence.

        Raises ConfigurationError as `alter` does for types, names and keys; whose table it is, it
        does not ask.
        """
        ...


@runtime_checkable
class TellsRefused(Protocol):
    """A destination that holds whole batches against the rules of their table.

    Databases refuse a statement without saying which of its rows they refuse. One that can be asked
    for the rules finds these rows with a query instead of by trying parts of the batch.
    """

    def refused(self, load: Load) -> Sequence[int]:
        """Numbers of the rows of `load.rows`, rising, that break a rule of their table.

        The rules are NOT NULL, CHECK and unique values. One that cannot be looked at by itself is
        passed over, and a row that the fence keeps out may be among the answers: whether a row is
        refused is known once it was tried. Changes nothing. Raises OwnershipError, TransientError,
        StopError.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class RowsThere:
    """What a target has for some keys: one row for each, in the order in which they were asked."""

    rows: pa.RecordBatch
    """The stream's columns that the table has by now, in its order; NULL where it has no row."""
    versions: pa.RecordBatch  # of VERSION_SCHEMA; NULL where the target knows nothing of the key
    deleted_at: pa.Array  # timestamp(us, UTC); not NULL: the row was deleted, and may be gone
    filtered: pa.Array  # bool: it was deleted because a transform dropped it

    def __len__(self) -> int:
        return len(self.deleted_at)


@runtime_checkable
class ReadsRows(Protocol):
    """A destination that can show single rows, for whoever asks what it holds of a record."""

    def rows(self, target: Target, keys: pa.RecordBatch) -> RowsThere:
        """What is there of these keys (columns of `target.schema.arrow_key()`), as of one moment.

        Key columns come as they were asked, the others in the types that `describe` gives. A
        soft-deleted row still has its values; of a hard-deleted one the key, the version and the
        time are known. A missing table has nothing. The cost is that of finding the keys: memory
        holds what was asked, not the table. Raises ConfigurationError when the table was not made
        by Rowtrail.
        """
        ...
