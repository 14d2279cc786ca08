"""The shape of a table, as Arrow types: what sources describe and destinations create."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

RESERVED_PREFIX = "_rowtrail_"
"""Columns and tables that begin so belong to Rowtrail; a source column may not."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its name as the database spells it and the Arrow type that holds every value."""

    name: str
    type: pa.DataType
    nullable: bool = True
    declared: str = ""  # the type in the database's own words, for messages and comparisons
    chosen: bool = False  # a person chose `type` for it, which may not hold every value
    default: bool = False  # the database has a value for it where a row brings none


@dataclass(frozen=True, kw_only=True)
class TableSchema:
    """A table's columns in order, and the names of its key columns in key order.

    Raises ValueError when a key column does not exist or two columns share a name.
    """

    table: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"table {self.table} names a column twice: {', '.join(names)}")
        missing = [name for name in self.key if name not in names]
        if missing:
            raise ValueError(
                f"table {self.table} has no column {', '.join(missing)}, which its key names; "
                f"its columns are {', '.join(names)}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column of that name; raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def arrow(self) -> pa.Schema:
        """The schema of a batch of rows. All fields are nullable: a delete carries only its key."""
        return pa.schema([pa.field(column.name, column.type) for column in self.columns])

    def arrow_key(self) -> pa.Schema:
        """The schema of the key columns alone, in key order."""
        return pa.schema([pa.field(name, self.column(name).type) for name in self.key])
