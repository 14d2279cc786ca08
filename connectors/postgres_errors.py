"""What PostgreSQL's errors mean, by SQLSTATE. No driver's exception leaves `connectors/`.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pyarrow as pa

from rowtrail.connectors.errors import (
    ConfigurationError,
    RecordError,
    RowtrailError,
    StopError,
    TransientError,
)

_ADVICE: tuple[tuple[tuple[str, ...], type[RowtrailError], str], ...] = (
    (("28P01",), ConfigurationError, "Check user and password in the URL or the password file."),
    (("28",), ConfigurationError, "Check the user in the URL, and pg_hba.conf at the server."),
    (("3D000",), ConfigurationError, "Check the database's name in the URL."),
    (("42501",), ConfigurationError, "Give this user the right, or use another user."),
    (
        ("25006",),
        ConfigurationError,
        "The server takes no writes, as a standby does not: name the primary in the URL.",
    ),
    (("53300",), TransientError, "The server has no connection left; try again later."),
    (
        ("53400",),
        ConfigurationError,
        "Raise that limit in the server's settings, or free what nobody needs.",
    ),
    (("53100",), StopError, "Free some space on the server's disk, then run again."),
    (("53",), StopError, "The server lacks resources: look at its log, then run again."),
    (("40001",), TransientError, "Other transactions were in the way; it can be tried again."),
    (("40P01",), TransientError, "Another transaction waited for this one; try again."),
    (("55P03", "55006"), TransientError, "Another session holds it; try again later."),
    (
        ("57014",),
        TransientError,
        "If it is a timeout, raise statement_timeout for this user: ALTER ROLE … SET "
        "statement_timeout = …",
    ),
    (("57P", "08", "57"), TransientError, "Try again when the server is there."),
    (("40",), TransientError, "It can be tried again."),
    (
        ("42", "3F", "0A", "2B", "2200"),
        ConfigurationError,
        "The schema may have changed: compare the stream's settings with the table.",
    ),
    (("54",), ConfigurationError, "It is beyond what PostgreSQL takes in one table or statement."),
    (("XX", "58"), StopError, "Look at the server's log and disk before running again."),
)
_NO_STATE: tuple[tuple[re.Pattern[str], type[RowtrailError], str], ...] = (
    (
        re.compile(r"password authentication failed|no password supplied", re.I),
        ConfigurationError,
        "Check user and password in the URL or the password file.",
    ),
    (
        re.compile(r"could not translate host name|resolve host|Name or service not known", re.I),
        ConfigurationError,
        "Check the host in the URL.",
    ),
    (
        re.compile(r'database "[^"]*" does not exist', re.I),
        ConfigurationError,
        "Check the database's name in the URL.",
    ),
    (
        re.compile(r'publication "[^"]*" does not exist', re.I),
        ConfigurationError,
        "Run: rowtrail init --capture",
    ),
    (
        re.compile(r'role "[^"]*" does not exist|no pg_hba.conf entry|authentication', re.I),
        ConfigurationError,
        "Check the user in the URL, and pg_hba.conf at the server.",
    ),
    (
        re.compile(r"SSL|certificate", re.I),
        ConfigurationError,
        "Check sslmode and the certificates in the URL.",
    ),
    (
        re.compile(
            r"connection|closed the|timeout|timed out|refused|terminat|starting up|shutting down"
            r"|no such file or directory|unreachable|EOF|server|recovery mode|not yet accepting",
            re.I,
        ),
        TransientError,
        "Check that the server runs and can be reached; then try again.",
    ),
)
_COLUMN = re.compile(r'column "([^"]+)"')
_COPY_COLUMN = re.compile(r"^COPY .*, line \d+, column (.+?)(?::|$)", re.M)
_QUOTED = re.compile(r'".*"|\b0x[0-9a-f]+', re.S)
_ABOUT_VALUES = ("22", "23", "54000")  # data, constraints, a value too large for an index or a page
_DATA = "22"
_NOT_NULL = "23502"
_DRIVER_NOISE = re.compile(r"^[A-Z_ ]+: (\[libpq\] )?")
# ADBC: "Failed to execute query '…': the reason", and "the reason … Query was: …".
_QUERY = re.compile(r"Failed to execute query '.*': |^Query was: .*", re.S | re.M)


@contextmanager
def translated(doing: str, where: str, *, record: bool = False) -> Iterator[None]:
    """Raises what a driver raises inside as one of the families.

    `doing` completes "PostgreSQL could not …", `where` names the server and the database. With
    `record`, an error that is plainly about a value is a RecordError; without, the values are
    Rowtrail's own and such an error means broken code.
    """
    try:
        yield
    except (psycopg.Error, pa.ArrowException, OSError) as error:
        raise translate(error, doing, where, record=record) from _cause(error, record=record)
    except Exception as error:
        if not _is_adbc(error):
            raise
        raise translate(error, doing, where, record=record) from _cause(error, record=record)


def _cause(error: Exception, *, record: bool) -> Exception | None:
    """What a traceback tells of the driver's error; nothing where that would quote a value."""
    about_a_value = (sqlstate(error) or "").startswith(_DATA)
    return None if about_a_value and not record else error


