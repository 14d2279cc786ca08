"""Sets source and target side by side before a run: `rowtrail schema`. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rowtrail.connectors.base import Capabilities, Destination, PlansTables, Source, Target
from rowtrail.connectors.errors import ConfigurationError, RowtrailError
from rowtrail.connectors.registry import capabilities_of, open_source
from rowtrail.connectors.schema import TableSchema
from rowtrail.pipelines.contract import Change, Contract, Drift, Mode
from rowtrail.pipelines.definition import PipelineDefinition, StreamDefinition
from rowtrail.pipelines.lock_file import LockFile
from rowtrail.pipelines.opening import lock_of, target_if_there
from rowtrail.pipelines.patterns import Resolved, resolve_beside_ledger
from rowtrail.pipelines.schema_verdicts import ColumnVerdict, column_verdicts
from rowtrail.pipelines.shapes import ContractBrokenError, Shape, drift_words, shape_of


@dataclass(frozen=True, kw_only=True)
class Drifted:
    """What has changed at the source since the lock file was written, and what becomes of it."""

    change: Change
    column: str  # empty for a key of other columns
    before: str
    after: str
    mode: Mode
    words: str  # no full stop


@dataclass(frozen=True, kw_only=True)
class SchemaComparison:
    """One stream's table at the source and at the target."""

    stream: str
    table: str  # at the source
    target: str
    is_there: bool  # the target has the table
    columns: tuple[ColumnVerdict, ...] = ()
    plan: tuple[str, ...] = ()  # statements that a run would run at the target
    drift: tuple[Drifted, ...] = ()
    problem: str = ""  # what would stop the stream; a sentence or more

    @property
    def loses(self) -> bool:
        """Whether a run would fail or lose something."""
        held = any(one.mode is Mode.QUARANTINE for one in self.drift)
        return bool(self.problem) or held or any(one.loses for one in self.columns)


def compare_schemas(
    definition: PipelineDefinition, names: Sequence[str] = ()
) -> list[SchemaComparison]:
    """All streams, or those of these names, in the order of the pipeline.

    A stream whose source cannot be described is among them, with its problem. Raises
    ConfigurationError for a name that is no stream, and what opening source and target raises.
    """
    lock = lock_of(definition)
    source = open_source(definition.source)
    try:
        resolved = resolve_beside_ledger(definition, source)
        chosen = [resolved.stream(name) for name in names] or resolved.definition.streams
        can = capabilities_of(definition.destination)
        destination = target_if_there(definition)
        try:
            return [_compare(resolved, one, lock, source, destination, can) for one in chosen]
        finally:
            if destination is not None:
                destination.close()
    finally:
        source.close()


def _compare(
    resolved: Resolved,
    stream: StreamDefinition,
    lock: LockFile | None,
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
        shape, problem = _shape(stream, at_source, lock)
    except RowtrailError as error:
        return replace(found, problem=str(error))
    there = None if destination is None else destination.describe(stream.target)
    found = replace(
        found,
        is_there=there is not None,
        columns=column_verdicts(at_source, shape.target, there, can),
        drift=tuple(_drifted(stream, one) for one in shape.drift),
        problem=problem,
    )
    if problem or not isinstance(destination, PlansTables):
        return found
    target = Target(
        stream=stream.name, table=stream.target, schema=shape.target, deletes=stream.deletes
    )
    try:
        return replace(found, plan=tuple(destination.plan(target)))
    except ConfigurationError as error:
        return replace(found, problem=str(error))


def _shape(
    stream: StreamDefinition, source: TableSchema, lock: LockFile | None
) -> tuple[Shape, str]:
    """The shape, and why the contract stops the stream: what there is can still be shown."""
    try:
        return shape_of(stream, source, lock), ""
    except ContractBrokenError as error:
        return shape_of(replace(stream, contract=Contract()), source, lock), str(error)


def _drifted(stream: StreamDefinition, one: Drift) -> Drifted:
    return Drifted(
        change=one.change,
        column=one.column,
        before=one.before,
        after=one.after,
        mode=stream.contract.mode(one.change),
        words=drift_words(stream, one),
    )
