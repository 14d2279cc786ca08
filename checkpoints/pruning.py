"""What is no longer needed goes by age: images of failures, and old trails.

Never pruned, however old: the newest batch of each stream with its blob, batches that are not
finished, pages that captures compare with, failures that are open or ignored with their attempts
and decisions, and decisions that wait. So recovery, replay and reconciliation find what they need.

For each stream it is noted what is gone and up to when, before anything goes: what the ledger does
not know of a record is then known to be pruned, or never to have been there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    update,
)

from rowtrail.checkpoints import tables
from rowtrail.checkpoints.states import (
    BatchState,
    DecisionState,
    FailureState,
    Prunable,
    PruneCount,
    Pruned,
    RunState,
)
from rowtrail.checkpoints.store import Store
from rowtrail.checkpoints.tables import (
    attempts,
    batches,
    decision_records,
    decisions,
    failures,
    outcome_segments,
    outcomes,
    runs,
    streams,
)

_AT_ONCE = 500
"""So many of a kind go in one transaction: a run that writes at the same time waits no longer."""

_pruned = tables.pruned


class Pruning:
    """Each method can be called while a run is under way, and again after it was cut off."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def images(
        self,
        before: datetime,
        *,
        of_streams: Sequence[str] | None = None,
        open_ones: bool = False,
        dry_run: bool = False,
    ) -> list[PruneCount]:
        """Drops the images of failures that ended before; says of each stream how many.

        With `open_ones` also those of failures that are failed or ignored and were last tried
        before: a retry then fetches the row. What waits behind a failed change keeps its image,
        since nothing else has it. Each failure says when its image was pruned.
        """
        counts = self._counts(of_streams, lambda stream: _image_counts(stream, before, open_ones))
        if dry_run:
            return counts
        self.note(Prunable.IMAGES, counts, before, of_streams)
        now = self._store.now()
        note = f"no image: pruned on {now:%Y-%m-%d}"
        gone = {"extracted": None, "transformed": None, "image_note": note}
        for stream_id in self._chosen(of_streams):
            wanted = _images(stream_id, before, open_ones)
            for some in self._parts(select(failures.c.id).where(wanted)):
                with self._store.write() as connection:
                    # Again with the condition: a retry may have failed in the meantime.
                    chosen = failures.c.id.in_(some)
                    connection.execute(update(failures).where(chosen, wanted).values(gone))
        return counts

    def trails(
        self,
        before: datetime,
        *,
        of_streams: Sequence[str] | None = None,
        dry_run: bool = False,
    ) -> list[PruneCount]:
        """Drops batches, failures and decisions that ended before; says of each stream how many.

        Without `of_streams` also runs that nothing refers to any more, which are not counted.
        """
        counts = self._counts(of_streams, lambda stream: _trail_counts(stream, before))
        if dry_run:
            return counts
        self.note(Prunable.TRAILS, counts, before, of_streams)
        for stream_id in self._chosen(of_streams):
            self._each(select(failures.c.id).where(_ended(stream_id, before)), _drop_failures)
            self._each(select(decisions.c.id).where(_decided(stream_id, before)), _drop_decisions)
            gone = or_(_has_blob(), _unreferenced(before))
            old = select(batches.c.id).where(_old_batches(stream_id, before), gone)
            self._each(old, partial(_drop_batches, before=before))
        if of_streams is None:
            self._each(select(runs.c.number).where(_old_runs(before)), _drop_runs)
        return counts

    def note(
        self,
        what: Prunable,
        counts: Sequence[PruneCount],
        before: datetime,
        of_streams: Sequence[str] | None,
    ) -> None:
        """Says up to when things are gone; a stream of which nothing goes is only looked at.

        What the ledger does not hold itself, such as the archive, is noted by whoever drops it.
        """
        now, touched = self._store.now(), {count.stream for count in counts}
        for stream_id, name in self._chosen(of_streams).items():
            row = and_(_pruned.c.what == what, _pruned.c.stream_id == stream_id)
            values: dict[str, Any] = {"looked_at": now}
            with self._store.write() as connection:
                known = connection.execute(select(_pruned).where(row)).one_or_none()
                if name in touched:
                    earlier = known.upto if known is not None else None
                    upto = before if earlier is None else max(before, earlier)
                    values |= {"upto": upto, "at": now}
                if known is None:
                    values |= {"what": what, "stream_id": stream_id}
                    connection.execute(_pruned.insert().values(values))
                else:
                    connection.execute(_pruned.update().where(row).values(values))

    def pruned(self, stream: str) -> list[Pruned]:
        """What is no longer kept of a stream; empty for one that the ledger does not know."""
        query = (
            select(_pruned.c.what, _pruned.c.upto, _pruned.c.at)
            .join(streams)
            .where(streams.c.name == stream, _pruned.c.upto.is_not(None))
            .order_by(_pruned.c.what)
        )
        with self._store.read() as connection:
            return [
                Pruned(what=Prunable(row.what), upto=row.upto, at=row.at)
                for row in connection.execute(query)
            ]

    def looked_at(self, what: Prunable) -> datetime | None:
        """When all streams had last been looked through; None if one of them never was."""
        query = (
            select(func.count(), func.min(_pruned.c.looked_at))
            .select_from(streams)
            .outerjoin(_pruned, and_(_pruned.c.stream_id == streams.c.id, _pruned.c.what == what))
            .where(_pruned.c.looked_at.is_(None))
        )
        oldest = select(func.min(_pruned.c.looked_at)).where(_pruned.c.what == what)
        with self._store.read() as connection:
            never = connection.execute(query).one()[0]
            found: datetime | None = None if never else connection.scalar(oldest)
        return found

    def _chosen(self, names: Sequence[str] | None) -> dict[int, str]:
        query = select(streams.c.id, streams.c.name).order_by(streams.c.name)
        if names is not None:
            query = query.where(streams.c.name.in_(names))
        with self._store.read() as connection:
            return {row.id: row.name for row in connection.execute(query)}

    def _counts(
        self, of_streams: Sequence[str] | None, queries: Callable[[int], dict[str, Any]]
    ) -> list[PruneCount]:
        found = []
        for stream_id, name in self._chosen(of_streams).items():
            with self._store.read() as connection:
                for what, query in queries(stream_id).items():
                    number, size = connection.execute(query).one()
                    if number:
                        count = PruneCount(stream=name, what=what, number=number, size=size or 0)
                        found.append(count)
        return found

    def _each(self, query: Any, drop: Callable[[Connection, Sequence[int]], None]) -> None:
        for some in self._parts(query):
            with self._store.write() as connection:
                drop(connection, some)

    def _parts(self, query: Any) -> Iterator[Sequence[int]]:
        with self._store.read() as connection:
            numbers = connection.scalars(query).all()
        for start in range(0, len(numbers), _AT_ONCE):
            yield numbers[start : start + _AT_ONCE]


