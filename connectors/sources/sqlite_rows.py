"""One stream's table in SQLite: pages in key order, and rows by their keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from rowtrail.connectors.base import StreamSpec
from rowtrail.connectors.capture.pages import KeyPage, Page, one_batch, valid_keys
from rowtrail.connectors.capture.position import Values
from rowtrail.connectors.schema import TableSchema
from rowtrail.connectors.sources.sqlite_connection import Connection
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
            nothing = one_batch(self.schema.arrow().empty_table())
            return Page(rows=nothing, last=None, full=False, extra=(pa.array([], pa.bool_()),))
        names = {key.name: f"k{number}" for number, key in enumerate(self.keys)}
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
            found = select(self.connection, query, self.readers, self.schema.key)
        return self.as_page(found, extra=(found.extra[0].cast(pa.bool_()),))

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
        return select(self.connection, query, readers, self.schema.key)

    def _ordered(self, key: ValueReader) -> str:
        return key.ordered(in_table(key.name))
