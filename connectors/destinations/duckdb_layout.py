"""The shape of tables in DuckDB: what is there, and what must be added for a target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from rowtrail.connectors.base import Deletes, Gap, Target, TargetTable
from rowtrail.connectors.destinations.duckdb_errors import first_line
from rowtrail.connectors.destinations.duckdb_sql import KEY_HASH, fetch_arrow, run
from rowtrail.connectors.destinations.duckdb_types import (
    column_type,
    integer_range,
    takes,
    widens,
)
from rowtrail.connectors.destinations.layout import (
    Layout,
    another_key,
    cannot_change,
    check_history,
    check_names,
    key_beyond,
    not_ours,
    retype,
    too_narrow,
)
from rowtrail.connectors.destinations.names import (
    DELETED_AT,
    FILTERED,
    IS_CURRENT,
    VALID_FROM,
    VALID_TO,
    VERSION_COLUMNS,
    TableName,
    fold,
    quote,
)
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import Column, TableSchema


def read_layout(connection: duckdb.DuckDBPyConnection, table: TableName) -> Layout | None:
    """What is there under that name, a view too; None where there is nothing."""
    try:
        shape = connection.sql(f"SELECT * FROM {table.sql} LIMIT 0")
    except duckdb.CatalogException:
        return None
    types = {name: str(kind) for name, kind in zip(shape.columns, shape.types, strict=True)}
    return Layout(table=table, types=types)


def place_of(connection: duckdb.DuckDBPyConnection, table: TableName) -> tuple[str, str]:
    """Schema and name as they are compared. The database's own name before a table's name stands
    for the schema `main`, as does none."""
    database = run(connection, "SELECT current_database()")[0][0]
    schema = fold(table.schema or "main")
    return ("main" if schema == fold(database) else schema, fold(table.name))


def describe(
    connection: duckdb.DuckDBPyConnection, name: str, gaps: tuple[Gap, ...]
) -> TargetTable | None:
    """The table's schema and number of live rows. Its key is known if Rowtrail made it."""
    table = TableName.parse(name)
    layout = read_layout(connection, table)
    if layout is None:
        return None
    tombstones = read_layout(connection, table.tombstones)
    empty = fetch_arrow(connection, f"SELECT * FROM {table.sql} LIMIT 0").schema
    described = {
        name: (nullable == "YES", default is not None)
        for name, _, nullable, _, default, *_ in run(connection, f"DESCRIBE {table.sql}")
    }
    rows = run(connection, f"SELECT count(*) FROM {table.sql} WHERE {layout.is_live}")[0][0]
    schema = TableSchema(
        table=name,
        columns=tuple(
            Column(
                name=name,
                type=empty.field(name).type,
                declared=layout.types[name],
                nullable=described[name][0],
                default=described[name][1],
            )
            for name in layout.columns
        ),
        key=tombstones.columns if tombstones else (),
    )
    return TargetTable(schema=schema, live_rows=rows, gaps=gaps)


def key_is_hashed(schema: TableSchema) -> bool:
    """Whether a hash of the key is kept beside it: where all of the key is text or blobs.

    A key is found by scanning its column. Integers and times compress, are compared many at once
    and are often in order, so that most row groups are skipped; a scan of random texts took 20
    times as long (23 ms against 1.2 ms per million), one of their hashes 2 ms. A primary key would
    find them as fast, but made loading 4 times and the file 5 times as large.
    """
    types = [schema.column(name).type for name in schema.key]
    return all(pa.types.is_string(kind) or _is_wide(kind) for kind in types)


