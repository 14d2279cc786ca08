"""One run of a pipeline: recovery, requests, then every stream batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from rowtrail.checkpoints.errors import LedgerError
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.states import RunState, StreamState
from rowtrail.pipelines.automatic import ask_for_due, ask_for_waiting
from rowtrail.pipelines.commit import Faults, no_faults
from rowtrail.pipelines.definition import PipelineDefinition, StreamDefinition
from rowtrail.pipelines.follow import follow_streams
from rowtrail.pipelines.lane import install_capture
from rowtrail.pipelines.opening import (
    LedgerOpener,
    OpenPipeline,
    open_pipeline,
    recover_streams,
)
from rowtrail.pipelines.patterns import register
from rowtrail.pipelines.pending import carry_out_pending
from rowtrail.pipelines.progress import Reporter, Silent
from rowtrail.pipelines.results import RunResult
from rowtrail.pipelines.run_stream import run_stream
from rowtrail.pipelines.shared_log import give_up, let_move_on
from rowtrail.pipelines.stream_results import with_given_up, with_held_back


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What one run does otherwise than the pipeline says."""

    streams: tuple[str, ...] = ()  # only these; empty: all
    resnapshot: tuple[str, ...] = ()  # read these anew, whatever their position
    allow_deletes: float | None = None  # share of the target's rows, for this run only
    follow: Callable[[], bool] | None = None  # go on as changes are committed, until it says so


def run_pipeline(
    definition: PipelineDefinition,
    options: RunOptions | None = None,
    *,
    reporter: Reporter | None = None,
    faults: Faults = no_faults,
    ledger_opener: LedgerOpener = open_ledger,
) -> RunResult:
    """Runs a pipeline once, up to what its source has committed now, or goes on as it commits.

    A stream that stops does not stop the others; its result says why. Raises what concerns the
    whole pipeline: LeaseHeldError, OwnershipError, ConfigurationError, LedgerError, StopError.
    """
    options = options or RunOptions()
    started = perf_counter()
    with open_pipeline(definition, reporter or Silent(), faults, ledger_opener) as opened:
        resolved = opened.resolved
        chosen = tuple(map(resolved.stream, options.streams)) or opened.definition.streams
        resnapshot = tuple(map(resolved.stream, options.resnapshot))
        recovered = opened.patience.retry(partial(recover_streams, opened))
        for note in recovered:
            opened.reporter.note(note)
        register(opened.ledger, opened.definition)
        run_id = opened.ledger.runs.start()
        try:
            for stream in resnapshot:
                opened.ledger.streams.begin_epoch(stream.name, stream.capture.value, stream.target)
            names = {stream.name for stream in chosen}
            given_up = give_up(opened, names - _paused(opened, chosen))
            opened.patience.retry(partial(install_capture, opened, chosen))
            decisions = carry_out_pending(opened, run_id)
            if ask_for_due(opened, chosen):
                decisions += carry_out_pending(opened, run_id)
            results = {
                stream.name: run_stream(
                    opened, stream, run_id, options.allow_deletes, stop=options.follow
                )
                for stream in chosen
            }
            if options.follow is not None:
                opened, results = follow_streams(
                    opened,
                    chosen,
                    run_id,
                    results,
                    options.follow,
                    takes_new=bool(opened.definition.patterns) and not options.streams,
                )
            ask_for_waiting(opened, chosen)
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
            left_out={} if options.streams else opened.resolved.left_out,
            new_tables={} if options.streams else opened.resolved.new,
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
