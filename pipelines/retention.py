"""Drops what the ledger need keep no longer: as a person says, or as the settings say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from rowtrail.checkpoints.errors import LedgerError
from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.states import Prunable, PruneCount
from rowtrail.pipelines.definition import Retention
from rowtrail.pipelines.opening import OpenPipeline
from rowtrail.pipelines.sizes import size_text

OFTEN = timedelta(days=1)
"""A run looks no more often than that for what has grown too old."""


def apply_retention(opened: OpenPipeline) -> None:
    """What the settings say, at most once a day, and told in a note.

    What a run has loaded is loaded, whatever becomes of old trails: a ledger that cannot do it now
    is told so in a note, and the next run does it.
    """
    for what, age in _ages(opened.definition.retention).items():
        try:
            _apply(opened, what, age)
        except LedgerError as error:
            opened.reporter.note(f"Old {what} were not pruned: {error}")


def _apply(opened: OpenPipeline, what: Prunable, age: timedelta) -> None:
    now = datetime.now(UTC)
    looked = opened.ledger.pruning.looked_at(what)
    if looked is not None and now - looked < OFTEN:
        return
    counts = prune(opened.ledger, what, now - age)
    if counts:
        opened.reporter.note(f"Pruned, as retention.{what} says: {told(counts)}.")


def prune(
    ledger: Ledger,
    what: Prunable,
    before: datetime,
    *,
    of_streams: Sequence[str] | None = None,
    open_ones: bool = False,
    dry_run: bool = False,
) -> list[PruneCount]:
    """Prunes one kind of thing; with `dry_run` only says what would go."""
    if what is Prunable.IMAGES:
        return ledger.pruning.images(
            before, of_streams=of_streams, open_ones=open_ones, dry_run=dry_run
        )
    return ledger.pruning.trails(before, of_streams=of_streams, dry_run=dry_run)


def told(counts: Sequence[PruneCount]) -> str:
    """`orders: 3 images of ended failures (12 kB)`, and so on."""
    return ", ".join(
        f"{one.stream}: {one.number:,} {one.what}"
        + (f" ({size_text(one.size)})" if one.size else "")
        for one in counts
    )


def _ages(retention: Retention) -> dict[Prunable, timedelta]:
    ages = {Prunable.IMAGES: retention.images, Prunable.TRAILS: retention.trails}
    return {what: age for what, age in ages.items() if age is not None}
