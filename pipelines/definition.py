"""What a pipeline is made of, as plain values, whether it came from TOML or from Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from rowtrail.connectors.base import DEFAULT_BATCH_ROWS, Capture, Deletes, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.checks import Check
from rowtrail.pipelines.contract import Contract
from rowtrail.pipelines.suites import Suite

if TYPE_CHECKING:
    from rowtrail.pipelines.transforms import Transform

DEFAULT_READERS = 2
DEFAULT_RETRIES = 5
DEFAULT_IMAGE_BYTES = 10**6
"""Bytes: a thousand failed rows that large, as the breaker allows, are a gigabyte in the ledger."""
DEFAULT_RETAINED_LOG = 10 * 10**9
"""Bytes: a tenth of a small server's disk."""
LONGEST_SLOT = 63
"""PostgreSQL cuts longer names of slots and publications."""


def default_slot(pipeline: str) -> str:
    """The slot of a pipeline that names none."""
    return f"rowtrail_{re.sub(r'[^a-z0-9_]', '_', pipeline.lower())}"[:LONGEST_SLOT]


class Policy(StrEnum):
    """What becomes of later changes of a record while one of its changes is failed (DESIGN §5)."""

    LATEST = "latest"  # they are loaded, and take the failed one's place
    BLOCK = "block"  # they wait behind it, in order
    REREAD = "reread"  # as `latest`; besides, each run fetches the row of a failed record


