"""A database whose log is read: by the real reader, and by the reference to compare it with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pyarrow as pa
from psycopg import sql

from rowtrail.connectors.capture.pgoutput_scan import LogScan
from rowtrail.connectors.postgres_client import PostgresUrl, connect, connect_adbc
from tests.connectors import pgoutput_reference
from tests.connectors.pgoutput_reading import read
from tests.connectors.pgoutput_reference import Log

OPTIONS = {"proto_version": "1", "publication_names": "p"}


class Database:
    """A database with a publication `p`, and a slot that keeps all that `start` begins."""

    def __init__(self, url: str) -> None:
        self.url = PostgresUrl(url)
        self.connection = connect(self.url)
        self.slot = ""
        self.client_encoding = "UTF8"

    def run(self, *statements: str) -> None:
        """Each statement is a transaction."""
        for statement in statements:
            self.connection.execute(statement.encode())

    def rows(self, query: str) -> list[tuple[object, ...]]:
        return list(self.connection.execute(query.encode()))

    def start(self, publication: str) -> None:
        self.run(f"CREATE PUBLICATION p {publication}")
        self.slot = f"pgoutput_{self.connection.info.dbname}"
        self.rows(f"SELECT pg_create_logical_replication_slot('{self.slot}', 'pgoutput')")

    def batches(self, **more: str) -> list[pa.Array]:
        options = ", ".join(f"'{name}', '{value}'" for name, value in {**OPTIONS, **more}.items())
        with connect_adbc(self.url) as connection, connection.cursor() as cursor:
            cursor.execute(f"SET client_encoding = '{self.client_encoding}'")
            cursor.execute(
                f"SELECT data FROM pg_logical_slot_peek_binary_changes('{self.slot}', "
                f"pg_current_wal_lsn(), NULL, {options})"
            )
            return [batch.column(0) for batch in cursor.fetch_record_batch()]

    def log(self, **more: str) -> Log:
        """All since `start`; as the reference reads it, and the same in batches of any size."""
        batches = self.batches(**more)
        log = read(batches)
        messages = [message.as_py() for batch in batches for message in batch]
        assert log == pgoutput_reference.read(messages)
        scan = LogScan()
        for batch in batches:
            scan.scan(batch)
        assert not scan.in_transaction
        for size in (1, 7, 1000):
            if len(messages) <= 1000 * size:
                parts = [messages[at : at + size] for at in range(0, len(messages), size)]
                assert read([pa.array(part, type=pa.binary()) for part in parts]) == log
        return log

    def close(self) -> None:
        if self.slot:
            self.rows(f"SELECT pg_drop_replication_slot('{self.slot}')")
        self.connection.close()


@contextmanager
def encoded(url: str, encoding: str) -> Iterator[Database]:
    """A database with this encoding."""
    with connect(PostgresUrl(url)) as connection:
        plain = f"{connection.info.dbname}_{encoding.lower()}"
        name = sql.Identifier(plain)
        connection.execute(
            sql.SQL("CREATE DATABASE {} ENCODING {} TEMPLATE template0 LOCALE 'C'").format(
                name, encoding
            )
        )
        other = Database(urlsplit(url)._replace(path=f"/{plain}").geturl())
        try:
            yield other
        finally:
            other.close()
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
