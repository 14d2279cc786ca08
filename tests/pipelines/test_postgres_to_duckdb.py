"""From PostgreSQL to DuckDB: the whole engine over keys and values of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from rowtrail import Breakers, Pipeline, Stream
from tests.duckdb_files import look_into

KEYS = {
    "bigint": (["bigint"], "g * 1000003 % 9973"),
    "uuid": (["uuid"], "md5(g::text)::uuid"),
    "text": (["text"], "chr(1000 + g * 37 % 60) || chr(60 + g % 60) || g"),
    "two": (["text", "numeric(9,2)"], "chr(97 + g % 3) || repeat('é', g % 2), g / 4.0"),
    "date": (["date", "smallint"], "'1969-12-25'::date + g % 15, g"),
    "timestamptz": (["timestamptz"], "'1969-12-31 23:59:59Z'::timestamptz + g * interval '1 us'"),
    "bytea": (["bytea"], "decode(md5(g::text), 'hex')"),
    "enum": (["mood", "int"], "(ARRAY['sad', 'ok', 'Glad'])[g % 3 + 1]::mood, g"),
    "char": (["char(4)"], "to_hex(g)"),
}
VALUES = """
  n numeric(12,2), t text, j jsonb, d date, z timestamptz, b bytea, f float8, i interval, a int[],
  seen timestamptz DEFAULT now()
"""
FILL = """
  g * 1.25, CASE WHEN g % 3 > 0 THEN 'é ' || g END, jsonb_build_object('g', g),
  '2024-01-01'::date + g, '2024-01-01Z'::timestamptz + g * interval '1 hour',
  decode(lpad(to_hex(g), 8, '0'), 'hex'),
  g / 3.0, g * interval '1 minute', ARRAY[g, NULL], now()
"""
COLUMNS = "n, t, j, d, z, b, f, i, a"


CAPTURES = ("snapshot", "cursor", "trigger")
PAIRS = [(kind, CAPTURES[number % 3]) for number, kind in enumerate(KEYS)]
PAIRS += [("two", capture) for capture in CAPTURES if ("two", capture) not in PAIRS]


@pytest.mark.parametrize(("kind", "capture"), PAIRS)
def test_the_target_is_the_source(
    tmp_path: Path, postgres_url: str, capture: str, kind: str
) -> None:
    types, expression = KEYS[kind]
    names = [f"k{number}" for number in range(len(types))]
    pipeline = Pipeline(
        name="test",
        source=postgres_url,
        destination=f"duckdb:///{tmp_path / 'target.duckdb'}",
        ledger=tmp_path / "ledger.db",
        streams=[Stream("t", capture=capture, cursor="seen", batch_rows=75, types={"*": "text"})],
        breakers=Breakers(deleted_share=1.0),
        install_capture=True,
    )
    declared = ", ".join(f"{name} {one}" for name, one in zip(names, types, strict=True))
    statements = [
        f"INSERT INTO t SELECT {expression}, {FILL} FROM generate_series(1, 150) AS g",
        "SELECT 1",
        f"INSERT INTO t SELECT {expression}, {FILL} FROM generate_series(151, 200) AS g; "
        "DELETE FROM t WHERE n BETWEEN 10 AND 40; "
        "UPDATE t SET t = 'new', seen = now() WHERE n BETWEEN 41 AND 80",
        "DELETE FROM t WHERE n > 60",
        f"INSERT INTO t SELECT {expression}, {FILL} FROM generate_series(20, 90) AS g "
        "ON CONFLICT DO NOTHING",
        "TRUNCATE t",
        f"INSERT INTO t SELECT {expression}, {FILL} FROM generate_series(5, 60) AS g",
    ]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET IntervalStyle = 'iso_8601'")
        connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'Glad')")
        connection.execute(
            f"CREATE TABLE t ({declared}, {VALUES}, PRIMARY KEY ({', '.join(names)}))".encode()
        )
        for statement in statements:
            connection.execute(statement.encode())
            result = pipeline.run()
            assert result.complete, result
            order = ", ".join(names)
            expected = connection.execute(
                f"SELECT {order}, {COLUMNS.replace('i, a', 'i::text, a::text')} FROM t".replace(
                    " j,", " j::text,"
                ).encode()
            ).fetchall()
            assert rows(tmp_path, order) == sorted(map(plain, expected), key=repr)


def rows(folder: Path, order: str) -> list[tuple[Any, ...]]:
    with look_into(folder / "target.duckdb") as connection:
        found = connection.execute(
            f"SELECT {order}, {COLUMNS} FROM t WHERE _rowtrail_deleted_at IS NULL"
        ).fetchall()
    return sorted(map(plain, found), key=repr)


def plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Values as both clients give them."""
    return tuple(
        str(value) if type(value).__name__ in ("UUID", "datetime") else value for value in row
    )
