"""Reading ahead: what may happen at the same time, and what never does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Event, Lock, Timer, get_ident
from typing import cast

import pyarrow as pa
import pytest

from rowtrail.connectors.base import Gathering, Known
from rowtrail.connectors.changes import Changes
from rowtrail.pipelines.gathering import Gatherer
from rowtrail.pipelines.read_ahead import ReadAhead

from .gathered_changes import changes_of, ids, upto

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
    reading: Callable[[Known], Iterator[Changes]],
    log: Log | None = None,
    lock: Lock | None = None,
    upto: Gathering | None = None,
) -> ReadAhead[Changes]:
    return ReadAhead(
        reading,
        cast("Known", log or Log()),
        lock or Lock(),
        Gatherer(upto),
        lambda changes, waited_for: changes,
    )


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


def test_what_is_read_is_gathered_to_the_limit_and_the_rest_comes_in_the_end() -> None:
    def reading(known: Known) -> Iterator[Changes]:
        for number in range(0, 10, 2):
            yield changes_of(number, number + 1)

    with read_ahead(reading, upto=upto(rows=4)) as items:
        assert [ids(one) for one in items] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_what_was_gathered_before_an_error_is_handed_out() -> None:
    def reading(known: Known) -> Iterator[Changes]:
        yield changes_of(1)
        yield changes_of(2)
        raise ValueError("cut")

    with read_ahead(reading, upto=upto()) as items:
        assert ids(next(items)) == [1, 2]
        with pytest.raises(ValueError, match="cut"):
            next(items)


@pytest.mark.parametrize(
    ("after", "upto_key", "batches"),
    [
        ((2,), (9,), [[1, 2, 3]]),  # behind all that was gathered: it waits on
        ((2,), None, [[1, 2, 3]]),
        (None, (0,), [[1, 2, 3]]),
        ((1,), (9,), [[1, 2], [3]]),
        (None, (1,), [[1, 2], [3]]),
        (None, None, [[1, 2], [3]]),
    ],
)
def test_what_a_question_is_about_is_durable_before_it_is_answered(
    after: tuple[int] | None, upto_key: tuple[int] | None, batches: list[list[int]]
) -> None:
    log = Log()

    def reading(known: Known) -> Iterator[Changes]:
        yield changes_of(2)
        yield changes_of(1)
        known.keys(after, upto_key, 9)
        yield changes_of(3)

    with read_ahead(reading, log, upto=upto()) as items:
        found = []
        for one in items:
            found.append(sorted(ids(one)))
            log.seen.append(f"{len(found)} is durable")
    assert found == batches
    assert log.seen[: len(batches)] == ["1 is durable", "asked"][-len(batches) :]


def test_pages_of_the_last_read_do_not_end_what_is_gathered() -> None:
    def reading(known: Known) -> Iterator[Changes]:
        for number, _ in enumerate(known.pages()):
            yield changes_of(number)

    with read_ahead(reading, upto=upto()) as items:
        assert [ids(one) for one in items] == [[0, 1]]


def test_a_batch_is_finished_with_nobody_waiting_while_the_one_before_it_is_made_durable() -> None:
    finished = Event()
    told: list[bool] = []

    def finish(changes: Changes, waited_for: bool) -> Changes:
        told.append(waited_for)
        if len(told) == 2:
            finished.set()
        return changes

    def reading(known: Known) -> Iterator[Changes]:
        assert asked.wait(SECONDS)
        yield item("first")
        yield item("second")

    asked = Event()
    gatherer = Gatherer(None)
    with ReadAhead(reading, cast("Known", Log()), Lock(), gatherer, finish) as items:
        Timer(0.05, asked.set).start()
        assert next(items) == "first"
        assert finished.wait(SECONDS)
        assert next(items) == "second"
    assert told == [True, False]


def test_closing_ends_what_is_gathered() -> None:
    begun = Event()

    def reading(known: Known) -> Iterator[Changes]:
        yield changes_of(1)
        begun.set()
        known.keys(None, None, 9)

    with read_ahead(reading, upto=upto()):
        assert begun.wait(SECONDS)
