"""The records of a decision, by where each of them goes on from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.selections import Origin
from rowtrail.checkpoints.states import (
    AUTOMATIC,
    OPEN_FAILURES,
    Decision,
    DecisionKind,
    Failure,
    FailureState,
    HeldBack,
    Stage,
)
from rowtrail.connectors.changes import (
    INSTANT_TYPE,
    VERSION_SCHEMA,
    Changes,
    Operation,
    Times,
    operations_array,
)
from rowtrail.pipelines.fetching import fetch, no_such_key, refuse_unknown, without_key
from rowtrail.pipelines.images import UnreadableImageError, from_image, redacted_in, without
from rowtrail.pipelines.key_spool import KeySpool
from rowtrail.pipelines.lane import ReadyStream
from rowtrail.pipelines.opening import OpenPipeline
from rowtrail.pipelines.plan import only_keys
from rowtrail.pipelines.record_keys import key_batch
from rowtrail.pipelines.staged import Staged
from rowtrail.pipelines.waiting import in_turn

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Records that go on from the same place, at most a batch of them."""

    changes: Changes
    origin: str  # in plain words: which image is used
    staged: Staged | None = None  # where the transforms need not run again


@dataclass(frozen=True, kw_only=True)
class Sorted:
    """Where each record goes on from."""

    from_transform: Sequence[tuple[Failure, pa.RecordBatch]] = ()  # with the extracted image
    from_load: Sequence[tuple[Failure, pa.RecordBatch, pa.RecordBatch]] = ()  # the transformed too
    to_fetch: Sequence[RecordId] = ()
    fetched_since: Sequence[str] = ()  # why images could not be used, each reason once
    left: Sequence[RecordId] = ()  # they can only be fetched, and their key does not fit
    failures: frozenset[int] = frozenset()  # that are taken up
    waiting: int = 0  # changes behind those that are taken up
    followed: frozenset[RecordId] = frozenset()  # records of the decision, or that wait for one
    to_select: KeySpool | None = None  # fetched as well; nobody has named them
    chosen: int | None = None  # how many records were meant, where that may be others
    imageless: int = 0  # of those: not failed, so that they have no image, and an image was wanted

    @property
    def count(self) -> int:
        """How many records are taken up."""
        selected = 0 if self.to_select is None else self.to_select.count
        return selected + len(self.from_transform) + len(self.from_load) + len(self.to_fetch)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What is not to be taken up again for a decision."""

    failures: frozenset[int] = frozenset()
    records: frozenset[str] = frozenset()  # that failed again: nothing of them goes on
    followed: frozenset[RecordId] = frozenset()  # as `Sorted.followed`, so far

    def plus(self, found: Sorted, failed: Iterable[str]) -> Tried:
        return Tried(
            failures=self.failures | found.failures,
            records=self.records | {*failed, *map(str, found.left)},
            followed=self.followed | found.followed,
        )

    def has(self, held: HeldBack) -> bool:
        return held.failure_id in self.failures or str(held.record_id) in self.records


def sort_records(
    opened: OpenPipeline, ready: ReadyStream, decision: Decision, tried: Tried | None = None
) -> Sorted:
    """Sorts the records of a decision: of each the oldest change that is failed or waits.

    Without `tried`, raises ConfigurationError for records that a person named and that cannot be
    fetched by their key; of all that are failed, or of a group, such records are left out.
    """
    replayed = decision.kind is DecisionKind.REPLAY
    if replayed and decision.origin in (None, Origin.SOURCE):
        found = Sorted(to_fetch=decision.record_ids)
    else:
        found = _sort_failures(opened, ready, decision, tried or Tried())
    if replayed:
        found = replace(found, chosen=len(decision.record_ids))
    left = without_key(ready, found.to_fetch)
    if not left:
        return found
    strangers = set(left)
    others = [one for one in found.to_fetch if one not in strangers]
    named = decision.record_ids and decision.group is None and decision.actor != AUTOMATIC
    alone = not (others or found.from_transform or found.from_load)
    if tried is None and (named or (alone and decision.actor != AUTOMATIC)):
        raise no_such_key(ready, left)
    return replace(found, to_fetch=others, left=left)


def portions(
    opened: OpenPipeline, ready: ReadyStream, found: Sorted, revision: int
) -> Iterator[Portion]:
    """The records by where they go on from, at most a batch at a time."""
    size = ready.lane.stream.page_rows
    for some in _chunks(found.from_transform, size):
        changes = _from_images(ready, [f for f, _ in some], [image for _, image in some])
        yield Portion(changes=changes, origin="the captured image")
    for part in _chunks(found.from_load, size):
        changes = _from_images(ready, [f for f, _, _ in part], [image for _, image, _ in part])
        rows = _one_batch([image for _, _, image in part])
        yield Portion(changes=changes, origin="the transformed image", staged=_staged(rows))
    for number, ids in enumerate(_chunks(found.to_fetch, size)):
        changes = fetch(opened, ready, ids, revision)
        refuse_unknown(opened, changes, before=number * size)
        why = f" ({'; '.join(found.fetched_since)})" if found.fetched_since else ""
        yield Portion(changes=changes, origin=f"the row at the source{why}")


def _sort_failures(
    opened: OpenPipeline, ready: ReadyStream, decision: Decision, tried: Tried
) -> Sorted:
    held = [one for one in ready.lane.held.all() if one.state in OPEN_FAILURES]
    followed = _with_followers(held, tried.followed | set(decision.record_ids))
    untried = [
        one
        for one in held
        if not tried.has(one) and (not decision.record_ids or one.record_id in followed)
    ]
    turn = {one.failure_id for one in in_turn(ready.lane.stream, held)}
    chosen = {one.failure_id: one.record_id for one in untried if one.failure_id in turn}
    found = opened.ledger.failures.list(
        stream=decision.stream,
        states=OPEN_FAILURES,
        record_ids=list(chosen.values()) if decision.record_ids else None,
    )
    failures = [failure for failure in found if failure.id in chosen]
    replayed = decision.kind is DecisionKind.REPLAY
    images = _Images(opened, ready, Stage.TRANSFORM if replayed else decision.from_stage)
    to_fetch: list[RecordId] = []
    from_transform: list[tuple[Failure, pa.RecordBatch]] = []
    from_load: list[tuple[Failure, pa.RecordBatch, pa.RecordBatch]] = []
    for failure in failures:
        extracted = images.extracted(failure)
        if extracted is None:
            to_fetch.append(failure.record_id)
            continue
        transformed = images.transformed(failure)
        if transformed is None:
            from_transform.append((failure, extracted))
        else:
            from_load.append((failure, extracted, transformed))
    return Sorted(
        from_transform=from_transform,
        from_load=from_load,
        to_fetch=to_fetch,
        fetched_since=tuple(dict.fromkeys(images.refused)),
        failures=frozenset(chosen),
        waiting=len(untried) - len(chosen),
        followed=followed,
    )


def _with_followers(held: Sequence[HeldBack], records: frozenset[RecordId]) -> frozenset[RecordId]:
    """These records, those of which a change waits for one of them, and those in turn."""
    behind = [one for one in held if one.waits_for not in (None, one.record_id)]
    while more := {one.record_id for one in behind if one.waits_for in records} - records:
        records |= more
    return records


class _Images:
    """Finds the images that may be used: of today's shape, and as the decision wants them."""

    def __init__(self, opened: OpenPipeline, ready: ReadyStream, from_stage: str | None) -> None:
        self._ledger = opened.ledger
        self._source_schema = ready.source_schema
        self._key = ready.source_schema.arrow_key()
        self._source = ready.source_schema.arrow()
        self._target = ready.lane.target.schema.arrow()
        self._code = ready.lane.code_fingerprint
        self._from_stage = from_stage
        self._keys = ready.lane.images.keys
        self.refused: list[str] = []  # why an image was not used, in words

    def extracted(self, failure: Failure) -> pa.RecordBatch | None:
        """None where the row must be fetched instead."""
        if failure.state is FailureState.WAITING and failure.operation == Operation.DELETE:
            # To fetch it would find nothing: what is to be deleted is what the target has.
            key = key_batch([failure.record_id], self._key)
            return only_keys(key, self._source_schema)
        if self._from_stage == Stage.EXTRACT or failure.stage is Stage.EXTRACT:
            return None
        image = self._ledger.failures.image(failure.id)[0]
        try:
            row = None if image is None else from_image(image, self._keys)
        except UnreadableImageError as error:
            self.refused.append(str(error))
            return None
        why = self._why_not(failure, row)
        if why is not None:
            self.refused.append(why)
            return None
        return row

    def _why_not(self, failure: Failure, row: pa.RecordBatch | None) -> str | None:
        """Why the row is to be fetched instead; None where the image will do.

        A redacted image would bring NULL where the source has a value, as one of an older shape.
        """
        if row is None:
            return failure.image_note or "no image"
        if redacted := redacted_in(row):
            return f"its image is {without(redacted)}"
        if not row.schema.equals(self._source):
            return "its image has another shape than the table has now"
        return None

    def transformed(self, failure: Failure) -> pa.RecordBatch | None:
        """None where the transforms must run (again)."""
        unchanged = failure.code_fingerprint == self._code
        if failure.stage is not Stage.LOAD or self._from_stage is not None or not unchanged:
            return None
        image = self._ledger.failures.image(failure.id)[1]
        try:
            row = None if image is None else from_image(image, self._keys)
        except UnreadableImageError:
            return None
        return row if row is not None and row.schema.equals(self._target) else None


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _one_batch(rows: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(rows).combine_chunks().to_batches()[0]


def _from_images(
    ready: ReadyStream, failures: Sequence[Failure], images: Sequence[pa.RecordBatch]
) -> Changes:
    columns = zip(*(failure.version for failure in failures), strict=True)
    return Changes(
        stream=ready.lane.stream.name,
        schema=ready.source_schema,
        rows=_one_batch(images),
        operations=operations_array(Operation(failure.operation) for failure in failures),
        versions=pa.RecordBatch.from_arrays(
            [pa.array(column, pa.int64()) for column in columns], schema=VERSION_SCHEMA
        ),
        position=ready.state.position or "",
        times=Times(
            pa.array([one.happened_at or one.first_at for one in failures], INSTANT_TYPE),
            pa.array([one.committed for one in failures], pa.bool_()),
            fresh=False,
        ),
    )


def _staged(rows: pa.RecordBatch) -> Staged:
    none = pa.array([], pa.int64())
    return Staged(
        rows=rows,
        kept=pa.array(np.arange(len(rows), dtype=np.int64)),
        dropped=none,
        dropped_by=(),
        deleted=none,
        folded=none,
        failed=(),
    )