def _images(stream_id: int, before: datetime, open_ones: bool) -> ColumnElement[bool]:
    there = or_(failures.c.extracted.is_not(None), failures.c.transformed.is_not(None))
    old = and_(failures.c.ended_at.is_not(None), failures.c.ended_at < before)
    if open_ones:
        old = or_(old, _open_images(before))
    return and_(failures.c.stream_id == stream_id, there, old)


def _open_images(before: datetime) -> ColumnElement[bool]:
    return and_(
        failures.c.ended_at.is_(None),
        failures.c.last_at < before,
        failures.c.state != FailureState.WAITING,
    )


def _image_counts(stream_id: int, before: datetime, open_ones: bool) -> dict[str, Any]:
    length = func.coalesce(func.length(failures.c.extracted), 0) + func.coalesce(
        func.length(failures.c.transformed), 0
    )
    counted = select(func.count(), func.sum(length)).select_from(failures)
    ended = counted.where(_images(stream_id, before, False))
    found = {"images of ended failures": ended}
    if open_ones:
        still = and_(_images(stream_id, before, True), failures.c.ended_at.is_(None))
        found["images of open failures"] = counted.where(still)
    return found


def _trail_counts(stream_id: int, before: datetime) -> dict[str, Any]:
    bodies = select(func.sum(func.length(outcome_segments.c.body))).join(
        batches, batches.c.id == outcome_segments.c.batch
    )
    old = _old_batches(stream_id, before)
    return {
        "batches": select(func.count(), bodies.where(old).scalar_subquery())
        .select_from(batches)
        .where(old, or_(_has_blob(), _unreferenced(before))),
        "ended failures": select(func.count(), func.sum(func.length(failures.c.extracted)))
        .select_from(failures)
        .where(_ended(stream_id, before)),
        "decisions": select(func.count(), literal(0))
        .select_from(decisions)
        .where(_decided(stream_id, before)),
    }


