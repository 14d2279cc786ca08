"""The shape of tables in Snowflake: what is there, and what must be added for a target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from snowflake.connector import errors as driver

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
)
from rowtrail.connectors.destinations.names import (
    DELETED_AT,
    FILTERED,
    IS_CURRENT,
    VALID_FROM,
    VALID_TO,
    VERSION_COLUMNS,
)
from rowtrail.connectors.destinations.snowflake_sql import (
    Connected,
    SnowflakeName,
    column,
    newer,
    stored,
    version_of,
)
from rowtrail.connectors.destinations.snowflake_types import (
    INSTANT,
    arrow_type,
    column_type,
    greatest,
    takes,
    usual,
    widens,
)
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.connectors.snowflake_client import fold, quote_exactly, unfold

LONGEST_NAME = 255
"""Characters: https://docs.snowflake.com/en/sql-reference/identifiers-syntax"""

_VERSION = "NUMBER(19,0)"
_IN_THE_WAY = (2, 1441, 2108)
"""Numbers of a statement that cannot be: unsupported, or a column that something depends on."""


@dataclass(frozen=True, kw_only=True)
class SnowflakeLayout(Layout):
    """A table as it is. Its columns are spelled as people write them: see `stored`."""

    table: SnowflakeName
    required: frozenset[str]  # columns that may not be NULL
    defaulted: frozenset[str]  # columns that the server fills where nothing is given

    def column(self, name: str) -> str:
        return column(name)

    def newer(self, one: str, other: str) -> str:
        return newer(version_of(one), version_of(other))


def read_layout(work: Connected, table: SnowflakeName) -> SnowflakeLayout | None:
    """What is there under that name; None where there is nothing."""
    found = work.describe(table.sql)
    if found is None:
        return None
    return SnowflakeLayout(
        table=table,
        types={_written(name): usual(kind) for name, kind, *_ in found},
        required=frozenset(_written(row[0]) for row in found if row[3] == "N"),
        defaulted=frozenset(_written(row[0]) for row in found if row[4] is not None),
    )


def _written(name: str) -> str:
    """A stored name as people write it: with its quotes where it would mean another one without,
    such as one in lower case, which Rowtrail makes none of."""
    written = unfold(name)
    return written if fold(written) == name else quote_exactly(name)


def describe(
    work: Connected, name: str, table: SnowflakeName, gaps: tuple[Gap, ...]
) -> TargetTable | None:
    """The table's schema and its live rows. Its key is known if Rowtrail made it."""
    layout = read_layout(work, table)
    if layout is None:
        return None
    tombstones = read_layout(work, table.tombstones) if layout.is_ours else None
    schema = TableSchema(
        table=name,
        columns=tuple(
            Column(
                name=one,
                type=arrow_type(kind),
                declared=kind,
                nullable=one not in layout.required,
                default=one in layout.defaulted,
            )
            for one, kind in layout.types.items()
            if one in layout.columns
        ),
        key=tombstones.columns if tombstones else (),
    )
    ((alive,),) = work.run(f"SELECT count(*) FROM {table.sql} WHERE {layout.is_live}")
    return TargetTable(schema=schema, live_rows=int(alive), gaps=gaps)


def plan(work: Connected, target: Target, table: SnowflakeName) -> list[str]:
    """The statements that make or widen the target's tables; empty when all is in place.

    Each is carried out by itself: Snowflake commits DDL at once. A plan that was cut off is made
    again from what is there. Raises ConfigurationError for a type that Snowflake lacks, a table
    that others made, another key, and a column whose type does not take the values.
    """
    wanted = {stored(c.name): column_type(target.table, c) for c in target.schema.columns}
    layout = read_layout(work, table)
    tombstones = read_layout(work, table.tombstones)
    key = [stored(name) for name in target.schema.key]
    if layout is None:
        # The tombstones first: a table without them would be one of which nobody knows the key.
        return [
            *_create_schema(work, table),
            *_fitting_tombstones(target, table, wanted, tombstones),
            _create(target, table, wanted),
        ]
    if not layout.is_ours:
        raise not_ours(target)
    check_history(layout, target)
    in_key = {name: wanted[name] for name in key}
    if tombstones is None:
        return [*_widen(target, layout, wanted), _create_tombstones(target, table, wanted)]
    if list(tombstones.columns) != key:
        raise another_key(target, tombstones.columns)
    _check_narrowed_key(work, target, layout, in_key)
    return [*_widen(target, layout, wanted), *_retype(target, tombstones, in_key)]


