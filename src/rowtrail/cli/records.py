"""Which records a person means: `orders 42`, or `orders:42` as it is printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from rowtrail.checkpoints.ledger import Ledger
    from rowtrail.checkpoints.record_id import RecordId
    from rowtrail.connectors.base import Source
    from rowtrail.pipelines.definition import PipelineDefinition


def split(
    definition: PipelineDefinition, stream: str, keys: Sequence[str]
) -> tuple[str, list[str]]:
    """The stream and the keys' texts; a record's printed name may stand for the first two.

    Raises ConfigurationError for an unknown stream.
    """
    from rowtrail.checkpoints.record_id import RecordId

    known = {one.name for one in definition.streams}
    if stream not in known and ":" in stream:
        try:
            first = RecordId.parse(stream)
        except ValueError:
            first = None
        if first is not None and first.stream in known:
            return first.stream, [first.key_text(), *keys]
    return definition.stream(stream).name, list(keys)


def record_ids(
    definition: PipelineDefinition, ledger: Ledger, stream: str, keys: Sequence[str]
) -> list[RecordId]:
    """The records of these keys; raises ConfigurationError for what is no key."""
    return list(map(key_reader(definition, ledger, stream), keys)) if keys else []


def key_reader(
    definition: PipelineDefinition, ledger: Ledger, stream: str
) -> Callable[[str], RecordId]:
    """What reads the text of a key of the stream; raises ConfigurationError for what is none."""
    from rowtrail.checkpoints.record_id import RecordId, parse_key

    types = _key_types(definition, stream)

    def read(text: str) -> RecordId:
        if types is None:
            return _untyped(ledger, stream, text)
        try:
            return RecordId(stream, parse_key(text, types))
        except ValueError as error:
            return _of_another_type(ledger, stream, text, error)

    return read


def _key_types(definition: PipelineDefinition, stream: str) -> Sequence[pa.DataType] | None:
    """From the source; None when it does not answer, for the ledger can do without."""
    from rowtrail.connectors.errors import RowtrailError
    from rowtrail.connectors.registry import open_source
    from rowtrail.pipelines.patterns import at_source

    try:
        source: Source = open_source(definition.source)
        try:
            schema = source.describe(at_source(definition, source, stream).source_spec())
        finally:
            source.close()
    except RowtrailError:
        return None
    return [field.type for field in schema.arrow_key()]


def _of_another_type(ledger: Ledger, stream: str, text: str, error: ValueError) -> RecordId:
    """A row whose very key is no value of its column's type is held back under what it holds."""
    from rowtrail.checkpoints.record_id import RecordId
    from rowtrail.connectors.errors import ConfigurationError

    try:
        literal = RecordId.of_key_text(stream, text)
    except ValueError:
        literal = None
    if literal is None or not _is_known(ledger, literal):
        raise ConfigurationError(f"{text} is no key of stream {stream}: {error}.") from error
    return literal


def _untyped(ledger: Ledger, stream: str, text: str) -> RecordId:
    """Read as a literal; as text where only that is known to the ledger (`42` of a text key)."""
    from rowtrail.checkpoints.record_id import RecordId
    from rowtrail.connectors.errors import ConfigurationError

    as_text = RecordId(stream, (text,))
    try:
        literal = RecordId.of_key_text(stream, text)
    except ValueError as error:
        if _is_known(ledger, as_text):
            return as_text
        raise ConfigurationError(f"{text} is no key of stream {stream}: {error}.") from error
    if not _is_known(ledger, literal) and _is_known(ledger, as_text):
        return as_text
    return literal


def _is_known(ledger: Ledger, record_id: RecordId) -> bool:
    return ledger.streams.get(record_id.stream) is not None and bool(ledger.trail(record_id))
