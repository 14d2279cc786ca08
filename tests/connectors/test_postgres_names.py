"""How people name PostgreSQL tables, and how the source lists them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from tests.connectors.postgres_database import PostgresDatabase


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresDatabase]:
    with closing(PostgresDatabase(postgres_url)) as database:
        yield database


def make(database: PostgresDatabase, *names: str) -> None:
    """Tables by their SQL names; the only column is called after the table."""
    for name in names:
        column = "c_" + "".join(letter for letter in name if letter.isalnum())
        database.run(f'CREATE TABLE {name} (id int PRIMARY KEY, "{column}" int)')


def named(database: PostgresDatabase, table: str) -> str:
    """The column by which the table is known that a stream means."""
    stream = StreamSpec(name="s", table=table, capture=Capture.SNAPSHOT)
    with database.source() as source:
        return source.describe(stream).columns[1].name


def test_a_table_as_it_is_written(database: PostgresDatabase) -> None:
    database.run("CREATE SCHEMA shop", 'CREATE SCHEMA "Big.Shop"')
    make(database, "orders", '"Orders"', '"order.items"', "shop.orders", 'shop."Größe"')
    make(database, '"Big.Shop"."Line ""Items"""', '"shop.lines"', "shop.lines")
    for table, column in {
        "orders": "c_orders",
        "Orders": "c_Orders",
        '"Orders"': "c_Orders",
        "ORDERS": "c_orders",
        "public.orders": "c_orders",
        "shop.orders": "c_shoporders",
        "SHOP.ORDERS": "c_shoporders",
        "shop.Größe": "c_shopGröße",
        'shop."Größe"': "c_shopGröße",
        '"shop"."orders"': "c_shoporders",
        "order.items": "c_orderitems",
        '"order.items"': "c_orderitems",
        '"Big.Shop"."Line ""Items"""': "c_BigShopLineItems",
        "shop.lines": "c_shoplines",
        'shop."lines"': "c_shoplines",
    }.items():
        assert named(database, table) == column, table
    # Exactly a table's name means that table, whatever is in it.
    make(database, '"shop.both"', "shop.both")
    database.run('ALTER TABLE shop.both RENAME COLUMN "c_shopboth" TO other')
    assert named(database, "shop.both") == "c_shopboth"
    assert named(database, 'shop."both"') == "other"


def test_a_table_on_the_search_path_alone(database: PostgresDatabase) -> None:
    ((name,),) = database.select("SELECT current_database()")
    database.run(
        "CREATE SCHEMA shop", f'ALTER DATABASE "{name}" SET search_path = shop, public, pg_catalog'
    )
    make(database, "shop.customers", "shop.orders", "public.orders")
    assert named(database, "customers") == "c_shopcustomers"
    assert named(database, "orders") == "c_publicorders"  # as it is listed


def test_what_is_listed_means_that_table(database: PostgresDatabase) -> None:
    database.run("CREATE SCHEMA shop", 'CREATE SCHEMA "Big.Shop"')
    make(database, "orders", '"Orders"', '"a""b"', '"shop.orders"', "shop.orders", "shop.lines")
    make(database, '"Big.Shop".x', '"_rowtrail_gaps"')
    database.run('ALTER TABLE shop.orders RENAME COLUMN "c_shoporders" TO other')
    database.run(
        "CREATE TABLE parted (id int, c_parted int) PARTITION BY RANGE (id)",
        "CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (0) TO (9)",
        "CREATE VIEW seen AS SELECT id, 1 AS c_seen FROM orders",
        "CREATE MATERIALIZED VIEW kept AS SELECT 1 AS id, 2 AS c_kept",
        "CREATE TEMP TABLE passing (id int)",
    )
    with database.source() as source:
        names = source.tables()
    assert names == [
        "Orders",
        'a"b',
        "kept",
        "orders",
        "parted",
        "seen",
        "shop.orders",
        '"Big.Shop"."x"',
        "shop.lines",
        '"shop"."orders"',
    ]
    found = []
    for name in names:
        stream = StreamSpec(name="s", table=name, capture=Capture.SNAPSHOT, key=("id",))
        with database.source() as source:
            found.append(source.describe(stream).columns[1].name)
    assert len(set(found)) == len(names)


def test_a_table_that_is_not_there(database: PostgresDatabase) -> None:
    make(database, *(f"t{number}" for number in range(10, 40)))
    with pytest.raises(ConfigurationError) as caught:
        named(database, "customers")
    for words in ("no table customers", "t10, t11", "…", "mend the stream's `table`"):
        assert words in str(caught.value)


def test_a_table_of_rowtrails_own(database: PostgresDatabase) -> None:
    make(database, "_rowtrail_gaps")
    with pytest.raises(ConfigurationError, match="belongs to Rowtrail"):
        named(database, "_rowtrail_gaps")


def test_columns_in_another_case(database: PostgresDatabase) -> None:
    make(database, "orders")
    stream = StreamSpec(
        name="s", table="orders", capture=Capture.SNAPSHOT, key=("ID",), exclude=("c_orders",)
    )
    with database.source() as source:
        assert source.describe(stream).key == ("id",)
        assert source.describe(stream).names == ("id",)
