"""Brings ledger and target together before anything is read (DESIGN §4)."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa

from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.states import BatchState, StreamRecord, StreamState
from rowtrail.connectors.base import Destination, Receipt


def recover(ledger: Ledger, destination: Destination, streams: Collection[str]) -> list[str]:
    """Finishes or abandons what a crash left, and compares receipts with the ledger.

    Returns what it did, in plain words. Call it as the holder of the lease, before any read.

    - A prepared batch whose receipt is at the target is closed from its manifest; any other
      unfinished batch is abandoned, and what it held is read again.
    - A receipt that is newer than the ledger (an older ledger was put back) is adopted: the stream
      goes on after it.
    - A receipt that is missing or older (an older target was put back) stops the stream: what the
      ledger believes to be loaded is not there. Only a new snapshot mends that.
    """
    receipts = {
        receipt.stream: receipt for receipt in destination.receipts() if receipt.stream in streams
    }
    notes = [
        f"Run {run_id} had ended without a word; it is marked as abandoned."
        for run_id in ledger.runs.abandon_running()
    ]
    notes += _finish_batches(ledger, receipts)
    for name in streams:
        notes += _compare(ledger, ledger.streams.get(name), receipts.get(name))
    return notes


def _finish_batches(ledger: Ledger, receipts: dict[str, Receipt]) -> list[str]:
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


def _compare(ledger: Ledger, record: StreamRecord | None, receipt: Receipt | None) -> list[str]:
    sequence = record.sequence if record is not None else 0
    if receipt is not None and receipt.sequence > sequence:
        return [adopt(ledger, receipt, "an older ledger was put back")]
    same = record is not None and receipt is not None and receipt.batch_id == record.last_batch_id
    if record is None or same or not sequence or record.state is StreamState.NEEDS_SNAPSHOT:
        return []
    has = "has no receipt of it" if receipt is None else f"ends at batch {receipt.sequence}"
    reason = (
        f"the ledger has loaded {sequence} batches and the target {has}: an older target was put "
        f"back. Run `rowtrail run --resnapshot {record.name}` to read the table anew."
    )
    ledger.streams.set_state(record.name, StreamState.NEEDS_SNAPSHOT, reason)
    return [f"Stream {record.name} needs a snapshot: {reason}"]


def adopt(ledger: Ledger, receipt: Receipt, why: str) -> str:
    """Lets the ledger go on from where the target is; says so in a sentence."""
    ledger.streams.adopt(
        receipt.stream,
        capture=receipt.capture,
        epoch=receipt.epoch,
        position=receipt.position_after,
        read_number=receipt.read_number,
        sequence=receipt.sequence,
        batch_id=receipt.batch_id,
    )
    return (
        f"Stream {receipt.stream} is at batch {receipt.sequence} at the target, beyond what the "
        f"ledger knows ({why}): the ledger goes on from there. The trail of the batches between "
        f"is not known."
    )
