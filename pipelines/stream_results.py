"""What the ledger adds to the result of a stream."""

from __future__ import annotations

from dataclasses import replace

from rowtrail.checkpoints.states import OPEN_FAILURES
from rowtrail.pipelines.lane import skip_reason
from rowtrail.pipelines.opening import OpenPipeline
from rowtrail.pipelines.results import FailedRecord, StreamResult

NAMED_FAILURES = 1_000
"""A result names at most so many failed records of a stream; the ledger has them all."""


def with_held_back(opened: OpenPipeline, result: StreamResult) -> StreamResult:
    """With the records that are held back now, from earlier runs too."""
    held_back = opened.ledger.failures.records(result.name)
    failures = (
        opened.ledger.failures.list(stream=result.name, states=OPEN_FAILURES, limit=NAMED_FAILURES)
        if held_back
        else []
    )
    return replace(
        result,
        held_back=held_back,
        failed_records=tuple(
            FailedRecord(
                record=str(failure.record_id),
                stage=failure.stage.value,
                error_class=failure.error_class,
                message=failure.message,
            )
            for failure in failures
        ),
    )


def with_given_up(opened: OpenPipeline, result: StreamResult, why: str) -> StreamResult:
    """Of a stream that holds back too much of the log at the end of the run."""
    if result.error is not None:
        return replace(result, error=f"{result.error} {why}", needs_snapshot=True)
    skipped = skip_reason(opened.ledger.streams.get(result.name))
    return replace(result, skipped=skipped, needs_snapshot=True)
