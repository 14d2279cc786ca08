"""The rows of a batch that a rule of their table in PostgreSQL refuses."""

from __future__ import annotations

import psycopg

from rowtrail.connectors.base import Load
from rowtrail.connectors.destinations.names import ROW, is_reserved, quote
from rowtrail.connectors.destinations.postgres_layout import PostgresLayout
from rowtrail.connectors.destinations.postgres_sql import Connected, PostgresName, Transaction
from rowtrail.connectors.destinations.postgres_staging import DELETE, stage
from rowtrail.connectors.destinations.rules import Rules, UniqueRule, breaking

_TABLE = (
    "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = ? AND c.relname = ?"
)
_REQUIRED = f"""
SELECT attname::text FROM pg_attribute
WHERE attrelid = ({_TABLE}) AND attnum > 0 AND attnotnull AND NOT attisdropped
"""
_CHECKS = f"""
SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint
WHERE conrelid = ({_TABLE}) AND contype = 'c'
"""
_UNIQUE = f"""
SELECT array(SELECT pg_get_indexdef(indexrelid, number, true)
             FROM generate_series(1, indnkeyatts) AS number ORDER BY number),
    coalesce(pg_get_expr(indpred, indrelid), 'true')
FROM pg_index WHERE indrelid = ({_TABLE}) AND indisunique AND NOT indisprimary
"""


def refused_rows(work: Transaction, layout: PostgresLayout, load: Load) -> list[int]:
    """See `connectors.base.TellsRefused`. The transaction is to be rolled back."""
    try:
        staged = stage(work, load)
    except (psycopg.DataError, psycopg.IntegrityError):
        return []  # a row that no rule could be held against, since the server does not take it
    # As they will be in the table: an expression may mean something else of another type.
    columns = ", ".join(
        f"CAST({quote(name)} AS {layout.types[name]}) AS {quote(name)}"
        for name in load.target.schema.names
        if layout.has(name)
    )
    found: set[int] = set()
    for query in breaking(
        _rules(work, layout.table),
        fresh=f"(SELECT {ROW}, {columns} FROM {staged} AS s WHERE NOT {DELETE})",
        keys=staged,
        table=layout.table.sql,
        key=load.target.schema.key,
    ):
        try:
            with work.savepoint():
                found.update(number for (number,) in work.run(query))
        except psycopg.OperationalError:
            raise
        except psycopg.DatabaseError:
            continue  # about columns that the stream does not bring, or it raises by itself
    return sorted(found)


def _rules(work: Connected, table: PostgresName) -> Rules:
    return Rules(
        required=tuple(
            name for (name,) in work.run(_REQUIRED, table.place) if not is_reserved(name)
        ),
        checks=tuple(check for (check,) in work.run(_CHECKS, table.place)),
        unique=tuple(
            UniqueRule(expressions=tuple(expressions), condition=condition)
            for expressions, condition in work.run(_UNIQUE, table.place)
        ),
    )
