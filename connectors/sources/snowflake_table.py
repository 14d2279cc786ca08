"""What Snowflake itself says of a table: its columns and its key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import RESERVED_PREFIX
from rowtrail.connectors.snowflake_client import fold, quote_exactly, unfold
from rowtrail.connectors.sources.snowflake_connection import Connection
from rowtrail.connectors.sources.snowflake_names import Place, in_sql, listed, meanings
from rowtrail.connectors.sources.snowflake_types import DeclaredType

_SHOWN = 20  # tables that a message lists


@dataclass(frozen=True, kw_only=True)
class TableColumn:
    name: str  # as people write it: `id` for ID
    stored: str
    type: DeclaredType
    not_null: bool  # which Snowflake holds, as the only one of its constraints


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    name: str  # as it is listed
    place: Place
    columns: tuple[TableColumn, ...]
    primary_key: tuple[str, ...]  # not enforced: rows may share one

    @property
    def sql(self) -> str:
        return in_sql(self.place)

    def column(self, name: str) -> TableColumn:
        """By its name, in any case where that is enough."""
        for column in self.columns:
            if name == column.name:
                return column
        for column in self.columns:
            if column.stored in (name, fold(name)):
                return column
        raise ConfigurationError(
            f"Table {self.name} has no column {name}. It has "
            f"{', '.join(column.name for column in self.columns)}: mend the stream's settings."
        )

    def resolved(self, names: Sequence[str]) -> tuple[str, ...]:
        """The names as they are described."""
        return tuple(self.column(name).name for name in names)

    @property
    def guarded_keys(self) -> tuple[tuple[str, ...], ...]:
        """None: Snowflake keeps no columns unique."""
        return ()

    @property
    def key_advice(self) -> str:
        """How a table without a key gets one, as a clause behind "or"."""
        keyed = quote_exactly(fold(f"{unfold(self.place[1])}_keyed"))
        return (
            f"read with capture `snapshot` a view that tells rows apart by what is in them, with "
            f'key = ["row_hash", "row_copy"]: CREATE VIEW {keyed} AS SELECT h.*, ROW_NUMBER() OVER '
            f"(PARTITION BY row_hash ORDER BY row_hash) AS row_copy FROM (SELECT HASH(*) AS "
            f"row_hash, * FROM {self.sql}) AS h"
        )


def find_table(connection: Connection, name: str) -> SourceTable:
    """Raises ConfigurationError when there is no such table, it is one of Rowtrail's own, or two
    of its columns have one name."""
    doing = f"describe table {name}"
    for place in meanings(name, connection.schema):
        # Carried out without a warehouse; it takes views, too.
        found = connection.named(f"DESCRIBE TABLE {in_sql(place)}", doing=doing)
        if found is not None:
            return _table(connection, place, found)
    names = table_names(connection)
    told = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    raise ConfigurationError(
        f"There is no table {name} in {connection.name}, or the role may not see it. The schema "
        f"has {told or 'no tables'}: mend the stream's `table`. A table of another schema is "
        f'written schema.table, and a name that is stored in lower case in quotes: "orders".'
    )


def table_names(connection: Connection) -> list[str]:
    """Tables and views of the URL's schema that people made, as `find_table` takes them."""
    return list(dict.fromkeys(listed(table) for table, _, _ in _made_by_people(connection)))


def table_columns(connection: Connection) -> dict[str, list[str]]:
    """The columns of those that are no view, in their order."""
    found: dict[str, list[str]] = {}
    for table, kind, column in _made_by_people(connection):
        if not kind.endswith("VIEW"):
            found.setdefault(listed(table), []).append(unfold(column))
    return found


def _made_by_people(connection: Connection) -> list[tuple[str, str, str]]:
    """(table, its kind, column), in the order of their names and of the columns."""
    rows = connection.records(
        "SELECT t.table_name, t.table_type, c.column_name FROM information_schema.tables AS t "
        "JOIN information_schema.columns AS c "
        "ON c.table_schema = t.table_schema AND c.table_name = t.table_name "
        "WHERE t.table_schema = ? ORDER BY t.table_name, c.ordinal_position",
        (connection.schema,),
        doing="list its tables",
    )
    return [
        (str(table), str(kind), str(column))
        for table, kind, column in rows
        if not table.lower().startswith(RESERVED_PREFIX)
    ]


def _table(connection: Connection, place: Place, found: list[dict[str, Any]]) -> SourceTable:
    name = unfold(place[1]) if place[0] == connection.schema else ".".join(map(unfold, place))
    if place[1].lower().startswith(RESERVED_PREFIX):
        raise ConfigurationError(
            f"Table {name} belongs to Rowtrail, so it cannot be a stream. Name another table."
        )
    columns = tuple(
        TableColumn(
            name=unfold(row["name"]),
            stored=row["name"],
            type=DeclaredType.parse(row["type"]),
            not_null=row["null?"] == "N",
        )
        for row in found
    )
    for shared, times in Counter(column.name for column in columns).items():
        if times > 1:
            both = ", ".join(quote_exactly(one.stored) for one in columns if one.name == shared)
            raise ConfigurationError(
                f"Table {name} has the columns {both}, which both are {shared} where names are not "
                f"in quotes. Rename one of them, or read a view that does."
            )
    keyed = [row["name"] for row in found if row["primary key"] == "Y"]
    if len(keyed) > 1:  # DESCRIBE lists them in the table's order, not in the key's
        keyed = _key_order(connection, place) or keyed
    return SourceTable(
        name=name, place=place, columns=columns, primary_key=tuple(map(unfold, keyed))
    )


def _key_order(connection: Connection, place: Place) -> list[str]:
    rows = connection.named(
        f"SHOW PRIMARY KEYS IN TABLE {in_sql(place)}", doing=f"read the key of table {place[1]}"
    )
    ordered = sorted(rows or [], key=lambda row: int(row["key_sequence"]))
    return [str(row["column_name"]) for row in ordered]
