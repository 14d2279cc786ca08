"""Names of archived batches: all that is needed to choose among them stands in the name.

`PIPELINE/STREAM/EPOCH/SEQUENCE_OPENED_KIND_RECORDS_BATCH_DIGEST.parquet`. The digest is of the
file's bytes, so that a file proves itself, with or without a ledger.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from rowtrail.checkpoints.states import Decision

_LONGEST = 120
"""Characters of a stream's folder: file systems take 255 bytes."""
_OPENED = "%Y%m%dT%H%M%S.%fZ"
_NAME = re.compile(
    r"(?P<folder>.+)/(?P<epoch>\d{8})/(?P<sequence>\d{12})_(?P<opened>\d{8}T\d{6}\.\d{6}Z)_"
    r"(?P<kind>[a-z]+)_(?P<records>\d+)_(?P<batch>[0-9a-f-]{36})_(?P<digest>[0-9a-f]{32})\.parquet"
)


class ArchivedKind(StrEnum):
    """What a batch held."""

    START = "start"  # the first changes of an epoch: from here on the whole table is told
    CAPTURE = "capture"
    RETRY = "retry"
    REPLAY = "replay"  # rows that were fetched as a person asked
    COPY = "copy"  # what was itself taken from the archive; only its number counts


@dataclass(frozen=True, kw_only=True)
class ArchivedBatch:
    """One file of the archive."""

    folder: str  # of the stream, with the pipeline's
    epoch: int
    sequence: int
    opened_at: datetime  # UTC: when the batch was opened
    kind: ArchivedKind
    records: int
    batch_id: str
    digest: str  # of the file's bytes

    @property
    def path(self) -> str:
        return (
            f"{self.folder}/{self.epoch:08d}/{self.sequence:012d}_{self.opened_at:{_OPENED}}_"
            f"{self.kind}_{self.records}_{self.batch_id}_{self.digest}.parquet"
        )

    @classmethod
    def parse(cls, path: str) -> ArchivedBatch | None:
        """The batch in the file at this path; None for a file that is none of the archive's."""
        found = _NAME.fullmatch(path)
        if found is None or found["kind"] not in list(ArchivedKind):
            return None
        return cls(
            folder=found["folder"],
            epoch=int(found["epoch"]),
            sequence=int(found["sequence"]),
            opened_at=datetime.strptime(found["opened"], _OPENED).replace(tzinfo=UTC),
            kind=ArchivedKind(found["kind"]),
            records=int(found["records"]),
            batch_id=found["batch"],
            digest=found["digest"],
        )


def digest_of(content: bytes) -> str:
    """Half a SHA-256: enough to notice any damage."""
    return hashlib.sha256(content).hexdigest()[:32]


def folder_of(pipeline: str, stream: str) -> str:
    """Where a stream's batches lie. No name leads out of the archive or into another's folder."""
    return f"{_encoded(pipeline)}/{_encoded(stream)}"


def _encoded(name: str) -> str:
    text = quote(name, safe="", errors="surrogatepass")
    if text.startswith("."):
        text = f"%2E{text[1:]}"
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def cut_off(decision: Decision) -> str:
    """What is to be told of a replay that did not come to its end."""
    return (
        f"The replay of stream {decision.stream} from the archive was cut off. What it had loaded "
        f"stays; ask for it again: rowtrail replay {decision.stream} --from archive"
    )
