"""Writers that hold transactions open, as many applications do, each on a connection of its own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

Write = Callable[[psycopg.Cursor[tuple[object, ...]], random.Random, int], None]
"""One statement or more of a transaction; the number is unique among all writes."""


@contextmanager
def writers(url: str, write: Write, *, count: int = 4) -> Iterator[None]:
    """Writes all the time until left. Transactions overlap, and commit in another order than they
    began; some are rolled back. An error of a writer fails the test."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def run(number: int) -> None:
        dice = random.Random(number)
        try:
            with psycopg.connect(url) as connection, connection.cursor() as cursor:
                serial = number
                while not stop.is_set():
                    try:
                        for _ in range(dice.randrange(1, 4)):
                            write(cursor, dice, serial)
                            serial += count
                            time.sleep(dice.random() * 0.02)
                        if dice.random() < 0.1:
                            connection.rollback()
                        else:
                            connection.commit()
                    except psycopg.errors.DeadlockDetected:
                        connection.rollback()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
