"""A PostgreSQL database seen by its own client: the texts of its values, and awkward settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg
from psycopg import sql

FIXED: Mapping[str, str] = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "xmlbinary": "base64",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
}
"""What docs/ promise of texts, whatever the server, the database or the role prefers."""

AWKWARD: Sequence[Mapping[str, str]] = (
    {
        "TimeZone": "Asia/Kathmandu",
        "DateStyle": "SQL, DMY",
        "IntervalStyle": "sql_standard",
        "bytea_output": "escape",
        "extra_float_digits": "-15",
        "xmlbinary": "hex",
        "client_encoding": "LATIN1",
        "standard_conforming_strings": "off",
        "quote_all_identifiers": "on",
    },
    {
        "TimeZone": "America/St_Johns",
        "DateStyle": "German",
        "IntervalStyle": "postgres_verbose",
        "extra_float_digits": "0",
        "client_encoding": "WIN1252",
    },
    {
        "TimeZone": "Pacific/Apia",
        "DateStyle": "Postgres, MDY",
        "IntervalStyle": "postgres",
        "bytea_output": "escape",
        "extra_float_digits": "-3",
        "xmloption": "document",
        "standard_conforming_strings": "off",
    },
    {
        "TimeZone": "Africa/Monrovia",  # 44 minutes and 30 seconds west until 1972
        "DateStyle": "ISO, DMY",
        "IntervalStyle": "sql_standard",
        "default_transaction_isolation": "serializable",
        "array_nulls": "off",
    },
)
"""What a database or a role may prefer; none of it may show at the target."""


class PostgresSide:
    def __init__(self, url: str) -> None:
        self.url = url
        options = " ".join(f"-c {name}={value.replace(' ', '')}" for name, value in FIXED.items())
        self.connection = psycopg.connect(
            url, autocommit=True, options=options, client_encoding="UTF8"
        )

    @property
    def version(self) -> int:
        return self.connection.info.server_version

    def run(self, *statements: str) -> None:
        """In one transaction."""
        with self.connection.transaction():
            for statement in statements:
                self.connection.execute(statement.encode())

    def texts(self, query: str) -> list[tuple[str | None, ...]]:
        """Each value as its type's output function writes it."""
        with (
            self.connection.cursor() as cursor,
            cursor.copy(f"COPY ({query}) TO STDOUT".encode()) as copy,
        ):
            return list(copy.rows())

    def prefer(self, settings: Mapping[str, str], *, role: bool) -> None:
        """Settings of the database, or of the role in it, for connections from now on."""
        database = sql.Identifier(self.connection.info.dbname)
        user = sql.Identifier(self.connection.info.user)
        whom = sql.SQL("DATABASE {}").format(database)
        of_role = sql.SQL("ROLE {} IN DATABASE {}").format(user, database)
        self.connection.execute(sql.SQL("ALTER {} RESET ALL").format(whom))
        self.connection.execute(sql.SQL("ALTER {} RESET ALL").format(of_role))
        for name, value in settings.items():
            self.connection.execute(
                sql.SQL("ALTER {} SET {} = {}").format(
                    of_role if role else whom, sql.Identifier(name), sql.Literal(value)
                )
            )

    def close(self) -> None:
        self.connection.close()


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
