"""The log that several streams read: what the source may forget of it, and who waits too long.

A stream that is stopped, paused or not run needs the log from its position on, and a source that
must keep it for ever runs out of disk. Past `retained_log` such a stream is given up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.states import StreamRecord, StreamState
from rowtrail.connectors.base import Capture, ReleasesLog, RetainsLog, Source, StreamSpec
from rowtrail.connectors.errors import RowtrailError
from rowtrail.pipelines.definition import PipelineDefinition, StreamDefinition
from rowtrail.pipelines.opening import OpenPipeline
from rowtrail.pipelines.retrying import retry_transient
from rowtrail.pipelines.sizes import size_text

Positions = dict[str, tuple[StreamSpec, str]]
"""By stream: what `Source.acknowledge` and `RetainsLog.retained` take."""


def acknowledge(opened: OpenPipeline, stream: StreamDefinition, position: str) -> None:
    """Lets the source forget what all streams that share the log have behind them.

    The batch is durable: a source that cannot be told is told with the next one.
    """
    sharing = [
        other
        for other in opened.definition.streams
        if other.name != stream.name and _may_share_log(other, stream)
    ]
    own = {stream.name: (stream.source_spec(), position)}
    _tell(opened, own | _held(opened.ledger, sharing), stream.name)


def holding(definition: PipelineDefinition, ledger: Ledger) -> Positions:
    """The streams of capture `log` that the source keeps its log for, with their positions."""
    return _held(ledger, [one for one in definition.streams if one.capture is Capture.LOG])


def retained(source: Source, positions: Positions) -> Mapping[str, int]:
    """Bytes of log that the source keeps for each; empty where it cannot tell."""
    if not positions or not isinstance(source, RetainsLog):
        return {}
    return retry_transient(partial(source.retained, positions))


def give_up(opened: OpenPipeline, reading: Collection[str]) -> dict[str, str]:
    """Gives up streams of capture `log` for which too much of it is kept; a sentence for each.

    Those that are being read (`reading`) catch up by themselves. The ledger knows it before the
    source forgets anything: from then on they do not hold the log.
    """
    waiting = {
        name: held
        for name, held in holding(opened.definition, opened.ledger).items()
        if name not in reading
    }
    try:
        with opened.source_in_use:
            kept = retained(opened.source, waiting)
    except RowtrailError as error:
        opened.reporter.note(f"The source could not say how much of its log it keeps: {error}")
        return {}
    limit = opened.definition.retained_log
    told = {}
    for name, size in kept.items():
        record = opened.ledger.streams.get(name)
        if size > limit and record is not None:
            reason = _reason(record, size, limit)
            opened.ledger.streams.set_state(name, StreamState.NEEDS_SNAPSHOT, reason)
            told[name] = f"Stream {name} was given up: {reason}"
            opened.reporter.note(told[name])
    return told


def let_move_on(opened: OpenPipeline) -> None:
    """Lets the log move on although some of its streams need a snapshot and acknowledge nothing."""
    lost = [stream for stream in opened.definition.streams if _is_lost(opened.ledger, stream)]
    if not lost:
        return
    positions = holding(opened.definition, opened.ledger)
    if positions:
        _tell(opened, positions, "The log")
        return
    names = ", ".join(stream.name for stream in lost)
    if not isinstance(opened.source, ReleasesLog):
        opened.reporter.note(
            f"The source may go on keeping its log, since every stream that reads it needs a "
            f"snapshot ({names}). `rowtrail run --resnapshot STREAM` lets it move on, and "
            f"`rowtrail init --remove-capture` ends it."
        )
        return
    try:
        with opened.source_in_use:
            opened.source.release([stream.source_spec() for stream in lost])
    except RowtrailError as error:
        opened.reporter.note(f"{names}: the source could not let its log move on: {error}")


def _is_lost(ledger: Ledger, stream: StreamDefinition) -> bool:
    record = ledger.streams.get(stream.name) if stream.capture is Capture.LOG else None
    return (
        record is not None
        and record.state is StreamState.NEEDS_SNAPSHOT
        and record.capture == stream.capture.value
    )


def _held(ledger: Ledger, streams: Sequence[StreamDefinition]) -> Positions:
    """The position from which each stream goes on, without those that need nothing of the log.

    One that is to be read from the start needs nothing of what is in the log now: it has no
    position, or one that is lost, or that of another capture or target.
    """
    if not streams:
        return {}
    records = {record.name: record for record in ledger.streams.all()}
    held: Positions = {}
    for stream in streams:
        record = records.get(stream.name)
        if (
            record is not None
            and record.position is not None
            and record.state is not StreamState.NEEDS_SNAPSHOT
            and (record.capture, record.target) == (stream.capture.value, stream.target)
        ):
            held[stream.name] = (stream.source_spec(), record.position)
    return held


def _may_share_log(one: StreamDefinition, other: StreamDefinition) -> bool:
    """Whether two streams may read the same log.

    There is one for all streams of capture `log`, and one for each table of the others. The source
    knows whether two names are one table; this only leaves out what cannot be. A name may be in
    quotes or not.
    """
    if one.capture is not other.capture:
        return False
    tables = [
        stream.table.replace('"', "").rpartition(".")[2].casefold() for stream in (one, other)
    ]
    return one.capture is Capture.LOG or tables[0] == tables[1]


def _tell(opened: OpenPipeline, positions: Positions, who: str) -> None:
    try:
        with opened.source_in_use:
            retry_transient(partial(opened.source.acknowledge, positions))
    except RowtrailError as error:
        opened.reporter.note(f"{who}: the source could not forget what is loaded: {error}")


def _reason(record: StreamRecord, size: int, limit: int) -> str:
    before = {
        StreamState.PAUSED: "it was paused",
        StreamState.STOPPED: f"it was stopped: {(record.state_reason or '').rstrip('.')}",
    }.get(record.state, "it was not run")
    return (
        f"the source kept {size_text(size)} of its log for it, more than the {size_text(limit)} "
        f"that `retained_log` allows ({before}). What it missed is no longer in the log. Read the "
        f"table anew: rowtrail run --resnapshot {record.name}"
    )
