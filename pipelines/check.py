"""Finds before a run what would stop it or spoil it, without changing anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from rowtrail.checkpoints.errors import LedgerError
from rowtrail.connectors.base import Problem, Source
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.errors import RowtrailError, TargetMissingError, TransientError
from rowtrail.connectors.registry import open_destination, open_source
from rowtrail.pipelines.definition import PipelineDefinition, StreamDefinition
from rowtrail.pipelines.image_keys import ImageKeys
from rowtrail.pipelines.isolation import Budget
from rowtrail.pipelines.lock_file import LockFile
from rowtrail.pipelines.look import sample
from rowtrail.pipelines.opening import existing_ledger, lock_of
from rowtrail.pipelines.patterns import Resolved, resolve, resolve_beside_ledger
from rowtrail.pipelines.redaction import redaction_of
from rowtrail.pipelines.shapes import drift_words, shape_of
from rowtrail.pipelines.shared_log import holding, retained
from rowtrail.pipelines.sizes import size_text
from rowtrail.pipelines.staged import Staged
from rowtrail.pipelines.stages import stage
from rowtrail.pipelines.validation import validation_of

SAMPLE_ROWS = 1_000


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check found."""

    problems: tuple[Problem, ...]
    streams: tuple[str, ...]  # all that a run would run
    retained_log: Mapping[str, int] = field(default_factory=dict)  # stream -> bytes kept for it


def check_pipeline(definition: PipelineDefinition) -> Checked:
    """All problems of target, ledger and all streams; those that are `fatal` would stop a run.

    Each stream's transforms are run on a sample whole and in two halves: a function of each row
    gives the same both ways. Its expectations are asked of the sample, for what cannot be asked of
    such rows. Raises what opening the source raises.
    """
    lock = lock_of(definition)
    source = open_source(definition.source)
    try:
        resolved = _resolved(definition, source)
        definition = resolved.definition
        problems = [
            problem
            for problem in source.preflight(
                [one.source_spec() for one in definition.streams if one.name not in resolved.gone]
            )
            # What a run does by itself does not stop it.
            if not (problem.capture and definition.install_capture)
        ] + _pattern_problems(resolved)
        broken = {problem.stream for problem in problems if problem.fatal}
        for stream in definition.streams:
            if stream.name not in broken:
                problems += _check_stream(source, stream, lock)
        kept, told = _check_log(definition, source)
    finally:
        source.close()
    return Checked(
        problems=tuple(_check_target(definition) + _check_keys(definition) + problems + told),
        streams=tuple(stream.name for stream in definition.streams),
        retained_log=kept,
    )


def _resolved(definition: PipelineDefinition, source: Source) -> Resolved:
    try:
        return resolve_beside_ledger(definition, source)
    except LedgerError:  # told by `_check_target`
        return resolve(definition, source, {})


def _pattern_problems(resolved: Resolved) -> list[Problem]:
    """What the patterns found that is no stream. A run leaves it out and runs the others."""
    return [Problem(stream=name, message=why, remedy="") for name, why in resolved.gone.items()] + [
        Problem(stream=None, message=f"table {table} is left out: {why}", remedy="", fatal=False)
        for table, why in {**resolved.left_out, **resolved.new}.items()
    ]


def _check_log(
    definition: PipelineDefinition, source: Source
) -> tuple[Mapping[str, int], list[Problem]]:
    """What the source keeps of its log for each stream, and for which of them it is too much."""
    if not definition.ledger.exists():
        return {}, []
    try:
        with closing(existing_ledger(definition)) as ledger:
            kept = retained(source, holding(definition, ledger))
    except LedgerError:  # told by `_check_target`
        return {}, []
    except RowtrailError as error:
        return {}, [Problem(stream=None, message=str(error), remedy="", fatal=False)]
    return kept, [
        Problem(
            stream=name,
            message=f"the source keeps {size_text(size)} of its log for it, more than the "
            f"{size_text(definition.retained_log)} that `retained_log` allows",
            remedy=f"Run it before it is given up, which the next run does that leaves it out or "
            f"in which it stops: `rowtrail run {name}`.",
            fatal=False,
        )
        for name, size in kept.items()
        if size > definition.retained_log
    ]


