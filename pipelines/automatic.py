"""Retries that runs ask for by themselves, before they read (DESIGN §5).

Many causes pass: a lock, a row that a constraint at the target was waiting for, a transform that
was mended. What fails again and again is left to a person.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import Decision, DecisionKind, Stage
from rowtrail.pipelines.definition import Policy, StreamDefinition
from rowtrail.pipelines.lane import code_fingerprint, skip_reason
from rowtrail.pipelines.opening import OpenPipeline
from rowtrail.pipelines.replay import must_wait

ACTOR = "rowtrail"
"""Who asks, as the trail names them."""

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
        due = opened.ledger.failures.due(
            stream.name, waits(stream), code_fingerprint(stream), RECORDS
        )
        if due:
            asked.append(_ask(opened, stream, due))
    return asked


def _ask(opened: OpenPipeline, stream: StreamDefinition, due: list[RecordId]) -> Decision:
    reread = stream.policy is Policy.REREAD
    return opened.ledger.decisions.request(
        DecisionKind.RETRY,
        stream.name,
        due,
        from_stage=Stage.EXTRACT.value if reread else None,
        actor=ACTOR,
        reason="a run tries again what is due",
    )
