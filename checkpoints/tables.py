"""The ledger's tables, as SQLAlchemy Core declares them. Changes here need a migration.

Times are integers: microseconds since 1970 UTC. Streams are referred to by number, so that a stream
is renamed in one row. A failure is held back as long as `ended_at` is NULL.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    text,
)

metadata = MetaData()

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware datetime, stored as microseconds since 1970 UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:
        return None if value is None else _EPOCH + value * _MICROSECOND


# SQLite numbers rows by itself only where the key is declared INTEGER.
_Serial = BigInteger().with_variant(Integer(), "sqlite")


def _version_columns() -> list[Column[Any]]:
    names = ("epoch", "position", "ordinal", "revision")
    return [Column(name, BigInteger, nullable=False) for name in names]


def _stream_column() -> Column[Any]:
    return Column("stream_id", ForeignKey("streams.id"), nullable=False)


ledger = Table(
    "rowtrail_ledger",
    metadata,
    Column("id", Text, primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    # A decision's number is never issued twice, and never one that a lost ledger may have issued.
    Column("last_decision", BigInteger, nullable=False),
)

schema_versions = Table(
    "schema_versions",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("applied_at", Instant, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("number", _Serial, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("message", Text),
)

streams = Table(
    "streams",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("capture", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("position", Text),
    Column("read_number", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("last_batch_id", Text),
    Column("state", Text, nullable=False),
    Column("state_reason", Text),
    Column("watermark", Instant),
    Column("updated_at", Instant, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("batch_id", Text, nullable=False, unique=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    _stream_column(),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("prepared_at", Instant),
    Column("closed_at", Instant),
    Column("position_after", Text),
    Column("watermark", Instant),
    Column("read_complete", Boolean, nullable=False),
    Column("manifest_digest", Text),
    Column("records", BigInteger, nullable=False),
    # So that a close, which mostly has none of these, need not look for them.
    Column("failed", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=False),
    Column("has_page", Boolean, nullable=False),
    # While prepared: which row of the blob each row of the load is.
    Column("load_rows", LargeBinary),
)
Index("batches_by_stream", batches.c.stream_id, batches.c.id)
Index(
    "one_unfinished_batch_per_stream",
    batches.c.stream_id,
    unique=True,
    sqlite_where=text("state IN ('open', 'prepared')"),
)

# The form of the key columns of a blob; a handful per stream, where types changed.
key_layouts = Table(
    "key_layouts",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("layout", LargeBinary, nullable=False, unique=True),
)

# The blob of a batch: its index here, its rows in segments.
outcomes = Table(
    "outcomes",
    metadata,
    Column("batch", ForeignKey("batches.id"), primary_key=True, autoincrement=False),
    _stream_column(),
    Column("layout_id", ForeignKey("key_layouts.id"), nullable=False),
    Column("first_place", BigInteger, nullable=False),
    Column("last_place", BigInteger, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("superseded", LargeBinary),  # numbers of rows that the target had already
)
Index(
    "outcomes_by_place",
    outcomes.c.stream_id,
    outcomes.c.layout_id,
    outcomes.c.first_place,
    outcomes.c.last_place,
)

outcome_segments = Table(
    "outcome_segments",
    metadata,
    Column("batch", ForeignKey("outcomes.batch"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

# What a read of a whole table saw, for captures that compare it with the next read.
pages = Table(
    "pages",
    metadata,
    Column("batch", ForeignKey("batches.id"), primary_key=True, autoincrement=False),
    _stream_column(),
    Column("state", Text, nullable=False),  # prepared, reading, complete
    Column("body", LargeBinary, nullable=False),  # an Arrow IPC stream of one batch
)
Index("pages_by_stream", pages.c.stream_id, pages.c.state, pages.c.batch)


def _failure_columns() -> list[Column[Any]]:
    return [
        Column("state", Text, nullable=False),
        Column("operation", Integer, nullable=False),
        Column("stage", Text, nullable=False),
        Column("error_class", Text, nullable=False),
        Column("message", Text, nullable=False),
        Column("fingerprint", Text, nullable=False),
        Column("code_fingerprint", Text),
        Column("waits_for", Text),
    ]


def _image_columns() -> list[Column[Any]]:
    # Last in their row: SQLite then reads the columns before them without reading them.
    return [Column("extracted", LargeBinary), Column("transformed", LargeBinary)]


def _image_note_column() -> Column[Any]:
    # What is to be known of the image: what it lacks, or why there is none.
    return Column("image_note", Text)


def _time_columns() -> list[Column[Any]]:
    # When it was committed at the source, or else read. NULL: in a ledger that did not keep it.
    return [Column("happened_at", Instant), Column("committed", Boolean)]


# Failures and ends of a manifest, until its batch is closed.
prepared_failures = Table(
    "prepared_failures",
    metadata,
    Column("batch", ForeignKey("batches.id"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, nullable=False),
    Column("key_text", Text, nullable=False),
    *_version_columns(),
    *_failure_columns(),
    _image_note_column(),
    *_time_columns(),
    *_image_columns(),
)
Index("prepared_failures_by_key", prepared_failures.c.batch, prepared_failures.c.key)

prepared_ends = Table(
    "prepared_ends",
    metadata,
    Column("batch", ForeignKey("batches.id"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("failure_id", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("decision_id", BigInteger),
)

failures = Table(
    "failures",
    metadata,
    Column("id", _Serial, primary_key=True),
    _stream_column(),
    Column("key", LargeBinary, nullable=False),
    Column("key_text", Text, nullable=False),
    *_version_columns(),
    *_failure_columns(),
    Column("attempts", Integer, nullable=False),
    Column("first_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    Column("run_id", ForeignKey("runs.id"), nullable=False),  # of the last attempt
    Column("batch", ForeignKey("batches.id")),  # of the last attempt; NULL: restored from gaps
    Column("ended_at", Instant),
    Column("ended_batch", ForeignKey("batches.id")),
    Column("ended_decision", BigInteger),
    _image_note_column(),
    *_time_columns(),
    *_image_columns(),
)
Index("failures_by_key", failures.c.stream_id, failures.c.key)
Index(
    "one_held_back_per_version",
    failures.c.stream_id,
    failures.c.key,
    failures.c.epoch,
    failures.c.position,
    failures.c.ordinal,
    failures.c.revision,
    unique=True,
    sqlite_where=text("ended_at IS NULL"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("failure_id", ForeignKey("failures.id"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("batch", BigInteger),
    Column("state", Text, nullable=False),  # failed or waiting, as the batch said
    Column("stage", Text, nullable=False),
    Column("error_class", Text, nullable=False),
    Column("message", Text, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    _stream_column(),
    Column("from_stage", Text),
    Column("actor", Text, nullable=False),
    Column("reason", Text),
    Column("created_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("result", Text),
    Column("failure_group", Text),  # the fingerprint of the group whose records were meant
    # Of a replay: where it takes the rows from, and which records are meant where none is named.
    Column("origin", Text),
    Column("of_run", Text),
    Column("since", Instant),
    Column("until", Instant),
    Column("condition", Text),
)
Index("decisions_by_state", decisions.c.state)

decision_records = Table(
    "decision_records",
    metadata,
    Column("decision_id", ForeignKey("decisions.id"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _stream_column(),
    Column("key", LargeBinary, nullable=False),
    Column("key_text", Text, nullable=False),
)
Index("decision_records_by_key", decision_records.c.stream_id, decision_records.c.key)

# What is no longer kept of a stream, so that a gap in what is known can be told from nothing.
pruned = Table(
    "pruned",
    metadata,
    Column("what", Text, primary_key=True),  # images, trails
    Column("stream_id", ForeignKey("streams.id"), primary_key=True, autoincrement=False),
    Column("upto", Instant),  # what ended before is gone; NULL: nothing was yet
    Column("at", Instant),  # when that was done last
    Column("looked_at", Instant, nullable=False),  # when it was last seen what there is to do
)

# One row from the first acquisition on; kept after a release, for the generation.
lease = Table(
    "lease",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("generation", BigInteger, nullable=False),
    Column("holder", Text, nullable=False),
    Column("process", Text),  # where and what it is, on systems that can tell; see leases.py
    Column("acquired_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("released", Boolean, nullable=False),
)
