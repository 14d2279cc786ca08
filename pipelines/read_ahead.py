"""Reads the next batch from the source while the last one is on its way to the target.

What may happen at the same time is the source's work and the target's, nothing else: a source that
asks what target and ledger know waits until all that it has handed out is durable, and so sees the
same as if there were no reading ahead; and the source is never used from two threads at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Event, Lock
from types import TracebackType
from typing import Self

import pyarrow as pa

from rowtrail.connectors.base import Known
from rowtrail.connectors.changes import Changes

Key = tuple[object, ...]
Reading = Callable[[Known], Iterator[Changes]]
"""Begins to read a source that may ask what is known."""


class ReadAhead:
    """The items of one read, each of which is computed while the one before it is made durable.

    Asking for an item says that the one before it is durable. What the source raises is raised
    here, after the items before it. `source` is held while the source is being used; whoever else
    needs the source takes it first.
    """

    def __init__(self, reading: Reading, known: Known, source: Lock) -> None:
        self._source = source
        self._durable = Event()
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rowtrail-read")
        self._items = reading(_Waiting(known, self._until_durable))
        self._next: Future[Changes | None] = self._thread.submit(self._read)

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

    def __next__(self) -> Changes:
        self._durable.set()
        try:
            changes = self._next.result()
        finally:
            self._durable.clear()
        if changes is None:
            raise StopIteration
        self._next = self._thread.submit(self._read)
        return changes

    def close(self) -> None:
        """Ends the read; waits for the source to finish what it is doing now."""
        self._closed = True
        self._durable.set()
        self._thread.shutdown()
        close = getattr(self._items, "close", None)
        if close is not None:
            close()

    def _read(self) -> Changes | None:
        with self._source:
            return next(self._items, None)

    @contextmanager
    def _until_durable(self) -> Iterator[None]:
        """In the reading thread, in the midst of an item: others may use the source meanwhile."""
        self._source.release()
        try:
            self._durable.wait()
            if self._closed:
                raise _ClosedError
            yield
        finally:
            self._source.acquire()


class _ClosedError(Exception):
    """Ends an item that nobody waits for any more."""


class _Waiting:
    """`Known` whose answers wait until all that was handed out is durable."""

    def __init__(
        self, known: Known, until_durable: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._known = known
        self._until_durable = until_durable

    def keys(self, after: Key | None, upto: Key | None, limit: int) -> pa.Table:
        with self._until_durable():
            return self._known.keys(after, upto, limit)

    def pages(self) -> Iterator[pa.RecordBatch]:
        pages: Iterator[pa.RecordBatch] | None = None
        while True:
            with self._until_durable():
                pages = self._known.pages() if pages is None else pages
                page = next(pages, None)
            if page is None:
                return
            yield page
