"""Patterns over a real server: schemas, quoted names, views, a publication that grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from rowtrail import Pipeline, Stream
from rowtrail.pipelines.table_names import stream_name
from tests.duckdb_files import look_into

ODD = stream_name("Order Items")
TABLES = """
CREATE SCHEMA sales;
CREATE TABLE orders (id int PRIMARY KEY, note text, secret text);
CREATE TABLE "Order Items" (id int PRIMARY KEY, note text);
CREATE TABLE sales.orders (id int PRIMARY KEY, note text);
CREATE TABLE sales.journal (line text);
CREATE VIEW seen AS SELECT * FROM orders;
INSERT INTO orders VALUES (1, 'public', 'x');
INSERT INTO "Order Items" VALUES (2, 'odd');
INSERT INTO sales.orders VALUES (3, 'sales');
"""


class Server:
    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.run_sql(TABLES)

    def run_sql(self, statements: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statements.encode())

    def pipeline(self, capture: str, *patterns: str, **settings: Any) -> Pipeline:
        streams = [Stream(one, capture=capture, exclude=["secret"], **settings) for one in patterns]
        return Pipeline(
            name="test",
            source=self.url,
            destination=f"duckdb:///{self.folder / 'target.duckdb'}",
            ledger=self.folder / "ledger.db",
            streams=streams,
            install_capture=True,
        )

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with look_into(self.folder / "target.duckdb") as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture
def server(tmp_path: Path, postgres_url: str) -> Server:
    return Server(tmp_path, postgres_url)


@pytest.mark.parametrize("capture", ["log", "snapshot"])
def test_the_life_of_a_pattern(server: Server, capture: str) -> None:
    pipeline = server.pipeline(capture, "*")
    result = pipeline.run()
    assert {name: one.error for name, one in result.streams.items()} == dict.fromkeys(
        ["orders", ODD, "sales.orders"]
    )
    assert set(result.left_out) == {"sales.journal"}, "and a view is no table"
    assert server.query("SELECT id FROM orders") == [(1,)]
    assert server.query(f'SELECT id FROM "{ODD}"') == [(2,)]
    assert server.query("SELECT id FROM sales.orders") == [(3,)]
    assert "secret" not in {column for column, *_ in server.query("DESCRIBE orders")}

    server.run_sql(
        "CREATE TABLE sales.fresh (id int PRIMARY KEY); INSERT INTO sales.fresh VALUES (4); "
        "INSERT INTO sales.orders VALUES (5, 'later'); DROP TABLE \"Order Items\""
    )
    result = pipeline.run()
    assert result.streams["sales.fresh"].complete and result.streams["sales.fresh"].loaded == 1
    assert result.streams["sales.orders"].loaded == 1
    assert "is gone from the source" in (result.streams[ODD].error or "")
    server.run_sql("INSERT INTO sales.fresh VALUES (6); DELETE FROM sales.orders WHERE id = 3")
    result = pipeline.run()
    assert result.streams["sales.fresh"].loaded == 1
    assert result.streams["sales.orders"].counts.deleted == 1


def test_public_and_one_schema(server: Server) -> None:
    public = server.pipeline("snapshot", "public.*").run()
    assert set(public.streams) == {"orders", ODD} and public.complete
    sales = server.pipeline("snapshot", "sales.*", exclude_tables=["sales.journal"]).run()
    assert set(sales.streams) == {"sales.orders"} and sales.complete
