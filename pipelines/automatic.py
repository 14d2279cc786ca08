"""Retries that runs ask for by themselves, before they read (DESIGN §5).

Many causes pass: a lock, a row that a constraint at the target was waiting for, a transform that
was mended. What fails again and again is left to a person.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import (
    AUTOMATIC,
    OPEN_FAILURES,
    Decision,
    DecisionKind,
    FailureState,
    Stage,
)
from rowtrail.connectors.errors import RowtrailError
from rowtrail.pipelines.definition import Policy, StreamDefinition
from rowtrail.pipelines.lane import code_fingerprint, skip_reason
from rowtrail.pipelines.opening import OpenPipeline
from rowtrail.pipelines.replay import must_wait
from rowtrail.pipelines.shapes import shape_of
from rowtrail.pipelines.waiting import in_turn

RECORDS = 1_000
"""So many of a stream are tried in one run, those first that were not tried for longest."""

FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(days=1)
_FACTOR = 4


def waits(stream: StreamDefinition) -> list[timedelta]:
    """How long after each attempt the next one is due."""
    if stream.policy is Policy.REREAD:
        return [timedelta(0)] * stream.retries
    return [
        min(FIRST_WAIT * _FACTOR ** min(number, 10), LONGEST_WAIT)
        for number in range(stream.retries)
    ]


def ask_for_due(opened: OpenPipeline, streams: Iterable[StreamDefinition]) -> list[Decision]:
    """Notes a retry for each stream that has records which are due; `pending` carries them out."""
    asked = []
    for stream in streams:
        record = opened.ledger.streams.get(stream.name)
        if skip_reason(record) is not None or must_wait(opened, stream.name) is not None:
            continue
        failed = opened.ledger.failures.due(
            stream.name, waits(stream), _code_now(opened, stream), RECORDS
        )
        if due := list(dict.fromkeys([*failed, *_in_turn(opened, stream)])):
            asked.append(_ask(opened, stream, due))
    return asked


def _code_now(opened: OpenPipeline, stream: StreamDefinition) -> str | None:
    """Of what decides now which rows get through; the contract's terms are part of it."""
    if opened.lock is None:
        return code_fingerprint(stream)
    try:
        source = opened.source.describe(stream.source_spec())
        return code_fingerprint(stream, shape_of(stream, source, opened.lock).terms)
    except RowtrailError:  # the stream says it itself when it is read
        return code_fingerprint(stream)


def ask_for_waiting(opened: OpenPipeline, streams: Iterable[StreamDefinition]) -> list[Decision]:
    """Likewise, but only for changes that need wait no longer: what they waited for is loaded."""
    return [
        _ask(opened, stream, due)
        for stream in streams
        if must_wait(opened, stream.name) is None and (due := _in_turn(opened, stream))
    ]


def _in_turn(opened: OpenPipeline, stream: StreamDefinition) -> list[RecordId]:
    """The records whose changes wait, although what they waited for is no longer held back."""
    held = opened.ledger.failures.held_back(stream.name)
    if all(one.state is not FailureState.WAITING for one in held):
        return []
    now = in_turn(stream, [one for one in held if one.state in OPEN_FAILURES])
    return [one.record_id for one in now if one.state is FailureState.WAITING]


def _ask(opened: OpenPipeline, stream: StreamDefinition, due: list[RecordId]) -> Decision:
    reread = stream.policy is Policy.REREAD
    return opened.ledger.decisions.request(
        DecisionKind.RETRY,
        stream.name,
        due,
        from_stage=Stage.EXTRACT.value if reread else None,
        actor=AUTOMATIC,
        reason="a run tries again what is due",
    )
