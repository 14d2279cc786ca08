"""One run of a pipeline: recovery, requests, then every stream batch by batch."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from time import perf_counter

from rowtrail.checkpoints.errors import LedgerError
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.states import (
    DecisionState,
    RunState,
    StreamRecord,
    StreamState,
)
from rowtrail.connectors.base import ReadState
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.errors import (
    ConfigurationError,
    OwnershipError,
    PositionLostError,
    RowtrailError,
    TransientError,
)
from rowtrail.pipelines.breakers import stopped_for_deletes
from rowtrail.pipelines.commit import Faults, commit_batch, no_faults
from rowtrail.pipelines.definition import Breakers, PipelineDefinition, StreamDefinition
from rowtrail.pipelines.lane import (
    ReadyStream,
    install_capture,
    make_ready,
    skip_reason,
)
from rowtrail.pipelines.opening import (
    LedgerOpener,
    OpenPipeline,
    open_pipeline,
    recover_streams,
)
from rowtrail.pipelines.patterns import register
from rowtrail.pipelines.progress import Reporter, Silent
from rowtrail.pipelines.read_ahead import ReadAhead
from rowtrail.pipelines.recovery import settle
from rowtrail.pipelines.replay import carry_out, must_wait
from rowtrail.pipelines.results import RunResult, StreamResult
from rowtrail.pipelines.retrying import retry_transient
from rowtrail.pipelines.shared_log import give_up, let_move_on
from rowtrail.pipelines.stream_results import with_given_up, with_held_back


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What one run does otherwise than the pipeline says."""

    streams: tuple[str, ...] = ()  # only these; empty: all
    resnapshot: tuple[str, ...] = ()  # read these anew, whatever their position
    allow_deletes: float | None = None  # share of the target's rows, for this run only


def run_pipeline(
    definition: PipelineDefinition,
    options: RunOptions | None = None,
    *,
    reporter: Reporter | None = None,
    faults: Faults = no_faults,
    ledger_opener: LedgerOpener = open_ledger,
) -> RunResult:
    """Runs a pipeline once, up to what its source has committed now.

    A stream that stops does not stop the others; its result says why. Raises what concerns the
    whole pipeline: LeaseHeldError, OwnershipError, ConfigurationError, LedgerError, StopError.
    """
    options = options or RunOptions()
    started = perf_counter()
    with open_pipeline(definition, reporter or Silent(), faults, ledger_opener) as opened:
        resolved = opened.resolved
        chosen = tuple(map(resolved.stream, options.streams)) or opened.definition.streams
        resnapshot = tuple(map(resolved.stream, options.resnapshot))
        recovered = recover_streams(opened)
        for note in recovered:
            opened.reporter.note(note)
        register(opened.ledger, opened.definition)
        run_id = opened.ledger.runs.start()
        try:
            for stream in resnapshot:
                opened.ledger.streams.begin_epoch(stream.name, stream.capture.value, stream.target)
            names = {stream.name for stream in chosen}
            given_up = give_up(opened, names - _paused(opened, chosen))
            install_capture(opened, chosen)
            decisions = carry_out_pending(opened, run_id)
            results = {
                stream.name: _run_stream(opened, stream, run_id, options) for stream in chosen
            }
            late = carry_out_pending(opened, run_id)
            if late:
                results = {name: with_held_back(opened, one) for name, one in results.items()}
            read = [one.name for one in results.values() if not one.error and not one.skipped]
            for name, why in give_up(opened, read).items():
                given_up[name] = why
                if name in results:
                    results[name] = with_given_up(opened, results[name], why)
            let_move_on(opened)
        except Exception as error:
            _finish(opened, run_id, RunState.FAILED, str(error))
            raise
        result = RunResult(
            run_id=run_id,
            streams=results,
            seconds=perf_counter() - started,
            recovered=tuple(recovered),
            decisions=(*decisions, *late),
            left_out={} if options.streams else resolved.left_out,
            new_tables={} if options.streams else resolved.new,
            given_up=given_up,
        )
        opened.ledger.runs.finish(run_id, result.state)
        return result


def _paused(opened: OpenPipeline, streams: Sequence[StreamDefinition]) -> set[str]:
    """Those that a run leaves out although they were chosen."""
    records = [opened.ledger.streams.get(stream.name) for stream in streams]
    return {one.name for one in records if one is not None and one.state is StreamState.PAUSED}


def _finish(opened: OpenPipeline, run_id: str, state: RunState, message: str) -> None:
    """The error that ended the run matters more than a ledger that cannot note it."""
    try:
        opened.ledger.runs.finish(run_id, state, message)
    except LedgerError:
        opened.reporter.note("The ledger could not be told how the run ended.")


