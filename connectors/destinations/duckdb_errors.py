"""DuckDB's exceptions as Rowtrail's error families. None of the former leaves the connector."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from rowtrail.connectors.errors import (
    ConfigurationError,
    RecordError,
    RowtrailError,
    StopError,
    TransientError,
)

_DISK_FULL = re.compile(r"no space left|disk full|file too large|quota exceeded|ENOSPC", re.I)
_NO_MEMORY = re.compile(r"(could not|failed to) (allocate|pin)", re.I)
_LOCKED = re.compile(r"could not set lock.*?(?:\(PID (\d+)\)|$)", re.I | re.S)
_UNICODE = re.compile(r"invalid unicode|utf-?8", re.I)
_NOT_NULL = re.compile(r"NOT NULL constraint failed: (.+)")
_DUPLICATE = re.compile(r'Duplicate key "([^:"]+):')
_CHECK = re.compile(r"CHECK constraint failed on table .*? with expression (.+)")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\bvalue \S+")


@contextmanager
def translated(doing: str, *, record: bool = False) -> Iterator[None]:
    """Raises what DuckDB raises inside as one of the families.

    `doing` completes "DuckDB could not …". With `record`, an error that is plainly about a value
    is a RecordError; without, values are Rowtrail's own and such an error means broken code.
    """
    try:
        yield
    except duckdb.Error as error:
        raise translate(error, doing, record=record) from error


def translate(error: duckdb.Error, doing: str, *, record: bool) -> RowtrailError:
    text = first_line(error)
    if record and (at_fault := _about_a_value(error, text, doing)):
        return at_fault
    if isinstance(error, duckdb.OutOfMemoryException) or _NO_MEMORY.search(text):
        return StopError(
            f"DuckDB could not {doing}: its memory limit was reached ({text}). Raise it in the "
            f"destination's URL (?memory_limit=512MB), or lower batch_rows of the stream."
        )
    if _DISK_FULL.search(text):
        return StopError(
            f"DuckDB could not {doing}: the disk is full ({text}). Free some space, then run "
            f"again: the receipts tell the next run what was written."
        )
    if locked := _LOCKED.search(str(error)):
        return TransientError(held_by_another(doing, locked[1]))
    if isinstance(error, duckdb.TransactionException) and "conflict" in text.lower():
        return TransientError(
            f"DuckDB could not {doing}: another connection of this process changed the same rows "
            f"({text}). Try again when it has finished."
        )
    if isinstance(error, duckdb.CatalogException | duckdb.BinderException):
        return ConfigurationError(
            f"DuckDB could not {doing}: a table or column is not there or cannot be used so "
            f"({text}). It was probably changed by hand; run again so that Rowtrail compares the "
            f"tables, or choose another table."
        )
    return StopError(
        f"DuckDB could not {doing}: {text}. See that the file and its disk are sound, then run "
        f"again: the receipts tell the next run what was written."
    )


def held_by_another(doing: str, pid: str | None) -> str:
    who = f"process {pid}" if pid else "another process"
    return (
        f"DuckDB could not {doing}: {who} holds the file, most likely a run that writes to it. "
        f"DuckDB lets nobody else in, even to read, until it ends; wait for it or stop it."
    )


def _about_a_value(error: duckdb.Error, text: str, doing: str) -> RecordError | None:
    if isinstance(error, duckdb.ConstraintException):
        return _constraint(text, doing)
    invalid = isinstance(error, duckdb.InvalidInputException) and _UNICODE.search(text)
    if invalid or isinstance(error, duckdb.ConversionException | duckdb.OutOfRangeException):
        return RecordError(
            f"DuckDB could not {doing}: a value does not fit its column ({_masked(text)}). Correct "
            f"it at the source or in a transform, or give the column another type."
        )
    return None


def _constraint(text: str, doing: str) -> RecordError:
    """Says which constraint, and keeps the value to itself: it may be a redacted column's."""
    column = None
    if match := _NOT_NULL.search(text):
        column = match[1].rsplit(".", 1)[-1]
        what = f"column {column} may not be NULL"
    elif match := _CHECK.search(text):
        what = f"a row breaks the constraint {match[1]}"
    elif match := _DUPLICATE.search(text):
        column = match[1]
        what = f"a unique index that begins with column {column} has the value already"
    else:
        what = f"a row breaks a constraint of the table ({_masked(text)})"
    return RecordError(
        f"DuckDB could not {doing}: {what}. Correct the row at the source or in a transform, or "
        f"drop the constraint from the target table.",
        column=column,
    )


def first_line(error: duckdb.Error) -> str:
    """The message without DuckDB's class in front and the statement's excerpt behind."""
    line = str(error).strip().split("\n", 1)[0].strip().rstrip(".")
    return line.partition(" Error: ")[2] or line


def _masked(text: str) -> str:
    return _QUOTED.sub("…", text)
