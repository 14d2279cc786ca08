"""Opens a pipeline for writing: ledger, lease, source, destination, in the order that is safe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock

from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.connectors.base import Destination, Fence, Source
from rowtrail.connectors.errors import ConfigurationError, RowtrailError, TargetMissingError
from rowtrail.connectors.registry import open_destination, open_source
from rowtrail.pipelines import retrying
from rowtrail.pipelines.commit import Faults
from rowtrail.pipelines.definition import PipelineDefinition
from rowtrail.pipelines.lease import HeldLease, holder
from rowtrail.pipelines.lock_file import LockFile, read_lock
from rowtrail.pipelines.patterns import Resolved, known_targets, resolve
from rowtrail.pipelines.progress import Reporter
from rowtrail.pipelines.recovery import recover, settle
from rowtrail.pipelines.retrying import Patience, retry_transient

LedgerOpener = Callable[[Path, str], Ledger]
"""Opens the ledger at a path for the pipeline of a name."""

SourceOpener = Callable[[str], Source]
"""Opens the source at a URL."""


@dataclass(frozen=True, kw_only=True)
class OpenPipeline:
    """A pipeline whose lease this process holds."""

    definition: PipelineDefinition
    ledger: Ledger
    source: Source
    destination: Destination
    lease: HeldLease
    reporter: Reporter
    faults: Faults
    patience: Patience
    resolved: Resolved  # what the patterns found; its definition is this one
    lock: LockFile | None  # the shapes that were agreed on; None: the pipeline has no lock file
    opened_at: float = field(default_factory=time.monotonic)  # streams need no newer end of a log
    source_in_use: Lock = field(default_factory=Lock)  # batches are read ahead in another thread


@contextmanager
def open_pipeline(
    definition: PipelineDefinition,
    reporter: Reporter,
    faults: Faults,
    ledger_opener: LedgerOpener = open_ledger,
    source_opener: SourceOpener | None = None,
) -> Iterator[OpenPipeline]:
    """Takes the lease, claims the target and finds the patterns' tables; gives both back.

    Raises LeaseHeldError while another process holds the lease, OwnershipError when the target
    belongs to another ledger, and whatever opening a database raises; what may pass by itself
    is tried for a while.
    """
    lock = lock_of(definition)
    with ExitStack() as stack:
        ledger = ledger_opener(definition.ledger, definition.name)
        stack.callback(ledger.close)
        lease = HeldLease(ledger, holder())
        stack.callback(lease.close)
        fence = Fence(pipeline=definition.name, ledger_id=ledger.id, generation=lease.generation)
        patiently = partial(retry_transient, seconds=retrying.OPENING_PATIENCE, note=reporter.note)
        source = patiently(partial(source_opener or open_source, definition.source))
        stack.callback(source.close)
        destination = patiently(partial(open_destination, definition.destination, fence))
        stack.callback(destination.close)
        resolved = patiently(partial(resolve, definition, source, known_targets(ledger)))
        yield OpenPipeline(
            definition=resolved.definition,
            resolved=resolved,
            lock=lock,
            ledger=ledger,
            source=source,
            destination=destination,
            lease=lease,
            reporter=reporter,
            faults=faults,
            patience=Patience(reporter.note),
        )


def lock_of(definition: PipelineDefinition) -> LockFile | None:
    """The shapes that were agreed on, where the pipeline has a lock file; see `read_lock`."""
    return None if definition.lock is None else read_lock(definition.lock, definition.name)


def target_if_there(definition: PipelineDefinition) -> Destination | None:
    """The target, for reading only; None where the first run has yet to make it."""
    try:
        return open_destination(definition.destination)
    except TargetMissingError:
        return None


def opened_already(ledger: Ledger) -> LedgerOpener:
    """For `open_pipeline`, which closes it in the end."""

    def opener(path: Path, pipeline: str) -> Ledger:
        return ledger

    return opener


def existing_ledger(definition: PipelineDefinition) -> Ledger:
    """The ledger of a pipeline that has been run; to be closed by the caller.

    Raises ConfigurationError when there is none: whoever only asks must not make an empty one,
    which would stand in the way of a lost one that is put back or rebuilt.
    """
    if not definition.ledger.exists():
        raise ConfigurationError(
            f"Pipeline {definition.name} has no ledger at {definition.ledger}. The first `rowtrail "
            f"run` makes it. If there was one, put it back, or make it anew from the target with "
            f"`rowtrail ledger rebuild`."
        )
    return open_ledger(definition.ledger, definition.name)


def recover_streams(opened: OpenPipeline) -> list[str]:
    """Brings ledger and target together; to be called before anything else is done."""
    tables = {stream.name: stream.target for stream in opened.definition.streams}
    return recover(opened.ledger, opened.destination, tables)


def settle_unfinished(opened: OpenPipeline) -> None:
    """Decides about a batch whose write ended in an error, so that the run can go on.

    Where the target cannot say what it has, the next run's recovery decides.
    """
    with suppress(RowtrailError):
        decide_unfinished(opened)


def decide_unfinished(opened: OpenPipeline) -> None:
    """As `settle_unfinished`, but raises what keeps the target from saying what it has."""
    if not opened.ledger.batches.unfinished():
        return
    receipts = {receipt.stream: receipt for receipt in opened.destination.receipts()}
    for note in settle(opened.ledger, receipts):
        opened.reporter.note(note)
