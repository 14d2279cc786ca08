"""From a staged batch to its manifest (for the ledger) and its load (for the destination)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import (
    FailureEnd,
    FailureState,
    Manifest,
    NewFailure,
    Outcome,
)
from rowtrail.connectors.base import Gap, Load, LoadRows, Receipt, Target
from rowtrail.connectors.changes import Changes, Operation, Times, version_at
from rowtrail.connectors.schema import TableSchema
from rowtrail.pipelines.fingerprints import error_fingerprint
from rowtrail.pipelines.images import Keeping
from rowtrail.pipelines.rejections import sort_rejections
from rowtrail.pipelines.staged import FailedRow, Staged


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one batch is going to do, before the manifest is written."""

    target: Target
    rows: pa.RecordBatch  # kept rows, then the keys of dropped and of deleted ones
    operations: pa.Array
    filtered: pa.Array
    versions: pa.RecordBatch
    times: Times | None
    numbers: pa.Array  # int64: the row of the changes that each load row came from
    folded_keys: pa.RecordBatch
    folded_operations: pa.Array
    folded_versions: pa.RecordBatch
    failures: tuple[NewFailure, ...]
    gone: tuple[NewFailure, ...]  # deletes of records that the target cannot hold: no failures
    position_after: str | None
    watermark: datetime | None
    page: pa.RecordBatch | None
    read_complete: bool

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def deletes(self) -> int:
        """How many rows the source deleted; what a transform dropped is not among them."""
        gone = self.operations.to_numpy() == int(Operation.DELETE)
        return int(np.count_nonzero(gone & ~self.filtered.to_numpy(zero_copy_only=False)))

    def part(self, start: int, stop: int) -> Plan:
        """The same plan with only these load rows, for a probe."""
        length = stop - start
        return replace(
            self,
            rows=self.rows.slice(start, length),
            operations=self.operations.slice(start, length),
            filtered=self.filtered.slice(start, length),
            versions=self.versions.slice(start, length),
            times=None if self.times is None else self.times.slice(start, length),
            numbers=self.numbers.slice(start, length),
        )

    def without(self, bad: Sequence[int], failures: Sequence[NewFailure]) -> Plan:
        """The plan less the load rows `bad`, which are among the failures now."""
        if not bad and not failures:
            return self
        mask = np.ones(len(self), dtype=bool)
        mask[list(bad)] = False
        keep = pa.array(mask)
        return replace(
            self,
            rows=self.rows.filter(keep),
            operations=self.operations.filter(keep),
            filtered=self.filtered.filter(keep),
            versions=self.versions.filter(keep),
            times=None if self.times is None else self.times.filter(keep),
            numbers=self.numbers.filter(keep),
            failures=(*self.failures, *failures),
        )

    @property
    def failed(self) -> int:
        return sum(one.state is FailureState.FAILED for one in self.failures)

    @property
    def waiting(self) -> int:
        return len(self.failures) - self.failed

    def as_events(self, rows: Sequence[int]) -> Plan:
        """The plan, of which these rows are events of their own, whatever the target has."""
        if not rows:
            return self
        times = self.times or Times.of_read(datetime.now(UTC), len(self))
        committed = times.committed.to_numpy(zero_copy_only=False).copy()
        committed[list(rows)] = True
        return replace(self, times=replace(times, committed=pa.array(committed)))

    def failed_records(self) -> tuple[str, ...]:
        """Each once, without those that wait behind a failed one."""
        failed = (one for one in self.failures if one.state is FailureState.FAILED)
        return tuple(dict.fromkeys(str(one.record_id) for one in failed))

    def keys(self) -> pa.RecordBatch:
        return self.rows.select(list(self.target.schema.key))

    def manifest(self, batch_id: str, ends: Sequence[FailureEnd]) -> Manifest:
        loaded = len(self.rows)
        outcomes = np.where(
            self.filtered.to_numpy(zero_copy_only=False), Outcome.FILTERED, Outcome.LOADED
        ).astype(np.uint8)
        keys, operations, versions = self.keys(), self.operations, self.versions
        if len(self.folded_operations):
            keys = _concat(keys, self.folded_keys)
            operations = pa.concat_arrays([operations, self.folded_operations])
            versions = _concat(versions, self.folded_versions)
            folded = np.full(len(self.folded_operations), Outcome.FOLDED, dtype=np.uint8)
            outcomes = np.concatenate([outcomes, folded])
        return Manifest(
            batch_id=batch_id,
            keys=keys,
            operations=operations,
            versions=versions,
            outcomes=pa.array(outcomes),
            load_rows=pa.array(np.arange(loaded, dtype=np.uint32)),
            failures=self.failures,
            ends=tuple(ends),
            position_after=self.position_after,
            watermark=self.watermark,
            page=self.page,
            read_complete=self.read_complete,
        )

    def load(
        self, receipt: Receipt, complete: Sequence[RecordId] = (), *, replaces: bool = False
    ) -> Load:
        """`complete`: records of which nothing is held back once this is loaded. `replaces`: as in
        `Load`."""
        now = datetime.now(UTC)
        # Two changes of one record may have failed at different stages: its gap is of the newest.
        gaps = {
            str(failure.record_id): failure
            for failure in sorted(self.failures, key=lambda one: one.version)
            if _is_gap(failure)
        }
        return Load(
            **vars(self.load_rows(replaces=replaces)),
            receipt=receipt,
            gaps_opened=tuple(
                Gap(
                    record=record,
                    stage=failure.stage.value,
                    reason=failure.message,
                    since=now,
                )
                for record, failure in gaps.items()
            ),
            gaps_closed=tuple(map(str, complete)),
            watermark=self.watermark,
        )

    def load_rows(self, *, replaces: bool = False) -> LoadRows:
        """What of the load is known before its turn."""
        return LoadRows(
            target=self.target,
            rows=self.rows,
            operations=self.operations,
            filtered=self.filtered,
            versions=self.versions,
            times=self.times,
            replaces=replaces,
        )


