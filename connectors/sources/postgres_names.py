"""Names of PostgreSQL tables as people write them: which table one means, and how each is listed.

`orders` is a table of schema public, `shop.orders` one of schema shop, and `shop."Order.Items"` has
a part in quotes, as in SQL. What is exactly a table's name means that table, whatever is in it.
"""

from __future__ import annotations

import re
from typing import cast

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.postgres_client import quote
from rowtrail.connectors.schema import RESERVED_PREFIX
from rowtrail.connectors.sources.postgres_connection import Connection

_PART = r'"(?:[^"]|"")+"|[^".]+'
_NAME = re.compile(rf"(?:(?P<schema>{_PART})\.)?(?P<table>{_PART})")
_SHOWN = 20  # tables that a message lists


def locate(connection: Connection, name: str) -> int:
    """The oid of the table that is meant. Raises ConfigurationError when there is none."""
    for schema, relation in _meanings(name):
        rows = connection.records(
            # Without a schema: public first, since so it is listed, then the search path.
            "SELECT c.oid::int8 FROM pg_catalog.pg_class AS c "
            "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f') "
            "AND CASE WHEN %s::text IS NULL "
            "THEN n.nspname = 'public' OR pg_catalog.pg_table_is_visible(c.oid) "
            "ELSE n.nspname = %s END ORDER BY n.nspname <> 'public'",
            (relation, schema, schema),
        )
        if rows:
            if relation.lower().startswith(RESERVED_PREFIX):
                raise ConfigurationError(
                    f"Table {name} belongs to Rowtrail, so it cannot be a stream. Name another "
                    f"table."
                )
            return cast("int", rows[0][0])
    names = table_names(connection)
    listed = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    raise ConfigurationError(
        f"There is no table {name} in {connection.name}. It has {listed or 'no tables'}: mend the "
        f"stream's `table`. A table outside of schema public is written schema.table."
    )


def possible_tables(connection: Connection, name: str) -> list[tuple[str, str]]:
    """(schema, table) of what is meant, or may have been meant before it was dropped."""
    try:
        oid = locate(connection, name)
    except ConfigurationError:
        return [(schema or "public", relation) for schema, relation in _meanings(name)]
    return [
        (schema, relation)
        for schema, relation in connection.records(
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_class AS c "
            "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = %s",
            (oid,),
        )
    ]


def table_names(connection: Connection) -> list[str]:
    """Tables and views that people made, each in the form that `locate` takes; no partitions."""
    return [name for name, _, _ in _made_by_people(connection)]


def table_columns(connection: Connection) -> dict[str, list[str]]:
    """The columns of those that keep rows of their own, in their order: of no view."""
    return {name: columns for name, kind, columns in _made_by_people(connection) if kind in "rp"}


def _made_by_people(connection: Connection) -> list[tuple[str, str, list[str]]]:
    """(name in the form that `locate` takes, relkind, columns) of tables and views."""
    rows = connection.records(
        "SELECT n.nspname, c.relname, c.relkind::text, ARRAY(SELECT a.attname::text "
        "FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 "
        "AND NOT a.attisdropped ORDER BY a.attnum) FROM pg_catalog.pg_class AS c "
        "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition "
        "AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', '_rowtrail') "
        "AND NOT pg_catalog.starts_with(pg_catalog.lower(c.relname), %s) "
        # What an extension brings, such as spatial_ref_sys, nobody made.
        "AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.deptype = 'e' "
        "AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid) "
        'ORDER BY n.nspname <> \'public\', n.nspname COLLATE "C", c.relname COLLATE "C"',
        (RESERVED_PREFIX,),
    )
    public = {relation for schema, relation, _, _ in rows if schema == "public"}
    return [
        (_listed(schema, relation, public), kind, columns)
        for schema, relation, kind, columns in rows
    ]


def _listed(schema: str, relation: str, public: set[str]) -> str:
    """The plainest form that means this table and no other."""
    if schema == "public":
        return relation
    plain = f"{schema}.{relation}"
    if "." in schema + relation or '"' in plain or plain in public:
        return f"{quote(schema)}.{quote(relation)}"
    return plain


def _meanings(name: str) -> list[tuple[str | None, str]]:
    """(schema, table) in the order in which they are tried; no schema: public or the path."""
    found: list[tuple[str | None, str]] = [(None, name)]
    if match := _NAME.fullmatch(name):
        schema, table = match["schema"], match["table"]
        exact = (schema and _unquoted(schema), _unquoted(table))
        folded = (schema and _unquoted(schema, fold=True), _unquoted(table, fold=True))
        found += [meaning for meaning in (exact, folded) if meaning not in found]
    return found


def _unquoted(part: str, *, fold: bool = False) -> str:
    """The name that a part means. PostgreSQL folds what is not in quotes to lower case."""
    if part.startswith('"'):
        return part[1:-1].replace('""', '"')
    return part.lower() if fold else part
