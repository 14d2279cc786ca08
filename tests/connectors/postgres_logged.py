"""PostgreSQL databases whose tables are followed by way of the server's log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import psycopg

from rowtrail.connectors.base import Capture, Source, StreamSpec
from rowtrail.connectors.changes import Changes
from tests.connectors.follower import Follower, Key, Row
from tests.connectors.postgres_database import PostgresDatabase

_numbers = count(1)


class LoggedDatabase(PostgresDatabase):
    """One slot at a time, which `emptied` drops with all that a test has made."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.log = self.new_log()

    def new_log(self) -> str:
        """A name for a slot: slots belong to the whole server."""
        return f"{self.connection.info.dbname}_{next(_numbers)}"

    def stream(self, table: str, **settings: Any) -> StreamSpec:
        chosen = {"name": table, "table": table, "batch_rows": 4, "log": self.log, **settings}
        return StreamSpec(capture=Capture.LOG, **chosen)

    def install(self, *streams: StreamSpec) -> None:
        with self.source() as source:
            source.execute(source.capture_plan(streams))

    def follow(self, table: str, **settings: Any) -> Follower:
        """A follower that has read nothing yet; publication and slot are there."""
        stream = self.stream(table, **settings)
        self.install(stream)
        with self.source() as source:
            assert [one for one in source.preflight([stream]) if one.fatal] == []
        return Follower(stream)

    def followed(self, table: str, *key: str, **settings: Any) -> Follower:
        """A follower that has read the table as it is."""
        follower = self.follow(table, **settings)
        self.check(follower, *key)
        return follower

    def check(self, follower: Follower, *key: str) -> list[Changes]:
        """One whole read, after which follower and table are equal; what it gave."""
        with self.source() as source:
            items = follower.read(source)
        assert follower.live() == self.table(follower.stream.table, *(key or ("id",)))
        return items

    def resumed(self, follower: Follower, *key: str, lost: bool = False) -> int:
        """A read that dies after each item and begins again, by new processes; how often."""
        deaths = 0
        again = True
        while again:
            with self.source() as source:
                again = follower.read_until(source, 1 + lost, lost=lost)
            deaths += again
            assert deaths < 1_000
            if lost:
                with self.source() as source:
                    again = follower.read_until(source, 1)
        assert follower.live() == self.table(follower.stream.table, *(key or ("id",)))
        return deaths

    def table(self, table: str, *key: str) -> dict[Key, Row]:
        """The table as it is, by key; its name as SQL writes it."""
        cursor = self.connection.execute(f"SELECT * FROM {table}")
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
        return {tuple(row[name] for name in key): row for row in rows}

    @contextmanager
    def another(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A connection of its own, whose transactions the test commits."""
        with psycopg.connect(self.url) as connection:
            yield connection

    def acknowledge(self, source: Source, *followers: Follower) -> None:
        source.acknowledge(
            {one.stream.name: (one.stream, one.position) for one in followers if one.position}
        )

    def drop_slots(self) -> None:
        with suppress(psycopg.errors.UndefinedObject):
            self.connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                "WHERE database = current_database()"
            )

    def empty(self) -> None:
        """Drops everything, for the next test."""
        self.drop_slots()
        for (name,) in self.select("SELECT gid FROM pg_prepared_xacts"):
            self.connection.execute(f"ROLLBACK PREPARED '{name}'")
        for (name,) in self.select("SELECT quote_ident(pubname) FROM pg_publication"):
            self.connection.execute(f"DROP PUBLICATION {name}")
        for (name,) in self.select(
            "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^(pg_|information_)'"
        ):
            self.connection.execute(f"DROP SCHEMA {name} CASCADE")
        self.connection.execute("CREATE SCHEMA public")
        self.log = self.new_log()
