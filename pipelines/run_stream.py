"""One stream's part in a run: read ahead, committed batch by batch, its end noted."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial

from rowtrail.checkpoints.states import StreamRecord, StreamState
from rowtrail.connectors.base import Cost, Known, ReadState, TellsCost
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.errors import (
    ConfigurationError,
    OwnershipError,
    PositionLostError,
    RowtrailError,
    TransientError,
)
from rowtrail.pipelines.ahead import Batch, prepare_ahead
from rowtrail.pipelines.breakers import stopped_for_deletes
from rowtrail.pipelines.commit import Lane, commit_batch
from rowtrail.pipelines.definition import Breakers, StreamDefinition
from rowtrail.pipelines.first_read import FirstRead
from rowtrail.pipelines.gathering import Gatherer, gathering_of
from rowtrail.pipelines.lane import ReadyStream, make_ready, skip_reason
from rowtrail.pipelines.opening import OpenPipeline, settle_unfinished
from rowtrail.pipelines.read_ahead import ReadAhead
from rowtrail.pipelines.results import BatchResult, StreamResult
from rowtrail.pipelines.stream_results import with_held_back


def run_stream(
    opened: OpenPipeline,
    stream: StreamDefinition,
    run_id: str,
    allow_deletes: float | None,
    *,
    stop: Callable[[], bool] | None = None,
) -> StreamResult:
    """Reads one stream, batch by batch, up to what its source has committed now.

    What stops the stream is in its result, and in the ledger. Raises OwnershipError, LedgerError.
    `allow_deletes` is the share of the target's rows that may be deleted, where a person said so.
    Where `stop` says so, it ends after a batch, and the next run goes on from there.
    """
    result = StreamResult(name=stream.name)
    record = opened.ledger.streams.get(stream.name)
    skipped = skip_reason(record)
    if record is not None and skipped is not None:
        lost = record.state is StreamState.NEEDS_SNAPSHOT
        return replace(result, skipped=skipped, needs_snapshot=lost)
    if stop is not None and stop():
        return replace(result, skipped="told to stop before it was read; the next run goes on")
    opened.reporter.stream_started(stream.name, stream.capture.value)
    before = _cost(opened)
    try:
        if stream.name in opened.resolved.gone:
            raise ConfigurationError(opened.resolved.gone[stream.name])
        breakers = breakers_of(opened, allow_deletes, record)
        for batch in _committed(opened, stream, run_id, breakers, stop):
            if batch is None:
                result = replace(result, skipped="told to stop; the next run goes on from here")
            else:
                result = result.plus(batch)
                opened.reporter.batch_done(stream.name, batch)
        if record is not None and record.state is not StreamState.ACTIVE:
            opened.ledger.streams.set_state(stream.name, StreamState.ACTIVE)
    except OwnershipError:
        raise
    except RowtrailError as error:
        result = replace(result, error=str(error))
        note_stop(opened, stream, error)
    result = replace(with_held_back(opened, result), cost=_cost_since(opened, before))
    opened.reporter.stream_done(result)
    return result


def _cost(opened: OpenPipeline) -> Cost | None:
    return opened.destination.cost if isinstance(opened.destination, TellsCost) else None


def _cost_since(opened: OpenPipeline, before: Cost | None) -> Cost | None:
    now = _cost(opened)
    return None if now is None or before is None else now - before


def _committed(
    opened: OpenPipeline,
    stream: StreamDefinition,
    run_id: str,
    breakers: Breakers,
    stop: Callable[[], bool] | None,
) -> Iterator[BatchResult | None]:
    """All batches of the stream; None in the end where it was to stop and there are more.

    A table that gets another shape before it is read is made ready once more.
    """
    whole = False
    while not whole:
        ready = opened.patience.retry(partial(make_ready, opened, stream, run_id, breakers))
        position, whole = ready.state.position, True
        with closing(_batches(opened, ready)) as batches:
            for batch in batches:
                changes = batch.changes
                if changes.schema != ready.source_schema:
                    whole = False
                    break
                if stop is not None and stop():
                    yield None
                    return
                opened.lease.check()
                yield commit_batch(ready.lane, changes, position_before=position, ahead=batch.ahead)
                position = changes.position


def note_stop(opened: OpenPipeline, stream: StreamDefinition, error: RowtrailError) -> None:
    """The ledger knows that the stream stopped, why, and whether it needs a snapshot."""
    settle_unfinished(opened)
    if opened.ledger.streams.get(stream.name) is None:
        return
    lost = isinstance(error, PositionLostError)
    state = StreamState.NEEDS_SNAPSHOT if lost else StreamState.STOPPED
    opened.ledger.streams.set_state(stream.name, state, str(error))


def breakers_of(
    opened: OpenPipeline, allow_deletes: float | None, record: StreamRecord | None
) -> Breakers:
    """The pipeline's limits, or what a person allows this time."""
    limits = opened.definition.breakers
    if allow_deletes is not None:
        return replace(limits, deleted_share=allow_deletes)
    if record is None or not stopped_for_deletes(record):
        return limits
    # Else a nightly run would take the same share of what is left, night after night.
    opened.reporter.note(
        f"{record.name}: it was stopped for deleting too much; until somebody allows it "
        f"(--allow-deletes, or `rowtrail stream resume {record.name}`) it deletes nothing."
    )
    return replace(limits, deleted_share=0.0)


def _batches(opened: OpenPipeline, ready: ReadyStream) -> Generator[Batch, None, None]:
    """All that the source has to report; a cut connection goes on from the last closed batch."""
    state = ready.state
    with ExitStack() as stack:
        reading: ReadAhead[Batch] | None = None

        def following() -> Batch | None:
            nonlocal reading, state
            if reading is None:
                reading = stack.enter_context(_read_ahead(opened, ready.lane, state))
            try:
                return next(reading, None)
            except TransientError:
                stack.pop_all().close()
                reading, state = None, _at_ledger(opened, ready)
                raise

        while (batch := opened.patience.retry(following)) is not None:
            yield batch


def _read_ahead(opened: OpenPipeline, lane: Lane, state: ReadState) -> ReadAhead[Batch]:
    spec = lane.stream.source_spec()

    def finish(changes: Changes, waited_for: bool) -> Batch:
        # With nothing else to do meanwhile it is quicker, and needs no connection of its own.
        ahead = None if waited_for else prepare_ahead(lane, changes)
        return Batch(changes=changes, ahead=ahead)

    def reading(known: Known) -> Iterator[Changes]:
        if not is_first:
            return opened.source.read(spec, replace(state, known=known))
        first = FirstRead(known, lane.target.schema)
        return first.watched(opened.source.read(spec, replace(state, known=first)))

    is_first = state.fresh and state.position is None and not lane.held.all()
    return ReadAhead(
        reading,
        state.known,
        opened.source_in_use,
        Gatherer(gathering_of(lane.destination.capabilities, lane.stream)),
        finish,
    )


def _at_ledger(opened: OpenPipeline, ready: ReadyStream) -> ReadState:
    """The state to read from after all that is durable now."""
    record = opened.ledger.streams.get(ready.lane.stream.name)
    return ready.state if record is None else replace(ready.state, position=record.position)