def carry_out_pending(opened: OpenPipeline, run_id: str) -> list[str]:
    """Carries out what people asked for while another process held the lease.

    What must wait for its stream to be read stays pending.
    """
    done = []
    for decision in opened.ledger.decisions.pending():
        try:
            if must_wait(opened, decision) is not None:
                continue
            text = carry_out(opened, decision, run_id).text
            state = DecisionState.DONE
        except OwnershipError:
            raise
        except RowtrailError as error:
            text, state = str(error), DecisionState.FAILED
            _settle(opened)
        opened.ledger.decisions.finish(decision.id, state, text)
        opened.reporter.note(f"Request {decision.id}: {text}")
        done.append(text)
    return done


def _run_stream(
    opened: OpenPipeline, stream: StreamDefinition, run_id: str, options: RunOptions
) -> StreamResult:
    result = StreamResult(name=stream.name)
    record = opened.ledger.streams.get(stream.name)
    skipped = skip_reason(record)
    if record is not None and skipped is not None:
        lost = record.state is StreamState.NEEDS_SNAPSHOT
        return replace(result, skipped=skipped, needs_snapshot=lost)
    opened.reporter.stream_started(stream.name, stream.capture.value)
    try:
        if stream.name in opened.resolved.gone:
            raise ConfigurationError(opened.resolved.gone[stream.name])
        ready = make_ready(opened, stream, run_id, _breakers(opened, options, record))
        position = ready.state.position
        with closing(_batches(opened, ready)) as batches:
            for changes in batches:
                opened.lease.check()
                batch = commit_batch(ready.lane, changes, position_before=position)
                position = changes.position
                result = result.plus(batch)
                opened.reporter.batch_done(stream.name, batch)
        if record is not None and record.state is not StreamState.ACTIVE:
            opened.ledger.streams.set_state(stream.name, StreamState.ACTIVE)
    except OwnershipError:
        raise
    except RowtrailError as error:
        result = replace(result, error=str(error))
        _note_stop(opened, stream, error)
    result = with_held_back(opened, result)
    opened.reporter.stream_done(result)
    return result


def _settle(opened: OpenPipeline) -> None:
    """Decides about a batch whose write ended in an error, so that the run can go on.

    Where the target cannot say what it has, the next run's recovery decides.
    """
    with suppress(RowtrailError):
        receipts = {receipt.stream: receipt for receipt in opened.destination.receipts()}
        for note in settle(opened.ledger, receipts):
            opened.reporter.note(note)


def _note_stop(opened: OpenPipeline, stream: StreamDefinition, error: RowtrailError) -> None:
    _settle(opened)
    if opened.ledger.streams.get(stream.name) is None:
        return
    lost = isinstance(error, PositionLostError)
    state = StreamState.NEEDS_SNAPSHOT if lost else StreamState.STOPPED
    opened.ledger.streams.set_state(stream.name, state, str(error))


def _breakers(opened: OpenPipeline, options: RunOptions, record: StreamRecord | None) -> Breakers:
    limits = opened.definition.breakers
    if options.allow_deletes is not None:
        return replace(limits, deleted_share=options.allow_deletes)
    if record is None or not stopped_for_deletes(record):
        return limits
    # Else a nightly run would take the same share of what is left, night after night.
    opened.reporter.note(
        f"{record.name}: it was stopped for deleting too much; until somebody allows it "
        f"(--allow-deletes, or `rowtrail stream resume {record.name}`) it deletes nothing."
    )
    return replace(limits, deleted_share=0.0)


def _batches(opened: OpenPipeline, ready: ReadyStream) -> Generator[Changes, None, None]:
    """All that the source has to report; a cut connection goes on from the last closed batch."""
    state = ready.state
    with ExitStack() as stack:
        reading: ReadAhead | None = None

        def following() -> Changes | None:
            nonlocal reading, state
            if reading is None:
                reading = stack.enter_context(_read_ahead(opened, ready.lane.stream, state))
            try:
                return next(reading, None)
            except TransientError:
                stack.pop_all().close()
                reading, state = None, _at_ledger(opened, ready)
                raise

        while (changes := retry_transient(following)) is not None:
            yield changes


def _read_ahead(opened: OpenPipeline, stream: StreamDefinition, state: ReadState) -> ReadAhead:
    spec = stream.source_spec()
    return ReadAhead(
        lambda known: opened.source.read(spec, replace(state, known=known)),
        state.known,
        opened.source_in_use,
    )


def _at_ledger(opened: OpenPipeline, ready: ReadyStream) -> ReadState:
    """The state to read from after all that is durable now."""
    record = opened.ledger.streams.get(ready.lane.stream.name)
    return ready.state if record is None else replace(ready.state, position=record.position)
