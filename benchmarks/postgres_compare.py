"""Whether a target has what the source has: ghosts, missing rows and stale ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb


_MARK = "_rowtrail_deleted_at"


def compare(url: str, target: str) -> dict[str, Any]:
    """Counts of rows of a DuckDB file against the orders in PostgreSQL as they are now.

    A ghost is a row that the source no longer has and that the target does not mark as deleted.
    A stale row has another quantity or time of change than its source.
    """
    import adbc_driver_postgresql.dbapi as postgres
    import duckdb

    with (
        postgres.connect(url) as connection,
        connection.cursor() as cursor,
        duckdb.connect(target, read_only=True) as found,
    ):
        cursor.execute("SELECT id, quantity, updated_at FROM orders")
        found.register("source", cursor.fetch_arrow_table())
        ghosts, missing, stale = found.execute(
            "SELECT count(*) FILTER (source.id IS NULL), count(*) FILTER (target.id IS NULL), "
            "count(*) FILTER (source.quantity <> target.quantity "
            "OR source.updated_at <> target.updated_at) "
            f"FROM source FULL JOIN ({_live_rows(found)}) AS target USING (id)"
        ).fetchone() or (0, 0, 0)
    return {"ghosts": ghosts, "missing": missing, "stale": stale}


def check_same(url: str, target: str) -> None:
    """Raises RuntimeError when the target is not as the source is now."""
    found = compare(url, target)
    if any(found.values()):
        raise RuntimeError(f"the target is not as its source: {found}")


def _live_rows(target: duckdb.DuckDBPyConnection) -> str:
    (schema,) = target.execute(
        "SELECT schema_name FROM duckdb_tables() WHERE table_name = 'orders' "
        "AND schema_name IN ('main', 'shop')"
    ).fetchone() or ("main",)
    table = f"{schema}.orders"
    marked = _MARK in target.sql(f"SELECT * FROM {table} LIMIT 0").columns
    return f"SELECT * FROM {table}" + (f" WHERE {_MARK} IS NULL" if marked else "")
