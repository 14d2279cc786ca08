"""Runs: one execution of a pipeline each."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, select

from rowtrail.checkpoints.errors import TransitionError, UnknownError
from rowtrail.checkpoints.states import RUN_TRANSITIONS, RunKind, RunRecord, RunState
from rowtrail.checkpoints.store import Store
from rowtrail.checkpoints.tables import runs

LAST = "last"


class Runs:
    def __init__(self, store: Store) -> None:
        self._store = store

    def start(self, kind: RunKind = RunKind.RUN) -> str:
        """Begins a run and returns its id."""
        run_id = str(uuid4())
        with self._store.write(durable=False) as connection:
            connection.execute(
                runs.insert().values(
                    id=run_id, kind=kind, state=RunState.RUNNING, started_at=self._store.now()
                )
            )
        return run_id

    def finish(self, run_id: str, state: RunState, message: str | None = None) -> None:
        """Ends a run. Raises UnknownError, or TransitionError when it has ended already."""
        with self._store.write(durable=False) as connection:
            current = _get(connection, run_id).state
            if state not in RUN_TRANSITIONS.get(current, ()):
                raise TransitionError(
                    f"Run {run_id} is {current} and cannot become {state}. "
                    "A run ends once; start another one."
                )
            connection.execute(
                runs.update()
                .where(runs.c.id == run_id)
                .values(state=state, ended_at=self._store.now(), message=message)
            )

    def get(self, run_id: str) -> RunRecord:
        """Raises UnknownError."""
        with self._store.read() as connection:
            return _get(connection, run_id)

    def named(self, text: str) -> RunRecord:
        """The run that a person means: by its id, the beginning of it, or `last`.

        `last` is the last run of the pipeline, which no request is. Raises UnknownError where that
        is none, or several.
        """
        query = select(runs).order_by(runs.c.number.desc()).limit(2)
        if text == LAST:
            query = query.where(runs.c.kind == RunKind.RUN).limit(1)
        else:
            query = query.where(runs.c.id.startswith(text, autoescape=True))
        with self._store.read() as connection:
            found = connection.execute(query).all()
        if len(found) > 1:
            raise UnknownError(f"Several runs begin with {text}. Give more of the id.")
        if not found or not text:
            raise UnknownError(
                f"The ledger knows no run {text}. `rowtrail run --json` and `rowtrail record "
                f"--json` name runs by their ids, and `last` is the last one."
            )
        return _record(found[0])

    def recent(self, limit: int = 10, kind: RunKind | None = None) -> list[RunRecord]:
        """The last runs, of one kind or of all, the newest first."""
        query = select(runs).order_by(runs.c.number.desc()).limit(limit)
        if kind is not None:
            query = query.where(runs.c.kind == kind)
        with self._store.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def abandon_running(self) -> list[str]:
        """Ends the runs whose processes died. Only the holder of the lease may call it."""
        with self._store.write(durable=False) as connection:
            left = runs.c.state == RunState.RUNNING
            query = select(runs.c.id).where(left).order_by(runs.c.number)
            found = list(connection.scalars(query))
            if not found:
                return []
            connection.execute(
                runs.update()
                .where(left)
                .values(
                    state=RunState.ABANDONED,
                    ended_at=self._store.now(),
                    message="its process ended without finishing it",
                )
            )
        return found


def _get(connection: Connection, run_id: str) -> RunRecord:
    row = connection.execute(select(runs).where(runs.c.id == run_id)).one_or_none()
    if row is None:
        raise UnknownError(f"The ledger knows no run {run_id}. See `rowtrail status` for the last.")
    return _record(row)


def _record(row: Row[Any]) -> RunRecord:
    return RunRecord(
        id=row.id,
        kind=RunKind(row.kind),
        state=RunState(row.state),
        started_at=row.started_at,
        ended_at=row.ended_at,
        message=row.message,
    )
