"""What each message of a log is and which transaction it belongs to, for many messages at once.

The input are the messages of pgoutput in the order of the log, cut into batches anywhere. Rows are
not looked into: see `pgoutput_tuples`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rowtrail.connectors.capture.pgoutput import (
    Relation,
    Truncation,
    check_logical,
    check_origin,
    check_type,
    parse_relation,
    parse_truncation,
)
from rowtrail.connectors.capture.pgoutput_transactions import (
    Carried,
    Commits,
    transactions,
)
from rowtrail.connectors.capture.pgoutput_wire import (
    BrokenMessageError,
    Ints,
    Kinds,
    LogFormatError,
    Messages,
    Words,
    lsn_text,
    refuse,
)

_NAMES = {
    "B": "Begin",
    "C": "Commit",
    "R": "Relation",
    "Y": "Type",
    "I": "Insert",
    "U": "Update",
    "D": "Delete",
    "T": "Truncate",
    "O": "Origin",
    "M": "Message",
}
_OCTETS = np.arange(256, dtype=np.uint8)
_KNOWN = np.isin(_OCTETS, [ord(kind) for kind in _NAMES])
_ROWS = np.isin(_OCTETS, list(b"IUD"))
_RARE = np.isin(_OCTETS, list(b"RYTOM"))
_CHECKS: Mapping[str, Callable[[bytes], None]] = {
    "Y": check_type,
    "O": check_origin,
    "M": check_logical,
}
_SHORTEST_ROW = 8  # kind, table, kind of the tuple, number of its columns


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """What a batch holds: arrays of its length, and what was found at some of its rows.

    What stands outside transactions, as logical messages may, has zeros for its transaction.
    """

    kinds: Kinds  # ASCII
    oids: npt.NDArray[np.uint32]  # of Insert, Update and Delete; else 0
    layouts: npt.NDArray[np.int32]  # of the same: number in `LogScan.layouts`; else -1
    commit_lsns: Ints  # as Begin announces it
    xids: npt.NDArray[np.uint32]
    ordinals: Ints  # of Insert, Update, Delete and Truncate: from 1 in the transaction; else 0
    times: Ints  # of the commit, µs since 1970-01-01
    commits: Commits
    relations: tuple[tuple[int, Relation], ...]  # with the row of its message
    truncations: tuple[Truncation, ...]


class LogScan:
    """Reads a log from a place between transactions on, batch after batch.

    Each peek and each start of replication needs a new one: the server tells its relations anew,
    and may go back to transactions that it has told before. After an error it must not be used.
    """

    def __init__(self) -> None:
        self.layouts: list[Relation] = []
        """Every layout that was seen; one that comes again keeps its number."""
        self._numbers: dict[Relation, int] = {}
        self._current: dict[int, int] = {}  # oid -> number of its layout
        self._carried = Carried()
        self._seen = 0

    @property
    def in_transaction(self) -> bool:
        """The last batch ended within a transaction; a peek as a whole never does."""
        return self._carried.inside

    @property
    def relations(self) -> Mapping[int, Relation]:
        """The tables that are known, by oid, as they are by now."""
        return {oid: self.layouts[number] for oid, number in self._current.items()}

    def scan(self, data: Any) -> Scanned:
        """The next messages: a binary, large_binary or chunked array of them.

        Raises LogFormatError for what is unknown, cut, too long or out of place.
        """
        messages = Messages(data)
        try:
            scanned = self._scan(messages)
        except BrokenMessageError as broken:
            raise self._error(messages, broken) from None
        self._seen += len(messages)
        return scanned

    def _scan(self, messages: Messages) -> Scanned:
        refuse(messages.starts == messages.ends, "is empty")
        heads = messages.words(messages.starts)
        kinds: Kinds = (heads >> np.uint64(56)).astype(np.uint8)
        refuse(~_KNOWN[kinds], "is of a kind that this reader does not know")
        is_row = _ROWS[kinds]
        found, carried = transactions(messages, kinds, is_row | (kinds == ord("T")), self._carried)
        before = dict(self._current)
        relations, truncations = self._rare(messages, kinds)
        rows = np.flatnonzero(is_row)
        refuse(messages.ends[rows] - messages.starts[rows] < _SHORTEST_ROW, "ends too early", rows)
        oids = np.zeros(len(kinds), np.uint32)
        oids[rows] = _table(heads[rows])
        layouts = np.full(len(kinds), -1, np.int32)
        layouts[rows] = self._layouts(rows, oids[rows], before, relations)
        self._carried = carried
        return Scanned(
            kinds=kinds,
            oids=oids,
            layouts=layouts,
            commit_lsns=found.commit_lsns,
            xids=found.xids,
            ordinals=found.ordinals,
            times=found.times,
            commits=found.commits,
            relations=tuple(relations),
            truncations=tuple(truncations),
        )

    def _rare(
        self, messages: Messages, kinds: Kinds
    ) -> tuple[list[tuple[int, Relation]], list[Truncation]]:
        """The messages that are looked at one by one."""
        relations: list[tuple[int, Relation]] = []
        truncations: list[Truncation] = []
        for row in np.flatnonzero(_RARE[kinds]).tolist():
            message, kind = messages.message(row), chr(kinds[row])
            try:
                if kind == "R":
                    relations.append((row, relation := parse_relation(message)))
                    self._learn(relation)
                elif kind == "T":
                    truncations.append(truncation := parse_truncation(message, row))
                    for oid in truncation.oids:
                        if oid not in self._current:
                            raise BrokenMessageError(_unknown(oid))
                else:
                    _CHECKS[kind](message)
            except BrokenMessageError as broken:
                broken.row = row
                raise
        return relations, truncations

    def _learn(self, relation: Relation) -> None:
        number = self._numbers.setdefault(relation, len(self.layouts))
        if number == len(self.layouts):
            self.layouts.append(relation)
        self._current[relation.oid] = number

    def _layouts(
        self,
        rows: Ints,
        oids: npt.NDArray[np.uint32],
        before: Mapping[int, int],
        relations: list[tuple[int, Relation]],
    ) -> Ints:
        """The layout of each of these rows: the newest of its table that came before it.

        Each layout is an event at (oid, row); one from an earlier batch comes before row 0.
        """
        events = {(oid, 0): number for oid, number in before.items()}
        events |= {(relation.oid, row + 1): self._numbers[relation] for row, relation in relations}
        order = sorted(events)
        if not len(rows):
            return np.zeros(0, np.int64)
        at = np.array([oid << 32 | row for oid, row in [(0, 0), *order]], np.uint64)
        tables = np.array([oid for oid, _ in [(0, 0), *order]], np.uint32)
        numbers = np.array([-1, *(events[event] for event in order)], np.int64)
        wanted = oids.astype(np.uint64) << np.uint64(32) | (rows + 1).astype(np.uint64)
        place = np.searchsorted(at, wanted, side="right") - 1
        unknown = (tables[place] != oids) | (oids == 0)
        if unknown.any():
            refuse(unknown, _unknown(int(oids[unknown.argmax()])), rows)
        found: Ints = numbers[place]
        return found

    def _error(self, messages: Messages, broken: BrokenMessageError) -> LogFormatError:
        """The error that says which message it is, of which kind, and where."""
        row = broken.row
        message = messages.message(row)
        kind = chr(message[0]) if message else ""
        named = _NAMES.get(kind, f"kind 0x{message[0]:02x}" if message else "no kind")
        lsn = self._carried.commit_lsn
        for earlier in range(row, -1, -1):
            if (begin := messages.message(earlier))[:1] == b"B":
                lsn = int.from_bytes(begin[1:9], "big")
                break
        where = f", in the transaction that commits at {lsn_text(lsn)}" if lsn else ""
        return LogFormatError(
            f"The log of PostgreSQL cannot be read: message {self._seen + row + 1:,} ({named}, "
            f"{len(message)} bytes{where}) {broken}.",
            row=row,
        )


def _table(heads: Words) -> npt.NDArray[np.uint32]:
    """The oid that follows the kind."""
    return (heads >> np.uint64(24) & np.uint64(0xFFFFFFFF)).astype(np.uint32)


def _unknown(oid: int) -> str:
    return f"is about table {oid}, whose columns the log has not told"
