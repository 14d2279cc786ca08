"""Takes old batches out of an archive, and says what can still be done with the rest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rowtrail.connectors.errors import RowtrailError
from rowtrail.pipelines.archive import Archive
from rowtrail.pipelines.archive_lineage import is_whole
from rowtrail.pipelines.archive_names import ArchivedBatch


@dataclass(frozen=True, kw_only=True)
class PrunedArchive:
    """What was removed of one stream."""

    stream: str  # its folder where no file tells its name any more
    files: int
    records: int
    begins_at: datetime  # the oldest batch that is left
    whole: bool  # whether a new target can still be made from what is left

    def __str__(self) -> str:
        rest = (
            "a new target can still be made from it"
            if self.whole
            else "a new target can no longer be made from it, until the table is read anew: "
            f"rowtrail run --resnapshot {self.stream}"
        )
        return (
            f"{self.files:,} files with {self.records:,} records of stream {self.stream} were "
            f"removed from the archive. It begins at {self.begins_at:%Y-%m-%d %H:%M:%S} UTC now; "
            f"{rest}."
        )


def prune_archive(archive: Archive, before: datetime) -> list[PrunedArchive]:
    """Removes the batches of all streams that were opened before a time (UTC, aware).

    The last batch of each stream stays, whatever its age: it tells the position and the shape of
    the rows. The age alone decides; where the first read of a table goes with it, the archive can
    only replay what has changed since, and the result says so. Raises StopError.
    """
    pruned = []
    for folder, batches in sorted(archive.all().items()):
        ordered = sorted(batches, key=lambda one: one.opened_at)
        kept = [one for one in ordered[:-1] if one.opened_at >= before] + ordered[-1:]
        old = [one for one in ordered if one not in kept]
        for batch in old:
            archive.store.remove(batch.path)
        if old:
            pruned.append(
                PrunedArchive(
                    stream=_stream(archive, kept) or folder,
                    files=len(old),
                    records=sum(one.records for one in old),
                    begins_at=kept[0].opened_at,
                    whole=is_whole(kept, ()),
                )
            )
    return pruned


def _stream(archive: Archive, batches: list[ArchivedBatch]) -> str | None:
    for batch in reversed(batches):
        try:
            return archive.read(batch)[1].stream
        except RowtrailError:
            continue
    return None