def _is_wide(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def key_hash(schema: TableSchema) -> str:
    """The SQL of that hash, over columns of the key by their bare names. MD5, so that the value
    is the same in every version of DuckDB; texts that collide are told apart by the key itself.
    """
    if len(schema.key) == 1:
        return f"md5_number_lower({quote(schema.key[0])})"
    parts = (
        quote(name) if pa.types.is_string(schema.column(name).type) else f"hex({quote(name)})"
        for name in schema.key
    )
    return f"md5_number_lower(concat_ws(chr(0), {', '.join(parts)}))"


def plan(connection: duckdb.DuckDBPyConnection, target: Target) -> list[str]:
    """The statements that make or widen the target's tables; empty when all is in place.

    Raises ConfigurationError for names that collide, a type that DuckDB lacks, a table that others
    made, another key, and a column whose type does not take the target's values.
    """
    table = TableName.parse(target.table)
    check_names(target, "DuckDB")
    _check_case(target)
    wanted = {c.name: column_type(target.table, c) for c in target.schema.columns}
    layout = read_layout(connection, table)
    tombstones = read_layout(connection, table.tombstones)
    in_key = {name: wanted[name] for name in target.schema.key}
    if layout is None:
        made = [*_create_schema(connection, table), *_create(target, table, wanted)]
        if tombstones is None:
            return made
        if _fence_this_key(target, tombstones, in_key):
            return [*made, *_retype(target, table, tombstones, in_key)]
        return [f"DROP TABLE IF EXISTS {table.tombstones.sql}", *made]
    if not layout.is_ours:
        raise not_ours(target)
    check_history(layout, target)
    if tombstones is not None:
        _check_key(target, tombstones)
    if tombstones is None:
        return [*_widen(target, layout, wanted), _create_tombstones(target, table, wanted)]
    _check_narrowed_key(connection, target, layout, in_key)
    return [*_widen(target, layout, wanted), *_retype(target, table, tombstones, in_key)]


def _check_case(target: Target) -> None:
    seen: dict[str, str] = {}
    for name in target.schema.names:
        if other := seen.get(fold(name)):
            raise ConfigurationError(
                f"Columns {other} and {name} of stream {target.stream} differ only by case, which "
                f"DuckDB takes for the same name. Leave one out with `exclude`, or rename it at "
                f"the source."
            )
        seen[fold(name)] = name


def _fence_this_key(target: Target, tombstones: Layout, wanted: Mapping[str, str]) -> bool:
    """Tombstones that a dropped table has left still fence what was deleted before; those of
    another key say nothing of this one."""
    if [fold(name) for name in tombstones.columns] != [fold(name) for name in target.schema.key]:
        return False
    types = dict(zip(wanted, (tombstones.types[name] for name in tombstones.columns), strict=True))
    return all(takes(types[n], wanted[n]) or widens(types[n], wanted[n], True) for n in wanted)


def _check_key(target: Target, tombstones: Layout) -> None:
    existing = [fold(name) for name in tombstones.columns]
    if existing != [fold(name) for name in target.schema.key]:
        raise another_key(target, tombstones.columns)


def _check_narrowed_key(
    connection: duckdb.DuckDBPyConnection,
    target: Target,
    layout: Layout,
    wanted: Mapping[str, str],
) -> None:
    """Where the source has made its key narrower, no row may be left whose delete is to come."""
    live = f"{DELETED_AT} IS NULL" if layout.has(DELETED_AT) else "true"
    for name, kind in wanted.items():
        existing, limits = spelled(layout, name) or name, integer_range(kind)
        has = layout.types[existing]
        if limits is None or not takes(has, kind) or takes(kind, has):
            continue
        beyond = f"{quote(existing)} < {limits[0]} OR {quote(existing)} > {limits[1]}"
        if run(connection, f"SELECT 1 FROM {layout.table.sql} WHERE {live} AND ({beyond}) LIMIT 1"):
            raise key_beyond(target, existing, has, kind)


def _create_schema(connection: duckdb.DuckDBPyConnection, table: TableName) -> list[str]:
    if table.schema is None:
        return []
    known = run(
        connection,
        "SELECT schema_name FROM duckdb_schemas() WHERE database_name = current_database()",
    )
    if fold(table.schema) in {fold(row[0]) for row in known}:
        return []
    return [f"CREATE SCHEMA {quote(table.schema)}"]


def _create(target: Target, table: TableName, wanted: Mapping[str, str]) -> list[str]:
    """No primary key: it would double the time of a load and multiply the size of the file, and
    the merge itself keeps keys unique."""
    key = target.schema.key
    columns = [
        f"{quote(name)} {kind}{' NOT NULL' if name in key else ''}" for name, kind in wanted.items()
    ]
    columns += _own_columns(target.schema)
    if target.deletes is Deletes.SOFT:
        columns.append(f"{DELETED_AT} TIMESTAMPTZ")
    if target.deletes is Deletes.HISTORY:
        columns.append(f"{VALID_FROM} TIMESTAMPTZ NOT NULL")
        columns += [f"{VALID_TO} TIMESTAMPTZ", f"{IS_CURRENT} BOOLEAN NOT NULL"]
    return [
        f"CREATE TABLE {table.sql} ({', '.join(columns)})",
        _create_tombstones(target, table, wanted),
    ]


def _create_tombstones(target: Target, table: TableName, wanted: Mapping[str, str]) -> str:
    columns = [f"{quote(name)} {wanted[name]} NOT NULL" for name in target.schema.key]
    columns += _own_columns(target.schema)
    columns += [f"{DELETED_AT} TIMESTAMPTZ NOT NULL", f"{FILTERED} BOOLEAN NOT NULL"]
    return f"CREATE TABLE IF NOT EXISTS {table.tombstones.sql} ({', '.join(columns)})"


def _own_columns(schema: TableSchema) -> list[str]:
    columns = [f"{name} BIGINT NOT NULL" for name in VERSION_COLUMNS]
    return [*columns, f"{KEY_HASH} UBIGINT NOT NULL"] if key_is_hashed(schema) else columns


def spelled(layout: Layout, name: str) -> str | None:
    """The column that DuckDB takes `name` for; None where there is none."""
    return next((known for known in layout.types if fold(known) == fold(name)), None)


def _widen(target: Target, layout: Layout, wanted: Mapping[str, str]) -> list[str]:
    alter = f"ALTER TABLE {layout.table.sql} ADD COLUMN"
    statements = [
        f"{alter} {quote(name)} {kind}"
        for name, kind in wanted.items()
        if spelled(layout, name) is None
    ]
    statements += _retype(target, layout.table, layout, wanted)
    if target.deletes is Deletes.SOFT and not layout.has(DELETED_AT):
        statements.append(f"{alter} {DELETED_AT} TIMESTAMPTZ")
    return statements


def _retype(
    target: Target, table: TableName, layout: Layout, wanted: Mapping[str, str]
) -> Iterator[str]:
    """Gives columns of the table, or of its tombstones, the types that take the values."""
    for name, kind in wanted.items():
        existing = spelled(layout, name)
        if existing is None or takes(layout.types[existing], kind):
            continue
        in_key = name in target.schema.key
        if not widens(layout.types[existing], kind, in_key):
            raise too_narrow(target, table, name, layout.types[existing], kind)
        yield f"ALTER TABLE {layout.table.sql} {retype(existing, kind)}"


@contextmanager
def refusing(target: Target, statement: str) -> Iterator[None]:
    """Raises ConfigurationError where DuckDB does not take a statement of the plan: an index, a
    check, a generated column or a unique value is in its way."""
    try:
        yield
    except (duckdb.CatalogException, duckdb.BinderException, duckdb.DependencyException) as error:
        raise cannot_change(target, statement, first_line(error).rstrip("!")) from error
