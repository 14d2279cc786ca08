"""Takes old batches out of an archive, and says what can still be done with the rest."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from rowtrail.connectors.errors import RowtrailError
from rowtrail.pipelines.archive import Archive
from rowtrail.pipelines.archive_lineage import is_whole
from rowtrail.pipelines.archive_names import ArchivedBatch, folder_of


@dataclass(frozen=True, kw_only=True)
class PrunedArchive:
    """What was removed of one stream."""

    stream: str  # its folder where no file tells its name any more
    files: int
    records: int
    begins_at: datetime  # the oldest batch that is left
    whole: bool  # whether a new target can still be made from what is left


def prune_archive(
    archive: Archive,
    before: datetime,
    *,
    of_streams: Collection[str] | None = None,
    dry_run: bool = False,
) -> list[PrunedArchive]:
    """Removes the batches that were opened before a time (UTC, aware), of all streams or of these.

    The last batch of each stream stays, whatever its age: it tells the position and the shape of
    the rows. The age alone decides; where the first read of a table goes with it, the archive can
    only replay what has changed since, and the result says so. With `dry_run` nothing is removed.
    Raises StopError.
    """
    pruned = []
    folders = archive.all()
    if of_streams is not None:
        wanted = {folder_of(archive.pipeline, name) for name in of_streams}
        folders = {folder: folders[folder] for folder in folders.keys() & wanted}
    for folder, batches in sorted(folders.items()):
        ordered = sorted(batches, key=lambda one: one.opened_at)
        kept = [one for one in ordered[:-1] if one.opened_at >= before] + ordered[-1:]
        old = [one for one in ordered if one not in kept]
        for batch in old if not dry_run else ():
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
