"""Names in a warehouse: Rowtrail's own ones, and how any name is written in SQL."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from rowtrail.connectors.changes import Version
from rowtrail.connectors.schema import RESERVED_PREFIX

VERSION_COLUMNS = tuple(f"{RESERVED_PREFIX}{part}" for part in Version._fields)
DELETED_AT = f"{RESERVED_PREFIX}deleted_at"
FILTERED = f"{RESERVED_PREFIX}filtered"
VALID_FROM = f"{RESERVED_PREFIX}valid_from"
VALID_TO = f"{RESERVED_PREFIX}valid_to"
IS_CURRENT = f"{RESERVED_PREFIX}is_current"
HISTORY_COLUMNS = (VALID_FROM, VALID_TO, IS_CURRENT)
ROW = f"{RESERVED_PREFIX}row"
TOMBSTONES_PREFIX = f"{RESERVED_PREFIX}tombstones_"


def quote(name: str) -> str:
    """`name` as an identifier that means exactly this name, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def quoted(names: Iterable[str], prefix: str = "") -> str:
    """A list of columns, each behind `prefix` (an alias with its dot)."""
    return ", ".join(prefix + quote(name) for name in names)


def fold(name: str) -> str:
    """`name` with its ASCII letters in lower case: what databases compare that ignore case."""
    return name.encode().lower().decode()


def is_reserved(name: str) -> bool:
    """In whatever case, so that no person takes the one for the other."""
    return fold(name).startswith(RESERVED_PREFIX)


@dataclass(frozen=True)
class TableName:
    """A table, as `schema.table` or `table` names it."""

    schema: str | None
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        schema, dot, name = text.partition(".")
        return cls(schema, name) if dot else cls(None, text)

    @property
    def sql(self) -> str:
        return ".".join(quote(part) for part in (self.schema, self.name) if part is not None)

    @property
    def tombstones(self) -> Self:
        """The table beside it that remembers the keys it no longer has."""
        return type(self)(self.schema, f"{TOMBSTONES_PREFIX}{self.name}")
