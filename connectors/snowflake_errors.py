"""What Snowflake's errors mean, by their numbers. No driver's exception leaves `connectors/`.

Numbers are those of the server, and of the connector's two lines 4.x and 5.x where the client finds
the fault itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from snowflake.connector import errors as driver

from rowtrail.connectors.errors import (
    ConfigurationError,
    RecordError,
    RowtrailError,
    StopError,
    TransientError,
)

_ADVICE: tuple[tuple[frozenset[int], type[RowtrailError], str], ...] = (
    (
        frozenset({390100, 390144, 390186, 390189, 394304, 250001}),
        ConfigurationError,
        "Check account, user and how the user signs in (password, private_key_file, token).",
    ),
    (
        frozenset({390303, 390318, 395092}),
        ConfigurationError,
        "The OAuth token is not or no longer valid: put a fresh one in its place, then run again.",
    ),
    (
        frozenset({390110, 390112, 390114, 390115, 390195}),
        TransientError,
        "The session's token has expired; the next try signs in anew.",
    ),
    (
        frozenset({390103, 390104, 390111, 390113}),
        TransientError,
        "The session is lost: the server knows it no longer. The next try opens another.",
    ),
    (
        frozenset({606, 607, 608, 609, 90064}),
        ConfigurationError,
        "The warehouse is missing or suspended and does not resume by itself: ALTER WAREHOUSE … "
        "RESUME, or set AUTO_RESUME = TRUE; name it with ?warehouse=… in the URL.",
    ),
    (
        frozenset({90073}),
        ConfigurationError,
        "A resource monitor has suspended the warehouse: raise its quota or wait until it begins "
        "anew.",
    ),
    (
        frozenset({625, 626, 616}),
        TransientError,
        "Another transaction was in the way; try again. SHOW LOCKS tells whose it is, and SELECT "
        "SYSTEM$ABORT_TRANSACTION(…) ends one whose process is gone.",
    ),
    (frozenset({604}), TransientError, "Somebody cancelled the statement; it can be tried again."),
    (
        frozenset({630}),
        TransientError,
        "The statement ran into its timeout: take a larger warehouse, a smaller batch_rows, or "
        "raise ?statement_timeout=… in the URL.",
    ),
    (
        frozenset({2003, 2043, 3001, 1063}),
        ConfigurationError,
        "Check the name, and that the role may use it (the grants are in docs/snowflake.md).",
    ),
    (frozenset({90105, 90106}), ConfigurationError, "Name database and schema in the URL."),
)
_NO_ANSWER = (0, 4, 250001, 250003)
"""Of the connector itself: sign-in and requests, for whatever reason."""
_UNREACHABLE = re.compile(
    r"failed after retries|refused|timed out|timeout|unreachable|resolve|name or service|dns"
    r"|could not connect|connection (?:reset|aborted|closed)",
    re.I,
)
_NOT_NULL = 100072
_ABOUT_VALUES = ("22", "23")  # SQLSTATE: data, constraints
_COLUMN = re.compile(r'column[^"\n]{0,20}"([^"]+)"|constraint failed: \w+\.(\w+)', re.I)
_QUOTED = re.compile(r"'.*'", re.S)
_NUMBER = re.compile(r"\A(?:\d{6} \([0-9A-Z]{5}\): |\d{6}: |None: )+")
_TRAILER = re.compile(r"\s*\(request_id=[^)]*\)\s*\Z")


@contextmanager
def translated(doing: str, where: str, *, record: bool = False) -> Iterator[None]:
    """Raises what the connector raises inside as one of the families.

    `doing` completes "Snowflake could not …", `where` names account and database. With `record`,
    an error that is plainly about a value is a RecordError; without, the values are Rowtrail's own
    and such an error means broken code.
    """
    try:
        yield
    except driver.Error as error:
        raise translate(error, doing, where, record=record) from error


def number(error: BaseException) -> int:
    """The error's number; 0 where there is none."""
    return int(getattr(error, "errno", None) or 0)


def sqlstate(error: BaseException) -> str:
    """Its SQLSTATE; nothing where there is none."""
    return str(getattr(error, "sqlstate", "") or "")


def is_missing(error: BaseException) -> bool:
    """Whether what a statement names is not there, or hidden from this role."""
    return number(error) in (2003, 2043)


def about_a_value(error: BaseException) -> bool:
    """Whether an error is plainly about a value."""
    return number(error) == _NOT_NULL or sqlstate(error).startswith(_ABOUT_VALUES)


def reason(error: BaseException) -> str:
    """What the server says, without the values that it trips over."""
    words = _words(error)
    return _QUOTED.sub("…", words) if about_a_value(error) else words


def translate(
    error: driver.Error, doing: str, where: str, *, record: bool = False
) -> RowtrailError:
    code, words = number(error), _words(error)
    failed = f"Snowflake at {where} could not {doing}"
    if about_a_value(error):
        match = _COLUMN.search(words)
        column = (match[1] or match[2]) if match else None
        words = reason(error)
        if record:
            return RecordError(
                f"{failed}: {words}. Correct the row at the source or in a transform, or change "
                f"the column at the table.",
                column=column,
            )
    sentence = f"{failed}: {words}."
    if code in _NO_ANSWER and _UNREACHABLE.search(words):
        return TransientError(
            f"{sentence} Check the account (and host and port, if given) in the URL, and the "
            f"network; then try again."
        )
    for codes, family, advice in _ADVICE:
        if code in codes:
            return family(f"{sentence} {advice}")
    if sqlstate(error).startswith("42"):
        return ConfigurationError(
            f"{sentence} The schema may have changed: compare the stream's settings with the table."
        )
    if isinstance(error, (driver.OperationalError, driver.InterfaceError)) and not about_a_value(
        error
    ):
        return TransientError(f"{sentence} Check that the account can be reached; then try again.")
    return StopError(f"{sentence} (Number {code}.) Look at the query history before running again.")


def _words(error: BaseException) -> str:
    """The message's first line, without its numbers."""
    text = str(getattr(error, "msg", None) or error)
    text = _TRAILER.sub("", _NUMBER.sub("", text.strip()))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith("compilation error:"):
        lines = [f"{lines[0]} {lines[1]}"]
    return lines[0].rstrip(".") if lines else type(error).__name__