def _ended(stream_id: int, before: datetime) -> ColumnElement[bool]:
    return and_(
        failures.c.stream_id == stream_id,
        failures.c.ended_at.is_not(None),
        failures.c.ended_at < before,
    )


def _kept(before: datetime) -> ColumnElement[bool]:
    """Failures that stay."""
    return or_(failures.c.ended_at.is_(None), failures.c.ended_at >= before)


def _old_batches(stream_id: int, before: datetime) -> ColumnElement[bool]:
    newest = select(func.max(batches.c.id)).where(
        batches.c.stream_id == stream_id, batches.c.state == BatchState.CLOSED
    )
    last = select(streams.c.last_batch_id).where(
        streams.c.id == stream_id, streams.c.last_batch_id.is_not(None)
    )
    return and_(
        batches.c.stream_id == stream_id,
        batches.c.state.in_((BatchState.CLOSED, BatchState.ABANDONED)),
        batches.c.closed_at < before,
        batches.c.id != func.coalesce(newest.scalar_subquery(), 0),
        batches.c.batch_id.not_in(last),
    )


def _has_blob() -> ColumnElement[bool]:
    return exists().where(outcomes.c.batch == batches.c.id)


def _unreferenced(before: datetime) -> ColumnElement[bool]:
    """Nothing that is kept names the batch: no failure, no attempt, no page."""
    kept = _kept(before)
    return not_(
        or_(
            exists().where(failures.c.batch == batches.c.id, kept),
            exists().where(failures.c.ended_batch == batches.c.id, kept),
            exists().where(
                attempts.c.batch == batches.c.id, failures.c.id == attempts.c.failure_id, kept
            ),
            exists().where(tables.pages.c.batch == batches.c.id),
        )
    )


def _decided(stream_id: int, before: datetime) -> ColumnElement[bool]:
    """Decisions that were carried out, about records of which none is held back now."""
    held_back = exists().where(
        decision_records.c.decision_id == decisions.c.id,
        failures.c.stream_id == decision_records.c.stream_id,
        failures.c.key == decision_records.c.key,
        failures.c.ended_at.is_(None),
    )
    named = exists().where(failures.c.ended_decision == decisions.c.id, _kept(before))
    return and_(
        decisions.c.stream_id == stream_id,
        decisions.c.state != DecisionState.PENDING,
        decisions.c.finished_at < before,
        not_(or_(held_back, named)),
    )


def _old_runs(before: datetime) -> ColumnElement[bool]:
    newest = select(func.max(runs.c.number)).group_by(runs.c.kind)
    return and_(
        runs.c.state != RunState.RUNNING,
        runs.c.ended_at < before,
        runs.c.number.not_in(newest),
        not_(
            or_(
                exists().where(batches.c.run_id == runs.c.id),
                exists().where(failures.c.run_id == runs.c.id),
                exists().where(attempts.c.run_id == runs.c.id),
            )
        ),
    )


def _drop_failures(connection: Connection, numbers: Sequence[int]) -> None:
    connection.execute(delete(attempts).where(attempts.c.failure_id.in_(numbers)))
    connection.execute(delete(failures).where(failures.c.id.in_(numbers)))


def _drop_decisions(connection: Connection, numbers: Sequence[int]) -> None:
    records = decision_records.c.decision_id.in_(numbers)
    connection.execute(delete(decision_records).where(records))
    connection.execute(delete(decisions).where(decisions.c.id.in_(numbers)))


def _drop_batches(connection: Connection, numbers: Sequence[int], *, before: datetime) -> None:
    """Their blobs; their rows too where nothing that is kept names them."""
    for table in (outcome_segments, outcomes):
        connection.execute(delete(table).where(table.c.batch.in_(numbers)))
    connection.execute(delete(batches).where(batches.c.id.in_(numbers), _unreferenced(before)))


def _drop_runs(connection: Connection, numbers: Sequence[int]) -> None:
    connection.execute(delete(runs).where(runs.c.number.in_(numbers)))
