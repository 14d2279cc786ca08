"""One stream's table in SQLite: pages in key order, and rows by their keys.

A key that no constraint guards may have several rows at any time, which would silently take each
other's place. So whatever reads rows asks first, in the same transaction, whether one of the keys
that it is about to read has more than one row in the whole table; the next page, the last read and
rows that the cursor has passed are thereby covered. A guarded key costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from rowtrail.connectors.base import StreamSpec
from rowtrail.connectors.capture.pages import KeyPage, Page, no_rows, valid_keys
from rowtrail.connectors.capture.position import Values
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import TableSchema
from rowtrail.connectors.sources.sqlite_connection import Connection, Parameters
from rowtrail.connectors.sources.sqlite_select import (
    Query,
    Selected,
    in_table,
    row_beyond,
    select,
)
from rowtrail.connectors.sources.sqlite_table import SourceTable, quote
from rowtrail.connectors.sources.sqlite_values import ValueReader


@dataclass(frozen=True, kw_only=True)
class SqliteRows:
    """Implements `KeyedTable`. Each call is one short transaction."""

    connection: Connection
    stream: StreamSpec
    table: SourceTable
    schema: TableSchema
    readers: tuple[ValueReader, ...]  # aligned with the schema's columns
    mark: str = "0"  # SQL for the change log's last sequence, with capture `trigger`

    @property
    def keys(self) -> tuple[ValueReader, ...]:
        by_name = {reader.name: reader for reader in self.readers}
        return tuple(by_name[name] for name in self.schema.key)

    @property
    def source(self) -> str:
        return f"{quote(self.table.name)} AS t"

    def page(self, after: Values | None) -> Page:
        """The rows after this key, in key order."""
        with self.connection.reading():
            found = self._keyed(after, self.readers)
            mark = self.connection.records(f"SELECT {self.mark}")[0][0]
        return self.as_page(found, mark=int(str(mark)))

    def keyless(self, offset: int) -> Page:
        """Rows with a NULL in their key, all of them misfits."""
        limit = self.stream.batch_rows
        missing = " OR ".join(f"{self._ordered(key)} IS NULL" for key in self.keys)
        return self.as_page(
            self.run(f"FROM {self.source} WHERE {missing} LIMIT ? OFFSET ?", (limit, offset), limit)
        )

    def key_page(self, after: Values | None) -> KeyPage:
        """The keys after this one, in key order, without those that do not fit."""
        with self.connection.reading():
            found = self._keyed(after, self.keys)
        whole = valid_keys(self.schema, found.rows)
        return KeyPage(
            keys=found.rows.filter(pa.array(whole)),
            last=found.last,
            full=len(found.rows) == self.stream.batch_rows,
        )

    def lookup(self, keys: pa.RecordBatch) -> Page:
        """The rows of these keys in their order; `extra` is one array: was the row found?

        The statement runs once per key, inside the driver: an index look-up each.
        """
        if not len(keys):
            nothing = no_rows(self.schema.arrow())
            return Page(rows=nothing, last=None, full=False, extra=(pa.array([], pa.bool_()),))
        names = self.numbered()
        asked = ", ".join(f"{key.placeholder} AS {names[key.name]}" for key in self.keys)
        bound = pa.RecordBatch.from_arrays(
            [key.bind(keys.column(number)) for number, key in enumerate(self.keys)],
            names=list(names.values()),
        )
        query = Query(
            tail=f"FROM (SELECT {asked}) AS a LEFT JOIN {self.source} ON {self.joined('a')}",
            parameters=bound,
            rows=max(1, len(keys)),
            reference=lambda name: f"a.{names[name]}" if name in names else in_table(name),
            extra=(self.found(),),
        )
        with self.connection.reading():
            self.refuse_doubles(f"SELECT {asked}", bound)
            found = select(self.connection, query, self.readers, self.schema.key)
        return self.as_page(found, extra=(found.extra[0].cast(pa.bool_()),))

    def refuse_doubles(self, asked: str, parameters: Parameters) -> None:
        """Raises ConfigurationError when a key that `asked` selects (as k0, k1, …) has two rows.

        To be called within the transaction that reads the rows of these keys.
        """
        if self.table.is_unique(self.schema.key):
            return
        names = [f"a.{name}" for name in self.numbered().values()]
        shown = ", ".join(f"quote({name})" for name in names)
        alike = ", ".join(key.ordered(name) for key, name in zip(self.keys, names, strict=True))
        doubled = self.connection.query(
            f"SELECT {shown} FROM ({asked}) AS a CROSS JOIN {self.source} ON {self.joined('a')} "
            f"GROUP BY {alike} HAVING count(*) > 1 LIMIT 1",
            parameters,
        )
        if not len(doubled):
            return
        values = (column[0].as_py() for column in doubled.columns)
        example = zip(self.schema.key, values, strict=True)
        raise ConfigurationError(
            f"The key ({', '.join(self.schema.key)}) of stream {self.stream.name} is not unique "
            f"in table {self.table.name}: several rows have "
            f"{', '.join(f'{name} = {value}' for name, value in example)} and would take each "
            f"other's place at the target. Leave one of them at the source, where a UNIQUE "
            f"constraint would keep it so, or set `key` of the stream to columns that are unique "
            f"together."
        )

    def numbered(self) -> dict[str, str]:
        """The key's columns by the names k0, k1, …, under which keys are asked for."""
        return {key.name: f"k{number}" for number, key in enumerate(self.keys)}

    def listed_keys(self) -> str:
        """The key's columns of the table, for a SELECT list."""
        return ", ".join(f"{in_table(name)} AS {alias}" for name, alias in self.numbered().items())

    def found(self) -> str:
        """SQL: 1 where a LEFT JOIN on the key found a row."""
        return f"({in_table(self.keys[0].name)} IS NOT NULL)"

    def joined(self, alias: str) -> str:
        """SQL: the key equals the columns k0, k1, … of `alias`, byte for byte.

        The plain comparison beside the exact one is for the index, whose collation may differ.
        """
        parts = []
        for number, key in enumerate(self.keys):
            reference, other = in_table(key.name), f"{alias}.k{number}"
            if key.comparable:
                parts.append(f"{reference} = {other}")
            if key.order != "{c}":
                parts.append(f"{key.ordered(reference)} = {key.ordered(other)}")
        return " AND ".join(parts)

    def key_order(self) -> list[str]:
        return [self._ordered(key) for key in self.keys]

    def whole_key(self) -> list[str]:
        """The conditions that no part of the key is NULL."""
        return [
            f"{self._ordered(key)} IS NOT NULL"
            for key in self.keys
            if not self.table.column(key.name).not_null or "(" in key.order
        ]

    def run(
        self,
        tail: str,
        parameters: Sequence[object],
        limit: int,
        *,
        extra: tuple[str, ...] = (),
    ) -> Selected:
        """All columns of a SELECT over the table, in a transaction of its own."""
        query = Query(
            tail=tail, parameters=tuple(parameters), rows=limit, reference=in_table, extra=extra
        )
        with self.connection.reading():
            self.refuse_doubles(f"SELECT {self.listed_keys()} {tail}", query.parameters)
            return select(self.connection, query, self.readers, self.schema.key)

    def as_page(self, found: Selected, *, mark: int = 0, extra: tuple[pa.Array, ...] = ()) -> Page:
        return Page(
            rows=found.rows,
            last=found.last,
            full=len(found.rows) == self.stream.batch_rows,
            misfits=found.misfits,
            raw=found.raw,
            extra=extra,
            mark=mark,
        )

    def _keyed(self, after: Values | None, readers: Sequence[ValueReader]) -> Selected:
        beyond, parameters = row_beyond(self.key_order(), after)
        where = " AND ".join([*self.whole_key(), *beyond]) or "1"
        order = ", ".join(self.key_order())
        limit = self.stream.batch_rows
        query = Query(
            tail=f"FROM {self.source} WHERE {where} ORDER BY {order} LIMIT ?",
            parameters=(*parameters, limit),
            rows=limit,
            reference=in_table,
        )
        self.refuse_doubles(f"SELECT {self.listed_keys()} {query.tail}", query.parameters)
        return select(self.connection, query, readers, self.schema.key)

    def _ordered(self, key: ValueReader) -> str:
        return key.ordered(in_table(key.name))
