"""Reads the next batch from the source while the last one is on its way to the target.

What may happen at the same time is the source's work and the target's, nothing else: a source that
asks what target and ledger know waits until all that it has given and that its question is about is
durable, and so sees the same as if there were no reading ahead; and the source is never used from
two threads at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Condition, Lock
from types import TracebackType
from typing import Generic, Self, TypeVar

import pyarrow as pa

from rowtrail.connectors.base import Known
from rowtrail.connectors.changes import Changes
from rowtrail.pipelines.gathering import Gatherer
from rowtrail.pipelines.key_extent import Key, may_have

Reading = Callable[[Known], Iterator[Changes]]
"""Begins to read a source that may ask what is known."""

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """The batches of one read, each of which is made while the one before it is made durable.

    Asking for a batch says that the one before it is durable. What the source raises is raised
    here, after the batches before it. `source` is held while the source is being used; whoever else
    needs the source takes it first. `finish` makes a batch of what has been gathered, in the
    reading thread; it is told whether somebody waits for it.
    """

    def __init__(
        self,
        reading: Reading,
        known: Known,
        source: Lock,
        gatherer: Gatherer,
        finish: Callable[[Changes, bool], T],
    ) -> None:
        self._source = source
        self._gatherer = gatherer
        self._finish = finish
        self._turn = Condition()
        self._asked = False  # all that was handed out is durable, and the next one is waited for
        self._ready: list[T] = []  # one at most
        self._ended = False
        self._closed = False
        self._items = reading(_Waiting(known, self._until_durable))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rowtrail-read")
        self._reading = self._thread.submit(self._read)
        self._reading.add_done_callback(self._end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._turn:
            self._asked = True
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._ready or self._ended)
            self._asked = False
            self._turn.notify_all()
            if self._ready:
                return self._ready.pop()
        self._reading.result()  # raises what the source raised
        raise StopIteration

    def close(self) -> None:
        """Ends the read; waits for the source to finish what it is doing now."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        self._thread.shutdown()
        close = getattr(self._items, "close", None)
        if close is not None:
            close()

    def _read(self) -> None:
        """What the reading thread does."""
        try:
            while self._read_item():
                pass
        finally:
            self._hand_out()  # before the error, if there is one

    def _read_item(self) -> bool:
        with self._source:
            changes = next(self._items, None)
        if changes is None:
            return False
        if not self._gatherer.takes(changes):
            self._hand_out()
        self._gatherer.add(changes)
        if self._gatherer.is_due:
            self._hand_out()
        return True

    def _end(self, reading: Future[None]) -> None:
        with self._turn:
            self._ended = True
            self._turn.notify_all()

    def _hand_out(self) -> None:
        """Gives what was gathered to whoever asks for it; waits until it is taken."""
        changes = self._gatherer.take()
        if changes is None:
            return
        with self._turn:
            self._stop_if_closed()
            waited_for = self._asked
        batch = self._finish(changes, waited_for)
        with self._turn:
            self._ready.append(batch)
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._closed or not self._ready)
            self._stop_if_closed()

    def _stop_if_closed(self) -> None:
        if self._closed:
            raise _ClosedError

    @contextmanager
    def _until_durable(self, is_about: Callable[[Sequence[Changes]], bool]) -> Iterator[None]:
        """In the reading thread, in the midst of an item: others may use the source meanwhile.

        What was gathered is made durable too if the question is about it, else it waits on.
        """
        self._source.release()
        try:
            if is_about(self._gatherer.parts):
                self._hand_out()
            with self._turn:
                self._turn.wait_for(lambda: self._closed or self._asked)
                self._stop_if_closed()
            yield
        finally:
            self._source.acquire()


class _ClosedError(Exception):
    """Ends an item that nobody waits for any more."""


class _Waiting:
    """`Known` whose answers wait until all that they are about is durable."""

    def __init__(
        self,
        known: Known,
        until_durable: Callable[
            [Callable[[Sequence[Changes]], bool]], AbstractContextManager[None]
        ],
    ) -> None:
        self._known = known
        self._until_durable = until_durable

    def keys(self, after: Key | None, upto: Key | None, limit: int) -> pa.Table:
        with self._until_durable(lambda parts: may_have(parts, after, upto)):
            return self._known.keys(after, upto, limit)

    def pages(self) -> Iterator[pa.RecordBatch]:
        pages: Iterator[pa.RecordBatch] | None = None
        while True:
            # Of a complete read, whose end never waits to be gathered with more.
            with self._until_durable(lambda parts: False):
                pages = self._known.pages() if pages is None else pages
                page = next(pages, None)
            if page is None:
                return
            yield page
