"""Opens a pipeline for writing: ledger, lease, source, destination, in the order that is safe."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rowtrail.checkpoints.errors import LedgerError
from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.connectors.base import Destination, Fence, Source
from rowtrail.connectors.registry import open_destination, open_source
from rowtrail.pipelines.commit import Faults
from rowtrail.pipelines.definition import PipelineDefinition
from rowtrail.pipelines.progress import Reporter
from rowtrail.pipelines.recovery import recover

HEARTBEAT = 15.0
"""Seconds between two renewals of the lease, which lives for a minute."""


@dataclass(frozen=True, kw_only=True)
class OpenPipeline:
    """A pipeline whose lease this process holds."""

    definition: PipelineDefinition
    ledger: Ledger
    source: Source
    destination: Destination
    generation: int
    reporter: Reporter
    faults: Faults


@contextmanager
def open_pipeline(
    definition: PipelineDefinition, reporter: Reporter, faults: Faults
) -> Iterator[OpenPipeline]:
    """Takes the lease and claims the target; gives both back at the end.

    Raises LeaseHeldError while another process holds the lease, OwnershipError when the target
    belongs to another ledger, and whatever opening a database raises.
    """
    with ExitStack() as stack:
        ledger = open_ledger(definition.ledger, definition.name)
        stack.callback(ledger.close)
        generation = ledger.leases.acquire(holder())
        stack.callback(_release, ledger, generation)
        stack.enter_context(_heartbeat(ledger, generation))
        fence = Fence(pipeline=definition.name, ledger_id=ledger.id, generation=generation)
        source = open_source(definition.source)
        stack.callback(source.close)
        destination = open_destination(definition.destination, fence)
        stack.callback(destination.close)
        yield OpenPipeline(
            definition=definition,
            ledger=ledger,
            source=source,
            destination=destination,
            generation=generation,
            reporter=reporter,
            faults=faults,
        )


def recover_streams(opened: OpenPipeline) -> list[str]:
    """Brings ledger and target together; to be called before anything else is done."""
    names = [stream.name for stream in opened.definition.streams]
    return recover(opened.ledger, opened.destination, names)


def holder() -> str:
    """Names this process: the host and the process id, as `rowtrail status` shows it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _release(ledger: Ledger, generation: int) -> None:
    """A lease that was lost, or a ledger that cannot be written, needs no release."""
    try:
        ledger.leases.release(generation)
    except LedgerError:
        return


@contextmanager
def _heartbeat(ledger: Ledger, generation: int) -> Iterator[None]:
    """Renews the lease in the background; once it is lost there is nothing more to renew.

    The loss itself is noticed where it counts: the ledger checks the lease, and the owner row at
    the target refuses the next write.
    """
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT):
            try:
                ledger.leases.renew(generation)
            except LedgerError:
                return

    thread = threading.Thread(target=beat, name="rowtrail-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
