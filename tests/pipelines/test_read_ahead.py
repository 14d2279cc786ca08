"""Reading ahead: what may happen at the same time, and what never does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Event, Lock, get_ident
from typing import cast

import pyarrow as pa
import pytest

from rowtrail.connectors.base import Known
from rowtrail.connectors.changes import Changes
from rowtrail.pipelines.read_ahead import ReadAhead

SECONDS = 10


class Log:
    """Notes what happened, in order."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def keys(self, after: object, upto: object, limit: int) -> pa.Table:
        self.seen.append("asked")
        return pa.table({"id": [1]})

    def pages(self) -> Iterator[pa.RecordBatch]:
        for number in (1, 2):
            self.seen.append(f"page {number}")
            yield pa.record_batch({"id": [number]})


def item(name: str) -> Changes:
    return cast("Changes", name)


def read_ahead(
    reading: Callable[[Known], Iterator[Changes]], log: Log | None = None, lock: Lock | None = None
) -> ReadAhead:
    return ReadAhead(reading, cast("Known", log or Log()), lock or Lock())


def test_the_next_item_is_read_before_the_last_one_is_durable() -> None:
    second_is_read = Event()

    def reading(known: Known) -> Iterator[Changes]:
        yield item("first")
        second_is_read.set()
        yield item("second")

    with read_ahead(reading) as items:
        assert next(items) == "first"
        assert second_is_read.wait(SECONDS)
        assert list(items) == ["second"]


def test_no_more_than_one_item_is_read_ahead() -> None:
    seen: list[int] = []

    def reading(known: Known) -> Iterator[Changes]:
        for number in range(5):
            seen.append(number)
            yield item(str(number))

    lock = Lock()
    with read_ahead(reading, lock=lock) as items:
        for number in range(5):
            assert next(items) == str(number)
            with lock:  # the reader is not at work
                assert seen[-1] <= number + 1


def test_what_is_known_is_asked_when_all_that_was_handed_out_is_durable() -> None:
    log = Log()
    asking = Event()

    def reading(known: Known) -> Iterator[Changes]:
        yield item("first")
        asking.set()
        known.keys(None, None, 9)
        yield item("second")

    with read_ahead(reading, log) as items:
        next(items)
        assert asking.wait(SECONDS)
        log.seen.append("first is durable")
        assert next(items) == "second"
    assert log.seen == ["first is durable", "asked"]


def test_pages_too_are_asked_when_all_that_was_handed_out_is_durable() -> None:
    log = Log()

    def reading(known: Known) -> Iterator[Changes]:
        pages = known.pages()
        next(pages)
        yield item("first")
        assert len(list(pages)) == 1
        yield item("second")

    with read_ahead(reading, log) as items:
        next(items)
        log.seen.append("first is durable")
        assert list(items) == ["second"]
    assert log.seen == ["page 1", "first is durable", "page 2"]


def test_the_source_is_free_while_the_reader_waits() -> None:
    """Else whoever makes a batch durable and tells the source would wait for ever."""
    lock = Lock()
    asking = Event()

    def reading(known: Known) -> Iterator[Changes]:
        yield item("first")
        asking.set()
        known.keys(None, None, 9)
        assert lock.locked()  # taken again for the rest of the item
        yield item("second")

    with read_ahead(reading, lock=lock) as items:
        next(items)
        assert asking.wait(SECONDS)
        assert lock.acquire(timeout=SECONDS)
        lock.release()
        assert list(items) == ["second"]
    assert not lock.locked()


def test_an_error_comes_after_the_items_before_it() -> None:
    def reading(known: Known) -> Iterator[Changes]:
        yield item("first")
        raise ValueError("cut")

    with read_ahead(reading) as items:
        assert next(items) == "first"
        with pytest.raises(ValueError, match="cut"):
            next(items)


def test_what_known_raises_reaches_the_source() -> None:
    class Broken(Log):
        def keys(self, after: object, upto: object, limit: int) -> pa.Table:
            raise ValueError("the target is gone")

    def reading(known: Known) -> Iterator[Changes]:
        with pytest.raises(ValueError, match="the target is gone"):
            known.keys(None, None, 9)
        yield item("went on")

    with read_ahead(reading, Broken()) as items:
        assert list(items) == ["went on"]


@pytest.mark.parametrize("waits", [False, True])
def test_closing_ends_a_read_wherever_it_is(*, waits: bool) -> None:
    ended: list[int] = []
    lock = Lock()

    def reading(known: Known) -> Iterator[Changes]:
        try:
            yield item("first")
            if waits:
                known.keys(None, None, 9)
            yield item("second")
            yield item("never asked for")
        finally:
            ended.append(get_ident())

    log = Log()
    with closing(read_ahead(reading, log, lock)) as items:
        next(items)
    assert len(ended) == 1
    assert log.seen == []
    assert not lock.locked()
