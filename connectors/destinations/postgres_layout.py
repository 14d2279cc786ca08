"""The shape of tables in PostgreSQL: what is there, and what must be added for a target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from rowtrail.connectors.base import Deletes, Gap, Target, TargetTable
from rowtrail.connectors.destinations.layout import (
    Layout,
    another_key,
    cannot_change,
    check_history,
    check_names,
    key_beyond,
    not_ours,
    refused_column,
    retype,
    too_narrow,
)
from rowtrail.connectors.destinations.names import (
    DELETED_AT,
    FILTERED,
    HISTORY_COLUMNS,
    IS_CURRENT,
    VALID_FROM,
    VALID_TO,
    VERSION_COLUMNS,
    is_reserved,
    quote,
    quoted,
)
from rowtrail.connectors.destinations.postgres_sql import (
    LONGEST_NAME,
    Connected,
    PostgresName,
)
from rowtrail.connectors.destinations.postgres_types import (
    TIMESTAMPTZ,
    arrow_type,
    column_type,
    integer_range,
    takes,
    widens,
)
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.postgres_errors import reason, sqlstate
from rowtrail.connectors.schema import Column, TableSchema

COUNTED = 100_000
"""Rows of a table that are counted one by one; of a larger one their number is estimated."""

MOST_COLUMNS = 1_600
"""Of a table: MaxHeapAttributeNumber, https://www.postgresql.org/docs/current/limits.html."""

_SYSTEM_COLUMNS = ("tableoid", "ctid", "xmin", "cmin", "xmax", "cmax")
_TABLES = ("r", "p")  # pg_class.relkind: ordinary and partitioned

_FIND = """
SELECT c.relkind::text,
    array(SELECT a.attname::text FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
    array(SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
    array(SELECT a.attname::text FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          AND (a.attgenerated <> '' OR a.attidentity = 'a')),
    array(SELECT a.attname::text FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull),
    array(SELECT a.attname::text FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          AND (a.atthasdef OR a.attidentity <> '')),
    array(SELECT a.attname::text FROM pg_index i
          CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
          WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts
          ORDER BY k.place),
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND NOT i.indisprimary
            AND (i.indisunique OR i.indisexclusion)),
    EXISTS (SELECT FROM pg_constraint f WHERE f.confrelid = c.oid AND f.contype = 'f')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ? AND c.relname = ?
"""


@dataclass(frozen=True, kw_only=True)
class PostgresLayout(Layout):
    """A table as it is, with what decides how rows can be put into it."""

    table: PostgresName
    kind: str  # pg_class.relkind
    primary_key: tuple[str, ...]  # its columns
    generated: frozenset[str]  # columns whose values the server makes
    required: frozenset[str]  # columns that may not be NULL
    defaulted: frozenset[str]  # columns that the server fills where nothing is given
    has_unique: bool  # an index beside the primary key forbids some rows
    is_referenced: bool  # foreign keys of other tables point at it

    @property
    def is_ours(self) -> bool:
        return self.kind in _TABLES and super().is_ours

    @property
    def key(self) -> tuple[str, ...]:
        """The key of a record: in a history, the primary key has its version, too."""
        return tuple(name for name in self.primary_key if not is_reserved(name))


def read_layout(work: Connected, table: PostgresName) -> PostgresLayout | None:
    """What is there under that name, a view or an index too; None where there is nothing."""
    found = work.run(_FIND, table.place)
    if not found:
        return None
    ((kind, names, types, generated, required, defaulted, key, has_unique, is_referenced),) = found
    return PostgresLayout(
        table=table,
        types=dict(zip(names, types, strict=True)),
        kind=kind,
        primary_key=tuple(key),
        generated=frozenset(generated),
        required=frozenset(required),
        defaulted=frozenset(defaulted),
        has_unique=has_unique,
        is_referenced=is_referenced,
    )


def describe(work: Connected, name: str, gaps: tuple[Gap, ...]) -> TargetTable | None:
    """The table's schema and its live rows. Its key is known if Rowtrail made it."""
    layout = read_layout(work, PostgresName.parse(name))
    if layout is None:
        return None
    schema = TableSchema(
        table=name,
        columns=tuple(
            Column(
                name=column,
                type=arrow_type(kind),
                declared=kind,
                nullable=column not in layout.required,
                default=column in layout.defaulted,
            )
            for column, kind in layout.types.items()
            if column in layout.columns
        ),
        key=layout.key if layout.is_ours else (),
    )
    return TargetTable(schema=schema, live_rows=_live_rows(work, layout), gaps=gaps)


