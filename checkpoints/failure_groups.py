"""Groups of failures: those of one cause in one stream, named by the beginning of a fingerprint.

A change that waits behind a failed one of its record belongs to the group of that one; one behind
which nothing is failed any more is in a group of its own kind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Row, Select, Subquery, and_, case, func, select

from rowtrail.checkpoints import streams
from rowtrail.checkpoints.errors import LedgerError, UnknownError
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.states import FailureGroup, FailureState, Stage
from rowtrail.checkpoints.tables import failures
from rowtrail.checkpoints.tables import streams as stream_table

SHOWN = 8
"""Digits of a fingerprint that a person is shown, more where groups begin alike."""
_EXAMPLES = 3
_NAMED = 10
"""A message names so many groups at most."""


@dataclass(frozen=True, kw_only=True)
class FoundGroup:
    """Which group a person means."""

    stream: str
    stream_id: int
    fingerprint: str


def members(states: Collection[FailureState]) -> Subquery:
    """The changes that are in these states, each with the fingerprint of its group."""
    blocker = failures.alias("blocker")
    behind = and_(
        failures.c.state == FailureState.WAITING,
        blocker.c.stream_id == failures.c.stream_id,
        blocker.c.key == failures.c.key,
        blocker.c.ended_at.is_(None),
        blocker.c.state == FailureState.FAILED,
    )
    return (
        select(
            failures.c.id,
            failures.c.stream_id,
            failures.c.key,
            failures.c.key_text,
            failures.c.state,
            failures.c.first_at,
            failures.c.last_at,
            func.coalesce(blocker.c.fingerprint, failures.c.fingerprint).label("fingerprint"),
            blocker.c.id.is_(None).label("is_own"),  # the message is that of the group
        )
        .outerjoin(blocker, behind)
        .where(failures.c.ended_at.is_(None), failures.c.state.in_(states))
        .subquery()
    )


def groups(
    connection: Connection,
    stream: str | None,
    states: Collection[FailureState],
    fingerprint: str | None = None,
) -> list[FailureGroup]:
    """The groups of changes in these states, the largest first; only this one, if it is named."""
    found = members(states)
    sums = _sums(found).subquery()
    chosen = [
        *([] if stream is None else [stream_table.c.name == stream]),
        *([] if fingerprint is None else [sums.c.fingerprint == fingerprint]),
    ]
    newest = [failures.c.stage, failures.c.error_class, failures.c.message]
    query = (
        select(stream_table.c.name.label("stream"), *sums.c, *newest)
        .join(stream_table, stream_table.c.id == sums.c.stream_id)
        .join(failures, failures.c.id == sums.c.newest)
        .where(*chosen)
        .order_by(sums.c.number.desc(), stream_table.c.name, sums.c.fingerprint)
    )
    rows = connection.execute(query).all()
    if not rows:
        return []
    every = connection.scalars(
        select(failures.c.fingerprint).where(failures.c.ended_at.is_(None)).distinct()
    )
    shown = _shortened(every)
    examples = _examples(connection, found, fingerprint)
    return [
        _group(row, shown[row.fingerprint], examples[row.stream_id, row.fingerprint])
        for row in rows
    ]


_COUNTED = (FailureState.FAILED, FailureState.WAITING, FailureState.IGNORED)


def _sums(found: Subquery) -> Select[Any]:
    """One row for each group, with the number of its newest failure."""
    own = func.max(case((found.c.is_own, found.c.id)))
    return select(
        found.c.stream_id,
        found.c.fingerprint,
        func.count().label("number"),
        *(
            func.sum(case((found.c.state == state, 1), else_=0)).label(state.value)
            for state in _COUNTED
        ),
        func.min(found.c.first_at).label("first_at"),
        func.max(found.c.last_at).label("last_at"),
        func.coalesce(own, func.max(found.c.id)).label("newest"),
    ).group_by(found.c.stream_id, found.c.fingerprint)


def _examples(
    connection: Connection, found: Subquery, fingerprint: str | None
) -> dict[tuple[int, str], list[str]]:
    """The keys of the oldest members of each group, those that have its cause before the others."""
    place = func.row_number().over(
        partition_by=[found.c.stream_id, found.c.fingerprint],
        order_by=[found.c.is_own.desc(), found.c.id],
    )
    ranked = select(found, place.label("place"))
    if fingerprint is not None:
        ranked = ranked.where(found.c.fingerprint == fingerprint)
    first = ranked.subquery()
    query = (
        select(first.c.stream_id, first.c.fingerprint, first.c.key_text)
        .where(first.c.place <= _EXAMPLES)
        .order_by(first.c.place)
    )
    examples: dict[tuple[int, str], list[str]] = {}
    for row in connection.execute(query):
        texts = examples.setdefault((row.stream_id, row.fingerprint), [])
        if row.key_text not in texts:  # what waits is of the same record
            texts.append(row.key_text)
    return examples


def _group(row: Row[Any], shown: str, examples: Iterable[str]) -> FailureGroup:
    return FailureGroup(
        group=shown,
        stream=row.stream,
        fingerprint=row.fingerprint,
        count=row.number,
        failed=row.failed,
        waiting=row.waiting,
        ignored=row.ignored,
        first_at=row.first_at,
        last_at=row.last_at,
        stage=Stage(row.stage),
        error_class=row.error_class,
        message=row.message,
        examples=tuple(RecordId.of_key_text(row.stream, text) for text in examples),
    )


def _shortened(fingerprints: Iterable[str]) -> dict[str, str]:
    """Each by its first digits, as many as tell it from all others."""
    ordered = sorted(fingerprints)
    lengths = dict.fromkeys(ordered, SHOWN)
    for one, other in pairwise(ordered):
        digits = SHOWN
        while digits < len(other) and one[:digits] == other[:digits]:
            digits += 1
        for each in (one, other):
            lengths[each] = max(lengths[each], digits)
    return {one: one[: lengths[one]] for one in ordered}


def find(
    connection: Connection, group: str, stream: str | None, states: Collection[FailureState]
) -> FoundGroup:
    """The one group whose fingerprint begins so and that has changes in these states.

    Raises UnknownError, which names the groups that exist, for a group that there is not, never was
    or that has come to its end, and LedgerError where several begin so or several streams have it.
    """
    if stream is not None:
        streams.require(connection, stream)
    found = members(states)
    wanted = group.strip().lower()
    query = _of_stream(
        select(stream_table.c.name, stream_table.c.id, found.c.fingerprint)
        .join(stream_table, stream_table.c.id == found.c.stream_id)
        .where(found.c.fingerprint.startswith(wanted, autoescape=True))
        .distinct()
        .order_by(stream_table.c.name, found.c.fingerprint),
        stream,
    )
    rows = connection.execute(query).all() if wanted else []
    if not rows:
        raise _missing(connection, wanted, stream, states)
    if len({row.fingerprint for row in rows}) > 1:
        several = ", ".join(f"{row.fingerprint} ({row.name})" for row in rows[:_NAMED])
        raise LedgerError(
            f"Several groups begin with {group}, so nothing was done: {several}. Type more of it."
        )
    if len(rows) > 1:
        names = ", ".join(row.name for row in rows)
        raise LedgerError(
            f"Group {group} is in several streams ({names}), so nothing was done. Name the stream "
            f"as well: {rows[0].name} --group {group}"
        )
    ((name, stream_id, fingerprint),) = rows
    return FoundGroup(stream=name, stream_id=stream_id, fingerprint=fingerprint)


def _of_stream(query: Select[Any], stream: str | None) -> Select[Any]:
    return query if stream is None else query.where(stream_table.c.name == stream)


def _missing(
    connection: Connection, group: str, stream: str | None, states: Collection[FailureState]
) -> UnknownError:
    """Says what became of the group, if it ever was, and which there are."""
    wanted = " or ".join(state.value for state in states)
    where = "" if stream is None else f" of stream {stream}"
    query = _of_stream(
        select(failures.c.state, func.count(failures.c.key.distinct()).label("number"))
        .join(stream_table)
        .where(failures.c.fingerprint.startswith(group, autoescape=True))
        .group_by(failures.c.state)
        .order_by(failures.c.state),
        stream,
    )
    known = connection.execute(query).all() if group else []
    if known:
        now = ", ".join(f"{row.number:,} {row.state}" for row in known)
        what = f"Group {group}{where} has no record that is {wanted} now ({now})"
    else:
        what = f"There is no group {group or repr(group)}{where}"
    return UnknownError(f"{what}, so nothing was done. {_existing(connection, stream, states)}")


def _existing(connection: Connection, stream: str | None, states: Collection[FailureState]) -> str:
    found = groups(connection, stream, states)
    wanted = " or ".join(state.value for state in states)
    if not found:
        where = "" if stream is None else f" of stream {stream}"
        return f"No record{where} is {wanted}."
    named = ", ".join(
        f"{one.group} ({one.stream}, {one.count:,} {'record' if one.count == 1 else 'records'})"
        for one in found[:_NAMED]
    )
    more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
    return f"The groups of records that are {wanted}: {named}{more}."
