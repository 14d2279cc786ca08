"""The archive: every extracted batch kept as Parquet, before any transform.

A batch's file is whole before the batch has a manifest, so that what is loaded is in the archive. A
file of a batch that never got further stays, and is told from the others by `archive_lineage`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rowtrail.checkpoints.errors import UnknownError
from rowtrail.checkpoints.states import BatchKind, BatchRecord
from rowtrail.connectors.changes import Changes, Times
from rowtrail.connectors.errors import ConfigurationError, RowtrailError, StopError
from rowtrail.pipelines.archive_names import ArchivedBatch, ArchivedKind, digest_of, folder_of
from rowtrail.pipelines.archive_store import ArchiveStore, open_store

if TYPE_CHECKING:
    from rowtrail.checkpoints.ledger import Ledger
    from rowtrail.pipelines.archive_format import BatchFacts
    from rowtrail.pipelines.commit import Archiver
    from rowtrail.pipelines.definition import PipelineDefinition, StreamDefinition
    from rowtrail.pipelines.opening import OpenPipeline

_KINDS = {
    BatchKind.CAPTURE: ArchivedKind.CAPTURE,
    BatchKind.RETRY: ArchivedKind.RETRY,
    BatchKind.REPLAY: ArchivedKind.REPLAY,
}


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The archived batches of one pipeline."""

    store: ArchiveStore
    pipeline: str

    def batches(self, stream: str) -> list[ArchivedBatch]:
        """All files of a stream, in no order that means anything. Raises StopError."""
        return list(_parsed(self.store.files(folder_of(self.pipeline, stream))))

    def all(self) -> dict[str, list[ArchivedBatch]]:
        """All files by the folder of their stream."""
        found: dict[str, list[ArchivedBatch]] = {}
        for batch in _parsed(self.store.files(folder_of(self.pipeline, "x").rpartition("/")[0])):
            found.setdefault(batch.folder, []).append(batch)
        return found

    def read(self, batch: ArchivedBatch) -> tuple[Changes, BatchFacts]:
        """What is in a file. Raises StopError, which says what is wrong with it."""
        from rowtrail.pipelines.archive_format import decode

        content = self.store.read(batch.path)
        if digest_of(content) != batch.digest:
            raise StopError(
                f"File {batch.path} of the archive {self.store.location} is damaged: its bytes are "
                f"not those that were written."
            )
        changes, facts = decode(content)
        if (facts.pipeline, facts.batch_id) != (self.pipeline, batch.batch_id):
            raise StopError(
                f"File {batch.path} of the archive {self.store.location} holds another batch than "
                f"its name says."
            )
        if changes.times is None:
            times = Times.of_read(batch.opened_at, len(changes), fresh=False)
            changes = replace(changes, times=times)
        return changes, facts

    def write(self, changes: Changes, facts: BatchFacts, batch: ArchivedBatch) -> None:
        """Keeps a batch; `batch` has everything but the digest. Raises StopError."""
        from rowtrail.pipelines.archive_format import encode

        content = encode(changes, facts)
        self.store.write(replace(batch, digest=digest_of(content)).path, content)


def open_archive(definition: PipelineDefinition) -> Archive:
    """The pipeline's archive; raises ConfigurationError when it has none."""
    if not definition.archive:
        raise ConfigurationError(
            f"Pipeline {definition.name} has no archive. Set `archive` in [pipeline] to a folder "
            f"or a URL; every batch is kept there from then on."
        )
    return Archive(store=open_store(definition.archive), pipeline=definition.name)


def archiver(
    opened: OpenPipeline, stream: StreamDefinition, run_id: str, read_number: int
) -> Archiver:
    """What keeps the batches of one stream; nothing where it is not to be archived."""
    if not opened.definition.archive or not stream.archive:
        return no_archive
    return BatchArchiver(
        archive=open_archive(opened.definition),
        ledger=opened.ledger,
        run_id=run_id,
        capture=stream.capture.value,
        target=stream.target,
        read_number=read_number,
    )


def no_archive(changes: Changes, batch: BatchRecord, position_before: str | None) -> None:
    """Keeps nothing."""


@dataclass(frozen=True, kw_only=True)
class BatchArchiver:
    """Keeps each batch of a stream; see `commit.Archiver`."""

    archive: Archive
    ledger: Ledger
    run_id: str
    capture: str
    target: str
    read_number: int
    kind: ArchivedKind | None = None  # where it is not what the batch's own kind says

    def __call__(self, changes: Changes, batch: BatchRecord, position_before: str | None) -> None:
        from rowtrail.pipelines.archive_format import BatchFacts

        if batch.sequence == 1:
            self._refuse_foreign(batch.stream)
        previous = self.ledger.streams.get(batch.stream)
        closed = None if previous is None else previous.last_batch_id
        facts = BatchFacts(
            pipeline=self.archive.pipeline,
            ledger_id=self.ledger.id,
            run_id=self.run_id,
            batch_id=batch.batch_id,
            stream=batch.stream,
            epoch=batch.epoch,
            sequence=batch.sequence,
            capture=self.capture,
            target=self.target,
            read_number=self.read_number,
            position_before=position_before,
            position_after=changes.position if batch.kind is BatchKind.CAPTURE else None,
            previous_batch=closed,
            previous_records=self._records(closed),
        )
        kind = self.kind or _KINDS[batch.kind]
        if kind is ArchivedKind.CAPTURE and position_before is None:
            kind = ArchivedKind.START
        archived = ArchivedBatch(
            folder=folder_of(self.archive.pipeline, batch.stream),
            epoch=batch.epoch,
            sequence=batch.sequence,
            opened_at=batch.opened_at,
            kind=kind,
            records=len(changes) + len(changes.rejected),
            batch_id=batch.batch_id,
            digest="",
        )
        try:
            self.archive.write(changes, facts, archived)
        except StopError as error:
            raise StopError(
                f"{error} So nothing of batch {batch.batch_id} of stream {batch.stream} was "
                f"loaded, and nothing is lost: the next run reads it again. Make room there, or "
                f"give this user the right to write, then run again."
            ) from error

    def _records(self, batch_id: str | None) -> int | None:
        """None also for a batch of a ledger that was lost."""
        try:
            return None if batch_id is None else self.ledger.batches.get(batch_id).records
        except UnknownError:
            return None

    def _refuse_foreign(self, stream: str) -> None:
        """The numbers of two ledgers' batches would get mixed up."""
        found = self.archive.batches(stream)
        for batch in sorted(found, key=lambda one: one.opened_at, reverse=True):
            try:
                _, facts = self.archive.read(batch)
            except RowtrailError:
                continue
            if facts.ledger_id != self.ledger.id:
                raise ConfigurationError(
                    f"The archive {self.archive.store.location} holds batches of stream {stream} "
                    f"that another ledger ({facts.ledger_id}) has made, and this ledger begins "
                    f"anew. To go on from them: rowtrail replay {stream} --from archive. To begin "
                    f"anew, move the archive away or set another `archive`."
                )
            return


def _parsed(paths: list[str]) -> Iterator[ArchivedBatch]:
    return (one for path in paths if (one := ArchivedBatch.parse(path)) is not None)
