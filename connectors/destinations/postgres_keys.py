"""Keys in PostgreSQL: ranges of them, as literals of SQL, and what a target has in a range."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from rowtrail.connectors.base import Target, known_schema
from rowtrail.connectors.destinations.history import last_gone
from rowtrail.connectors.destinations.names import FILTERED, quote, quoted
from rowtrail.connectors.destinations.postgres_layout import PostgresLayout
from rowtrail.connectors.destinations.postgres_types import column_type
from rowtrail.connectors.postgres_client import quote_text

Key = tuple[object, ...]


def keys_query(
    layout: PostgresLayout, target: Target, after: Key | None, upto: Key | None, limit: int
) -> str:
    """The first keys in (after, upto] and `present`, in binary order: two index scans, merged."""
    key = target.schema.key
    within = key_range(target, after, upto)
    return (
        f"SELECT * FROM (SELECT {quoted(key)}, true AS {quote('present')} FROM {layout.table.sql} "
        f"WHERE {layout.is_live} AND {within} UNION ALL "
        f"SELECT {quoted(key)}, false FROM {layout.table.tombstones.sql} AS t "
        f"WHERE {FILTERED} AND {within}{last_gone(layout, key, 't')}) AS found "
        f"ORDER BY {order_by(layout, target)} LIMIT {limit:d}"
    )


def order_by(layout: PostgresLayout, target: Target) -> str:
    """The key's columns in binary order, which is that of the index."""
    return ", ".join(
        quote(name) + (' COLLATE "C"' if layout.types.get(name) == "text" else "")
        for name in target.schema.key
    )


def read_keys(found: pa.Table, target: Target) -> pa.Table:
    """The driver's answer in the target's own types; it gives numerics as text."""
    schema = known_schema(target.schema)
    columns = []
    for column, field in zip(found.columns, schema, strict=True):
        plain = pa.chunked_array(
            [getattr(chunk, "storage", chunk) for chunk in column.chunks],
            getattr(column.type, "storage_type", column.type),
        )
        columns.append(plain.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def key_range(target: Target, after: Key | None, upto: Key | None, *, closed: bool = False) -> str:
    """The condition that a key is in (after, upto], or with `closed` in [after, upto]."""
    conditions = ["true"]
    for bound, comparison in ((after, ">=" if closed else ">"), (upto, "<=")):
        if bound is not None:
            names = target.schema.key
            cut = _first_with_zero_byte(bound)
            if cut is not None:
                # No text here holds a zero byte: those that the bound cuts in two lie around what
                # precedes it, whatever follows.
                bound = (*bound[:cut], str(bound[cut]).partition("\0")[0])
                names, comparison = names[: cut + 1], comparison.replace(">=", ">")
            conditions.append(f"({quoted(names)}) {comparison} ({_literals(target, names, bound)})")
    return " AND ".join(conditions)


def _first_with_zero_byte(key: Key) -> int | None:
    return next((i for i, part in enumerate(key) if isinstance(part, str) and "\0" in part), None)


def _literals(target: Target, names: Sequence[str], values: Key) -> str:
    kinds = [column_type(target.table, target.schema.column(name)) for name in names]
    return ", ".join(_literal(value, kind) for value, kind in zip(values, kinds, strict=True))


def _literal(value: object, kind: str) -> str:
    text = f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)
    return f"CAST({quote_text(text)} AS {kind})"
