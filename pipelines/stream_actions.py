"""Pausing, resuming, re-reading, renaming and dropping a stream, under the lease."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager

from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import StreamRecord, StreamState
from rowtrail.connectors.base import RenamesStreams
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.registry import open_source
from rowtrail.pipelines.commit import no_faults
from rowtrail.pipelines.definition import PipelineDefinition
from rowtrail.pipelines.lease import holder
from rowtrail.pipelines.opening import existing_ledger, open_pipeline, opened_already
from rowtrail.pipelines.patterns import is_taken
from rowtrail.pipelines.progress import Silent


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


def rename(definition: PipelineDefinition, old: str, new: str) -> None:
    """Goes on with a stream under the name that it has in the file now.

    The target comes first: what a crash leaves half done is finished by doing it again. Raises
    ConfigurationError unless `new` is in the file and `old` is not, when nothing is known of `old`,
    or the target cannot rename.
    """
    with closing(existing_ledger(definition)) as ledger:
        target = definition.stream(new).target
        if any(stream.name == old for stream in definition.streams if stream.pattern is None):
            raise ConfigurationError(
                f"Stream {old} is still in the pipeline file. Give it its new name there first."
            )
        records = _known(ledger, old)
        if records.target != target:
            raise ConfigurationError(
                f"Stream {old} fills table {records.target}, and {new} would fill {target}, from "
                f'the start. Add `target = "{records.target}"` to [streams.{new}] first.'
            )
        if ledger.streams.get(new) is not None:
            raise ConfigurationError(
                f"Stream {new} has been run already, so that {old} cannot be renamed to it."
            )
        held = [one.record_id for one in ledger.failures.held_back(old)]
        renamed = {str(one): str(RecordId(new, one.key)) for one in held}
        with open_pipeline(definition, Silent(), no_faults, opened_already(ledger)) as opened:
            if not isinstance(opened.destination, RenamesStreams):
                raise ConfigurationError(
                    f"The target of pipeline {definition.name} cannot go on with a stream under "
                    f"another name. Give the stream its old name, or read it anew."
                )
            opened.destination.rename_stream(target, old, new, renamed)
            opened.ledger.streams.rename(old, new)


def drop(definition: PipelineDefinition, name: str) -> None:
    """Forgets the stream; the target table and its receipts stay.

    Raises ConfigurationError while a section or a pattern of the pipeline takes its table.
    """
    _refuse_if_taken(definition, name)
    with _leased(definition) as ledger:
        _known(ledger, name)
        ledger.streams.drop(name)


def _refuse_if_taken(definition: PipelineDefinition, name: str) -> None:
    """What is forgotten would be taken up again: the next run finds its receipts at the target."""
    known = [stream for stream in definition.streams if stream.name == name]
    if not known:
        return
    pattern = known[0].pattern
    if pattern is not None:
        with closing(open_source(definition.source)) as source:
            if not is_taken(definition, source, name):
                return
    first = (
        "Take it out of the pipeline file first"
        if pattern is None
        else f"Put its table into `exclude_tables` of {pattern} first"
    )
    raise ConfigurationError(
        f"Stream {name} is still one of the pipeline, so that the next run would take it up again "
        f"from the target's receipts. {first}. To load it from the start, use `rowtrail stream "
        f"resnapshot {name}`."
    )


ACTIONS: Mapping[str, Callable[[PipelineDefinition, str], None]] = {
    "pause": pause,
    "resume": resume,
    "resnapshot": resnapshot,
    "drop": drop,
}
