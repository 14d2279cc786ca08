"""Drops what need be kept no longer, of the ledger and of the archive: as a person says, or as the
settings say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from rowtrail.checkpoints.errors import LedgerError
from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.states import Prunable, PruneCount
from rowtrail.connectors.errors import StopError
from rowtrail.pipelines.archive import open_archive
from rowtrail.pipelines.archive_prune import prune_archive
from rowtrail.pipelines.definition import PipelineDefinition, Retention
from rowtrail.pipelines.opening import OpenPipeline
from rowtrail.pipelines.sizes import size_text

OFTEN = timedelta(days=1)
"""A run looks no more often than that for what has grown too old."""


def apply_retention(opened: OpenPipeline) -> None:
    """What the settings say, at most once a day, and told in a note.

    What a run has loaded is loaded, whatever becomes of old trails: a ledger or an archive that
    cannot do it now is told so in a note, and the next run does it.
    """
    for what, age in _ages(opened.definition.retention).items():
        try:
            _apply(opened, what, age)
        except (LedgerError, StopError) as error:
            opened.reporter.note(f"Not pruned, as retention.{what} says: {error}")


def _apply(opened: OpenPipeline, what: Prunable, age: timedelta) -> None:
    now = datetime.now(UTC)
    looked = opened.ledger.pruning.looked_at(what)
    if looked is not None and now - looked < OFTEN:
        return
    counts = prune(opened.definition, opened.ledger, what, now - age)
    if counts:
        opened.reporter.note(f"Pruned, as retention.{what} says: {told(counts)}.")


def prune(
    definition: PipelineDefinition,
    ledger: Ledger,
    what: Prunable,
    before: datetime,
    *,
    of_streams: Sequence[str] | None = None,
    open_ones: bool = False,
    dry_run: bool = False,
) -> list[PruneCount]:
    """Prunes one kind of thing; with `dry_run` only says what would go.

    Raises LedgerError, and for the archive ConfigurationError (there is none) and StopError.
    """
    if what is Prunable.ARCHIVE:
        return _prune_archive(definition, ledger, before, of_streams, dry_run=dry_run)
    if what is Prunable.IMAGES:
        return ledger.pruning.images(
            before, of_streams=of_streams, open_ones=open_ones, dry_run=dry_run
        )
    return ledger.pruning.trails(before, of_streams=of_streams, dry_run=dry_run)


def _prune_archive(
    definition: PipelineDefinition,
    ledger: Ledger,
    before: datetime,
    of_streams: Sequence[str] | None,
    *,
    dry_run: bool,
) -> list[PruneCount]:
    archive = open_archive(definition)
    found = prune_archive(archive, before, of_streams=of_streams, dry_run=True)
    counts = [
        PruneCount(
            stream=one.stream,
            what=f"archived batches with {one.records:,} records",
            number=one.files,
            remark="" if one.whole else _ONLY_CHANGES.format(stream=one.stream),
        )
        for one in found
    ]
    if not dry_run:
        # First what is to go: a process that dies in between leaves nothing gone unsaid.
        ledger.pruning.note(Prunable.ARCHIVE, counts, before, of_streams)
        prune_archive(archive, before, of_streams=of_streams)
    return counts


_ONLY_CHANGES = (
    "what is left of {stream} in the archive makes no new target, until the table is read anew: "
    "rowtrail run --resnapshot {stream}"
)


def told(counts: Sequence[PruneCount]) -> str:
    """`orders: 3 images of ended failures (12 kB)`, and so on."""
    return ", ".join(
        f"{one.stream}: {one.number:,} {one.what}"
        + (f" ({size_text(one.size)})" if one.size else "")
        + (f" ({one.remark})" if one.remark else "")
        for one in counts
    )


def _ages(retention: Retention) -> dict[Prunable, timedelta]:
    ages = {what: getattr(retention, what) for what in Prunable}
    return {what: age for what, age in ages.items() if age is not None}
