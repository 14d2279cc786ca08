"""Record ids: which record of which stream, as bytes that are equal everywhere and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rowtrail.checkpoints import key_text
from rowtrail.checkpoints.canonical import KeyValue, stream_field, value_field
from rowtrail.checkpoints.typed_key import parse_key

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["KeyValue", "RecordId", "from_arrow", "parse_key"]


@dataclass(frozen=True, eq=False, slots=True)
class RecordId:
    """One record: a stream and the values of its key, in key order.

    Two ids are equal when their canonical bytes are: 1, True, '1' and Decimal(1) are four different
    keys, Decimal('1.5') and Decimal('1.50') are one. Raises ValueError for an empty key and
    TypeError for a value that is not a KeyValue.
    """

    stream: str
    key: tuple[KeyValue, ...]

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError(f"a record id of stream {self.stream} needs at least one key value")
        for value in self.key:
            if not isinstance(value, KeyValue):
                raise TypeError(
                    f"a key of stream {self.stream} holds a {type(value).__name__}, which is no "
                    "type that a key can have"
                )

    def canonical(self) -> bytes:
        """Bytes that are the same in every process and on every platform."""
        return stream_field(self.stream) + self.key_bytes()

    def key_bytes(self) -> bytes:
        """The canonical bytes of the key alone."""
        return b"".join(map(value_field, self.key))

    def key_text(self) -> str:
        """The text of the key alone, without the stream."""
        return ",".join(map(key_text.to_text, self.key))

    def __str__(self) -> str:
        return f"{key_text.name(self.stream)}:{self.key_text()}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RecordId):
            return NotImplemented
        if self.stream == other.stream and self.key == other.key:
            alike = zip(self.key, other.key, strict=True)
            if all(type(mine) is type(theirs) for mine, theirs in alike):
                return True  # as nearly always: no bytes are needed to see it
        return self.canonical() == other.canonical()

    def __hash__(self) -> int:
        return hash(self.canonical())

    @classmethod
    def parse(cls, text: str) -> RecordId:
        """The record id whose text this is: the inverse of `str`. Raises ValueError."""
        if text.startswith('"'):
            stream, end = key_text.unquote(text, 0)
        else:
            end = text.find(":")
            stream = text[:end]
        if end <= 0 or text[end : end + 1] != ":":
            raise ValueError(f"{text!r} is no record id; write it as STREAM:KEY, as in orders:42")
        return cls.of_key_text(stream, text[end + 1 :])

    @classmethod
    def of_key_text(cls, stream: str, text: str) -> RecordId:
        """The record id of a stream and the text of a key. Raises ValueError."""
        return cls(stream, tuple(map(key_text.to_value, key_text.split(text))))


def from_arrow(stream: str, keys: pa.RecordBatch) -> list[RecordId]:
    """The record ids of all rows of key columns, which are in key order.

    Raises ValueError for a timestamp that microseconds cannot hold.
    """
    columns = [_python_values(column) for column in keys.columns]
    return [RecordId(stream, key) for key in zip(*columns, strict=True)]


def _python_values(column: pa.Array) -> list[Any]:
    import pyarrow as pa

    # Nanoseconds would come as pandas objects.
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", tz=column.type.tz))
    elif column.type == pa.time64("ns"):
        column = column.cast(pa.time64("us"))
    return list(column.to_pylist())
