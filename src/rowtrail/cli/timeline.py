"""What a record's trail tells beside its sentences: versions, times, runs, and where images are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rowtrail.cli.output import clock, version_text, when

if TYPE_CHECKING:
    from rowtrail.checkpoints.states import Failure, Pruned, TrailEntry


def circumstances(entry: TrailEntry) -> str | None:
    """Which version it was, when it went through which steps, and in which run; None: of no batch.

    Runs that failed before a batch was closed leave nothing, so that what is not known is not said.
    """
    if entry.version is None or entry.run_id is None or entry.event == "failure ended":
        return None
    parts = [f"version {version_text(entry.version)}"]
    if entry.read_at is not None:
        parts.append(f"read {clock(entry.read_at)}")
    if entry.staged_at is not None:
        parts.append(f"through its stages {clock(entry.staged_at)}")
    if entry.event in _AT_TARGET:
        parts.append(f"at the target {clock(entry.at)}")
    return f"{', '.join(parts)}; run {entry.run_id}"


_AT_TARGET = ("loaded", "filtered", "superseded")


def at_target(trail: Sequence[TrailEntry], pruned: Pruned | None) -> str:
    """What the target holds as far as the ledger knows, which may have been pruned."""
    applied = [one for one in trail if one.event in ("loaded", "filtered") and one.version]
    if not applied and pruned is not None:
        return f"not known: what was loaded before {when(pruned.upto)} UTC was pruned"
    if not applied:
        return "no version of it so far"
    last = max(applied, key=lambda one: one.version or ())
    how = "left out by a transform" if last.event == "filtered" else "loaded"
    if last.event == "loaded" and last.operation == _DELETE:
        how = "its delete"
    return f"version {version_text(last.version)}, {how} {when(last.at)} UTC; --compare looks"


_DELETE = 3


def image_words(held: Failure) -> str:
    """Where the row is that a retry goes on with."""
    note = "" if held.image_note is None else f" ({held.image_note.removeprefix('no image: ')})"
    if not held.has_image:
        return f"none is kept{note}; a retry reads the row at the source"
    if note:
        return f"in the ledger{note}"
    return "in the ledger, the row as it was read; a retry goes on with it"
