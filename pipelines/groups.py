"""Groups of failures, for people who ask about them or decide about one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import (
    HELD_BACK,
    OPEN_FAILURES,
    Decision,
    FailureGroup,
    FailureState,
)
from rowtrail.pipelines.definition import PipelineDefinition
from rowtrail.pipelines.opening import existing_ledger
from rowtrail.pipelines.requests import actor


def list_groups(
    definition: PipelineDefinition, stream: str | None = None, *, ignored: bool = False
) -> list[FailureGroup]:
    """The groups of what is held back, the largest first; of ignored records too, if asked for."""
    with closing(existing_ledger(definition)) as ledger:
        return ledger.failures.groups(stream, HELD_BACK if ignored else OPEN_FAILURES)


def find_group(
    definition: PipelineDefinition,
    group: str,
    stream: str | None = None,
    states: Sequence[FailureState] = OPEN_FAILURES,
) -> FailureGroup:
    """The group that a person names by its id, or the beginning of it.

    Raises LedgerError, which names the groups that exist, when there is none such or when several
    are meant.
    """
    with closing(existing_ledger(definition)) as ledger:
        return ledger.failures.group(group, stream, states)


def group_records(
    definition: PipelineDefinition, group: str, stream: str | None = None
) -> tuple[str, tuple[RecordId, ...]]:
    """The stream of a group and the records that it has now, once each.

    Raises what `find_group` raises.
    """
    with closing(existing_ledger(definition)) as ledger:
        found = ledger.failures.group(group, stream)
        failures = ledger.failures.of_group(found)
    return found.stream, tuple(dict.fromkeys(failure.record_id for failure in failures))


def ignore_records(
    definition: PipelineDefinition, stream: str, record_ids: Sequence[RecordId], reason: str
) -> Decision:
    """Failed changes of these records are no gaps any more.

    Raises LedgerError, and changes nothing, when one of them is not held back.
    """
    with closing(existing_ledger(definition)) as ledger:
        return ledger.decisions.ignore(stream, record_ids, actor(), reason)


def unignore_records(
    definition: PipelineDefinition,
    stream: str,
    record_ids: Sequence[RecordId],
    reason: str | None = None,
) -> Decision:
    """The inverse; raises likewise when one of them is not ignored."""
    with closing(existing_ledger(definition)) as ledger:
        return ledger.decisions.unignore(stream, record_ids, actor(), reason)


def ignore_group(
    definition: PipelineDefinition, group: str, reason: str, stream: str | None = None
) -> Decision:
    """All changes that are failed in the group now are no gaps any more.

    Raises what `find_group` raises.
    """
    with closing(existing_ledger(definition)) as ledger:
        found = ledger.failures.group(group, stream, (FailureState.FAILED,))
        return ledger.decisions.ignore_group(found.stream, found.fingerprint, actor(), reason)


def unignore_group(
    definition: PipelineDefinition,
    group: str,
    reason: str | None = None,
    stream: str | None = None,
) -> Decision:
    """All changes of the group that are ignored have failed again. Raises likewise."""
    with closing(existing_ledger(definition)) as ledger:
        found = ledger.failures.group(group, stream, (FailureState.IGNORED,))
        return ledger.decisions.unignore_group(found.stream, found.fingerprint, actor(), reason)
