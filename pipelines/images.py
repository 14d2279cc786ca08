"""One row as bytes, so that a failed record can be kept and taken up again.

An image is an Arrow IPC stream of one row, its schema included. A redacted column is there without
its value, and says so in the metadata of its field. An encrypted image begins with `SEALED`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from rowtrail.pipelines.definition import DEFAULT_IMAGE_BYTES
from rowtrail.pipelines.image_keys import ImageKeys, WrongKeyError
from rowtrail.pipelines.redaction import NOTHING_REDACTED, Redaction
from rowtrail.pipelines.sizes import size_text

SEALED = b"rowtrail sealed 1\0"
"""No Arrow stream begins so: it begins with FF FF FF FF."""
NOT_KEPT = "no image: capture_images = false"
_MARK, _REDACTED = b"rowtrail", b"redacted"


class UnreadableImageError(Exception):
    """The image cannot be read; the words say why, as the end of a sentence about the record."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is kept of one row: its image or none, and what is to be known of that."""

    image: bytes | None
    note: str | None  # None: the image is whole, and anybody can read it


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How the rows of one stream are kept when they fail."""

    wanted: bool = True
    most_bytes: int = DEFAULT_IMAGE_BYTES
    redaction: Redaction = NOTHING_REDACTED
    keys: ImageKeys | None = None

    def extracted(self, row: pa.RecordBatch, *, waits: bool = False) -> Kept:
        """The row as it was read, less what is redacted.

        A row that `waits` behind a failed one is kept whatever its size: nothing else has it.
        """
        if not self.wanted:
            return Kept(image=None, note=NOT_KEPT)
        row, redacted = self.redaction.blanked(row)
        image = to_image(row, redacted)
        if len(image) > self.most_bytes and not waits:
            return Kept(image=None, note=_too_large(len(image), self.most_bytes))
        notes = [] if self.keys is None else ["encrypted"]
        if redacted:
            notes.append(without(redacted))
        sealed = image if self.keys is None else SEALED + self.keys.seal(image)
        return Kept(image=sealed, note="; ".join(notes) or None)

    def transformed(self, row: pa.RecordBatch) -> bytes | None:
        """The row as it was to be loaded. None of a stream that redacts: a transform may have put a
        redacted value into any column."""
        return None if self.redaction else self.extracted(row).image


def to_image(row: pa.RecordBatch, redacted: tuple[str, ...] = ()) -> bytes:
    """The first row; it remembers which columns were redacted."""
    sink = pa.BufferOutputStream()
    # A slice would otherwise drag the dictionary and buffers of its whole batch along.
    compact = row.take(pa.array([0]))
    fields = [
        field.with_metadata({_MARK: _REDACTED}) if field.name in redacted else field
        for field in compact.schema
    ]
    compact = pa.RecordBatch.from_arrays(compact.columns, schema=pa.schema(fields))
    with pa.ipc.new_stream(sink, compact.schema) as writer:
        writer.write_batch(compact)
    return bytes(sink.getvalue())


def from_image(image: bytes, keys: ImageKeys | None = None) -> pa.RecordBatch:
    """The one row; its schema is that of the time when it was kept.

    Raises UnreadableImageError for one that is damaged, or encrypted with none of the keys.
    """
    try:
        with pa.ipc.open_stream(_opened(image, keys)) as reader:
            batch: pa.RecordBatch = reader.read_next_batch()
    except (pa.ArrowException, OSError):
        raise UnreadableImageError("its image is damaged") from None
    return batch


def redacted_in(row: pa.RecordBatch) -> tuple[str, ...]:
    """The columns of an image that have no value since they were redacted."""
    return tuple(f.name for f in row.schema if (f.metadata or {}).get(_MARK) == _REDACTED)


def without(columns: tuple[str, ...]) -> str:
    """What an image lacks, in words."""
    return f"without {', '.join(columns)}, which {'is' if len(columns) == 1 else 'are'} redacted"


def _opened(image: bytes, keys: ImageKeys | None) -> bytes:
    if not image.startswith(SEALED):
        return image
    if keys is None:
        raise UnreadableImageError("its image is encrypted, and the pipeline has no `image_key`")
    try:
        return keys.open(image.removeprefix(SEALED))
    except WrongKeyError:
        raise UnreadableImageError(
            "its image is encrypted with a key that is not in `image_key`"
        ) from None


def _too_large(size: int, most: int) -> str:
    return f"no image: {size_text(size)} is more than image_bytes = {size_text(most)}"