@dataclass(frozen=True, kw_only=True)
class Breakers:
    """When a stream must stop and ask (DESIGN 2.6). Counted over a whole run of the stream."""

    failed_records: int = 1_000
    failed_share: float = 0.5  # of the changes read; only once `sample` of them were read
    deleted_share: float = 0.3  # of the target's live rows; only when they are `sample` or more
    sample: int = 100
    waiting_records: int = 1_000  # changes of a stream that wait at a time, not of one run
    attempts: int = 20_000  # per batch and stage, spent on finding bad records


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long is kept what is of no more use by itself. None: for ever."""

    images: timedelta | None = None  # of failures, since they ended
    trails: timedelta | None = None  # batches, failures and decisions, since they ended
    archive: timedelta | None = None  # archived batches, since they were opened


@dataclass(frozen=True, kw_only=True)
class StreamDefinition:
    """One source table, the target table that it fills, and how."""

    name: str
    table: str
    target: str
    capture: Capture
    deletes: Deletes = Deletes.SOFT
    key: tuple[str, ...] = ()
    cursor: str | None = None
    cursor_lag: float = 0.0
    columns: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    transforms: tuple[Transform, ...] = ()
    batch_rows: int | None = None  # most changes in one batch; None: as the destination has them
    capture_images: bool = True
    policy: Policy = Policy.LATEST
    retries: int = DEFAULT_RETRIES  # that runs make by themselves; 0: a person asks for each
    image_bytes: int = DEFAULT_IMAGE_BYTES  # of a larger row no image is kept
    redact: tuple[str, ...] = ()  # columns whose values the ledger and messages never hold
    redact_where_found: tuple[str, ...] = ()  # likewise, where the table has such a column
    archive: bool = True  # whether its batches are kept, where the pipeline has an archive
    contract: Contract = field(default_factory=Contract)  # takes which changes of shape
    checks: tuple[Check, ...] = ()  # of the rows that are to be loaded
    checks_where_found: tuple[Check, ...] = ()  # likewise, where the table has such a column
    expectations: tuple[Suite, ...] = ()  # of Great Expectations, likewise
    log: str = ""  # the slot; given by the pipeline, as `readers` is
    readers: int = DEFAULT_READERS
    pattern: str | None = None  # that took the table; None: the stream has a section of its own

    def __post_init__(self) -> None:
        if self.keeps_versions:
            # Else a version that loads would hide one before it that failed.
            object.__setattr__(self, "policy", Policy.BLOCK)

    @property
    def keeps_versions(self) -> bool:
        """Whether each version of a record is loaded, and not only its newest."""
        return self.deletes is Deletes.HISTORY

    @property
    def page_rows(self) -> int:
        """At most so many rows are read, fetched or chosen at a time."""
        return self.batch_rows or DEFAULT_BATCH_ROWS

    def source_spec(self) -> StreamSpec:
        return StreamSpec(
            name=self.name,
            table=self.table,
            capture=self.capture,
            key=self.key,
            cursor=self.cursor,
            cursor_lag=self.cursor_lag,
            columns=self.columns,
            exclude=self.exclude,
            types=self.types,
            batch_rows=self.page_rows,
            log=self.log,
            readers=self.readers,
        )


class NewTables(StrEnum):
    """What a pattern does with a table that is made after its first run."""

    TAKE = "take"
    REPORT = "report"


@dataclass(frozen=True, kw_only=True)
class PatternDefinition:
    """Streams for all tables whose name fits, as `patterns.resolve` finds them at the source."""

    template: StreamDefinition  # named like the pattern; what it sets holds for each stream
    exclude_tables: tuple[str, ...] = ()  # names and patterns of tables that it does not mean
    new_tables: NewTables = NewTables.TAKE

    def __post_init__(self) -> None:
        # A table of many that has no such column is no mistake.
        everywhere = (*self.template.redact, *self.template.redact_where_found)
        template = replace(
            self.template,
            redact=(),
            redact_where_found=everywhere,
            checks=(),
            checks_where_found=(*self.template.checks, *self.template.checks_where_found),
        )
        object.__setattr__(self, "template", template)

    @property
    def name(self) -> str:
        return self.template.name


@dataclass(frozen=True, kw_only=True)
class PipelineDefinition:
    """One source, one destination, some streams, one ledger.

    Its streams read one log with one set of readers: whatever a stream said of `log` and `readers`,
    it gets the pipeline's own.
    """

    name: str
    source: str  # URL; may hold a password: never print it
    destination: str  # URL, likewise
    ledger: Path
    streams: tuple[StreamDefinition, ...]
    breakers: Breakers = field(default_factory=Breakers)
    install_capture: bool = False  # a run may make what captures need at the source itself
    slot: str = ""  # capture `log`: slot and publication; empty: named after the pipeline
    readers: int = DEFAULT_READERS  # capture `log`: connections of a first snapshot
    retained_log: int = DEFAULT_RETAINED_LOG  # bytes of log that a stream may hold back
    image_keys: tuple[str, ...] = field(default=(), repr=False)  # secret; empty: not encrypted
    retention: Retention = Retention()
    archive: str | None = None  # folder or fsspec URL: likewise
    lock: Path | None = None  # the file of the agreed shapes; None: nothing was agreed on
    patterns: tuple[PatternDefinition, ...] = ()  # their streams are known once it is resolved

    def __post_init__(self) -> None:
        slot = self.slot or default_slot(self.name)
        streams = tuple(replace(one, log=slot, readers=self.readers) for one in self.streams)
        patterns = tuple(
            replace(one, template=replace(one.template, log=slot, readers=self.readers))
            for one in self.patterns
        )
        object.__setattr__(self, "slot", slot)
        object.__setattr__(self, "streams", streams)
        object.__setattr__(self, "patterns", patterns)

    def stream(self, name: str) -> StreamDefinition:
        """The stream of that name; raises ConfigurationError, which lists the known ones."""
        for stream in self.streams:
            if stream.name == name:
                return stream
        names = ", ".join(stream.name for stream in self.streams) or "none yet"
        patterns = " and ".join(pattern.name for pattern in self.patterns)
        more = f", those of {patterns} among them" if patterns else ""
        raise ConfigurationError(
            f"Pipeline {self.name} has no stream {name}. Its streams are {names}{more}."
        )
