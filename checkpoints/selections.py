"""Which records a person means without naming them, and where a replay takes their rows from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Origin(StrEnum):
    """Where a replay takes rows from. A stage says where a record goes on; this is something else:
    a row from any of them goes through all stages from the transform on."""

    SOURCE = "source"  # fetched by key, as it is now
    IMAGE = "image"  # as it was captured when it failed; only records that are failed have one
    ARCHIVE = "archive"  # as the archive has it, in each of its versions


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Records of one stream by what they have in common: a run, a span of time, or a condition.

    The ledger notes it as it is, and who carries the request out resolves it: a run that was under
    way then is over, and rows fit the condition or not as they are at the source at that moment.
    The end of a span is fixed when the request is made. Raises ValueError unless it is one of them.
    """

    run_id: str | None = None  # all records that the run took up, whatever became of them
    since: datetime | None = None  # all records that were loaded or failed from then on
    until: datetime | None = None  # and before then; always set with `since`
    where: str | None = None  # SQL, one expression: rows for which it is true at the source

    def __post_init__(self) -> None:
        chosen = [self.run_id is not None, self.since is not None, self.where is not None]
        if sum(chosen) != 1 or (self.since is None) is not (self.until is None):
            raise ValueError(f"a selection is a run, a span of time or a condition: {self}")

    def __str__(self) -> str:
        """As it completes "the records …"."""
        if self.run_id is not None:
            return f"that run {self.run_id} took up"
        if self.where is not None:
            return f"where {self.where}"
        return f"loaded or failed from {_utc(self.since)} to {_utc(self.until)}"


def _utc(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