def _live_rows(work: Connected, layout: PostgresLayout) -> int:
    """Counted up to COUNTED rows: a replay of one record must not read the table. Beyond, what the
    planner thinks, from the table's size and its statistics."""
    ((rows, alive),) = work.run(
        f"SELECT count(*), count(*) FILTER (WHERE live) FROM "
        f"(SELECT {layout.is_live} AS live FROM {layout.table.sql} LIMIT {COUNTED + 1}) AS sample"
    )
    if rows <= COUNTED:
        return int(alive)
    ((plan,),) = work.run(
        f"EXPLAIN (FORMAT JSON) SELECT FROM {layout.table.sql} WHERE {layout.is_live}"
    )
    return max(int(alive), int(plan[0]["Plan"]["Plan Rows"]))


def plan(work: Connected, target: Target) -> list[str]:
    """The statements that make or widen the target's tables; empty when all is in place.

    Raises ConfigurationError for a type that PostgreSQL lacks, a table that others made, another
    key, and a column whose type does not take the values.
    """
    table = PostgresName.parse(target.table)
    wanted = {c.name: column_type(target.table, c) for c in target.schema.columns}
    _check_width(target)
    layout = read_layout(work, table)
    tombstones = read_layout(work, table.tombstones)
    if layout is None:
        return [
            *_create_schema(work, table),
            _create(target, table, wanted),
            *_fitting_tombstones(target, table, wanted, tombstones),
        ]
    if not layout.is_ours:
        raise not_ours(target)
    check_history(layout, target)
    check_key(layout, target)
    if tombstones is None:
        return [*_widen(target, layout, wanted), _create_tombstones(target, table, wanted)]
    in_key = {name: wanted[name] for name in target.schema.key}
    _check_narrowed_key(work, target, layout, in_key)
    return [*_widen(target, layout, wanted), *_retype(target, table, tombstones, in_key)]


def _check_width(target: Target) -> None:
    columns = len(target.schema.columns) + len(VERSION_COLUMNS)
    columns += len(HISTORY_COLUMNS) if target.deletes is Deletes.HISTORY else 1
    if columns > MOST_COLUMNS:
        raise ConfigurationError(
            f"Table {target.table} of stream {target.stream} would have {columns:,} columns, with "
            f"Rowtrail's own, and PostgreSQL takes {MOST_COLUMNS:,}. Leave some out with `exclude`."
        )


def check_target_names(target: Target) -> None:
    """Raises ConfigurationError for names that are reserved, too long, or empty."""
    check_names(target, "PostgreSQL")
    for part in PostgresName.parse(target.table).place:
        if len(part.encode()) > LONGEST_NAME:
            raise ConfigurationError(
                f"Stream {target.stream} cannot fill table {target.table}: PostgreSQL would cut "
                f"off the name {part} after {LONGEST_NAME} bytes. Choose a shorter `target`."
            )
    for name in target.schema.names:
        if len(name.encode()) > LONGEST_NAME:
            raise refused_column(
                target, name, f"which PostgreSQL would cut off after {LONGEST_NAME} bytes"
            )
        if name in _SYSTEM_COLUMNS:
            raise refused_column(target, name, "which is a system column's in PostgreSQL")


def check_key(layout: PostgresLayout, target: Target) -> None:
    """Raises ConfigurationError unless the table's primary key is the target's key."""
    if not layout.key:
        raise ConfigurationError(
            f"Table {target.table} has lost its primary key, by which rows are found. Put it back: "
            f"ALTER TABLE {layout.table.sql} ADD PRIMARY KEY ({quoted(primary_key(target))});"
        )
    if layout.key != target.schema.key:
        raise another_key(target, layout.key)


def _check_narrowed_key(
    work: Connected, target: Target, layout: PostgresLayout, wanted: Mapping[str, str]
) -> None:
    """Where the source has made its key narrower, no row may be left whose delete is to come."""
    live = f"{DELETED_AT} IS NULL" if layout.has(DELETED_AT) else "true"
    for name, kind in wanted.items():
        limits, has = integer_range(kind), layout.types[name]
        if limits is None or not takes(has, kind) or takes(kind, has):
            continue
        beyond = f"{quote(name)} < {limits[0]} OR {quote(name)} > {limits[1]}"
        if work.run(f"SELECT FROM {layout.table.sql} WHERE {live} AND ({beyond}) LIMIT 1"):
            raise key_beyond(target, name, has, kind)


def _create_schema(work: Connected, table: PostgresName) -> list[str]:
    schema, _ = table.place
    known = work.run("SELECT FROM pg_namespace WHERE nspname = ?", [schema])
    return [] if known else [f"CREATE SCHEMA {quote(schema)}"]


