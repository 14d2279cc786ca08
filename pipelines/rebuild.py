"""Makes a lost ledger anew from what the target knows: receipts and gaps."""

from __future__ import annotations

from pathlib import Path

from rowtrail.checkpoints.errors import LedgerError
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.registry import open_destination
from rowtrail.pipelines.definition import PipelineDefinition
from rowtrail.pipelines.patterns import resolve_known
from rowtrail.pipelines.recovery import adopt


def rebuild_ledger(definition: PipelineDefinition) -> list[str]:
    """Writes a new ledger that goes on where the target is; returns what it found, in words.

    Positions come from the newest receipt of each stream, failed records from the gaps (without
    their images: a retry reads the row anew). A ledger that knows no stream is replaced: a run
    that was refused since the real one is lost has left it. Raises ConfigurationError when another
    one is there or the target has no receipts.
    """
    if definition.ledger.exists() and not _knows_nothing(definition):
        raise ConfigurationError(
            f"There is a ledger at {definition.ledger} already. A rebuild never overwrites one: "
            f"move it away first if it is of no more use."
        )
    notes: list[str] = []
    destination = open_destination(definition.destination)
    try:
        receipts = [one for one in destination.receipts() if one.pipeline == definition.name]
        known = resolve_known(definition, {one.stream: one.target for one in receipts})
        names = {stream.name for stream in known.streams}
        receipts = [one for one in receipts if one.stream in names]
        if not receipts:
            raise ConfigurationError(
                f"The target holds no receipt of pipeline {definition.name}, so there is nothing "
                f"to rebuild the ledger from. `rowtrail run` starts a new one."
            )
        for suffix in ("", "-wal", "-shm"):
            Path(f"{definition.ledger}{suffix}").unlink(missing_ok=True)
        ledger = open_ledger(definition.ledger, definition.name, ledger_id=receipts[0].ledger_id)
        try:
            for receipt in receipts:
                table = known.stream(receipt.stream).target
                notes += adopt(ledger, destination, table, receipt, "the ledger was lost")
        finally:
            ledger.close()
    finally:
        destination.close()
    return notes


def _knows_nothing(definition: PipelineDefinition) -> bool:
    try:
        ledger = open_ledger(definition.ledger, definition.name)
    except LedgerError:  # damaged, of another pipeline or of a newer version: not ours to replace
        return False
    try:
        return not ledger.streams.all()
    finally:
        ledger.close()
