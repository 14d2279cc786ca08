"""A table is dropped, or dropped and made again, while the source looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from rowtrail.connectors.errors import ConfigurationError, TransientError
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_table import find_table
from tests.connectors.postgres_database import PostgresDatabase

MADE_AGAIN = "DROP TABLE items; CREATE TABLE items (code text PRIMARY KEY, name text)"
CALLS = range(12)
"""More queries than it takes to describe a table."""


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresDatabase]:
    with closing(PostgresDatabase(postgres_url)) as database:
        database.run("CREATE TABLE items (id int PRIMARY KEY, name text)")
        yield database


class Disturbed(Connection):
    """Somebody runs a statement before some of its queries (0 is the first)."""

    def __init__(self, database: PostgresDatabase, statement: str, *calls: int) -> None:
        super().__init__(database.url)
        self._database = database
        self._statement = statement
        self._calls = calls
        self.asked = 0

    def records(self, *given: Any, **named: Any) -> list[tuple[Any, ...]]:
        if hasattr(self, "asked"):
            if self.asked in self._calls:
                self._database.run(self._statement)
            self.asked += 1
        return super().records(*given, **named)


@pytest.mark.parametrize("call", CALLS)
def test_a_table_that_is_made_again_is_described_as_it_is_then(
    database: PostgresDatabase, call: int
) -> None:
    with closing(Disturbed(database, MADE_AGAIN, call)) as connection:
        found = find_table(connection, "items")
        if connection.asked <= call:  # it came after all
            assert found.primary_key == ("id",)
            return
    assert [column.name for column in found.columns] == ["code", "name"]
    assert found.primary_key == ("code",)


@pytest.mark.parametrize("call", CALLS)
def test_a_table_that_is_dropped_is_none(database: PostgresDatabase, call: int) -> None:
    with closing(Disturbed(database, "DROP TABLE items", call)) as connection:
        try:
            found = find_table(connection, "items")
        except ConfigurationError as error:
            assert "no table items" in str(error)
        else:
            assert connection.asked <= call and found.primary_key == ("id",)


def test_a_table_that_is_made_again_all_the_time(database: PostgresDatabase) -> None:
    with (
        closing(Disturbed(database, MADE_AGAIN, *range(1000))) as connection,
        pytest.raises(TransientError, match=r"items .* is dropped and made again all the time"),
    ):
        find_table(connection, "items")


def test_the_catalogs_have_no_such_table_any_more(database: PostgresDatabase) -> None:
    query = "SELECT relname FROM pg_catalog.pg_class WHERE oid = %s"
    with closing(Connection(database.url)) as connection:
        table = find_table(connection, "items")
        assert connection.catalog_entry(table.name, query, table.oid) == ("items",)
        database.run("DROP TABLE items")
        with pytest.raises(TransientError, match="Table items was dropped"):
            connection.catalog_entry(table.name, query, table.oid)
