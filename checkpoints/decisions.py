"""Decisions: what a person asked for. Retries and replays wait for the holder of the lease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, literal, select, update

from rowtrail.checkpoints import failure_groups, streams, tables
from rowtrail.checkpoints.errors import LedgerError, TransitionError, UnknownError
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.selections import Origin, Selection
from rowtrail.checkpoints.states import (
    DECISION_TRANSITIONS,
    OPEN_FAILURES,
    Decision,
    DecisionKind,
    DecisionState,
    FailureState,
)
from rowtrail.checkpoints.store import Store
from rowtrail.checkpoints.tables import decision_records, decisions, failures


class Decisions:
    def __init__(self, store: Store) -> None:
        self._store = store

    def request(
        self,
        kind: DecisionKind,
        stream: str,
        record_ids: Sequence[RecordId],
        *,
        from_stage: str | None = None,
        origin: Origin | None = None,
        selection: Selection | None = None,
        actor: str,
        reason: str | None = None,
        group: str | None = None,
    ) -> Decision:
        """Asks for a retry or a replay. Raises UnknownError for a stream without a ledger.

        With `group`, of all records that are failed or wait in that group now, instead of
        `record_ids`; what `failure_groups.find` raises where there are none.
        """
        wanted = {"from_stage": from_stage, "origin": origin, **_selection_values(selection)}
        once = tuple(dict.fromkeys(record_ids))
        with self._store.write() as connection:
            decision_id = self._insert(connection, kind, stream, once, actor, reason, wanted)
            if group is None:
                return _record(_row(connection, decision_id), once)
            self._take_group(connection, decision_id, stream, group, OPEN_FAILURES)
            return _get(connection, decision_id)

    def number(self) -> int:
        """A number that no decision has or will have, for a revision above all issued before."""
        with self._store.write() as connection:
            return _next_number(connection)

    def pending(self) -> list[Decision]:
        """What is asked for and not carried out, in the order in which it was asked."""
        query = select(decisions.c.id).where(decisions.c.state == DecisionState.PENDING)
        with self._store.read() as connection:
            numbers = connection.scalars(query.order_by(decisions.c.id)).all()
            return [_get(connection, number) for number in numbers]

    def get(self, decision_id: int) -> Decision:
        """Raises UnknownError."""
        with self._store.read() as connection:
            return _get(connection, decision_id)

    def finish(self, decision_id: int, state: DecisionState, result: str) -> None:
        """Raises UnknownError, or TransitionError when the decision was carried out already."""
        with self._store.write() as connection:
            current = DecisionState(_row(connection, decision_id).state)
            if state not in DECISION_TRANSITIONS.get(current, ()):
                raise TransitionError(
                    f"Decision {decision_id} is {current} and cannot become {state}. "
                    "Ask for it again."
                )
            self._finish(connection, decision_id, state, result)

    def ignore(
        self, stream: str, record_ids: Sequence[RecordId], actor: str, reason: str
    ) -> Decision:
        """Failed changes of these records are ignored from now on. What waits behind them goes on.

        Nothing is changed and LedgerError is raised when none of a record's changes is failed.
        """
        return self._apply(
            DecisionKind.IGNORE,
            stream,
            record_ids,
            actor,
            reason,
            (FailureState.FAILED,),
            "ignored",
        )

    def unignore(
        self, stream: str, record_ids: Sequence[RecordId], actor: str, reason: str | None = None
    ) -> Decision:
        """The inverse of `ignore`: the changes have failed again. Raises LedgerError likewise."""
        return self._apply(
            DecisionKind.UNIGNORE,
            stream,
            record_ids,
            actor,
            reason,
            (FailureState.IGNORED,),
            "failed",
        )

    def ignore_group(self, stream: str, group: str, actor: str, reason: str) -> Decision:
        """As `ignore`, for all changes that are failed in a group; what waits behind them waits on.

        Raises what `failure_groups.find` raises.
        """
        failed = (FailureState.FAILED,)
        return self._apply_to_group(
            DecisionKind.IGNORE, stream, group, actor, reason, failed, FailureState.IGNORED
        )

    def unignore_group(
        self, stream: str, group: str, actor: str, reason: str | None = None
    ) -> Decision:
        """The inverse, for all changes of a group that are ignored. Raises likewise."""
        ignored = (FailureState.IGNORED,)
        return self._apply_to_group(
            DecisionKind.UNIGNORE, stream, group, actor, reason, ignored, FailureState.FAILED
        )

    def _apply_to_group(
        self,
        kind: DecisionKind,
        stream: str,
        group: str,
        actor: str,
        reason: str | None,
        before: tuple[FailureState, ...],
        after: FailureState,
    ) -> Decision:
        with self._store.write() as connection:
            decision_id = self._insert(connection, kind, stream, (), actor, reason)
            found = self._take_group(connection, decision_id, stream, group, before)
            changed = connection.execute(
                update(failures)
                .values(state=after)
                .where(
                    failures.c.stream_id == found.stream_id,
                    failures.c.fingerprint == found.fingerprint,
                    failures.c.ended_at.is_(None),
                    failures.c.state.in_(before),
                )
            )
            self._finish(
                connection, decision_id, DecisionState.DONE, _changed(changed.rowcount, after)
            )
            return _get(connection, decision_id)

    def _take_group(
        self,
        connection: Connection,
        decision_id: int,
        stream: str,
        group: str,
        states: tuple[FailureState, ...],
    ) -> failure_groups.FoundGroup:
        """The decision is about the records that the group has now."""
        found = failure_groups.find(connection, group, stream, states)
        members = failure_groups.members(states)
        first = func.min(members.c.id)
        records = (
            select(
                literal(decision_id),
                func.row_number().over(order_by=first) - 1,
                members.c.stream_id,
                members.c.key,
                members.c.key_text,
            )
            .where(members.c.stream_id == found.stream_id)
            .where(members.c.fingerprint == found.fingerprint)
            .group_by(members.c.stream_id, members.c.key, members.c.key_text)
        )
        names = ["decision_id", "number", "stream_id", "key", "key_text"]
        connection.execute(decision_records.insert().from_select(names, records))
        connection.execute(
            update(decisions)
            .where(decisions.c.id == decision_id)
            .values(failure_group=found.fingerprint)
        )
        return found

    def _apply(
        self,
        kind: DecisionKind,
        stream: str,
        record_ids: Sequence[RecordId],
        actor: str,
        reason: str | None,
        before: tuple[FailureState, ...],
        after: str,
    ) -> Decision:
        with self._store.write() as connection:
            decision_id = self._insert(connection, kind, stream, record_ids, actor, reason)
            stream_id = streams.require(connection, stream).id
            _refuse_missing(connection, stream_id, stream, decision_id, before)
            records = select(decision_records.c.key).where(
                decision_records.c.decision_id == decision_id
            )
            changed = connection.execute(
                update(failures)
                .values(state=FailureState(after))
                .where(
                    failures.c.stream_id == stream_id,
                    failures.c.key.in_(records),
                    failures.c.ended_at.is_(None),
                    failures.c.state.in_(before),
                )
            )
            self._finish(
                connection, decision_id, DecisionState.DONE, _changed(changed.rowcount, after)
            )
            return _get(connection, decision_id)

    def _insert(
        self,
        connection: Connection,
        kind: DecisionKind,
        stream: str,
        record_ids: Sequence[RecordId],
        actor: str,
        reason: str | None,
        wanted: Mapping[str, Any] | None = None,
    ) -> int:
        stream_id = streams.require(connection, stream).id
        decision_id = _next_number(connection)
        connection.execute(
            decisions.insert().values(
                id=decision_id,
                kind=kind,
                state=DecisionState.PENDING,
                stream_id=stream_id,
                actor=actor,
                reason=reason,
                created_at=self._store.now(),
                **(wanted or {}),
            )
        )
        if record_ids:
            connection.execute(
                decision_records.insert(),
                [
                    {
                        "decision_id": decision_id,
                        "number": number,
                        "stream_id": stream_id,
                        "key": record.key_bytes(),
                        "key_text": record.key_text(),
                    }
                    for number, record in enumerate(dict.fromkeys(record_ids))
                ],
            )
        return decision_id

    def _finish(
        self, connection: Connection, decision_id: int, state: DecisionState, result: str
    ) -> None:
        connection.execute(
            update(decisions)
            .where(decisions.c.id == decision_id)
            .values(state=state, finished_at=self._store.now(), result=result)
        )


def _changed(number: int, after: str) -> str:
    return f"{number} {'change' if number == 1 else 'changes'} {after}"


def _next_number(connection: Connection) -> int:
    last = tables.ledger.c.last_decision
    connection.execute(update(tables.ledger).values(last_decision=last + 1))
    return int(connection.execute(select(last)).scalar_one())


def _refuse_missing(
    connection: Connection,
    stream_id: int,
    stream: str,
    decision_id: int,
    states: tuple[FailureState, ...],
) -> None:
    held = select(failures.c.id).where(
        failures.c.stream_id == stream_id,
        failures.c.key == decision_records.c.key,
        failures.c.ended_at.is_(None),
        failures.c.state.in_(states),
    )
    query = select(decision_records.c.key_text).where(
        decision_records.c.decision_id == decision_id, ~held.exists()
    )
    missing = connection.scalars(query.order_by(decision_records.c.number)).all()
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        wanted = " or ".join(states)
        raise LedgerError(
            f"{RecordId.of_key_text(stream, missing[0])}{more} is not {wanted}, so nothing was "
            "changed. `rowtrail failures` lists the records that are held back."
        )


def _row(connection: Connection, decision_id: int) -> Row[Any]:
    query = select(decisions, tables.streams.c.name.label("stream")).join(tables.streams)
    row = connection.execute(query.where(decisions.c.id == decision_id)).one_or_none()
    if row is None:
        raise UnknownError(f"The ledger knows no decision {decision_id}.")
    return row


def _get(connection: Connection, decision_id: int) -> Decision:
    row = _row(connection, decision_id)
    keys = select(decision_records.c.key_text).where(decision_records.c.decision_id == decision_id)
    texts = connection.scalars(keys.order_by(decision_records.c.number))
    return _record(row, tuple(RecordId.of_key_text(row.stream, text) for text in texts))


def _record(row: Row[Any], record_ids: tuple[RecordId, ...]) -> Decision:
    return Decision(
        id=row.id,
        kind=DecisionKind(row.kind),
        state=DecisionState(row.state),
        stream=row.stream,
        record_ids=record_ids,
        from_stage=row.from_stage,
        actor=row.actor,
        reason=row.reason,
        created_at=row.created_at,
        finished_at=row.finished_at,
        result=row.result,
        group=row.failure_group,
        origin=None if row.origin is None else Origin(row.origin),
        selection=_selection(row),
    )


def _selection_values(selection: Selection | None) -> dict[str, Any]:
    if selection is None:
        return {}
    return {
        "of_run": selection.run_id,
        "since": selection.since,
        "until": selection.until,
        "condition": selection.where,
    }


def _selection(row: Row[Any]) -> Selection | None:
    if row.of_run is None and row.since is None and row.condition is None:
        return None
    return Selection(run_id=row.of_run, since=row.since, until=row.until, where=row.condition)
