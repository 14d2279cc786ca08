"""Goes on after a run: changes are loaded as they are committed, until somebody says stop.

Streams of capture `log` are followed over the source's own stream of changes. The others are read
again every now and then, since nothing tells when they have changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from rowtrail.checkpoints.states import StreamState
from rowtrail.connectors.base import Capture, FollowsLog, ReadState, StreamSpec
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.errors import (
    ConfigurationError,
    OwnershipError,
    RowtrailError,
    TransientError,
)
from rowtrail.pipelines.automatic import ask_for_due
from rowtrail.pipelines.breakers import BreakerCount
from rowtrail.pipelines.commit import commit_batch
from rowtrail.pipelines.definition import StreamDefinition
from rowtrail.pipelines.gathering import Gatherer, gathering_of
from rowtrail.pipelines.lane import ReadyStream, install_capture, make_ready
from rowtrail.pipelines.opening import OpenPipeline, decide_unfinished
from rowtrail.pipelines.patterns import Resolved, known_targets, register, resolve
from rowtrail.pipelines.pending import carry_out_pending
from rowtrail.pipelines.results import StreamResult
from rowtrail.pipelines.run_stream import breakers_of, note_stop, run_stream
from rowtrail.pipelines.shared_log import give_up, let_move_on
from rowtrail.pipelines.stream_results import with_held_back

POLL_SECONDS = 30.0
"""So often streams of other captures than `log` are read again."""

LOOK_SECONDS = 60.0
"""So often it is asked how much of its log the source keeps for streams that do not go on, which
failed records are due to be tried again, and whether there are tables that a pattern takes and that
have no stream yet."""

BUSY_SECONDS = 5.0
"""What is done while nothing changes waits no longer than that where something always does."""

AGAIN_SECONDS = 600.0
"""A new table that could not be taken up is tried again after so long."""

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
"""Seconds between attempts to reach a source that is gone: somebody restarts it, perhaps."""

_TICK = 0.2


def follow_streams(
    opened: OpenPipeline,
    streams: Sequence[StreamDefinition],
    run_id: str,
    results: Mapping[str, StreamResult],
    stop: Callable[[], bool],
    *,
    takes_new: bool,
) -> tuple[OpenPipeline, dict[str, StreamResult]]:
    """The results with what came until `stop` said so; it is asked between batches.

    With `takes_new`, tables that come meanwhile and that a pattern takes become streams of the
    pipeline that is returned. A stream that stops does not stop the others. Raises
    ConfigurationError when the source cannot be followed, OwnershipError, LedgerError.
    """
    if not isinstance(opened.source, FollowsLog):
        raise ConfigurationError(
            "This source cannot be followed: it does not tell changes as they are committed. Run "
            "without --follow, as often as you like."
        )
    following = _Follow(opened, run_id, dict(results), stop, takes_new)
    following.add(streams)
    following.run(opened.source)
    found = {**following.refused, **following.results}
    return following.opened, {name: with_held_back(opened, one) for name, one in found.items()}


@dataclass
class _Waiting:
    """What was read of a stream and is not yet a batch, and the position before it."""

    gatherer: Gatherer
    position: str | None


@dataclass
class _Follow:
    opened: OpenPipeline
    run_id: str
    results: dict[str, StreamResult]
    stop: Callable[[], bool]
    takes_new: bool
    logged: list[StreamDefinition] = field(default_factory=list)  # of capture log
    others: list[StreamDefinition] = field(default_factory=list)
    quiet: float = field(default_factory=time.monotonic)  # when last nothing was to be loaded
    polled: float = field(default_factory=time.monotonic)
    looked: float = field(default_factory=time.monotonic)
    new: Resolved | None = None  # has tables that are to be taken up
    refused: dict[str, StreamResult] = field(default_factory=dict)  # new ones that could not be
    asked_again: float = field(default_factory=time.monotonic)  # when those were tried last
    lanes: dict[str, ReadyStream] = field(default_factory=dict)  # streams of the log that go on
    failures: int = 0  # of the connection, one after another

    def add(self, streams: Iterable[StreamDefinition]) -> None:
        """Those among them that have come through their first read."""
        for stream in streams:
            result = self.results[stream.name]
            if not result.error and not result.skipped:
                (self.logged if stream.capture is Capture.LOG else self.others).append(stream)

    def run(self, source: FollowsLog) -> None:
        while not self.stop():
            try:
                if self.new is not None:
                    found, self.new = self.new, None
                    self._take_up(found)
                self.lanes = {}
                self._make_lanes()
                if self.lanes:
                    self._follow(source)
                elif self.others or self.takes_new:
                    time.sleep(_TICK)
                    self._meanwhile()
                else:
                    return
            except TransientError as error:
                self._wait(error)

    def _make_lanes(self) -> None:
        """The streams that go on, described anew."""
        for stream in self.logged:
            record = self.opened.ledger.streams.get(stream.name)
            if record is None or record.state is not StreamState.ACTIVE:
                continue
            try:
                breakers = breakers_of(self.opened, None, record)
                self.lanes[stream.name] = make_ready(self.opened, stream, self.run_id, breakers)
            except (OwnershipError, TransientError):
                raise
            except RowtrailError as error:
                self._stopped(stream, error)

    def _follow(self, source: FollowsLog) -> None:
        """Until it is stopped, or until streams are to be made ready anew."""
        asked: dict[str, tuple[StreamSpec, ReadState]] = {
            name: (ready.lane.stream.source_spec(), ready.state)
            for name, ready in self.lanes.items()
        }
        try:
            with closing(source.follow(asked, self.stop)) as items:
                self._load(items)
        except (OwnershipError, TransientError):
            raise
        except RowtrailError as error:
            if error.stream not in self.lanes:
                raise
            self._stopped(self.lanes[error.stream].lane.stream, error)

    def _load(self, items: Iterable[tuple[str, Changes] | None]) -> None:
        can = self.opened.destination.capabilities
        waiting = {
            name: _Waiting(Gatherer(gathering_of(can, ready.lane.stream)), ready.state.position)
            for name, ready in self.lanes.items()
        }
        for item in items:
            self.failures = 0
            if item is None or time.monotonic() - self.quiet >= BUSY_SECONDS:
                self._meanwhile()
            if self.new is not None:
                break  # the slot is free for the first read of what is new
            if item is not None:
                name, changes = item
                if changes.schema != self.lanes[name].source_schema:
                    break  # the table has got another shape since it was made ready
                gatherer = waiting[name].gatherer
                if not gatherer.takes(changes):
                    self._commit(name, waiting[name])
                gatherer.add(changes)
            for name, one in waiting.items():
                if one.gatherer.is_due:
                    self._commit(name, one)
        for name, one in waiting.items():
            self._commit(name, one)

    def _commit(self, name: str, waiting: _Waiting) -> None:
        """What was gathered of a stream, as one batch; what was read but is not yet a batch would
        be read again."""
        changes = waiting.gatherer.take()
        if changes is None:
            return
        self.opened.lease.check()
        try:
            batch = commit_batch(self.lanes[name].lane, changes, position_before=waiting.position)
        except RowtrailError as error:
            error.stream = name
            raise
        waiting.position = changes.position
        self.results[name] = self.results[name].plus(batch)
        if len(changes) or changes.rejected:
            self.opened.reporter.batch_done(name, batch)

    def _meanwhile(self) -> None:
        """What is done while nothing changes, and now and then although something does."""
        self.opened.lease.check()
        if carry_out_pending(self.opened, self.run_id):
            for ready in self.lanes.values():
                ready.lane.held.changed()
        if time.monotonic() - self.looked >= LOOK_SECONDS:
            self.looked = time.monotonic()
            give_up(self.opened, self.lanes)
            let_move_on(self.opened)
            self._begin_counts_anew()
            ask_for_due(self.opened, [*self.logged, *self.others])
            self._look_for_new()
        if self.others and time.monotonic() - self.polled >= POLL_SECONDS:
            for stream in self.others:
                found = run_stream(self.opened, stream, self.run_id, None)
                before = self.results[stream.name]
                self.results[stream.name] = replace(found, counts=before.counts + found.counts)
            self.polled = time.monotonic()
        self.quiet = time.monotonic()

    def _begin_counts_anew(self) -> None:
        """What would be a run of its own under a scheduler is held against the limits by itself:
        over weeks any table loses more rows than it has."""
        for name, ready in self.lanes.items():
            if not ready.lane.breakers.has_counted:
                continue
            there = self.opened.destination.describe(ready.lane.target.table)
            rows = 0 if there is None else there.live_rows
            count = BreakerCount(name, ready.lane.breakers.limits, rows)
            self.lanes[name] = replace(ready, lane=replace(ready.lane, breakers=count))

    def _look_for_new(self) -> None:
        """Notes tables that a pattern takes and that have no stream yet."""
        if not self.takes_new:
            return
        if time.monotonic() - self.asked_again >= AGAIN_SECONDS:
            self.asked_again = time.monotonic()
            self.refused.clear()
        known = known_targets(self.opened.ledger)
        try:
            found = resolve(self.opened.definition, self.opened.source, known)
        except (OwnershipError, TransientError):
            raise
        except RowtrailError as error:
            self.opened.reporter.note(f"It could not be seen whether there are new tables: {error}")
            return
        if self._of_new(found):
            self.new = found

    def _of_new(self, found: Resolved) -> list[StreamDefinition]:
        known = self.results.keys() | self.refused.keys()
        return [stream for stream in found.definition.streams if stream.name not in known]

    def _take_up(self, found: Resolved) -> None:
        """The first read of new tables, for which the others wait. One that cannot be read is tried
        again later: somebody mends it, or a lock goes."""
        self.opened = replace(
            self.opened,
            definition=found.definition,
            resolved=found,
            opened_at=time.monotonic(),
        )
        streams = self._of_new(found)
        register(self.opened.ledger, self.opened.definition)
        why: RowtrailError | None = None
        try:
            install_capture(self.opened, streams)
        except OwnershipError:
            raise
        except RowtrailError as error:
            why = error
        for stream in streams:
            if self.stop():
                return
            if why is not None:
                result = StreamResult(name=stream.name, error=str(why))
                self.opened.reporter.stream_done(result)
            else:
                result = run_stream(self.opened, stream, self.run_id, None, stop=self.stop)
            if result.error:
                self.refused[stream.name] = result
                self.asked_again = time.monotonic()
            else:
                self.results[stream.name] = result
                self.add([stream])

    def _stopped(self, stream: StreamDefinition, error: RowtrailError) -> None:
        note_stop(self.opened, stream, error)
        self.results[stream.name] = replace(self.results[stream.name], error=str(error))
        self.opened.reporter.stream_done(self.results[stream.name])

    def _wait(self, error: TransientError) -> None:
        """Longer each time, until it is there again or somebody says stop.

        A batch whose write was cut off is decided about first: it may be at the target.
        """
        told = str(error)
        while not self.stop():
            self.failures += 1
            seconds = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (self.failures - 1))
            self.opened.reporter.note(f"{told} Trying again in {seconds:.1f} s.")
            end = time.monotonic() + seconds
            while time.monotonic() < end and not self.stop():
                time.sleep(_TICK)
            self.opened.lease.check()
            try:
                decide_unfinished(self.opened)
                return
            except TransientError as still:
                told = str(still)
