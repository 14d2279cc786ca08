"""Connections to Snowflake, as its source and its destination share them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import snowflake.connector

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.snowflake_errors import translated

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

STATEMENT_TIMEOUT = 3_600
"""Seconds after which the server ends a statement: a merge that takes longer has gone wrong, and
costs a warehouse for as long as it runs. `?statement_timeout=…` sets another."""
LOCK_TIMEOUT = 60
"""Seconds that a statement waits for another transaction; Snowflake itself would wait 12 hours."""
_LOGIN_SECONDS = 60

SESSION: Mapping[str, object] = {
    "AUTOCOMMIT": True,
    "TIMEZONE": "UTC",
    "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ",
    "TIMESTAMP_INPUT_FORMAT": "AUTO",
    "DATE_INPUT_FORMAT": "AUTO",
    "TIME_INPUT_FORMAT": "AUTO",
    "QUOTED_IDENTIFIERS_IGNORE_CASE": False,
    "ERROR_ON_NONDETERMINISTIC_MERGE": True,
    "ERROR_ON_NONDETERMINISTIC_UPDATE": True,
    "LOCK_TIMEOUT": LOCK_TIMEOUT,
    "ABORT_DETACHED_QUERY": True,
    "CLIENT_TELEMETRY_ENABLED": False,
}
"""Of every session, whatever account, user and role prefer."""

OPTIONS = {
    "warehouse": str,
    "role": str,
    "host": str,
    "port": int,
    "protocol": str,
    "authenticator": str,
    "private_key_file": str,
    "private_key_file_pwd": str,
    "token": str,
    "token_file_path": str,
    "passcode": str,
    "connection_name": str,
    "connections_file_path": str,
    "statement_timeout": int,
}
"""What may stand behind the `?` of a URL: as the connector calls it, and `statement_timeout`."""

_SIMPLE = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_UPPER = re.compile(r"[A-Z_][A-Z0-9_$]*")


class SnowflakeUrl:
    """`snowflake://user:password@account/database/schema?warehouse=…&role=…`.

    What the URL leaves out may come from a connection in `connections.toml`, whose name is
    `?connection_name=…`. No secret is part of `name`, which messages use.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))
        except ValueError:
            options = {} if "?" not in url else {"?": ""}
        path = [unquote(part) for part in parts.path.split("/")[1:]] if parts.path else []
        if len(path) != 2 or not all(path):
            raise ConfigurationError(
                "The snowflake:// URL must name a database and a schema. Write "
                "snowflake://user@account/database/schema?warehouse=…&role=…"
            )
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise ConfigurationError(
                f"The snowflake:// URL has {', '.join(unknown)} behind its `?`, which is not an "
                f"option of it. Known are: {', '.join(OPTIONS)}."
            )
        self.database, self.schema = (fold(part) for part in path)
        account = parts.hostname or ""
        if not account and "connection_name" not in options:
            raise ConfigurationError(
                "The snowflake:// URL names no account. Write snowflake://user@account/database/"
                "schema, or ?connection_name=… for a connection in connections.toml."
            )
        self._given: dict[str, Any] = {}
        for name, text in options.items():
            try:
                self._given[name] = OPTIONS[name](text)
            except ValueError:
                raise ConfigurationError(
                    f"The snowflake:// URL has {name}={text!r}, which is no whole number."
                ) from None
        self._timeout = self._given.pop("statement_timeout", STATEMENT_TIMEOUT)
        for name, value in (
            ("account", account),
            ("user", parts.username),
            ("password", parts.password),
        ):
            if value:
                self._given[name] = unquote(value)
        self._account = account or options.get("connection_name", "")

    @property
    def name(self) -> str:
        """Account, database and schema, for messages: no user, no secret."""
        return f"{self._account}/{self.database}/{self.schema}"

    def connect(self) -> SnowflakeConnection:
        """A connection in autocommit, with `?` for values. Raises as `translated` says."""
        more: dict[str, Any] = {}
        if int(snowflake.connector.__version__.split(".")[0]) >= 5:
            # Said aloud, else it warns of a default that is to change: log out when we close.
            more["enable_server_session_keep_alive_auto_detection"] = False
        session = {**SESSION, "STATEMENT_TIMEOUT_IN_SECONDS": self._timeout}
        with translated("connect", self.name):
            return snowflake.connector.connect(
                **self._given,
                database=quote_if_needed(self.database),
                schema=quote_if_needed(self.schema),
                paramstyle="qmark",
                session_parameters=session,
                client_session_keep_alive=True,
                arrow_number_to_decimal=True,
                login_timeout=_LOGIN_SECONDS,
                application="Rowtrail",
                **more,
            )


def fold(name: str) -> str:
    """`name` as Snowflake stores what is written without quotes: in upper case, where it can be
    written so; any other name is stored as it is."""
    return name.upper() if _SIMPLE.fullmatch(name) else name


def unfold(name: str) -> str:
    """The other way round: a stored name as people write it."""
    return name.lower() if _UPPER.fullmatch(name) else name


def quote_exactly(stored: str) -> str:
    """A stored name as an identifier of SQL."""
    return '"' + stored.replace('"', '""') + '"'


def quote_if_needed(stored: str) -> str:
    """Likewise, where quotes are only taken around names that need them."""
    return stored if _UPPER.fullmatch(stored) else quote_exactly(stored)


def quote_text(text: str) -> str:
    """A text as a literal of SQL, in which a backslash escapes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