def check_target_names(target: Target) -> None:
    """Raises ConfigurationError for names that are reserved, too long, or empty."""
    check_names(target, "Snowflake")
    named = SnowflakeName.of(target.table, "")
    for part in (*named.place, named.tombstones.name):
        if len(part) > LONGEST_NAME:
            raise ConfigurationError(
                f"Stream {target.stream} cannot fill table {target.table}: Snowflake takes names "
                f"of {LONGEST_NAME} characters. Choose a shorter `target`."
            )
    seen: dict[str, str] = {}
    for name in target.schema.names:
        if len(name) > LONGEST_NAME:
            raise refused_column(target, name, f"longer than {LONGEST_NAME} characters")
        other = seen.setdefault(stored(name), name)
        if other != name:
            raise refused_column(target, name, f"which in Snowflake is the same as {other!r}")


def check_key(layout: SnowflakeLayout, target: Target) -> None:
    """Raises ConfigurationError where the table lacks a column of the key."""
    missing = [name for name in target.schema.key if stored(name) not in layout.types]
    if missing:
        raise ConfigurationError(
            f"Table {target.table} has no column {', '.join(missing)}, by which rows of stream "
            f"{target.stream} are found. Start a new run, which compares the two."
        )


def _check_narrowed_key(
    work: Connected, target: Target, layout: SnowflakeLayout, wanted: Mapping[str, str]
) -> None:
    """Where the source has made its key narrower, no row may be left whose delete is to come."""
    for name, kind in wanted.items():
        most, has = greatest(kind), layout.types[name]
        if most is None or not takes(has, kind) or takes(kind, has):
            continue
        beyond = f"abs({column(name)}) > {_limit(target, name, most)}"
        if work.run(
            f"SELECT 1 FROM {layout.table.sql} WHERE {layout.is_live} AND {beyond} LIMIT 1"
        ):
            raise key_beyond(target, name, has, kind)


def _limit(target: Target, name: str, most: int) -> int:
    """The greatest number of the key's own type, where that is one of integers."""
    kind = next(c.type for c in target.schema.columns if stored(c.name) == name)
    bits = getattr(kind, "bit_width", 128)
    return 2 ** (bits - 1) - 1 if bits < 64 else most


def _create_schema(work: Connected, table: SnowflakeName) -> list[str]:
    schema, _ = table.place
    known = work.run("SELECT 1 FROM INFORMATION_SCHEMA.SCHEMATA WHERE SCHEMA_NAME = ?", [schema])
    return [] if known else [f"CREATE SCHEMA IF NOT EXISTS {quote_exactly(schema)}"]


def _create(target: Target, table: SnowflakeName, wanted: Mapping[str, str]) -> str:
    key = {stored(name) for name in target.schema.key}
    parts = [
        f"{column(name)} {kind}{' NOT NULL' if name in key else ''}"
        for name, kind in wanted.items()
    ]
    parts += _own_columns()
    if target.deletes is Deletes.SOFT:
        parts.append(f"{column(DELETED_AT)} {INSTANT}")
    if target.deletes is Deletes.HISTORY:
        parts.append(f"{column(VALID_FROM)} {INSTANT} NOT NULL")
        parts += [f"{column(VALID_TO)} {INSTANT}", f"{column(IS_CURRENT)} BOOLEAN NOT NULL"]
    return f"CREATE TABLE {table.sql} ({', '.join(parts)})"


