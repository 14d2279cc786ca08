"""What a person asks for: noted in the ledger, then carried out by the holder of the lease."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from rowtrail.checkpoints.errors import LeaseHeldError, UnknownError
from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.selections import Origin, Selection
from rowtrail.checkpoints.states import (
    OPEN_FAILURES,
    Decision,
    DecisionKind,
    DecisionState,
    RunKind,
    RunState,
    Stage,
)
from rowtrail.connectors.errors import ConfigurationError, OwnershipError, RowtrailError
from rowtrail.connectors.registry import open_source
from rowtrail.pipelines.commit import Faults, no_faults
from rowtrail.pipelines.definition import PipelineDefinition
from rowtrail.pipelines.differences import Differences
from rowtrail.pipelines.opening import (
    OpenPipeline,
    existing_ledger,
    open_pipeline,
    opened_already,
    recover_streams,
)
from rowtrail.pipelines.patterns import at_source, known_targets, resolve_known
from rowtrail.pipelines.pending import carry_out_pending
from rowtrail.pipelines.progress import Reporter, Silent
from rowtrail.pipelines.replay import Replayed, carry_out, carry_out_patiently
from rowtrail.pipelines.selection import check_condition

FROM_STAGES = (Stage.EXTRACT, Stage.TRANSFORM)
"""Where a person may let a record go on in a retry, beside the stage that failed."""

EARLIER_NAMES = {Stage.EXTRACT.value: Origin.SOURCE, Stage.TRANSFORM.value: Origin.IMAGE}
"""What `replay --from` took before it was told apart from the stages of a retry."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A retry or a replay of some records of one stream."""

    kind: DecisionKind  # RETRY or REPLAY
    stream: str
    record_ids: tuple[RecordId, ...] = ()  # retry: empty means all that are failed
    group: str | None = None  # instead of record_ids: the records that this group has by then
    from_stage: Stage | None = None  # of a retry
    origin: Origin | None = None  # of a replay
    selection: Selection | None = None  # of a replay, instead of record ids
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class RequestResult:
    """What became of a request."""

    decision_id: int | None  # None for a dry run: nothing was noted
    stream: str
    text: str
    chosen: int | None = None  # records that were meant; None where that is not known yet
    failed: tuple[str, ...] = ()
    carried_out: bool = True  # false: the run that holds the lease will do it
    differences: Differences | None = None  # of a dry run: what it would change at the target


def actor() -> str:
    """Who asks, as the trail names them."""
    try:
        return getpass.getuser()
    except OSError:
        return "unknown"


def submit(
    definition: PipelineDefinition,
    requests: Sequence[Request],
    *,
    dry_run: bool = False,
    reporter: Reporter | None = None,
    faults: Faults = no_faults,
) -> list[RequestResult]:
    """Notes the requests and carries them out at once if the lease is free.

    Otherwise the process that holds the lease carries them out, and the results say so. A dry run
    needs the lease itself and notes nothing: LeaseHeldError is raised when it is not free.
    """
    reporter = reporter or Silent()
    with closing(existing_ledger(definition)) as ledger:
        known = resolve_known(definition, known_targets(ledger))
        requests = [_understood(known, ledger, request) for request in requests]
        if dry_run:
            with open_pipeline(definition, reporter, no_faults, opened_already(ledger)) as opened:
                return _preview(opened, requests)
        decisions = [_note(ledger, request) for request in requests]
        return _carry_out_if_free(definition, ledger, decisions, reporter, faults)


def _understood(definition: PipelineDefinition, ledger: Ledger, request: Request) -> Request:
    """The request as it is noted, with the whole id of its run.

    Raises ConfigurationError for what no waiting would mend.
    """
    stream = definition.stream(request.stream)
    chosen = request.selection
    if chosen is not None and chosen.run_id is not None:
        try:
            run = ledger.runs.named(chosen.run_id)
        except UnknownError as error:
            raise ConfigurationError(str(error)) from error
        return replace(request, selection=Selection(run_id=run.id))
    if chosen is not None and chosen.where is not None:
        with closing(open_source(definition.source)) as source:
            check_condition(source, at_source(definition, source, stream.name), chosen.where)
    return request


def _note(ledger: Ledger, request: Request) -> Decision:
    return ledger.decisions.request(
        request.kind,
        request.stream,
        request.record_ids,
        from_stage=None if request.from_stage is None else request.from_stage.value,
        origin=request.origin,
        selection=request.selection,
        actor=actor(),
        reason=request.reason,
        group=request.group,
    )