def _create(target: Target, table: PostgresName, wanted: Mapping[str, str]) -> str:
    columns = [_key_column(name, wanted[name]) for name in target.schema.key]
    others = [name for name in wanted if name not in target.schema.key]
    by_name = dict(zip(target.schema.key, columns, strict=True))
    by_name |= {name: f"{quote(name)} {wanted[name]}" for name in others}
    parts = [by_name[name] for name in wanted] + _own_columns()
    if target.deletes is Deletes.SOFT:
        parts.append(f"{DELETED_AT} {TIMESTAMPTZ}")
    if target.deletes is Deletes.HISTORY:
        parts.append(f"{VALID_FROM} {TIMESTAMPTZ} NOT NULL")
        parts += [f"{VALID_TO} {TIMESTAMPTZ}", f"{IS_CURRENT} boolean NOT NULL"]
    parts.append(f"PRIMARY KEY ({quoted(primary_key(target))})")
    return f"CREATE TABLE {table.sql} ({', '.join(parts)})"


def primary_key(target: Target) -> tuple[str, ...]:
    """Of the target's tables; in a history a record has a row for each of its versions."""
    return (*target.schema.key, *(VERSION_COLUMNS if target.deletes is Deletes.HISTORY else ()))


def _key_column(name: str, kind: str) -> str:
    return f"{quote(name)} {_key_type(kind)} NOT NULL"


def _key_type(kind: str) -> str:
    """Texts in binary order, so that the primary key's index is in the order of `keys`."""
    return f'{kind} COLLATE "C"' if kind == "text" else kind


def _create_tombstones(target: Target, table: PostgresName, wanted: Mapping[str, str]) -> str:
    columns = [_key_column(name, wanted[name]) for name in target.schema.key]
    columns += _own_columns()
    columns += [f"{DELETED_AT} {TIMESTAMPTZ} NOT NULL", f"{FILTERED} boolean NOT NULL"]
    columns.append(f"PRIMARY KEY ({quoted(primary_key(target))})")
    return f"CREATE TABLE {table.tombstones.sql} ({', '.join(columns)})"


def _fitting_tombstones(
    target: Target, table: PostgresName, wanted: Mapping[str, str], found: PostgresLayout | None
) -> list[str]:
    """Tombstones that a dropped table has left still fence what was deleted before; those of
    another key say nothing of this one."""
    create = _create_tombstones(target, table, wanted)
    if found is None:
        return [create]
    same = found.primary_key == primary_key(target)
    if same and all(takes(found.types[name], wanted[name]) for name in found.key):
        return []
    return [f"DROP TABLE {table.tombstones.sql}", create]


def _own_columns() -> list[str]:
    return [f"{name} bigint NOT NULL" for name in VERSION_COLUMNS]


def _widen(target: Target, layout: PostgresLayout, wanted: Mapping[str, str]) -> list[str]:
    alter = f"ALTER TABLE {layout.table.sql} ADD COLUMN"
    statements = [
        f"{alter} {quote(name)} {kind}" for name, kind in wanted.items() if name not in layout.types
    ]
    statements += _retype(target, layout.table, layout, wanted)
    if target.deletes is Deletes.SOFT and not layout.has(DELETED_AT):
        statements.append(f"{alter} {DELETED_AT} {TIMESTAMPTZ}")
    return statements


def _retype(
    target: Target, table: PostgresName, layout: PostgresLayout, wanted: Mapping[str, str]
) -> list[str]:
    """Gives columns of the table, or of its tombstones, the types that take the values.

    All in one statement: the server rewrites most tables for it, once.
    """
    changes = []
    for name, kind in wanted.items():
        existing = layout.types.get(name)
        if existing is None or takes(existing, kind):
            continue
        in_key = name in target.schema.key
        if not widens(existing, kind, in_key):
            raise too_narrow(target, table, name, existing, kind)
        changes.append(retype(name, _key_type(kind) if in_key else kind))
    return [f"ALTER TABLE {layout.table.sql} {', '.join(changes)}"] if changes else []


_IN_THE_WAY = ("0A", "2BP01", "42P16")
"""Of what else depends on a table: views and rules, other objects, partitions."""


@contextmanager
def refusing(target: Target, statement: str) -> Iterator[None]:
    """Raises ConfigurationError where something depends on a table so that a statement of the plan
    cannot change it."""
    try:
        yield
    except psycopg.Error as error:
        if not (sqlstate(error) or "").startswith(_IN_THE_WAY):
            raise
        why = ": ".join(filter(None, (reason(error), error.diag.message_detail)))
        raise cannot_change(target, statement, why) from error