def _create_tombstones(target: Target, table: SnowflakeName, wanted: Mapping[str, str]) -> str:
    parts = [f"{column(name)} {wanted[stored(name)]} NOT NULL" for name in target.schema.key]
    parts += _own_columns()
    parts += [f"{column(DELETED_AT)} {INSTANT} NOT NULL", f"{column(FILTERED)} BOOLEAN NOT NULL"]
    return f"CREATE TABLE {table.tombstones.sql} ({', '.join(parts)})"


def _fitting_tombstones(
    target: Target,
    table: SnowflakeName,
    wanted: Mapping[str, str],
    found: SnowflakeLayout | None,
) -> list[str]:
    """Tombstones that a dropped table has left still fence what was deleted before; those of
    another key say nothing of this one."""
    create = _create_tombstones(target, table, wanted)
    if found is None:
        return [create]
    same = list(found.columns) == [stored(name) for name in target.schema.key]
    if same and all(takes(found.types[name], wanted[name]) for name in found.columns):
        return []
    return [f"DROP TABLE {table.tombstones.sql}", create]


def _own_columns() -> list[str]:
    return [f"{column(name)} {_VERSION} NOT NULL" for name in VERSION_COLUMNS]


def _widen(target: Target, layout: SnowflakeLayout, wanted: Mapping[str, str]) -> list[str]:
    alter = f"ALTER TABLE {layout.table.sql} ADD COLUMN"
    retyped = _retype(target, layout, wanted)  # first, since it may refuse
    statements = [
        f"{alter} {column(name)} {kind}"
        for name, kind in wanted.items()
        if name not in layout.types
    ]
    if target.deletes is Deletes.SOFT and not layout.has(DELETED_AT):
        statements.append(f"{alter} {column(DELETED_AT)} {INSTANT}")
    return [*statements, *retyped]


def _retype(target: Target, layout: SnowflakeLayout, wanted: Mapping[str, str]) -> list[str]:
    """Gives columns of the table, or of its tombstones, the types that take the values."""
    statements = []
    key = {stored(name) for name in target.schema.key}
    for name, kind in wanted.items():
        existing = layout.types.get(name)
        if existing is None or takes(existing, kind):
            continue
        if not widens(existing, kind, name in key):
            raise _too_narrow(target, layout.table, name, existing, kind)
        statements.append(
            f"ALTER TABLE {layout.table.sql} ALTER COLUMN {column(name)} SET DATA TYPE {kind}"
        )
    return statements


def _too_narrow(
    target: Target, table: SnowflakeName, name: str, has: str, wanted: str
) -> ConfigurationError:
    """Snowflake gives a column no type of another kind or scale: another column takes its place."""
    key = name in {stored(one) for one in target.schema.key}
    tables = (table, table.tombstones) if key else (table,)
    aside = column(f"{name}_wider")
    change = " ".join(
        f"ALTER TABLE {one.sql} ADD COLUMN {aside} {wanted}; "
        f"UPDATE {one.sql} SET {aside} = {column(name)}::{wanted}; "
        f"ALTER TABLE {one.sql} DROP COLUMN {column(name)}; "
        f"ALTER TABLE {one.sql} RENAME COLUMN {aside} TO {column(name)};"
        for one in tables
    )
    return ConfigurationError(
        f"Column {name} of table {target.table} is {has}, and stream {target.stream} now brings "
        f"{wanted}, which does not fit without loss; the TYPE of a column in Snowflake can only "
        f"get more digits or characters. If its values can be converted, run on the target: "
        f"{change} Otherwise name another table for the stream."
    )


@contextmanager
def refusing(target: Target, statement: str) -> Iterator[None]:
    """Raises ConfigurationError where something depends on a table so that a statement of the plan
    cannot change it."""
    try:
        yield
    except driver.ProgrammingError as error:
        if error.errno not in _IN_THE_WAY:
            raise
        raise cannot_change(target, statement, str(error.msg)) from error