def _carry_out_if_free(
    definition: PipelineDefinition,
    ledger: Ledger,
    decisions: Sequence[Decision],
    reporter: Reporter,
    faults: Faults,
) -> list[RequestResult]:
    try:
        with open_pipeline(definition, reporter, faults, opened_already(ledger)) as opened:
            return _carry_out(opened, decisions)
    except RowtrailError as error:
        # Nobody is left waiting for what has just been refused.
        _refuse(definition, decisions, error)
        raise
    except LeaseHeldError as error:
        return [
            RequestResult(
                decision_id=decision.id,
                stream=decision.stream,
                text=f"noted as request {decision.id}{_which(decision)}; it is carried out by the "
                f"run that holds the lease, or else by the next one. {error}",
                chosen=len(decision.record_ids) or None,
                carried_out=False,
            )
            for decision in decisions
        ]


def _which(decision: Decision) -> str:
    """What is resolved only when it is carried out."""
    return "" if decision.selection is None else f" for the records {decision.selection}"


def _carry_out(opened: OpenPipeline, decisions: Sequence[Decision]) -> list[RequestResult]:
    results = []
    for note in opened.patience.retry(partial(recover_streams, opened)):
        opened.reporter.note(note)
    run_id = opened.ledger.runs.start(RunKind.REQUEST)
    errors: list[RowtrailError] = []
    for decision in decisions:
        current = opened.ledger.decisions.get(decision.id)
        if current.state is not DecisionState.PENDING:
            # The run that held the lease when it was asked for has seen to it.
            if current.state is DecisionState.FAILED:
                errors.append(ConfigurationError(current.result or ""))
            else:
                results.append(_done_by_another(opened.ledger, current))
            continue
        try:
            replayed = carry_out_patiently(opened, decision, run_id)
        except OwnershipError:
            raise
        except RowtrailError as error:
            opened.ledger.decisions.finish(decision.id, DecisionState.FAILED, str(error))
            errors.append(error)
            continue
        opened.ledger.decisions.finish(decision.id, DecisionState.DONE, replayed.text)
        results.append(_result(decision, replayed, decision.id))
    # Others were told meanwhile that whoever holds the lease does what they ask for.
    carry_out_pending(opened, run_id)
    if errors:
        opened.ledger.runs.finish(run_id, RunState.FAILED, str(errors[0]))
        raise errors[0]
    opened.ledger.runs.finish(run_id, RunState.COMPLETE)
    return results


def _done_by_another(ledger: Ledger, decision: Decision) -> RequestResult:
    """The result of a request that somebody else has carried out."""
    failed = ledger.failures.list(
        stream=decision.stream, states=OPEN_FAILURES, record_ids=decision.record_ids or None
    )
    return RequestResult(
        decision_id=decision.id,
        stream=decision.stream,
        text=decision.result or "carried out by another run",
        failed=tuple(str(failure.record_id) for failure in failed),
    )


def _refuse(
    definition: PipelineDefinition, decisions: Sequence[Decision], error: RowtrailError
) -> None:
    """Marks what is still pending as failed."""
    with closing(existing_ledger(definition)) as ledger:
        pending = {decision.id for decision in ledger.decisions.pending()}
        for decision in decisions:
            if decision.id in pending:
                ledger.decisions.finish(decision.id, DecisionState.FAILED, str(error))


def _preview(opened: OpenPipeline, requests: Sequence[Request]) -> list[RequestResult]:
    results = []
    recover_streams(opened)
    for request in requests:
        decision = _unnoted(opened.ledger, request)
        replayed = carry_out(opened, decision, "dry run", dry_run=True)
        results.append(_result(decision, replayed, None))
    return results


def _unnoted(ledger: Ledger, request: Request) -> Decision:
    # The revision of a preview must win over every decision so far, as the real one would.
    return Decision(
        id=2**62,
        kind=request.kind,
        state=DecisionState.PENDING,
        stream=request.stream,
        record_ids=_meant(ledger, request),
        from_stage=None if request.from_stage is None else request.from_stage.value,
        actor=actor(),
        reason=request.reason,
        created_at=datetime.now(UTC),
        finished_at=None,
        result=None,
        group=request.group,
        origin=request.origin,
        selection=request.selection,
    )


def _meant(ledger: Ledger, request: Request) -> tuple[RecordId, ...]:
    if request.group is None:
        return request.record_ids
    found = ledger.failures.of_group(ledger.failures.group(request.group, request.stream))
    return tuple(dict.fromkeys(failure.record_id for failure in found))


def _result(decision: Decision, replayed: Replayed, decision_id: int | None) -> RequestResult:
    return RequestResult(
        decision_id=decision_id,
        stream=decision.stream,
        text=replayed.text,
        chosen=replayed.chosen,
        failed=replayed.failed,
        differences=replayed.differences,
    )


def failed_streams(definition: PipelineDefinition) -> list[str]:
    """The streams that hold failed records, in the order of the pipeline."""
    ledger = existing_ledger(definition)
    try:
        return [
            stream.name
            for stream in resolve_known(definition, known_targets(ledger)).streams
            if any(ledger.failures.counts(stream.name).get(state, 0) for state in OPEN_FAILURES)
        ]
    finally:
        ledger.close()
