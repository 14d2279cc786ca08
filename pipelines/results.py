"""What a run did, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from rowtrail.checkpoints.states import RunState
from rowtrail.connectors.base import Cost

if TYPE_CHECKING:
    from rowtrail.pipelines.differences import Differences


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Changes by what became of them."""

    loaded: int = 0  # inserts and updates
    deleted: int = 0
    filtered: int = 0
    folded: int = 0
    superseded: int = 0
    failed: int = 0
    waiting: int = 0  # behind a failed change of their record (policy `block`)

    def __add__(self, other: Counts) -> Counts:
        mine, theirs = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


@dataclass(frozen=True, kw_only=True)
class CheckWarning:
    """A check with severity `warn` that was broken; the rows were not held back for it."""

    check: str  # `column amount: min = 0`
    rows: int  # that broke it; 0 where it is about whole batches
    record: str | None = None  # the id of one of them
    observed: str | None = None  # where it is about whole batches: what one of them had


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """One closed batch."""

    batch_id: str
    counts: Counts
    filtered_by: tuple[tuple[str, int], ...]
    seconds: Mapping[str, float]  # by stage
    attempts: int  # tries of transforms and loads, to find what fails
    failed_records: tuple[str, ...] = ()  # their record ids
    warnings: tuple[CheckWarning, ...] = ()
    differences: Differences | None = None  # of a dry run: what it would change at the target


@dataclass(frozen=True, kw_only=True)
class FailedRecord:
    """A record that is held back now, as a result names it."""

    record: str
    stage: str
    error_class: str
    message: str


@dataclass(frozen=True, kw_only=True)
class StreamResult:
    """What a run did for one stream."""

    name: str
    counts: Counts = field(default_factory=Counts)
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage
    batches: int = 0
    attempts: int = 0
    held_back: int = 0  # records failed or waiting, from earlier runs too
    failed_records: tuple[FailedRecord, ...] = ()
    filtered_by: Mapping[str, int] = field(default_factory=dict)  # transform -> rows dropped
    warnings: tuple[CheckWarning, ...] = ()  # by check
    error: str | None = None  # why the stream stopped
    skipped: str | None = None  # why it was not run (paused, needs a snapshot)
    needs_snapshot: bool = False  # nothing but a new snapshot lets it go on
    cost: Cost | None = None  # of the destination, where it is billed by its use

    def plus(self, batch: BatchResult) -> StreamResult:
        seconds = dict(self.seconds)
        for stage, spent in batch.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + spent
        filtered_by = dict(self.filtered_by)
        for name, count in batch.filtered_by:
            filtered_by[name] = filtered_by.get(name, 0) + count
        return replace(
            self,
            counts=self.counts + batch.counts,
            seconds=seconds,
            batches=self.batches + 1,
            attempts=self.attempts + batch.attempts,
            filtered_by=filtered_by,
            warnings=added_up(self.warnings, batch.warnings),
        )

    @property
    def loaded(self) -> int:
        return self.counts.loaded

    @property
    def failed(self) -> int:
        return self.counts.failed

    @property
    def complete(self) -> bool:
        """Never plain green while a record is failed or waiting."""
        return self.error is None and self.skipped is None and self.held_back == 0

    @property
    def summary(self) -> str:
        """`complete`, `complete except N`, or why it is neither."""
        if self.error is not None:
            return "stopped"
        if self.skipped is not None:
            return self.skipped
        return "complete" if self.held_back == 0 else f"complete except {self.held_back:,}"


def added_up(
    one: Sequence[CheckWarning], other: Sequence[CheckWarning]
) -> tuple[CheckWarning, ...]:
    """Warnings by check, with the record that was named first."""
    found = {warned.check: warned for warned in one}
    for warned in other:
        known = found.get(warned.check)
        found[warned.check] = (
            warned if known is None else replace(known, rows=known.rows + warned.rows)
        )
    return tuple(found.values())


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run did."""

    run_id: str
    streams: Mapping[str, StreamResult]
    seconds: float
    recovered: tuple[str, ...] = ()  # what recovery found and did, in plain words
    decisions: tuple[str, ...] = ()  # requests that were carried out
    left_out: Mapping[str, str] = field(default_factory=dict)  # table of a pattern -> why
    new_tables: Mapping[str, str] = field(default_factory=dict)  # reported only -> what to do
    given_up: Mapping[str, str] = field(default_factory=dict)  # stream -> why: held too much log

    @property
    def complete(self) -> bool:
        streams = all(stream.complete for stream in self.streams.values())
        return streams and not self.given_up and not self.left_out

    @property
    def state(self) -> RunState:
        if any(one.error or one.needs_snapshot for one in self.streams.values()):
            return RunState.FAILED
        return RunState.COMPLETE if self.complete else RunState.COMPLETE_EXCEPT

    @property
    def warnings(self) -> tuple[CheckWarning, ...]:
        return tuple(one for stream in self.streams.values() for one in stream.warnings)

    @property
    def failed_records(self) -> tuple[FailedRecord, ...]:
        return tuple(r for stream in self.streams.values() for r in stream.failed_records)
