"""Takes the changes of one batch through transform and validate, and sorts out what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.checkpoints.record_id import from_arrow
from rowtrail.checkpoints.states import HeldBack, Stage
from rowtrail.connectors.changes import VERSION_SCHEMA, Changes, Operation, are_distinct
from rowtrail.connectors.errors import RecordError
from rowtrail.connectors.schema import RESERVED_PREFIX, Column, TableSchema
from rowtrail.connectors.type_names import type_name
from rowtrail.pipelines import transforms
from rowtrail.pipelines.checking import Broken
from rowtrail.pipelines.checks import Severity
from rowtrail.pipelines.contract import NO_TERMS, Terms
from rowtrail.pipelines.fitting import fit, misfit_reason
from rowtrail.pipelines.isolation import Budget, Judge, isolate
from rowtrail.pipelines.redaction import NOTHING_REDACTED, Redaction
from rowtrail.pipelines.staged import FailedRow, Staged, Warned
from rowtrail.pipelines.transforms import Transform
from rowtrail.pipelines.validation import NO_VALIDATION, Validation
from rowtrail.pipelines.waiting import less, waiting_rows


def stage(
    changes: Changes,
    budget: Budget,
    before: Sequence[HeldBack],
    *,
    steps: tuple[Transform, ...],
    terms: Terms = NO_TERMS,
    redaction: Redaction = NOTHING_REDACTED,
    validation: Validation = NO_VALIDATION,
    whole: bool = True,
    keep_versions: bool = False,
) -> Staged:
    """Folds, holds rows to the contract's terms, transforms, validates and checks.

    What is behind one of `before` waits instead. Without `whole` the records are chosen ones, of
    which nothing is asked that is about a whole batch. With `keep_versions`, for a target that
    keeps the history, an older change of a record does not give way to a newer one.

    Raises ConfigurationError and StopError for broken code, BreakerError for a batch that as a
    whole is not what a suite expects.
    """
    last, folded = fold(changes, keep_versions=keep_versions)
    waiting = waiting_rows(changes, last, before)
    last = less(last, waiting)
    operations = changes.operations.take(last)
    is_delete = pc.equal(operations, int(Operation.DELETE))
    deleted = last.filter(is_delete)
    upserts = last.filter(pc.invert(is_delete))
    flow = _Flow(
        stream=changes.stream,
        read=changes.rows,
        # As in a first read: to copy all rows would take time and memory for nothing.
        rows=changes.rows if len(upserts) == len(changes) else changes.rows.take(upserts),
        numbers=upserts,
        schema=changes.schema,
        redaction=redaction,
    )
    if terms:
        flow.keep_to(terms)
    for step in steps:
        flow.apply(step, budget)
    if validation:
        flow.check(validation, whole=whole)
    return Staged(
        rows=flow.rows,
        kept=flow.numbers,
        dropped=pa.concat_arrays(flow.dropped) if flow.dropped else pa.array([], pa.int64()),
        dropped_by=tuple(flow.dropped_by),
        deleted=deleted,
        folded=folded,
        failed=tuple(flow.failed),
        waiting=waiting,
        warned=flow.warned_of(),
        seconds=flow.seconds,
    )


def fold(changes: Changes, *, keep_versions: bool) -> tuple[pa.Array, pa.Array]:
    """Row numbers (int64) of the last change of each key, and of those that gave way to it.

    With `keep_versions` of each key and version: a source may report one twice.
    """
    length = len(changes)
    numbers = np.arange(length, dtype=np.int64)
    keys = changes.keys()
    if length < 2 or are_distinct(keys):
        return pa.array(numbers), pa.array([], pa.int64())
    table = pa.Table.from_batches([keys])
    if keep_versions:
        for name, column in zip(VERSION_SCHEMA.names, changes.versions.columns, strict=True):
            table = table.append_column(f"{RESERVED_PREFIX}{name}", column)
    names = table.schema.names
    table = table.append_column(f"{RESERVED_PREFIX}row", pa.array(numbers))
    grouped = table.group_by(names).aggregate([(f"{RESERVED_PREFIX}row", "max")])
    last = np.sort(grouped.column(f"{RESERVED_PREFIX}row_max").to_numpy())
    if len(last) == length:
        return pa.array(numbers), pa.array([], pa.int64())
    mask = np.ones(length, dtype=bool)
    mask[last] = False
    return pa.array(last), pa.array(numbers[mask])


@dataclass
class _Flow:
    """The rows on their way through the transforms; what leaves the way is noted by row number."""

    stream: str
    read: pa.RecordBatch  # all rows as they came
    rows: pa.RecordBatch
    numbers: pa.Array
    schema: TableSchema
    redaction: Redaction
    dropped: list[pa.Array] = field(default_factory=list)
    dropped_by: list[tuple[str, int]] = field(default_factory=list)
    failed: list[FailedRow] = field(default_factory=list)
    warned: list[Warned] = field(default_factory=list)
    seconds: dict[Stage, float] = field(
        default_factory=lambda: {Stage.TRANSFORM: 0.0, Stage.VALIDATE: 0.0}
    )

    def keep_to(self, terms: Terms) -> None:
        """Rows that do not fit what was agreed on with the source fail."""
        started = perf_counter()
        output = terms.output(self.schema)
        columns: list[pa.Array] = []
        bad: dict[int, str] = {}
        accept = f"`rowtrail schema --accept {self.stream}` agrees to it"
        for name, values in zip(self.schema.names, self.rows.columns, strict=True):
            if name in terms.unknown:
                words = f"column {name} is new at the source and has a value, which the contract "
                _note(bad, values.is_valid(), f"{words}holds back; {accept}")
            if name not in output.names:
                continue
            column = output.column(name)
            fitted, misfits = fit(values, column.type)
            if misfits.true_count:
                reason = misfit_reason(values.type, column.type)
                _note(
                    bad,
                    misfits,
                    f"the contract has column {name} as {type_name(column.type)}, which this value "
                    f"does not fit: {reason}; {accept}",
                )
            if name in terms.required:
                words = f"the contract has column {name} as never NULL, and it is; {accept}"
                _note(bad, values.is_null(), words)
            columns.append(fitted)
        rows = pa.RecordBatch.from_arrays(columns, schema=output.arrow())
        self._go_on(rows, self.numbers, output, bad, "ContractBroken")
        self.seconds[Stage.VALIDATE] += perf_counter() - started

    def apply(self, step: Transform, budget: Budget) -> None:
        started = perf_counter()
        output = step.output(self.schema)
        attempt = partial(self._attempt, step, output)
        with self._judge(step).telling(), self.redaction.telling(self.rows):
            found = isolate(len(self.rows), attempt, RecordError, budget)
        for row, error in found.failed:
            # With the row as this step saw it: a step before may have changed a redacted value.
            seen = self.rows.slice(row, 1)
            self._fail(
                row, Stage.TRANSFORM, error, self.redaction.masked(str(error), seen, quoted=True)
            )
        kept: list[pa.Array] = []
        columns: list[list[pa.Array]] = [[] for _ in output.columns]
        dropped = 0
        for part in found.passed:
            local = pc.add(part.result.kept, part.start)
            kept.append(self.numbers.take(local))
            for pieces, piece in zip(columns, part.result.columns, strict=True):
                pieces.append(piece)
            dropped += self._note_dropped(part.start, part.stop, local)
        if dropped:
            self.dropped_by.append((step.name, dropped))
        validated = perf_counter()
        self.seconds[Stage.TRANSFORM] += validated - started
        self._validate(step, output, kept, columns)
        self.seconds[Stage.VALIDATE] += perf_counter() - validated

    def check(self, validation: Validation, *, whole: bool) -> None:
        """Rows that break a check of severity `fail` fail; of the others it is noted.

        Expectations are asked of those that the light checks let through.
        """
        started = perf_counter()
        self._hold_to(validation.light(self.rows, self.redaction), "CheckFailed")
        if validation.expected is not None:
            found = validation.expected.look(self.rows, self.redaction, whole=whole)
            self._hold_to(found.rows, "ExpectationFailed")
            for one in found.batch:
                nobody = pa.array([], pa.int64())
                self.warned.append(Warned(check=one.check, rows=nobody, observed=one.observed))
            validation.stop_for(found.batch)
        self.seconds[Stage.VALIDATE] += perf_counter() - started

    def _hold_to(self, found: Sequence[Broken], error_class: str) -> None:
        bad: dict[int, str] = {}
        for broken in found:
            if broken.severity is Severity.WARN:
                self.warned.append(Warned(check=broken.check, rows=self.numbers.take(broken.rows)))
                continue
            for row in broken.rows.to_pylist():
                if row not in bad:
                    # A transform may have put a redacted value into this column.
                    raw = self.read.slice(self.numbers[row].as_py(), 1)
                    told = self.redaction.masked(broken.observed(row), raw, quoted=True)
                    bad[row] = broken.words + told
        in_order = dict(sorted(bad.items()))
        self._go_on(self.rows, self.numbers, self.schema, in_order, error_class)

    def warned_of(self) -> tuple[Warned, ...]:
        """The warnings, less the rows that failed after all."""
        found = [
            replace(one, rows=one.rows.filter(pc.is_in(one.rows, value_set=self.numbers)))
            for one in self.warned
        ]
        return tuple(one for one in found if len(one.rows) or one.observed is not None)

    def _attempt(
        self, step: Transform, output: TableSchema, start: int, stop: int
    ) -> transforms.Transformed:
        return transforms.call(step, self.rows.slice(start, stop - start), output)

    def _judge(self, step: Transform) -> Judge:
        keys = self.rows.select(list(self.schema.key))
        return Judge(
            stream=self.stream,
            name=f"transform {step.name}",
            remedy="Mend the transform, then run again.",
            remedy_together="A transform is a function of each row by itself: mend it, then run "
            "again.",
            record_ids=lambda rows: from_arrow(self.stream, keys.take(pa.array(rows))),
        )

    def _note_dropped(self, start: int, stop: int, kept: pa.Array) -> int:
        if len(kept) == stop - start:
            return 0
        every = np.arange(start, stop, dtype=np.int64)
        gone = np.setdiff1d(every, kept.to_numpy(), assume_unique=True)
        self.dropped.append(self.numbers.take(pa.array(gone)))
        return len(gone)

    def _fail(self, row: int, stage: Stage, error: Exception, message: str) -> None:
        self.failed.append(
            FailedRow(
                row=self.numbers[row].as_py(),
                stage=stage,
                error_class=type(error.__cause__ or error).__name__,
                message=message,
            )
        )

    def _validate(
        self,
        step: Transform,
        output: TableSchema,
        kept: list[pa.Array],
        columns: list[list[pa.Array]],
    ) -> None:
        """Casts each column to its declared type; rows with a value that does not fit fail."""
        numbers = pa.concat_arrays(kept) if kept else pa.array([], pa.int64())
        fitted: list[pa.Array] = []
        bad: dict[int, str] = {}
        for column, pieces in zip(output.columns, columns, strict=True):
            parts = [fit(piece, column.type) for piece in pieces]
            if not parts:
                fitted.append(pa.array([], column.type))
                continue
            fitted.append(pa.concat_arrays([part[0] for part in parts]))
            start = 0
            for piece, (_, misfits) in zip(pieces, parts, strict=True):
                if misfits.true_count:
                    _note(bad, misfits, _misfit_words(column, piece.type, step), start)
                start += len(piece)
        rows = pa.RecordBatch.from_arrays(fitted, schema=output.arrow())
        self._go_on(rows, numbers, output, bad, "ValueDoesNotFit")

    def _go_on(
        self,
        rows: pa.RecordBatch,
        numbers: pa.Array,
        schema: TableSchema,
        bad: Mapping[int, str],
        error_class: str,
    ) -> None:
        """With these rows, which are the changes `numbers`, less the bad ones, which fail."""
        for row, message in bad.items():
            self.failed.append(
                FailedRow(
                    row=numbers[row].as_py(),
                    stage=Stage.VALIDATE,
                    error_class=error_class,
                    message=message,
                )
            )
        if bad:
            mask = np.ones(len(rows), dtype=bool)
            mask[list(bad)] = False
            rows, numbers = rows.filter(pa.array(mask)), numbers.filter(pa.array(mask))
        self.rows, self.numbers, self.schema = rows, numbers, schema


def _note(bad: dict[int, str], mask: pa.Array, words: str, start: int = 0) -> None:
    """The rows of the mask, counted from `start`, are bad; what was said first of a row stays."""
    for row in pc.indices_nonzero(mask).to_pylist():
        bad.setdefault(start + row, words)


def _misfit_words(column: Column, found: pa.DataType, step: Transform) -> str:
    return (
        f"column {column.name} does not fit {type_name(column.type)} after transform {step.name}: "
        f"{misfit_reason(found, column.type)}"
    )
