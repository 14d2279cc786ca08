"""Connections to PostgreSQL, as its source and its destination share them.

Two drivers, each for what it does best: psycopg for statements with bound parameters, catalogs and
DDL; ADBC for rows, which it moves as Arrow columns over COPY.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.postgres_errors import translated

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi
    from adbc_driver_manager import AdbcDatabase

SETTINGS: Mapping[str, str] = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "xmlbinary": "base64",
    # Names are part of texts such as a regclass; ADBC knows types by those of their functions.
    "quote_all_identifiers": "off",
    "row_security": "off",
}
"""Of every connection: values come as the same text whatever the server, the database or the role
prefers, and rows that a policy hides from this user are an error rather than not there."""

_CONNECT_SECONDS = 10
_KEEPALIVES = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
"""Seconds, and how often: a network that is gone without a word is noticed within a minute. Most
systems would wait for two hours."""


class PostgresUrl:
    """`postgresql://user:password@host:port/database?sslmode=require`, as libpq takes it.

    What the URL leaves out comes from libpq's own places: PGHOST and its like, a password file, a
    service file. The password is never part of `name`, which messages use.
    """

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        try:
            found = conninfo_to_dict(f"postgresql://{rest}")
            host_less = not urlsplit(f"postgresql://{rest}").path.strip("/")
        except (psycopg.ProgrammingError, ValueError):
            # The driver's own message may hold the password.
            raise ConfigurationError(
                f"The {scheme}:// URL cannot be read. Write postgresql://user@host:5432/database, "
                f"with characters other than letters and digits percent-encoded."
            ) from None
        if host_less and "dbname" not in found and "service" not in found:
            raise ConfigurationError(
                f"The {scheme}:// URL names no database. Write postgresql://user@host:5432/database"
            )
        options = " ".join(
            f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in SETTINGS.items()
        )
        given = {name: value for name, value in found.items() if value is not None}
        self._conninfo = {
            "application_name": "rowtrail",
            "connect_timeout": str(_CONNECT_SECONDS),
            **_KEEPALIVES,
            **{name: str(value) for name, value in given.items()},
            "options": f"{given.get('options', '')} {options}".strip(),
        }

    @property
    def name(self) -> str:
        """Host, port and database, for messages: no user, no password."""
        host = self._conninfo.get("host") or "localhost"
        port = self._conninfo.get("port")
        place = f"{host}:{port}" if port else host
        database = self._conninfo.get("dbname") or self._conninfo.get("service") or ""
        return f"{place}/{database}"

    def conninfo(self, **more: str) -> str:
        """The connection string for libpq; it may hold the password: never print it."""
        return make_conninfo("", **{**self._conninfo, **more})


def connect(url: PostgresUrl) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection in autocommit. Raises ConfigurationError and TransientError."""
    with translated("connect", url.name):
        return psycopg.connect(url.conninfo(), autocommit=True)


def connect_adbc(url: PostgresUrl) -> adbc_driver_postgresql.dbapi.Connection:
    """A connection that gives and takes Arrow data, in autocommit. Raises like `connect`."""
    from adbc_driver_manager import AdbcConnection
    from adbc_driver_postgresql.dbapi import Connection

    with translated("connect", url.name):
        database = _database(url.conninfo())
        return Connection(cast("AdbcDatabase", _Kept()), AdbcConnection(database), autocommit=True)


@lru_cache(maxsize=16)
def _database(conninfo: str) -> AdbcDatabase:
    """What the driver knows of a database's types, for all connections to it of this process.

    To learn it takes the driver ten times as long as to connect, and longer the more tables there
    are. That it knows nothing of types that were made since does not matter: where a type is not
    one of the server's own, what is asked for is its text.
    """
    from adbc_driver_postgresql import connect

    database: AdbcDatabase = connect(conninfo)
    return database


class _Kept:
    """Stands for a database that is not closed with the connection that is given it."""

    def close(self) -> None:
        pass


@contextmanager
def transaction(
    connection: psycopg.Connection[tuple[Any, ...]], *, keep: bool = True
) -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
    """One transaction; rolled back when something raises within, or with `keep` false."""
    with (
        connection.transaction(force_rollback=not keep),
        connection.cursor() as cursor,
    ):
        yield cursor


def quote(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """A text as a literal of SQL, whatever `standard_conforming_strings` says."""
    escaped = text.replace("'", "''")
    if "\\" not in escaped:
        return f"'{escaped}'"
    return " E'" + escaped.replace("\\", "\\\\") + "'"
