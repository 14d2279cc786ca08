"""The log that a pipeline's streams share: read once, and told to forget what all have read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.capture.log_position import LogPosition
from rowtrail.connectors.errors import ConfigurationError, PositionLostError, TransientError
from rowtrail.connectors.postgres_errors import sqlstate
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_slot import (
    Slot,
    advance,
    peek_query,
    published,
    read_log_end,
    read_slot,
    untold,
)
from rowtrail.connectors.sources.postgres_spool import Spool, fill_spool
from rowtrail.connectors.sources.postgres_stream import LogStream
from rowtrail.connectors.sources.postgres_table import SourceTable

_UNDEFINED = "42704"  # no such object


class SharedLog:
    """Keeps what was read last, so that several streams need one peek. It can be read again."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._spool: Spool | None = None
        self.following: LogStream | None = None  # what reads the slot now, and acknowledges

    def spool(
        self, stream: StreamSpec, table: SourceTable, at: LogPosition, asked_at: float | None
    ) -> Spool:
        """What the log has for streams at this position, up to a bound after `asked_at` (or now).

        Raises PositionLostError when it is not the log of the position, or has not all of it.
        """
        slot = self.checked(stream, table, at)
        found = self._spool
        if (
            found is None
            or found.slot != slot.name
            or asked_at is None
            or found.asked_at < asked_at
        ):
            self._forget()
            try:
                found = self._spool = self._peek(slot)
            except ConfigurationError as error:
                # The driver tells no SQLSTATE of an error that comes in the midst of an answer.
                if sqlstate(error.__cause__ or error) not in (_UNDEFINED, None):
                    raise
                raise _lost(
                    stream,
                    f"publication {stream.log} was not there at some place in the log that slot "
                    f"{stream.log} keeps, so that the server cannot read it",
                ) from error
        met = found.transactions
        if (at.commit >= found.confirmed and not met.has(at)) or met.contradict(at):
            raise other_history(stream)
        return found

    def acknowledge(self, streams: Mapping[str, tuple[StreamSpec, str]]) -> None:
        """Moves each slot on to the least position of its streams."""
        least: dict[str, int] = {}
        for name, (stream, token) in streams.items():
            if stream.capture is Capture.LOG:
                upto = LogPosition.parse(name, token).upto
                least[stream.log] = min(upto, least.get(stream.log, upto))
        for log, upto in least.items():
            if self.following is not None and self.following.slot == log:
                self.following.acknowledge(upto)
                continue
            slot = read_slot(self._connection, log)
            if slot is not None and slot.confirmed < upto:
                advance(self._connection, log, upto)

    def retained(self, streams: Mapping[str, tuple[StreamSpec, str]]) -> dict[str, int]:
        """Bytes of log from each position to the end."""
        logged = {
            name: LogPosition.parse(name, token)
            for name, (stream, token) in streams.items()
            if stream.capture is Capture.LOG
        }
        if not logged:
            return {}
        end = read_log_end(self._connection)
        return {name: max(0, end.flushed - at.upto) for name, at in logged.items()}

    def release(self, streams: Sequence[StreamSpec]) -> None:
        """Moves the slots of these streams on to the end of the log."""
        for log in {stream.log for stream in streams if stream.capture is Capture.LOG}:
            if read_slot(self._connection, log) is not None:
                advance(self._connection, log, read_log_end(self._connection).flushed)

    def close(self) -> None:
        self._forget()

    def checked(self, stream: StreamSpec, table: SourceTable, at: LogPosition) -> Slot:
        """The stream's slot, from which it can go on; PositionLostError when it cannot."""
        end = read_log_end(self._connection)
        slot = read_slot(self._connection, stream.log)
        not_told = self._not_told(stream, table, at)
        lost = (
            "the server is another one, or one that has taken over from it"
            if end.system != at.system
            else f"its replication slot is now {stream.log}, and was {at.slot}"
            if stream.log != at.slot
            else f"replication slot {stream.log} is gone: somebody dropped it, or a server has "
            f"taken over that does not have it"
            if slot is None
            else f"replication slot {stream.log} has lost log that it needs, since the server "
            f"keeps no more than max_slot_wal_keep_size"
            if slot.lost
            else not_told
            if not_told is not None
            else f"replication slot {stream.log} has gone on without it, or was made again"
            if slot.confirmed > at.upto
            else "the source is older than its position, perhaps put back from a back-up"
            if end.flushed < at.upto
            else None
        )
        if lost is not None or slot is None:
            raise _lost(stream, str(lost))
        if slot.active_pid is not None:
            raise TransientError(
                f"Replication slot {slot.name} is being read by process {slot.active_pid} of the "
                f"server, perhaps for `rowtrail run --follow`. End that, or wait for it."
            )
        return slot

    def check_published(self, stream: StreamSpec, table: SourceTable, at: LogPosition) -> None:
        """Raises PositionLostError where the log no longer tells all of the table's changes."""
        not_told = self._not_told(stream, table, at)
        if not_told is not None:
            raise _lost(stream, not_told)

    def _not_told(self, stream: StreamSpec, table: SourceTable, at: LogPosition) -> str | None:
        entry = published(self._connection, stream.log, table)
        if entry is None:
            return f"table {table.name} is not in publication {stream.log} any more"
        if entry != at.published:
            return (
                f"table {table.name} was taken out of publication {stream.log} and added again, "
                f"or made again, so that changes may be missing"
            )
        hidden = untold(self._connection, stream.log, table)
        return (
            None if hidden is None else f"{hidden}, so that changes of {table.name} may be missing"
        )

    def _peek(self, slot: Slot) -> Spool:
        asked_at = time.monotonic()
        end = read_log_end(self._connection)
        return fill_spool(
            self._connection.stream(
                peek_query(slot.name, end.flushed), doing=f"read replication slot {slot.name}"
            ),
            slot=slot.name,
            asked_at=asked_at,
            confirmed=slot.confirmed,
            upto=end.flushed,
            fresh_to=end.now,
            snapshot_after=lambda xids: read_log_end(self._connection).snapshot,
        )

    def _forget(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._spool = None


def other_history(stream: StreamSpec) -> PositionLostError:
    return _lost(
        stream,
        "the server has another history than the one it has read, as after it was put back from a "
        "back-up",
    )


def _lost(stream: StreamSpec, why: str) -> PositionLostError:
    return PositionLostError(
        f"Stream {stream.name} cannot go on from its position: {why}. See that `rowtrail init "
        f"--capture` has been run, then read it anew: rowtrail run --resnapshot {stream.name}"
    )
