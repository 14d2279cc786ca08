"""What is done of a batch while the one before it is being written."""

from __future__ import annotations

from dataclasses import dataclass

from rowtrail.connectors.base import UploadsAhead
from rowtrail.connectors.changes import Changes
from rowtrail.pipelines.commit import Lane, Prepared, prepare
from rowtrail.pipelines.waiting import blockers_within


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Changes for `commit_batch`, with what was made of them before their turn."""

    changes: Changes
    ahead: Prepared | None = None


def prepare_ahead(lane: Lane, changes: Changes) -> Prepared | None:
    """Prepares a batch and uploads its rows, where that saves time; the target does not change.

    Called in another thread than `commit_batch`, and asks nothing of ledger and target. None where
    there is nothing to upload, where it went wrong, which whoever commits the batch will meet
    again, and for a stream with code of its own: that may use what belongs to one thread.
    """
    has_code = lane.stream.transforms or lane.stream.expectations
    if has_code or not len(changes) or not isinstance(lane.destination, UploadsAhead):
        return None
    try:
        prepared = prepare(lane, changes, blockers_within(lane.stream.policy, changes))
        lane.destination.upload(prepared.plan.load_rows(replaces=lane.replaces), lane.run_id)
    except Exception:  # noqa: BLE001 - see above
        return None
    return prepared
