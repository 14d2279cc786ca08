"""Which transaction each message of a log belongs to, found for all of them at once.

Begin, 21 bytes: kind, LSN of the commit (8), time of the commit (8), xid (4). Commit, 26 bytes:
kind, flags (1), LSN of the commit (8), end LSN (8), time of the commit (8). Times are µs since
2000-01-01. Small transactions are common, so that nothing here is a loop over them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rowtrail.connectors.capture.pgoutput_wire import (
    Ints,
    Kinds,
    Mask,
    Messages,
    refuse,
    signed,
)

BEGIN, COMMIT = ord("B"), ord("C")
_EPOCH = 946_684_800_000_000  # 2000-01-01 in µs since 1970-01-01
_LATEST = 2**63 - 1 - _EPOCH


@dataclass(frozen=True, kw_only=True)
class Carried:
    """Where one batch ended, for the next."""

    inside: bool = False  # the transaction below has yet to commit
    commit_lsn: int = 0
    time: int = 0
    xid: int = 0
    ordinal: int = 0  # changes of it so far
    last_commit: int = 0  # LSN of the last commit that was read


@dataclass(frozen=True, kw_only=True)
class Commits:
    """The transactions that ended in a batch, in order; `rows` are their Commit messages."""

    rows: Ints
    commit_lsns: Ints
    end_lsns: Ints
    xids: npt.NDArray[np.uint32]
    times: Ints  # µs since 1970-01-01


@dataclass(frozen=True, kw_only=True)
class Transactions:
    """Of each message; zeros for what stands outside, as logical messages may."""

    commit_lsns: Ints
    xids: npt.NDArray[np.uint32]
    times: Ints
    ordinals: Ints  # of changes: from 1 within the transaction; else 0
    commits: Commits


def transactions(
    messages: Messages, kinds: Kinds, changes: Mask, carried: Carried
) -> tuple[Transactions, Carried]:
    """`changes` says which messages count for the ordinal. Raises BrokenMessageError."""
    is_begin, is_commit = kinds == BEGIN, kinds == COMMIT
    begins, ends = np.flatnonzero(is_begin), np.flatnonzero(is_commit)
    inside = _inside(is_begin, is_commit, carried)
    refuse(changes & ~inside, "changes a row outside a transaction")
    lsns, times, xids = _begun(messages, begins, carried)

    number = np.cumsum(is_begin)  # of the transaction in the arrays above
    counted = np.cumsum(changes)
    before = np.concatenate(([-carried.ordinal], counted[begins]))  # what is not of it
    commits = _committed(messages, ends, lsns[number[ends]], xids[number[ends]], carried)

    found = Transactions(
        commit_lsns=np.where(inside, lsns[number], 0),
        xids=np.where(inside, xids[number], np.uint32(0)),
        times=np.where(inside, times[number], 0),
        ordinals=np.where(changes, counted - before[number], 0),
        commits=commits,
    )
    last_commit = int(commits.commit_lsns[-1]) if len(ends) else carried.last_commit
    if not len(begins) + len(ends):
        open_still = carried.inside
    else:
        open_still = len(begins) > 0 and (not len(ends) or bool(begins[-1] > ends[-1]))
    total = int(counted[-1]) if len(kinds) else 0
    if not open_still:
        return found, Carried(last_commit=last_commit)
    return found, Carried(
        inside=True,
        commit_lsn=int(lsns[-1]),
        time=int(times[-1]),
        xid=int(xids[-1]),
        ordinal=total - int(before[-1]),
        last_commit=last_commit,
    )


def _inside(is_begin: Mask, is_commit: Mask, carried: Carried) -> Mask:
    """Which messages are part of a transaction, its Begin and Commit too."""
    edges = np.flatnonzero(is_begin | is_commit)
    begins = is_begin[edges]
    previous = np.concatenate(([carried.inside], begins[:-1]))  # was it a Begin?
    refuse(begins & previous, "begins a transaction within another one", edges)
    refuse(~begins & ~previous, "commits a transaction that has not begun", edges)
    depth = np.cumsum(is_begin.view(np.int8) - is_commit.view(np.int8), dtype=np.int64)
    inside: Mask = (depth + carried.inside > 0) | is_commit
    return inside


def _begun(
    messages: Messages, rows: Ints, carried: Carried
) -> tuple[Ints, Ints, npt.NDArray[np.uint32]]:
    """Commit LSN, time and xid of the carried transaction and of those that begin at these rows."""
    starts = messages.starts[rows]
    refuse(messages.ends[rows] - starts != 21, "does not have the 21 bytes of a Begin", rows)
    lsns = signed(messages.words(starts + 1))
    refuse(lsns <= 0, "has an impossible LSN", rows)
    times = _times(messages, starts + 9, rows)
    xids = (messages.words(starts + 17) >> np.uint64(32)).astype(np.uint32)
    return (
        np.concatenate(([carried.commit_lsn], lsns)),
        np.concatenate(([carried.time], times)),
        np.concatenate((np.array([carried.xid], np.uint32), xids)),
    )


def _committed(
    messages: Messages,
    rows: Ints,
    announced: Ints,
    xids: npt.NDArray[np.uint32],
    carried: Carried,
) -> Commits:
    starts = messages.starts[rows]
    refuse(messages.ends[rows] - starts != 26, "does not have the 26 bytes of a Commit", rows)
    refuse(messages.octets[starts + 1] != 0, "has unknown flags", rows)
    lsns, end_lsns = signed(messages.words(starts + 2)), signed(messages.words(starts + 10))
    refuse(lsns != announced, "commits at another LSN than its Begin announced", rows)
    refuse(end_lsns <= lsns, "ends before it commits", rows)
    previous = np.concatenate(([carried.last_commit], lsns[:-1]))
    refuse(lsns <= previous, "commits before the transaction that came before it", rows)
    return Commits(
        rows=rows,
        commit_lsns=lsns,
        end_lsns=end_lsns,
        xids=xids,
        times=_times(messages, starts + 18, rows),
    )


def _times(messages: Messages, places: Ints, rows: Ints) -> Ints:
    """Commit times at these places, in µs since 1970-01-01."""
    times = signed(messages.words(places))
    refuse(times > _LATEST, "has an impossible time", rows)
    shifted: Ints = times + _EPOCH
    return shifted
