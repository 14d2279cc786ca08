"""A manifest as the ledger stores it, from `prepare` to the close of its batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete

from rowtrail.checkpoints import keyset, outcomes, pages, tables
from rowtrail.checkpoints.packing import pack_counted
from rowtrail.checkpoints.states import FailureEnd, Manifest, NewFailure

_Values = dict[str, Any]


@dataclass(frozen=True)
class StoredManifest:
    """A manifest, encoded."""

    blob: keyset.Keyset | None  # None: every change of the batch failed
    load_rows: bytes
    failures: list[_Values]
    ends: list[_Values]
    page: bytes | None
    digest: str  # sha256 of all of the manifest, in hexadecimal digits

    @property
    def records(self) -> int:
        rows = 0 if self.blob is None else self.blob.rows
        return rows + len(self.failures)


def encode(manifest: Manifest) -> StoredManifest:
    """The manifest as it is stored; nothing is written."""
    blob, load_rows = None, pack_counted(np.empty(0, np.int64))
    if len(manifest.keys):
        blob = keyset.encode(
            manifest.keys, manifest.versions, manifest.operations, manifest.outcomes
        )
        load_rows = pack_counted(keyset.stored_rows(blob, manifest.load_rows))
    failures = _failures(manifest.failures)
    ends = [_end(end) for end in {end.failure_id: end for end in manifest.ends}.values()]
    page = None if manifest.page is None else pages.to_bytes(manifest.page)
    parts = [_texts(manifest, failures, ends), load_rows, page]
    parts += [image for row in failures for image in (row["extracted"], row["transformed"])]
    parts += () if blob is None else (blob.layout.to_bytes(), blob.header, *blob.segments)
    return StoredManifest(blob, load_rows, failures, ends, page, _digest(parts))


def write(connection: Connection, batch: int, stream_id: int, manifest: StoredManifest) -> None:
    """Writes what belongs to the batch of this number beside its row in `batches`."""
    if manifest.blob is not None:
        outcomes.write(connection, batch, stream_id, manifest.blob)
    if manifest.page is not None:
        pages.prepare(connection, stream_id, batch, manifest.page)
    _insert(connection, tables.prepared_failures, batch, manifest.failures)
    _insert(connection, tables.prepared_ends, batch, manifest.ends)


def remove(connection: Connection, batch: int) -> None:
    """Takes back what `write` wrote."""
    outcomes.remove(connection, batch)
    pages.forget(connection, batch)
    remove_prepared(connection, batch)


def remove_prepared(connection: Connection, batch: int) -> None:
    """Drops what is of no use once the batch is closed."""
    for table in (tables.prepared_failures, tables.prepared_ends):
        connection.execute(delete(table).where(table.c.batch == batch))


def _failures(failures: Iterable[NewFailure]) -> list[_Values]:
    # One per version of a record: of two, the later one is what happened.
    unique = {(failure.record_id, failure.version): failure for failure in failures}
    return [failure_values(failure) for failure in unique.values()]


def failure_values(failure: NewFailure) -> _Values:
    """The columns that `prepared_failures` and `failures` have in common."""
    epoch, position, ordinal, revision = failure.version
    return {
        "key": failure.record_id.key_bytes(),
        "key_text": failure.record_id.key_text(),
        "epoch": epoch,
        "position": position,
        "ordinal": ordinal,
        "revision": revision,
        "state": failure.state,
        "operation": failure.operation,
        "stage": failure.stage,
        "error_class": failure.error_class,
        "message": failure.message,
        "fingerprint": failure.fingerprint,
        "code_fingerprint": failure.code_fingerprint,
        "waits_for": None if failure.waits_for is None else failure.waits_for.key_text(),
        "image_note": failure.image_note,
        "happened_at": failure.happened_at,
        "committed": failure.committed,
        "extracted": failure.extracted,
        "transformed": failure.transformed,
    }


def _end(end: FailureEnd) -> _Values:
    return {"failure_id": end.failure_id, "state": end.state, "decision_id": end.decision_id}


def _insert(connection: Connection, table: Any, batch: int, rows: list[_Values]) -> None:
    if rows:
        numbered = [{"batch": batch, "number": n, **row} for n, row in enumerate(rows)]
        connection.execute(table.insert(), numbered)


def _texts(manifest: Manifest, failures: list[_Values], ends: list[_Values]) -> bytes:
    """All of the manifest that is not bytes."""
    watermark = manifest.watermark
    return json.dumps(
        {
            "batch": manifest.batch_id,
            "position": manifest.position_after,
            "watermark": None if watermark is None else watermark.isoformat(),
            "read_complete": manifest.read_complete,
            "failures": [
                [_plain(value) for value in row.values() if not isinstance(value, bytes)]
                for row in failures
            ],
            "ends": [list(row.values()) for row in ends],
        }
    ).encode()


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _digest(parts: Iterable[bytes | None]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        # The length before each part: no two manifests run together into the same bytes.
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return digest.hexdigest()
