"""Sets source and target side by side before a run: `rowtrail schema`. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rowtrail.connectors.base import Capabilities, Destination, PlansTables, Source, Target
from rowtrail.connectors.errors import ConfigurationError, RowtrailError, TargetMissingError
from rowtrail.connectors.registry import capabilities_of, open_destination, open_source
from rowtrail.pipelines.definition import PipelineDefinition, StreamDefinition
from rowtrail.pipelines.patterns import Resolved, resolve_beside_ledger
from rowtrail.pipelines.schema_verdicts import ColumnVerdict, column_verdicts
from rowtrail.pipelines.stages import target_schema


@dataclass(frozen=True, kw_only=True)
class SchemaComparison:
    """One stream's table at the source and at the target."""

    stream: str
    table: str  # at the source
    target: str
    is_there: bool  # the target has the table
    columns: tuple[ColumnVerdict, ...] = ()
    plan: tuple[str, ...] = ()  # statements that a run would run at the target
    problem: str = ""  # what would stop the stream; a sentence or more

    @property
    def loses(self) -> bool:
        """Whether a run would fail or lose something."""
        return bool(self.problem) or any(one.loses for one in self.columns)


def compare_schemas(
    definition: PipelineDefinition, names: Sequence[str] = ()
) -> list[SchemaComparison]:
    """All streams, or those of these names, in the order of the pipeline.

    A stream whose source cannot be described is among them, with its problem. Raises
    ConfigurationError for a name that is no stream, and what opening source and target raises.
    """
    source = open_source(definition.source)
    try:
        resolved = resolve_beside_ledger(definition, source)
        chosen = [resolved.stream(name) for name in names] or resolved.definition.streams
        can = capabilities_of(definition.destination)
        destination = _open(definition)
        try:
            return [_compare(resolved, one, source, destination, can) for one in chosen]
        finally:
            if destination is not None:
                destination.close()
    finally:
        source.close()


def _open(definition: PipelineDefinition) -> Destination | None:
    """None where the first run has yet to make the target."""
    try:
        return open_destination(definition.destination)
    except TargetMissingError:
        return None


def _compare(
    resolved: Resolved,
    stream: StreamDefinition,
    source: Source,
    destination: Destination | None,
    can: Capabilities,
) -> SchemaComparison:
    found = SchemaComparison(
        stream=stream.name, table=stream.table, target=stream.target, is_there=False
    )
    try:
        if stream.name in resolved.gone:
            raise ConfigurationError(resolved.gone[stream.name])
        at_source = source.describe(stream.source_spec())
        wanted = target_schema(at_source, stream.transforms, stream.target)
    except RowtrailError as error:
        return replace(found, problem=str(error))
    there = None if destination is None else destination.describe(stream.target)
    target = Target(stream=stream.name, table=stream.target, schema=wanted, deletes=stream.deletes)
    found = replace(
        found,
        is_there=there is not None,
        columns=column_verdicts(at_source, wanted, there, can),
    )
    if not isinstance(destination, PlansTables):
        return found
    try:
        return replace(found, plan=tuple(destination.plan(target)))
    except ConfigurationError as error:
        return replace(found, problem=str(error))
