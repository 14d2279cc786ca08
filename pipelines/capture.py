"""Makes and removes what captures need at the source; its SQL can always be seen first."""

from __future__ import annotations

from collections.abc import Sequence

from rowtrail.connectors.base import ManagesCapture
from rowtrail.connectors.registry import open_source
from rowtrail.pipelines.definition import PipelineDefinition, StreamDefinition
from rowtrail.pipelines.patterns import resolve_beside_ledger


def capture_plan(
    definition: PipelineDefinition, streams: Sequence[StreamDefinition] | None = None
) -> list[str]:
    """The SQL that a source still needs for the captures of these streams; None: of all.

    A table that a pattern took and that is gone needs nothing.
    """
    source = open_source(definition.source)
    try:
        if not isinstance(source, ManagesCapture):
            return []
        if streams is None:
            resolved = resolve_beside_ledger(definition, source)
            streams = [one for one in resolved.definition.streams if one.name not in resolved.gone]
        return source.capture_plan([stream.source_spec() for stream in streams])
    finally:
        source.close()


def removal_plan(
    definition: PipelineDefinition, streams: Sequence[StreamDefinition] | None = None
) -> list[str]:
    """The SQL that takes away what the captures of these streams made; None: of all."""
    source = open_source(definition.source)
    try:
        if not isinstance(source, ManagesCapture):
            return []
        if streams is None:
            streams = resolve_beside_ledger(definition, source).definition.streams
        return source.removal_plan([stream.source_spec() for stream in streams])
    finally:
        source.close()


def execute_at_source(definition: PipelineDefinition, statements: Sequence[str]) -> None:
    """Runs a plan at the source, in one transaction where the database allows it."""
    source = open_source(definition.source)
    try:
        if statements and isinstance(source, ManagesCapture):
            source.execute(statements)
    finally:
        source.close()