def _is_adbc(error: Exception) -> bool:
    """By its name: importing the driver costs as much as starting the command line."""
    return any(kind.__module__.startswith("adbc_driver_manager") for kind in type(error).__mro__)


def sqlstate(error: BaseException) -> str | None:
    """The five characters of an error of either driver; None where the server sent none."""
    found = getattr(error, "sqlstate", None)
    if isinstance(found, bytes):
        found = found.decode("ascii", "replace")
    text = str(found or "").strip("\0 ")
    return text or None


def reason(error: BaseException) -> str:
    """What the server says, without the values that it may quote."""
    words = _words(error)
    return _QUOTED.sub("…", words) if (sqlstate(error) or "").startswith("22") else words


def translate(
    error: BaseException, doing: str, where: str, *, record: bool = False
) -> RowtrailError:
    state, words = sqlstate(error), _words(error)
    if state is None or state == "00000":
        return _without_state(words, doing, where)
    if record and state.startswith(_ABOUT_VALUES):
        return _record_error(error, state, words, f"PostgreSQL at {where} could not {doing}")
    if state.startswith(_DATA):
        words = _QUOTED.sub("…", words)  # of a value in a row that is being read, by a view's cast
    sentence = f"PostgreSQL at {where} could not {doing}: {words}."
    for prefixes, family, advice in _ADVICE:
        if state.startswith(prefixes):
            return family(f"{sentence} {advice}")
    return StopError(
        f"{sentence} (SQLSTATE {state}.) Look at the server's log before running again."
    )


def _without_state(words: str, doing: str, where: str) -> RowtrailError:
    """Errors of the client itself; a connection that is lost is one that may come back."""
    for pattern, family, advice in _NO_STATE:
        if pattern.search(words):
            return family(f"PostgreSQL at {where} could not {doing}: {words}. {advice}")
    return StopError(
        f"PostgreSQL at {where} could not {doing}: {words}. This is an answer that Rowtrail does "
        f"not know; look at the server's log before running again."
    )


def _record_error(error: BaseException, state: str, words: str, failed: str) -> RecordError:
    """Says what is wrong, and keeps the value to itself: it may be a redacted column's."""
    diagnostics = getattr(error, "diag", None)
    column = getattr(diagnostics, "column_name", None)
    context = getattr(diagnostics, "context", None) or ""
    for place in (_COPY_COLUMN.search(context), _COLUMN.search(words)):
        if column is None and place:
            column = place[1]
    if state == _NOT_NULL and column:
        words = f"column {column} may not be NULL"
    elif state.startswith(_DATA):
        words = _QUOTED.sub("…", words)
    return RecordError(
        f"{failed}: {words}. Correct the row at the source or in a transform, or change the rule "
        f"at the table.",
        column=column,
    )


def _words(error: BaseException) -> str:
    """The message's first line, without its detail (which quotes values) and the driver's noise."""
    diagnostics = getattr(error, "diag", None)
    primary = getattr(diagnostics, "message_primary", None)
    if primary:
        return str(primary).rstrip(".")
    text = _QUERY.sub("", str(error))  # a query has words, too, that would be taken for a reason
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = _DRIVER_NOISE.sub("", lines[0]) if lines else type(error).__name__
    # psycopg: "connection failed: …, host: …, FATAL: the reason"; ADBC: "… ERROR: the reason".
    for mark in ("FATAL: ", "ERROR: "):
        for line in lines:
            if mark in line:
                return line.rpartition(mark)[2].strip().rstrip(".")
    return words.rstrip(".")