def _check_target(definition: PipelineDefinition) -> list[Problem]:
    """Whether the target can be used, and whether it is this ledger's."""
    try:
        with closing(open_destination(definition.destination)) as destination:
            receipts = [one for one in destination.receipts() if one.pipeline == definition.name]
    except TargetMissingError:
        return []
    except TransientError as error:
        return [Problem(stream=None, message=str(error), remedy="", fatal=False)]
    except RowtrailError as error:
        return [Problem(stream=None, message=str(error), remedy="")]
    try:
        return _check_ledger(definition, {one.ledger_id for one in receipts})
    except (RowtrailError, LedgerError) as error:
        return [Problem(stream=None, message=str(error), remedy="")]


def _check_keys(definition: PipelineDefinition) -> list[Problem]:
    """Whether images can be encrypted as the pipeline wants it."""
    try:
        if definition.image_keys:
            ImageKeys(definition.image_keys)
    except RowtrailError as error:
        return [Problem(stream=None, message=str(error), remedy="")]
    return []


def _check_ledger(definition: PipelineDefinition, at_target: set[str]) -> list[Problem]:
    """The ledger is there, and is the one that has filled the target."""
    if not definition.ledger.exists():
        if not at_target:
            return []
        return [
            Problem(
                stream=None,
                message=f"the target has been filled by ledger {' and '.join(sorted(at_target))}, "
                f"and there is none at {definition.ledger}",
                remedy="Put the ledger back where the pipeline's `ledger` says, or make it anew "
                "from the target with `rowtrail ledger rebuild`.",
            )
        ]
    with closing(existing_ledger(definition)) as ledger:
        others = at_target - {ledger.id}
    if not others:
        return []
    return [
        Problem(
            stream=None,
            message=f"the target has been filled by ledger {' and '.join(sorted(others))}, and "
            f"{definition.ledger} is another one ({ledger.id})",
            remedy="Two ledgers must not fill one target: put the old ledger back, or give the "
            "pipeline another target.",
        )
    ]


def _check_stream(source: Source, stream: StreamDefinition, lock: LockFile | None) -> list[Problem]:
    try:
        schema = source.describe(stream.source_spec())
        shape = shape_of(stream, schema, lock)
        found = [
            Problem(stream=stream.name, message=drift_words(stream, one), remedy="", fatal=False)
            for one in shape.drift
        ]
        redaction = redaction_of(stream, schema, shape.target)
        validation = validation_of(stream, schema, shape.target)
        if not stream.transforms and validation.expected is None:
            return found
        changes = sample(source, stream, SAMPLE_ROWS)
        if changes is None:
            return found
        run = partial(
            stage, before=(), steps=stream.transforms, terms=shape.terms, redaction=redaction
        )
        if stream.transforms:
            found += _check_row_wise(stream, changes, run)
        if validation.expected is not None:
            # What cannot be asked is raised; what some first rows answer says nothing of all.
            rows = run(changes, Budget(SAMPLE_ROWS * 20)).rows
            validation.expected.answers(rows, redaction, whole=True)
        return found
    except RowtrailError as error:
        return [Problem(stream=stream.name, message=str(error), remedy="")]


def _check_row_wise(
    stream: StreamDefinition, changes: Changes, run: Callable[..., Staged]
) -> list[Problem]:
    middle = len(changes) // 2
    indices = pa.array(range(len(changes)), pa.int64())
    parts = [changes, changes.take(indices.slice(0, middle)), changes.take(indices.slice(middle))]
    whole, *halves = (run(part, Budget(SAMPLE_ROWS * 20)) for part in parts)
    together = pa.Table.from_batches([half.rows for half in halves])
    if pa.Table.from_batches([whole.rows]).equals(together):
        return []
    return [
        Problem(
            stream=stream.name,
            message=f"its transforms give other rows for {len(changes):,} sample records at once "
            f"than for the same records in two halves",
            remedy="A transform must be a function of each row: no totals, ranks, sorting, random "
            "numbers or clocks. Otherwise a record that is retried alone comes out differently.",
        )
    ]
