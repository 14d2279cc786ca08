"""Makes a lost ledger anew from what the target knows: receipts and gaps."""

from __future__ import annotations

from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import NewFailure, Stage
from rowtrail.connectors.base import Destination, Gap
from rowtrail.connectors.changes import Operation
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.registry import open_destination
from rowtrail.pipelines.definition import PipelineDefinition
from rowtrail.pipelines.plan import error_fingerprint
from rowtrail.pipelines.recovery import adopt


def rebuild_ledger(definition: PipelineDefinition) -> list[str]:
    """Writes a new ledger that goes on where the target is; returns what it found, in words.

    Positions come from the newest receipt of each stream, failed records from the gaps (without
    their images: a retry reads the row anew). Raises ConfigurationError when a ledger is there
    already or the target has no receipts.
    """
    if definition.ledger.exists():
        raise ConfigurationError(
            f"There is a ledger at {definition.ledger} already. A rebuild never overwrites one: "
            f"move it away first if it is of no more use."
        )
    destination = open_destination(definition.destination)
    try:
        names = {stream.name for stream in definition.streams}
        receipts = [receipt for receipt in destination.receipts() if receipt.stream in names]
        if not receipts:
            raise ConfigurationError(
                "The target holds no receipt of these streams, so there is nothing to rebuild the "
                "ledger from. `rowtrail run` starts a new one."
            )
        ledger = open_ledger(definition.ledger, definition.name, ledger_id=receipts[0].ledger_id)
        try:
            notes = [adopt(ledger, receipt, "the ledger was lost") for receipt in receipts]
            run_id = ledger.runs.start()
            for stream in definition.streams:
                notes += _restore_gaps(ledger, destination, stream.name, stream.target, run_id)
        finally:
            ledger.close()
    finally:
        destination.close()
    return notes


def _restore_gaps(
    ledger: Ledger, destination: Destination, stream: str, table: str, run_id: str
) -> list[str]:
    there = destination.describe(table)
    if there is None or not there.gaps:
        return []
    ledger.failures.restore([_failure(gap) for gap in there.gaps], run_id)
    return [f"Stream {stream}: {len(there.gaps):,} failed records are known again, without images."]


def _failure(gap: Gap) -> NewFailure:
    return NewFailure(
        record_id=RecordId.parse(gap.record),
        operation=int(Operation.UPDATE),
        # The lowest version there is: whatever is read of this record now is newer.
        version=(0, 0, 0, 0),
        stage=Stage(gap.stage),
        error_class="RestoredFromTarget",
        message=gap.reason,
        fingerprint=error_fingerprint(Stage(gap.stage), "RestoredFromTarget", gap.reason),
        code_fingerprint=None,
        extracted=None,
        transformed=None,
    )
