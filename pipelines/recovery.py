"""Brings ledger and target together before anything is read (DESIGN §4)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import (
    BatchState,
    NewFailure,
    RunKind,
    RunState,
    Stage,
    StreamRecord,
    StreamState,
)
from rowtrail.connectors.base import Destination, Gap, Receipt
from rowtrail.connectors.changes import Operation
from rowtrail.pipelines.fingerprints import error_fingerprint

OLDER_TARGET = "an older target was put back"
"""In the reason of a stream whose target lacks rows that the ledger takes for loaded."""


def recover(ledger: Ledger, destination: Destination, streams: Mapping[str, str]) -> list[str]:
    """Finishes or abandons what a crash left, and compares receipts with the ledger.

    `streams` gives the target table of each. Returns what it did, in plain words. Call it as the
    holder of the lease, before any read.

    - A prepared batch whose receipt is at the target is closed from its manifest; any other
      unfinished batch is abandoned, and what it held is read again.
    - A receipt that is newer than the ledger (an older ledger was put back) is adopted: the stream
      goes on after it, and what failed in between is known again from the target's gaps.
    - A receipt that is missing or older (an older target was put back) stops the stream: what the
      ledger believes to be loaded is not there. Only a new snapshot mends that.
    """
    receipts = {receipt.stream: receipt for receipt in destination.receipts()}
    notes = [
        f"Run {run_id} had ended without a word; it is marked as abandoned."
        for run_id in ledger.runs.abandon_running()
    ]
    notes += settle(ledger, receipts)
    for name, table in streams.items():
        receipt = receipts.get(name)
        record = ledger.streams.get(name)
        sequence = record.sequence if record is not None else 0
        if receipt is not None and receipt.sequence > sequence:
            notes += adopt(ledger, destination, table, receipt, "an older ledger was put back")
        elif record is not None:
            notes += _check_target(ledger, record, receipt)
    return notes


def settle(ledger: Ledger, receipts: Mapping[str, Receipt]) -> list[str]:
    """Closes or abandons every unfinished batch, as the newest receipt of its stream says."""
    notes = []
    for batch in ledger.batches.unfinished():
        receipt = receipts.get(batch.stream)
        written = receipt is not None and receipt.batch_id == batch.batch_id
        if receipt is not None and written and batch.state is BatchState.PREPARED:
            ledger.batches.close(batch.batch_id, superseded_rows(receipt))
            notes.append(
                f"Batch {batch.batch_id} of {batch.stream} was at the target already; it is closed "
                f"from its manifest."
            )
        else:
            ledger.batches.abandon(batch.batch_id)
            notes.append(
                f"Batch {batch.batch_id} of {batch.stream} was cut off before it reached the "
                f"target; what it held is read again."
            )
    return notes


def superseded_rows(receipt: Receipt) -> pa.Array:
    """The load rows that the target had already, as the receipt tells them."""
    return pa.array(np.frombuffer(receipt.superseded, dtype="<u4").astype(np.uint32))


def _check_target(ledger: Ledger, record: StreamRecord, receipt: Receipt | None) -> list[str]:
    """Stops a stream whose target lacks what the ledger believes to be there."""
    same = receipt is not None and receipt.batch_id == record.last_batch_id
    # A stream without a position is read from the start: nothing rests on what it once loaded.
    from_the_start = record.position is None or not record.sequence
    if same or from_the_start or record.state is StreamState.NEEDS_SNAPSHOT:
        return []
    has = "has no receipt of it" if receipt is None else f"ends at batch {receipt.sequence}"
    reason = (
        f"the ledger has loaded {record.sequence} batches and the target {has}: {OLDER_TARGET}. "
        f"Run `rowtrail run --resnapshot {record.name}` to read the table anew, or, where the "
        f"pipeline has an archive, `rowtrail replay {record.name} --from archive`."
    )
    ledger.streams.set_state(record.name, StreamState.NEEDS_SNAPSHOT, reason)
    return [f"Stream {record.name} needs a snapshot: {reason}"]


def adopt(
    ledger: Ledger, destination: Destination, table: str, receipt: Receipt, why: str
) -> list[str]:
    """Lets the ledger go on from where the target is; says so in sentences.

    The position moves last: what a crash cuts off before is done again.
    """
    if ledger.streams.get(receipt.stream) is None:
        ledger.streams.begin_epoch(receipt.stream, receipt.capture, receipt.target)
    restored = _restore_failures(ledger, destination, receipt.stream, table)
    ledger.streams.adopt(
        receipt.stream,
        capture=receipt.capture,
        target=receipt.target,
        epoch=receipt.epoch,
        position=receipt.position_after,
        read_number=receipt.read_number,
        sequence=receipt.sequence,
        batch_id=receipt.batch_id,
    )
    return [
        f"Stream {receipt.stream} is at batch {receipt.sequence} at the target, beyond what the "
        f"ledger knows ({why}): the ledger goes on from there. The trail of the batches between "
        f"is not known.",
        *restored,
    ]


def _restore_failures(
    ledger: Ledger, destination: Destination, stream: str, table: str
) -> list[str]:
    """Holds back what the target's gaps name and the ledger does not know (any more)."""
    there = destination.describe(table)
    if there is None or not there.gaps:
        return []
    run_id = ledger.runs.start(RunKind.RECOVERY)
    restored = ledger.failures.restore([_failure(gap) for gap in there.gaps], run_id)
    words = f"Stream {stream}: {restored:,} failed records are known again, without images."
    ledger.runs.finish(run_id, RunState.COMPLETE, words)
    return [words] if restored else []


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
        image_note="no image: the failure is known from the target alone",
        since=gap.since,
    )
