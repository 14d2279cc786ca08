"""What SQLite itself says of a table: its columns, keys and unique indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import RESERVED_PREFIX
from rowtrail.connectors.sources.sqlite_connection import Connection
from rowtrail.connectors.sources.sqlite_types import (
    CLASSES,
    Affinity,
    Collation,
    affinity,
    held_classes,
)


def quote(name: str) -> str:
    """The name as an identifier. Columns are also qualified: SQLite takes a lone "no column" in
    double quotes for text."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """A text literal, for DDL, where no value can be bound."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True, kw_only=True)
class TableColumn:
    name: str
    declared: str
    not_null: bool
    affinity: Affinity
    held: tuple[str, ...]  # the storage classes that its values can have


@dataclass(frozen=True, kw_only=True)
class UniqueIndex:
    """A unique constraint of any origin; `columns` are (name, collation), None an expression."""

    name: str
    columns: tuple[tuple[str | None, str], ...]
    partial: bool = False  # of the rows that a WHERE chooses

    @property
    def is_plain(self) -> bool:
        return all(name is not None for name, _ in self.columns)


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    name: str  # as the database spells it
    kind: str  # table, view or virtual
    columns: tuple[TableColumn, ...]
    primary_key: tuple[str, ...]
    unique: tuple[UniqueIndex, ...]

    def column(self, name: str) -> TableColumn:
        """By its name; SQLite's names are equal whatever their (ASCII) case."""
        found = [column for column in self.columns if column.name == name] or [
            column for column in self.columns if column.name.lower() == name.lower()
        ]
        if not found:
            raise ConfigurationError(
                f"Table {self.name} has no column {name}. It has "
                f"{', '.join(column.name for column in self.columns)}: mend the stream's settings."
            )
        return found[0]

    def resolved(self, names: Sequence[str]) -> tuple[str, ...]:
        """The names as the database spells them."""
        return tuple(self.column(name).name for name in names)

    @property
    def guarded_keys(self) -> tuple[tuple[str, ...], ...]:
        """Columns that take no NULL and that a constraint keeps unique together."""
        whole = {column.name for column in self.columns if column.not_null}
        return tuple(
            tuple(str(name) for name, _ in index.columns)
            for index in self.unique
            if index.is_plain and not index.partial and {name for name, _ in index.columns} <= whole
        )

    @property
    def key_advice(self) -> str:
        """How a table without a key gets one, as a clause behind "or"."""
        if self.kind != "table":
            return "give it a column that numbers its rows"
        taken = {column.name.lower() for column in self.columns}
        rowid = next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), "rowid")
        return (
            f"read with capture `snapshot` a view that shows SQLite's own number of each row, with "
            f'key = ["row_id"]: CREATE VIEW {quote(f"{self.name}_keyed")} AS '
            f"SELECT {rowid} AS row_id, * FROM {quote(self.name)}"
        )

    def is_unique(self, names: Sequence[str]) -> bool:
        """Whether a constraint guarantees that no two rows are equal in these columns."""
        return any(
            index.is_plain
            and not index.partial
            and {name for name, _ in index.columns} <= set(names)
            for index in self.unique
        )


def find_table(connection: Connection, name: str) -> SourceTable:
    """Raises ConfigurationError when there is no such table, or it is one of Rowtrail's own."""
    rows = connection.records(
        "SELECT name, type, strict FROM pragma_table_list WHERE schema = 'main' "
        "AND lower(name) = lower(?) ORDER BY name <> ?",
        (name, name),
    )
    if not rows:
        raise ConfigurationError(
            f"There is no table {name} in {connection.path}. It has "
            f"{', '.join(table_names(connection)) or 'no tables'}: mend the stream's `table`."
        )
    found, kind, strict = (cast("str", rows[0][0]), cast("str", rows[0][1]), bool(rows[0][2]))
    if found.lower().startswith(RESERVED_PREFIX):
        raise ConfigurationError(
            f"Table {found} belongs to Rowtrail, so it cannot be a stream. Name another table."
        )
    columns, primary_key = _columns(connection, found, strict=strict, guarded=kind == "table")
    return SourceTable(
        name=found,
        kind="virtual" if kind in ("virtual", "shadow") else kind,
        columns=columns,
        primary_key=primary_key,
        unique=_unique(connection, found, primary_key),
    )


