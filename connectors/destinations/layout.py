"""The shape of a target's tables, and the shapes that no warehouse takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rowtrail.connectors.base import Deletes, Target
from rowtrail.connectors.destinations.names import (
    DELETED_AT,
    IS_CURRENT,
    VALID_FROM,
    VERSION_COLUMNS,
    TableName,
    is_reserved,
    quote,
)
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import RESERVED_PREFIX


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A table as it is: its columns in order, as the database spells them, and their types."""

    table: TableName
    types: Mapping[str, str]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are not Rowtrail's own."""
        return tuple(name for name in self.types if not is_reserved(name))

    def has(self, name: str) -> bool:
        return name in self.types

    def column(self, name: str) -> str:
        """A column of the table, for SQL."""
        return quote(name)

    def newer(self, one: str, other: str) -> str:
        """The condition that the row `one` has a newer version than the row `other`."""
        mine, theirs = (
            ", ".join(f"{alias}.{name}" for name in VERSION_COLUMNS) for alias in (one, other)
        )
        return f"({mine}) > ({theirs})"

    @property
    def is_ours(self) -> bool:
        return all(name in self.types for name in VERSION_COLUMNS)

    @property
    def keeps_history(self) -> bool:
        return self.has(VALID_FROM)

    @property
    def is_live(self) -> str:
        """The condition, of a row of the table, that the source has it."""
        if self.keeps_history:
            return IS_CURRENT
        return f"{DELETED_AT} IS NULL" if self.has(DELETED_AT) else "true"


def check_names(target: Target, database: str) -> None:
    """Raises ConfigurationError for names that are empty or Rowtrail's own."""
    table = TableName.parse(target.table)
    if not table.name or table.schema == "" or is_reserved(table.name):
        raise ConfigurationError(
            f"Stream {target.stream} cannot fill a table named {target.table!r}: a name is needed, "
            f"and {RESERVED_PREFIX} begins the names of Rowtrail's own tables. Choose another."
        )
    for name in target.schema.names:
        if is_reserved(name):
            raise ConfigurationError(
                f"Column {name} of stream {target.stream} cannot be loaded: {RESERVED_PREFIX} "
                f"begins the names of Rowtrail's own columns. Leave it out with `exclude`, or "
                f"rename it at the source."
            )
        if not name or "\0" in name:
            raise refused_column(target, name, f"which {database} does not take")


def refused_column(target: Target, name: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"A column of stream {target.stream} has the name {name!r}, {why}. Leave it out with "
        f"`exclude`, or rename it at the source."
    )


def not_ours(target: Target) -> ConfigurationError:
    return ConfigurationError(
        f"Table {target.table}, which stream {target.stream} is to fill, is there already and "
        f"was not made by Rowtrail. It was left as it is; name another table for the stream, "
        f"or drop this one."
    )


def check_history(layout: Layout, target: Target) -> None:
    """Raises ConfigurationError where the table keeps the history and the target does not, or the
    other way round."""
    wanted = target.deletes is Deletes.HISTORY
    if layout.keeps_history == wanted:
        return
    has = "one row for each version of a record" if layout.keeps_history else "one row a record"
    before = "history" if layout.keeps_history else "soft" if layout.has(DELETED_AT) else "hard"
    raise ConfigurationError(
        f"Table {target.table} has {has}, and stream {target.stream} now has "
        f'deletes = "{target.deletes}". Name another table for the stream with `target`, or put '
        f'back what it had (deletes = "{before}").'
    )


def another_key(target: Target, key: Sequence[str]) -> ConfigurationError:
    return ConfigurationError(
        f"Table {target.table} was made with the key ({', '.join(key)}), and "
        f"stream {target.stream} now has ({', '.join(target.schema.key)}). Put the old key "
        f"back, or name another table for the stream."
    )


def retype(name: str, wanted: str) -> str:
    """What follows `ALTER TABLE …` to give a column another type."""
    return f"ALTER COLUMN {quote(name)} TYPE {wanted}"


def too_narrow(
    target: Target, table: TableName, name: str, has: str, wanted: str
) -> ConfigurationError:
    """A column of the type `has`, which does not take `wanted` and cannot simply become it."""
    tables = (table, table.tombstones) if name in target.schema.key else (table,)
    change = " ".join(f"ALTER TABLE {one.sql} {retype(name, wanted)};" for one in tables)
    return ConfigurationError(
        f"Column {name} of table {target.table} is {has}, and stream "
        f"{target.stream} now brings {wanted}, which does not fit without loss. If its values can "
        f"be converted, run on the target: {change} Otherwise name another table for the stream."
    )


def key_beyond(target: Target, name: str, has: str, wanted: str) -> ConfigurationError:
    """Live rows of the target have keys that the stream's narrower column cannot tell of."""
    return ConfigurationError(
        f"Table {target.table} has rows whose key {name} is beyond {wanted}, which stream "
        f"{target.stream} brings now; the column is {has} there. They are gone at the source, but "
        f'a key of that type could not say so. Set types."{name}" = "int64" for the stream, so '
        f"that their deletes are loaded; or delete these rows of the target."
    )


def cannot_change(target: Target, statement: str, why: str) -> ConfigurationError:
    """The database did not take a statement of `alter`, for what depends on the table."""
    return ConfigurationError(
        f"Table {target.table}, which stream {target.stream} fills, has to be changed, and the "
        f"database refuses: {why}. Nothing was changed. Take away what depends on it (an index, a "
        f"view, a rule), run again, and make it anew; or name another table for the stream. The "
        f"statement: {statement}"
    )


def table_is_gone(target: Target, where: str) -> ConfigurationError:
    return ConfigurationError(
        f"Table {target.table} of {where}, which stream {target.stream} fills, is gone. Start a "
        f"new run, which makes it again."
    )


def for_reading_only(where: str) -> ConfigurationError:
    return ConfigurationError(
        f"{where} was opened without a fence, for reading only; nothing can be written to it."
    )