def _is_gap(failure: NewFailure) -> bool:
    """What waits for an older change of its own record stands behind a gap already."""
    return failure.state is FailureState.FAILED or failure.waits_for != failure.record_id


def make_plan(
    changes: Changes,
    staged: Staged,
    target: Target,
    *,
    code_fingerprint: str | None,
    images: Keeping,
    moves_position: bool,
    each_version: bool,
) -> Plan:
    """Sorts the staged rows into what is loaded, folded and failed.

    With `each_version` an older change of a record that could not be represented does not give way
    to a newer one.
    """
    numbers = staged.kept
    rows = staged.rows
    upserts = len(rows)
    gone = pa.concat_arrays([staged.dropped.cast(pa.int64()), staged.deleted.cast(pa.int64())])
    if len(gone):
        keys = changes.keys().take(gone)
        rows = _concat(rows, only_keys(keys, target.schema))
        numbers = pa.concat_arrays([numbers, gone])
    whole = len(numbers) == len(changes) and upserts == len(changes)
    operations = changes.operations if whole else changes.operations.take(numbers)
    if len(gone):
        deletes = pa.repeat(pa.scalar(int(Operation.DELETE), operations.type), len(gone))
        operations = pa.concat_arrays([operations.slice(0, upserts), deletes])
    filtered = np.zeros(len(rows), dtype=bool)
    rejected = sort_rejections(changes, target.schema, images, each=each_version)
    filtered[upserts : upserts + len(staged.dropped)] = True
    return Plan(
        target=target,
        rows=rows,
        operations=operations,
        filtered=pa.array(filtered),
        versions=changes.versions if whole else changes.versions.take(numbers),
        times=changes.times if whole or changes.times is None else changes.times.take(numbers),
        numbers=numbers,
        folded_keys=_concat(changes.keys().take(staged.folded), rejected.folded_keys),
        folded_operations=pa.concat_arrays(
            [changes.operations.take(staged.folded), rejected.folded_operations]
        ),
        folded_versions=_concat(changes.versions.take(staged.folded), rejected.folded_versions),
        failures=(
            *_failures(changes, (*staged.failed, *staged.waiting), code_fingerprint, images),
            *rejected.failures,
        ),
        gone=rejected.gone,
        position_after=changes.position if moves_position else None,
        watermark=changes.watermark if moves_position else None,
        page=changes.page if moves_position else None,
        read_complete=changes.read_complete and moves_position,
    )


def _concat(first: pa.RecordBatch, second: pa.RecordBatch) -> pa.RecordBatch:
    columns = [pa.concat_arrays([a, b]) for a, b in zip(first.columns, second.columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=first.schema)


def only_keys(keys: pa.RecordBatch, schema: TableSchema) -> pa.RecordBatch:
    """Rows of the schema with nothing but their key."""
    columns = [
        keys.column(schema.key.index(column.name))
        if column.name in schema.key
        else pa.nulls(len(keys), column.type)
        for column in schema.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema.arrow())


def new_failure(
    changes: Changes, failed: FailedRow, code_fingerprint: str | None, images: Keeping
) -> NewFailure:
    """What the ledger is to know of a row that failed."""
    keys = changes.keys()
    operation: int = changes.operations[failed.row].as_py()
    row, times = changes.rows.slice(failed.row, 1), changes.times
    kept = images.extracted(row, waits=failed.waits_for is not None)
    transformed = failed.transformed
    message = images.redaction.masked(failed.message, row)
    return NewFailure(
        record_id=RecordId(changes.stream, tuple(c[failed.row].as_py() for c in keys.columns)),
        operation=operation,
        version=version_at(changes.versions, failed.row),
        stage=failed.stage,
        error_class=failed.error_class,
        message=message,
        fingerprint=error_fingerprint(
            failed.stage, failed.error_class, message, changes.schema.names
        ),
        code_fingerprint=code_fingerprint,
        image_note=kept.note,
        extracted=kept.image,
        transformed=None if transformed is None else images.transformed(transformed),
        state=FailureState.FAILED if failed.waits_for is None else FailureState.WAITING,
        waits_for=failed.waits_for,
        happened_at=datetime.now(UTC) if times is None else times.at[failed.row].as_py(),
        committed=times is not None and times.committed[failed.row].as_py(),
    )


def _failures(
    changes: Changes,
    failed: Sequence[FailedRow],
    code_fingerprint: str | None,
    images: Keeping,
) -> list[NewFailure]:
    return [new_failure(changes, row, code_fingerprint, images) for row in failed]
