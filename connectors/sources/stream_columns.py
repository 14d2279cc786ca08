"""Which columns a stream takes of its table, and which are its key: the same for every database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol, TypeVar

from rowtrail.connectors.base import StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import RESERVED_PREFIX


class NamedColumn(Protocol):
    @property
    def name(self) -> str: ...


C_co = TypeVar("C_co", bound=NamedColumn, covariant=True)
C = TypeVar("C", bound=NamedColumn)


class ListedTable(Protocol[C_co]):
    """What a catalog says of a table."""

    @property
    def name(self) -> str: ...

    @property
    def columns(self) -> tuple[C_co, ...]: ...

    @property
    def primary_key(self) -> tuple[str, ...]: ...

    @property
    def guarded_keys(self) -> tuple[tuple[str, ...], ...]:
        """Columns that take no NULL and that a constraint keeps unique together."""
        ...

    @property
    def key_advice(self) -> str:
        """How a table without a key gets one, as a clause behind "or"."""
        ...

    def resolved(self, names: Sequence[str]) -> tuple[str, ...]:
        """The names as the database spells them. Raises ConfigurationError for one it has not."""
        ...


def stream_key(stream: StreamSpec, table: ListedTable[NamedColumn]) -> tuple[str, ...]:
    """The stream's key, or the table's. Raises ConfigurationError when there is none."""
    key = table.resolved(stream.key) or table.primary_key
    if not key:
        raise ConfigurationError(
            f"{table.name} has no primary key, so its rows cannot be told apart. Set `key` of "
            f"stream {stream.name} to columns that are unique together{_candidates(table)}; or "
            f"{table.key_advice}; or leave the table out. Docs: configuration, Tables without a "
            f"key."
        )
    if len(set(key)) != len(key):
        raise ConfigurationError(
            f"The key of stream {stream.name} names a column twice: {', '.join(key)}."
        )
    return key


def _candidates(table: ListedTable[NamedColumn]) -> str:
    """A constraint says better than anybody which columns are."""
    if not table.guarded_keys:
        return ""
    names = ", ".join(json.dumps(name, ensure_ascii=False) for name in table.guarded_keys[0])
    return f", such as key = [{names}], which its unique index guards"


def chosen_columns(
    stream: StreamSpec, table: ListedTable[C], key: tuple[str, ...]
) -> tuple[C, ...]:
    """The columns to take, in the table's order. The key is always among them.

    Raises ConfigurationError for a key that is left out, and for names that are Rowtrail's own.
    """
    left_out = set(table.resolved(stream.exclude))
    if wanted := [name for name in key if name in left_out]:
        raise ConfigurationError(
            f"Stream {stream.name} leaves out {', '.join(wanted)}, which its key needs. Take it "
            f"from `exclude`."
        )
    taken = {*table.resolved(stream.columns), *key} if stream.columns else None
    chosen = tuple(
        column
        for column in table.columns
        if column.name not in left_out and (taken is None or column.name in taken)
    )
    for column in chosen:
        if column.name.lower().startswith(RESERVED_PREFIX):
            raise ConfigurationError(
                f"Column {table.name}.{column.name} has a name that belongs to Rowtrail: names "
                f"that begin with {RESERVED_PREFIX} are its own at the target. Leave the column "
                f"out with `exclude` of stream {stream.name}."
            )
    return chosen
