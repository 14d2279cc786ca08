"""Pausing, resuming, re-reading and dropping a stream: writes to the ledger under its lease."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.states import StreamRecord, StreamState
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.definition import PipelineDefinition
from rowtrail.pipelines.lease import holder
from rowtrail.pipelines.opening import existing_ledger


@contextmanager
def _leased(definition: PipelineDefinition) -> Iterator[Ledger]:
    """The ledger while no run is under way; raises LeaseHeldError."""
    ledger = existing_ledger(definition)
    try:
        generation = ledger.leases.acquire(holder())
        try:
            yield ledger
        finally:
            ledger.leases.release(generation)
    finally:
        ledger.close()


def _known(ledger: Ledger, name: str) -> StreamRecord:
    record = ledger.streams.get(name)
    if record is None:
        raise ConfigurationError(f"Stream {name} has never been run; there is nothing to change.")
    return record


def pause(definition: PipelineDefinition, name: str) -> None:
    """Leaves the stream out of runs."""
    with _leased(definition) as ledger:
        _known(ledger, name)
        ledger.streams.set_state(name, StreamState.PAUSED, "paused by a person")


def resume(definition: PipelineDefinition, name: str) -> None:
    """Lets it run again; raises ConfigurationError when only a snapshot can mend it."""
    with _leased(definition) as ledger:
        record = _known(ledger, name)
        if record.state is StreamState.NEEDS_SNAPSHOT:
            raise ConfigurationError(
                f"Stream {name} cannot go on from its position: {record.state_reason} "
                f"`rowtrail stream resnapshot {name}` reads it anew."
            )
        ledger.streams.set_state(name, StreamState.ACTIVE)


def resnapshot(definition: PipelineDefinition, name: str) -> None:
    """Starts a new epoch: the next run reads the whole table and sweeps what is gone."""
    with _leased(definition) as ledger:
        record = _known(ledger, name)
        ledger.streams.begin_epoch(name, record.capture, record.target)


def drop(definition: PipelineDefinition, name: str) -> None:
    """Forgets the stream; the target table and its receipts stay."""
    with _leased(definition) as ledger:
        _known(ledger, name)
        ledger.streams.drop(name)


ACTIONS: Mapping[str, Callable[[PipelineDefinition, str], None]] = {
    "pause": pause,
    "resume": resume,
    "resnapshot": resnapshot,
    "drop": drop,
}
