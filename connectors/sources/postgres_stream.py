"""PostgreSQL's streaming replication protocol: the messages of a slot as they are committed.

It rests on libpq's own calls, which psycopg hands on, so it stays in this one module.
https://www.postgresql.org/docs/current/protocol-replication.html
"""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from threading import Event, Lock, Thread
from typing import NoReturn

import psycopg
import pyarrow as pa
from psycopg import pq

from rowtrail.connectors.errors import RowtrailError, TransientError
from rowtrail.connectors.postgres_client import PostgresUrl, quote, quote_text
from rowtrail.connectors.postgres_errors import translated

LINGER_SECONDS = 0.1
"""How long messages are collected after the first one of a window: the delay of a single change."""

STATUS_SECONDS = 5.0
"""The server hears of us so often, well within its wal_sender_timeout (60 s)."""

IDLE_SECONDS = 0.2
"""How long nothing has to come until a window ends without messages."""

_LONG = 200_000  # messages of a window
_BATCH_MESSAGES = 50_000  # handed over at once; of a large transaction several
_BATCH_BYTES = 64 * 1024 * 1024
_DATA, _KEEPALIVE = b"wk"
_BEGIN, _COMMIT = b"BC"
_UNDEFINED = "42704"  # no such object
_HEAD = 25  # kind, start, end and time of an XLogData message
_REPLY = 17  # place in a keepalive: the server wants to hear of us now
_POSTGRES_EPOCH = 946_684_800


class LogStream:
    """Reads one slot until it is closed. The slot is in use meanwhile.

    A thread tells the server every few seconds that we live, also while a batch is on its way to
    the target, with the place that was last acknowledged.
    """

    def __init__(self, url: PostgresUrl, slot: str, flushed: int, *, as_is: bool) -> None:
        """`as_is`: text comes in the bytes that the database has, which may be no text at all."""
        self._where = url.name
        self._as_is = as_is
        self.slot = slot
        self._flushed = flushed
        self._lock = Lock()  # libpq's connection is for one thread at a time
        self._closed = Event()
        self.sent = flushed  # the server has told all transactions that end up to here
        with translated("connect", url.name):
            self._connection = psycopg.connect(
                url.conninfo(replication="database"), autocommit=True
            )
        try:
            with self._translated():
                self._begin()
        except BaseException:
            self._connection.close()
            raise
        self._thread = Thread(target=self._stay_alive, name="rowtrail-follow", daemon=True)
        self._thread.start()

    def acknowledge(self, place: int) -> None:
        """What ends up to there is durable: the server may forget it."""
        self._flushed = max(self._flushed, place)

    def window(self, stop: Callable[[], bool]) -> Iterator[pa.RecordBatch]:
        """Messages of whole transactions, in batches of one binary column.

        Nothing when there was none for a moment. A window ends with a commit, some time after its
        first message, or when it is long; only when `stop` says so it may end before the commit.
        Raises TransientError when the connection is lost.
        """
        waiting: list[bytes] = []
        count, size, began, inside = 0, 0, 0.0, False
        while True:
            payload = self._receive()
            if payload is None:
                if stop() or (count and not inside and _since(began) >= LINGER_SECONDS):
                    break
                if not self._wait(LINGER_SECONDS if count else IDLE_SECONDS) and not count:
                    break
                continue
            began = began if count else time.monotonic()
            waiting.append(payload)
            count += 1
            size += len(payload)
            inside = payload[0] == _BEGIN or (inside and payload[0] != _COMMIT)
            if len(waiting) >= _BATCH_MESSAGES or size >= _BATCH_BYTES:
                yield _batch(waiting)
                waiting, size = [], 0
            if not inside and (count >= _LONG or _since(began) >= 10 * LINGER_SECONDS):
                break
        if waiting:
            yield _batch(waiting)

    def close(self) -> None:
        """Says goodbye with the last acknowledged place, so that the slot is there."""
        self._closed.set()
        self._thread.join()
        with suppress(psycopg.Error, RowtrailError):
            self._tell()
        self._connection.close()

    def _begin(self) -> None:
        if self._as_is:
            self._connection.execute("SET client_encoding = 'SQL_ASCII'")
        publication = quote_text(quote(self.slot)).strip()
        command = (
            f"START_REPLICATION SLOT {quote(self.slot)} LOGICAL 0/0 "
            f"(proto_version '1', publication_names {publication})"
        )
        result = self._connection.pgconn.exec_(command.encode())
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise psycopg.errors.error_from_result(result)

    def _receive(self) -> bytes | None:
        """The next message of the plugin; None when there is none yet."""
        while True:
            with self._lock, self._translated():
                size, data = self._connection.pgconn.get_copy_data(1)
                if size == 0:
                    return None
                if size < 0:
                    self._ended()
                content = bytes(data)
            if content[0] == _DATA:
                return content[_HEAD:]
            if content[0] == _KEEPALIVE:
                self.sent = max(self.sent, int.from_bytes(content[1:9], "big"))
                if content[_REPLY]:
                    self._tell()

    def _ended(self) -> NoReturn:
        """Raises why the server sends no more, as far as it said so.

        That something is gone is found out by who begins anew, and for which streams.
        """
        result = self._connection.pgconn.get_result()
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            error = psycopg.errors.error_from_result(result)
            if error.sqlstate != _UNDEFINED:
                raise error
        raise TransientError(
            f"PostgreSQL at {self._where} has ended the stream of slot {self.slot}. Check that the "
            f"server runs; then try again."
        )

    def _wait(self, seconds: float) -> bool:
        """Whether something came."""
        with self._translated():
            ready, _, _ = select.select([self._connection.pgconn.socket], [], [], seconds)
            if ready:
                with self._lock:
                    self._connection.pgconn.consume_input()
        return bool(ready)

    def _stay_alive(self) -> None:
        while not self._closed.wait(STATUS_SECONDS):
            with suppress(psycopg.Error, RowtrailError):  # who reads will meet the same error
                self._tell()

    def _tell(self) -> None:
        """Standby status update: written, flushed and applied, all what was acknowledged."""
        now = int((time.time() - _POSTGRES_EPOCH) * 1_000_000)
        place = self._flushed
        with self._lock, self._translated():
            self._connection.pgconn.put_copy_data(
                b"r" + struct.pack(">QQQQB", place, place, place, now, 0)
            )
            self._connection.pgconn.flush()

    def _translated(self) -> AbstractContextManager[None]:
        return translated(f"read replication slot {self.slot}", self._where)


def _since(moment: float) -> float:
    return time.monotonic() - moment


def _batch(messages: list[bytes]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(messages, pa.binary())], names=["data"])
