"""Fills a column of the rows that were loaded before the target had it."""

from __future__ import annotations

from contextlib import closing

from rowtrail.checkpoints.selections import Origin, Selection
from rowtrail.checkpoints.states import DecisionKind
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.registry import open_source
from rowtrail.pipelines.definition import PipelineDefinition
from rowtrail.pipelines.opening import lock_of
from rowtrail.pipelines.patterns import at_source
from rowtrail.pipelines.requests import Request
from rowtrail.pipelines.shapes import shape_of


def backfill_request(definition: PipelineDefinition, stream: str, column: str) -> Request:
    """The replay of all rows that have a value in this column at the source.

    The others have NULL on both sides. It is safe beside runs, as every replay is, and a later
    change of a row wins. Raises ConfigurationError where the stream does not bring such a column,
    and what opening the source raises.
    """
    with closing(open_source(definition.source)) as source:
        known = at_source(definition, source, stream)
        described = source.describe(known.source_spec())
        names = [name for name in described.names if name.lower() == column.lower()]
        name = column if column in names else next(iter(names), None)
        target = shape_of(known, described, lock_of(definition)).target
    if name is None or name not in target.names:
        why = "leaves it out" if name is not None else "has no such column"
        raise ConfigurationError(
            f"Column {column} of stream {stream} cannot be filled: the stream {why}. It brings "
            f"{', '.join(one for one in target.names if one in described.names)}."
        )
    quoted = name.replace('"', '""')
    return Request(
        kind=DecisionKind.REPLAY,
        stream=stream,
        origin=Origin.SOURCE,
        selection=Selection(where=f'"{quoted}" IS NOT NULL'),
        reason=f"backfill of column {name}",
    )
