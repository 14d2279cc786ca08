"""Ledgers in SQLite files: how they are opened, and backed up while in use."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import MutableMapping
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.util import LRUCache

from rowtrail.checkpoints.errors import LedgerAccessError, LedgerError
from rowtrail.checkpoints.store import ledger_error

BUSY_SECONDS = 30.0

_STATEMENTS: MutableMapping[Any, Any] = LRUCache(500)
"""What was compiled, once for all ledgers of the process: they have the same tables."""

# What file systems without hard links say (link(2)).
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def sqlite_engine(path: Path) -> Engine:
    """An engine for the file, which is made, empty, when it is missing (mode 600, folder 700)."""
    _make_file(path)
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_SECONDS},
        execution_options={"compiled_cache": _STATEMENTS},
    )
    engine.dialect = _dialect()  # a statement is found again under the dialect of its engine
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


@cache
def _dialect() -> Dialect:
    engine = create_engine("sqlite://")
    with engine.connect():  # it learns the version of SQLite from its first connection
        return engine.dialect


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its -wal and -shm files the mode of the file itself.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise LedgerAccessError(
            f"The ledger {path} cannot be opened: {error.strerror}. "
            "Check the path and the rights of its folder."
        ) from error


def _configure(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin` says, nowhere else
    connection.execute("PRAGMA foreign_keys = ON")
    # What is deleted, such as images of rows, is not to be found in the file afterwards.
    connection.execute("PRAGMA secure_delete = ON")


# Set before a transaction begins, since SQLite ignores it within one.
# https://sqlite.org/pragma.html#pragma_synchronous
_SYNCHRONOUS = {"durable": "FULL", "soon": "NORMAL"}


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("rowtrail_writes")
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    try:
        if writes is None:
            driver.execute("BEGIN")
            return
        driver.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[writes]}")
        # A deferred transaction that turns to writing may fail at once on a lock: never start so.
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        raise ledger_error(str(connection.engine.url.database), error) from error


def use_write_ahead_log(engine: Engine, location: str) -> None:
    """Readers and the writer do not wait for each other from now on; the file remembers it."""
    from tenacity import Retrying, retry_if_exception, stop_after_delay
    from tenacity.wait import wait_random

    # Two processes that do it at the same moment are refused at once, whatever the timeout says.
    retrying = Retrying(
        retry=retry_if_exception(lambda error: "is locked" in str(error)),
        stop=stop_after_delay(BUSY_SECONDS),
        wait=wait_random(max=0.05),
        reraise=True,
    )
    raw = engine.raw_connection()  # the pragma is refused within a transaction
    try:
        retrying(lambda: raw.cursor().execute("PRAGMA journal_mode = WAL").fetchone())
    except sqlite3.Error as error:
        raise ledger_error(location, error) from error
    finally:
        raw.close()


def shrink(engine: Engine, path: Path) -> tuple[int, int]:
    """Writes the file anew without free pages; bytes before and after. Raises LedgerError."""
    before = path.stat().st_size
    raw = engine.raw_connection()  # refused within a transaction
    try:
        raw.cursor().execute("VACUUM")
    except sqlite3.Error as error:
        raise ledger_error(str(path), error) from error
    finally:
        raw.close()
    checkpoint(engine)
    return before, path.stat().st_size


def checkpoint(engine: Engine) -> None:
    """Moves the log of writes into the file and empties it, as far as nobody reads from it."""
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        raise ledger_error(str(engine.url.database), error) from error
    finally:
        raw.close()


def back_up(engine: Engine, path: Path) -> None:
    """Copies one state of the file to `path` (mode 600) while others read and write.

    The copy appears under its name when it is whole. Raises LedgerError when `path` exists.
    """
    if path.exists():
        raise _taken(path)
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # of a back-up that was cut off
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            _copy(engine, partial)
            _publish(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise LedgerAccessError(
            f"The back-up {path} cannot be written: {error.strerror}. "
            "Check the rights of its folder and the room on its disk."
        ) from error
    except sqlite3.Error as error:
        raise ledger_error(str(path), error) from error


def _publish(partial: Path, path: Path) -> None:
    try:
        os.link(partial, path)  # unlike a rename, this fails when the name is taken
    except FileExistsError as error:
        raise _taken(path) from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        partial.rename(path)


def _taken(path: Path) -> LedgerError:
    return LedgerError(
        f"The back-up {path} exists already and is not overwritten. Choose another name."
    )


def _copy(engine: Engine, path: Path) -> None:
    raw = engine.raw_connection()
    target = sqlite3.connect(path)
    try:
        source = raw.driver_connection
        assert isinstance(source, sqlite3.Connection)
        source.backup(target)  # all pages in one step: a writer in between would start it anew
    finally:
        target.close()
        raw.close()
