"""Pages of a change log that triggers fill: the keys of what changed, with the rows as they are.

What the captures share that read such logs, however they follow the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from rowtrail.connectors.capture.pages import KeyedTable, Page
from rowtrail.connectors.changes import Changes, Operation, version_at
from rowtrail.connectors.errors import ConfigurationError, PositionLostError

NAME = "trigger"


@dataclass(frozen=True, kw_only=True)
class LogPage:
    """The newest entry of each key among some entries, with the row as it is now.

    `page.rows` has the key of each entry, and NULL in all other columns where there is no row.
    """

    page: Page
    sequences: pa.Array  # int64, rising
    operations: pa.Array  # uint8; DELETE where there is no row
    last: int  # the last sequence read; all entries up to it were read
    token: int | str | None  # of the entry with that sequence; None when there is none


def log_changes(
    table: KeyedTable,
    found: LogPage,
    versions: pa.RecordBatch,
    position: str,
    complete: datetime | None,
) -> Changes:
    """The entries of a page as changes; `versions` has one row for each of them."""
    page = found.page
    fits = pa.array(page.fits())
    return Changes(
        stream=table.stream.name,
        schema=table.schema,
        rows=page.rows.filter(fits),
        operations=found.operations.filter(fits),
        versions=versions.filter(fits),
        position=position,
        rejected=tuple(
            misfit.rejected(
                Operation(found.operations[misfit.row].as_py()), version_at(versions, misfit.row)
            )
            for misfit in page.misfits
        ),
        watermark=complete,
        read_complete=complete is not None,
    )


def log_missing(stream: str) -> ConfigurationError:
    return ConfigurationError(
        f"Stream {stream} has no change log at the source yet. Make it with: rowtrail init "
        f"--capture"
    )


def position_lost(stream: str, why: str) -> PositionLostError:
    return PositionLostError(
        f"Stream {stream} cannot go on from its position: {why}. See that `rowtrail init "
        f"--capture` has been run, then read it anew: rowtrail run --resnapshot {stream}"
    )


LOG_GONE = "its change log is gone"
LOG_MADE_AGAIN = "its change log was made again, so that changes may be missing"
ENTRIES_GONE = (
    "entries beyond its position were deleted from the change log, as another pipeline that reads "
    "the same log would do, or this one before an older ledger and target were put back"
)
SOURCE_OLDER = "the source is older than its position, perhaps restored from a back-up"