def collation(connection: Connection, table: SourceTable, column: str) -> Collation:
    """The collation of a column, found out by comparing: no pragma tells it."""
    probe = f"SELECT t.{quote(column)} AS x FROM {quote(table.name)} AS t WHERE 0"
    try:
        rows = connection.records(f"SELECT x = 'A' OR x = 'a ' FROM ({probe} UNION ALL SELECT 'a')")
    except ConfigurationError:  # no such collation sequence
        return Collation.UNKNOWN
    return Collation.OTHER if rows[0][0] else Collation.BINARY


def spelled(connection: Connection, name: str) -> str:
    """The table's name as the database has it, or as given when it is not there any more."""
    rows = connection.records(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND lower(name) = lower(?)", (name,)
    )
    return cast("str", rows[0][0]) if rows else name


def table_names(connection: Connection) -> list[str]:
    """Tables and views that people made, in the order of their names."""
    rows = connection.records(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'shadow' "
        "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
        "AND substr(lower(name), 1, ?) <> ? ORDER BY name",
        (len(RESERVED_PREFIX), RESERVED_PREFIX),
    )
    return [cast("str", name) for (name,) in rows]


def table_columns(connection: Connection) -> dict[str, list[str]]:
    """The columns of each of those that is no view."""
    tables = {
        cast("str", name)
        for (name,) in connection.records(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'view'"
        )
    }
    found: dict[str, list[str]] = {}
    for table in table_names(connection):
        if table in tables:
            rows = connection.records(
                "SELECT name FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid", (table,)
            )
            found[table] = [cast("str", name) for (name,) in rows]
    return found


def _columns(
    connection: Connection, table: str, *, strict: bool, guarded: bool
) -> tuple[tuple[TableColumn, ...], tuple[str, ...]]:
    # hidden = 1: arguments of a virtual table. 2 and 3 are generated columns, read like others.
    rows = cast(
        "list[tuple[str, str, int, int]]",
        connection.records(
            'SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?) WHERE hidden <> 1 '
            "ORDER BY cid",
            (table,),
        ),
    )
    columns = tuple(
        TableColumn(
            name=name,
            declared=declared,
            not_null=bool(not_null),
            # ANY keeps values as they come in a STRICT table only.
            affinity=Affinity.BLOB if strict and declared == "ANY" else affinity(declared),
            # A view's column can be made of several, and a virtual table gives what it likes.
            held=held_classes(declared, strict=strict) if guarded else CLASSES,
        )
        for name, declared, not_null, _ in rows
    )
    keyed = sorted((position, name) for name, _, _, position in rows if position)
    return columns, tuple(name for _, name in keyed)


def _unique(
    connection: Connection, table: str, primary_key: tuple[str, ...]
) -> tuple[UniqueIndex, ...]:
    rows = cast(
        "list[tuple[str, str, int, str | None, str]]",
        connection.records(
            "SELECT i.name, i.origin, i.partial, x.name, x.coll FROM pragma_index_list(?) AS i "
            'JOIN pragma_index_xinfo(i.name) AS x WHERE i."unique" AND x.key '
            "ORDER BY i.name, x.seqno",
            (table,),
        ),
    )
    parts: dict[str, list[tuple[str | None, str]]] = {}
    partial = {index for index, _, chooses, _, _ in rows if chooses}
    for index, _, _, column, collation in rows:
        parts.setdefault(index, []).append((column, collation))
    found = [
        UniqueIndex(name=name, columns=tuple(columns), partial=name in partial)
        for name, columns in parts.items()
    ]
    if primary_key and not any(origin == "pk" for _, origin, _, _, _ in rows):
        # An INTEGER PRIMARY KEY is the rowid itself and has no index.
        columns = tuple((name, "BINARY") for name in primary_key)
        found.append(UniqueIndex(name="primary key", columns=columns))
    return tuple(found)
