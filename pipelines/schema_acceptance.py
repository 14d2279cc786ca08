"""`rowtrail schema --accept`: agrees on the shapes that the source's tables have now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.registry import open_source
from rowtrail.connectors.schema import TableSchema
from rowtrail.pipelines.contract import drift
from rowtrail.pipelines.definition import PipelineDefinition
from rowtrail.pipelines.lock_file import read_lock, write_lock
from rowtrail.pipelines.patterns import resolve_beside_ledger


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What the lock file says now that it did not say before."""

    path: Path
    new: tuple[str, ...] = ()  # streams
    changed: tuple[tuple[str, str], ...] = ()  # stream, and what has changed of it in words
    gone: tuple[str, ...] = ()  # streams that the pipeline no longer has

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.gone)


def accept_schemas(definition: PipelineDefinition, names: Sequence[str] = ()) -> Accepted:
    """Writes the shapes of these streams, or of all, into the pipeline's lock file.

    With names, what the file says of other streams stays. Raises ConfigurationError where the
    pipeline has no lock file, a stream's table cannot be described, or the file is not its own, and
    what opening the source raises; the file is then as it was.
    """
    if definition.lock is None:
        raise ConfigurationError(
            f"Pipeline {definition.name} has no lock file. Say where it is to be: "
            f"`lock` in [pipeline], or Pipeline(lock=...)."
        )
    lock = read_lock(definition.lock, definition.name)
    source = open_source(definition.source)
    try:
        resolved = resolve_beside_ledger(definition, source)
        streams = [resolved.stream(name) for name in names] or resolved.definition.streams
        found = {one.name: source.describe(one.source_spec()) for one in streams}
    finally:
        source.close()
    order = [one.name for one in resolved.definition.streams]
    shapes = {**lock.streams, **found} if names else found
    known = [name for name in order if name in shapes]
    # In the order of the pipeline: the file does not change because a name was typed before.
    kept = {name: shapes[name] for name in (*known, *sorted(shapes.keys() - set(known)))}
    accepted = Accepted(
        path=definition.lock,
        new=tuple(name for name in found if name not in lock.streams),
        changed=tuple(
            (name, words)
            for name, schema in found.items()
            if name in lock.streams
            for words in _changes(lock.streams[name], schema)
        ),
        gone=tuple(name for name in lock.streams if name not in kept),
    )
    if accepted:
        write_lock(replace(lock, streams=kept))
    return accepted


def _changes(before: TableSchema, after: TableSchema) -> list[str]:
    """Also what no contract asks about: the file is to say what the table is."""
    found = [str(one) for one in drift(before, after)]
    told = {name for name in after.names if name in before.names}
    for name in after.names:
        if name not in told:
            continue
        one, other = before.column(name), after.column(name)
        if one.type == other.type and one.declared != other.declared:
            found.append(f"column {name} was declared {one.declared} and is {other.declared}")
        if other.nullable is False and one.nullable:
            found.append(f"column {name} may not be NULL any more")
    same = [name for name in after.names if name in told]
    if same != [name for name in before.names if name in told]:
        found.append("its columns are in another order")
    return found
