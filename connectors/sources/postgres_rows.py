"""One stream's table in PostgreSQL: pages in key order, and rows by their keys.

A key that no constraint guards may have several rows at any time, which would silently take each
other's place. So whatever reads rows asks first, in the same transaction, whether one of the keys
that it is about to read has more than one row in the whole table; the next page, the last read and
rows that the cursor has passed are thereby covered. A guarded key costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from rowtrail.connectors.base import StreamSpec
from rowtrail.connectors.capture.pages import KeyPage, Page, no_rows, valid_keys
from rowtrail.connectors.capture.position import Values
from rowtrail.connectors.errors import ConfigurationError, RecordError
from rowtrail.connectors.schema import TableSchema
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_keys import (
    KeyColumn,
    array_literal,
    key_column,
    row_beyond,
)
from rowtrail.connectors.sources.postgres_select import Query, Selected, in_table, select
from rowtrail.connectors.sources.postgres_streams import Described
from rowtrail.connectors.sources.postgres_table import SourceTable
from rowtrail.connectors.sources.postgres_values import ValueReader

_FEW = 100
"""Keys that are looked up as Python objects."""


@dataclass(frozen=True, kw_only=True)
class PostgresRows:
    """Implements `KeyedTable`. Each call is one short transaction."""

    connection: Connection
    stream: StreamSpec
    table: SourceTable
    schema: TableSchema
    readers: tuple[ValueReader, ...]  # aligned with the schema's columns
    keys: tuple[KeyColumn, ...]  # in key order

    @property
    def source(self) -> str:
        return f"{self.table.sql} AS t"

    def page(self, after: Values | None) -> Page:
        """The rows after this key, in key order."""
        with self.connection.reading():
            found = self._keyed(after, self.readers)
        return self.as_page(found)

    def keyless(self, offset: int) -> Page:
        """Rows with a NULL in their key, all of them misfits."""
        nullable = [in_table(key.name) for key in self.keys if not key.not_null]
        if not nullable:
            return Page(rows=no_rows(self.schema.arrow()), last=None, full=False)
        missing = " OR ".join(f"{reference} IS NULL" for reference in nullable)
        return self.as_page(
            self.run(
                f"FROM {self.source} WHERE {missing} ORDER BY (t.*)::text "
                f"LIMIT {self.stream.batch_rows} OFFSET {offset}"
            )
        )

    def key_page(self, after: Values | None) -> KeyPage:
        """The keys after this one, in key order, without those that do not fit."""
        with self.connection.reading():
            found = self._keyed(after, tuple(key.reader for key in self.keys))
        whole = valid_keys(self.schema, found.rows)
        return KeyPage(
            keys=found.rows.filter(pa.array(whole)),
            last=found.last,
            full=len(found.rows) == self.stream.batch_rows,
        )

    def lookup(self, keys: pa.RecordBatch) -> Page:
        """The rows of these keys in their order; `extra` is one array: was the row found?

        One statement for all of them, in the column's own types, so that an index serves it. What
        no value of that type can be (a key may be asked for that never was) is compared with all.
        """
        if not len(keys):
            nothing = no_rows(self.schema.arrow())
            return Page(rows=nothing, last=None, full=False, extra=(pa.array([], pa.bool_()),))
        found = self._few(keys) if len(keys) <= _FEW else None
        try:
            found = found or self._looked_up(keys, safe=False)
        except RecordError:
            found = self._looked_up(keys, safe=True)
        return replace(
            self.as_page(found, extra=found.extra),
            rows=self._with_keys(found.rows, keys),
            misfits=tuple(
                replace(misfit, key=tuple(column[misfit.row].as_py() for column in keys.columns))
                for misfit in found.misfits
            ),
        )

    def refuse_doubles(self, asked: str, *, record: bool = False) -> None:
        """Raises ConfigurationError when a key that `asked` selects (as k0, k1, …) has two rows.

        To be called within the transaction that reads the rows of these keys.
        """
        if self.table.is_unique(self.schema.key):
            return
        self._refuse_doubles(asked, self.joined("a"), self._shown("a"), record=record)

    def numbered(self) -> dict[str, str]:
        """The key's columns by the names k0, k1, …, under which keys are asked for."""
        return {key.name: f"k{number}" for number, key in enumerate(self.keys)}

    def listed_keys(self) -> str:
        """The key's columns of the table, for a SELECT list."""
        return ", ".join(f"{in_table(name)} AS {alias}" for name, alias in self.numbered().items())

    def found(self) -> str:
        """SQL: whether a LEFT JOIN on the key found a row."""
        return f"{in_table(self.keys[0].name)} IS NOT NULL"

    def joined(self, alias: str) -> str:
        """SQL: the key equals the columns k0, k1, … of `alias`, which have its own types."""
        return " AND ".join(
            key.equal(in_table(key.name), f"{alias}.k{number}")
            for number, key in enumerate(self.keys)
        )

    def key_order(self) -> list[str]:
        return [key.ordered(in_table(key.name)) for key in self.keys]

    def beyond(self, after: Values | None) -> list[str]:
        return row_beyond(self.keys, [in_table(key.name) for key in self.keys], after)

    def whole_key(self) -> list[str]:
        """The conditions that no part of the key is NULL."""
        return [f"{in_table(key.name)} IS NOT NULL" for key in self.keys if not key.not_null]

    def run(self, tail: str, *, extra: tuple[str, ...] = ()) -> Selected:
        """All columns of a SELECT over the table, in a transaction of its own."""
        with self.connection.reading():
            self.refuse_doubles(f"SELECT {self.listed_keys()} {tail}")
            query = Query(tail=tail, reference=in_table, extra=extra)
            return select(self.connection, query, self.readers, self.schema.key)

    def as_page(self, found: Selected, *, extra: tuple[pa.Array, ...] = ()) -> Page:
        return Page(
            rows=found.rows,
            last=found.last,
            full=len(found.rows) == self.stream.batch_rows,
            misfits=found.misfits,
            raw=found.raw,
            extra=extra,
        )

    def _keyed(
        self, after: Values | None, readers: Sequence[ValueReader], *, record: bool = False
    ) -> Selected:
        where = " AND ".join([*self.whole_key(), *self.beyond(after)]) or "true"
        tail = (
            f"FROM {self.source} WHERE {where} ORDER BY {', '.join(self.key_order())} "
            f"LIMIT {self.stream.batch_rows}"
        )
        self.refuse_doubles(f"SELECT {self.listed_keys()} {tail}", record=record)
        query = Query(tail=tail, reference=in_table, record=record)
        return select(self.connection, query, readers, self.schema.key)

    def _few(self, keys: pa.RecordBatch) -> Selected | None:
        """Likewise in one round trip, without the driver for Arrow, which reads all types of the
        server before its first query; None where that leaves anything to be found out."""
        if not self.table.is_unique(self.schema.key):
            return None
        listed = [reader.as_text(in_table(reader.name)) for reader in self.readers]
        try:
            found = self.connection.records(
                f"SELECT {', '.join([*listed, self.found()])} FROM {self._asked(keys)} "
                f"LEFT JOIN {self.source} ON {self.joined('a')} ORDER BY a.n",
                doing="read rows",
                record=True,
            )
        except RecordError:
            return None
        *columns, there = zip(*found, strict=True)
        if any(isinstance(text, bytes) for column in columns for text in column):
            return None  # a database without an encoding
        read = [
            reader.read_text(pa.array(texts, pa.string()))
            for reader, texts in zip(self.readers, columns, strict=True)
        ]
        if any(unfit is not None for _, unfit in read):
            return None
        return Selected(
            rows=pa.RecordBatch.from_arrays(
                [values for values, _ in read], schema=self.schema.arrow()
            ),
            extra=(pa.array(there, pa.bool_()),),
            last=None,
        )

    def _looked_up(self, keys: pa.RecordBatch, *, safe: bool) -> Selected:
        """With `safe` each value asked for is one of a type that takes them all."""
        asked = self._asked(keys, safe=safe)
        joined, shown = self.joined("a"), self._shown("a")
        if safe:
            joined = " AND ".join(
                f"{key.safe.replace('{c}', in_table(key.name))} = a.k{number}"
                for number, key in enumerate(self.keys)
            )
            shown = [f"quote_literal(a.{name})" for name in self.numbered().values()]
        query = Query(
            tail=f"FROM {asked} LEFT JOIN {self.source} ON {joined} ORDER BY a.n",
            reference=in_table,
            extra=(self.found(),),
            record=not safe,
        )
        with self.connection.reading():
            if not self.table.is_unique(self.schema.key):
                self._refuse_doubles(
                    f"SELECT * FROM {asked}",
                    joined,
                    shown,
                    times="count(DISTINCT a.n)",
                    record=not safe,
                )
            # A NULL in the key's columns only says that there is no row.
            return select(self.connection, query, self.readers, ())

    def _asked(self, keys: pa.RecordBatch, *, safe: bool = False) -> str:
        """SQL for the keys as the columns k0, k1, … of `a`, numbered by its column n."""
        arrays = ", ".join(
            array_literal(keys.column(number), key.safe_type if safe else key.sql_type)
            for number, key in enumerate(self.keys)
        )
        return f"unnest({arrays}) WITH ORDINALITY AS a({', '.join(self.numbered().values())}, n)"

    def _with_keys(self, rows: pa.RecordBatch, keys: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with the keys that were asked for, which are there where no row is."""
        columns = [
            keys.column(self.schema.key.index(name)) if name in self.schema.key else column
            for name, column in zip(self.schema.names, rows.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema.arrow())

    def _refuse_doubles(
        self,
        asked: str,
        joined: str,
        shown: Sequence[str],
        *,
        times: str = "1",
        record: bool = False,
    ) -> None:
        """`times`: SQL for how often a key was asked for."""
        alike = ", ".join(str(number + 1) for number in range(len(shown)))
        listed = ", ".join(f"{item} AS s{number}" for number, item in enumerate(shown))
        doubled = self.connection.query(
            f"SELECT {listed} FROM ({asked}) AS a JOIN {self.source} ON {joined} "
            f"GROUP BY {alike} HAVING count(*) > {times} LIMIT 1",
            record=record,
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

    def _shown(self, alias: str) -> list[str]:
        """SQL for the columns k0, k1, … of `alias` in a message; equal where the keys are."""
        found = []
        for number, key in enumerate(self.keys):
            text = key.reader.as_text(f"{alias}.k{number}")
            found.append(f"quote_literal({text})" if pa.types.is_string(key.reader.type) else text)
        return found


def open_rows(connection: Connection, stream: StreamSpec, described: Described) -> PostgresRows:
    return PostgresRows(
        connection=connection,
        stream=stream,
        table=described.table,
        schema=described.schema,
        readers=described.readers,
        keys=key_columns(connection, described),
    )


def key_columns(connection: Connection, described: Described) -> tuple[KeyColumn, ...]:
    readers = {reader.name: reader for reader in described.readers}
    return tuple(
        key_column(described.table.column(name), readers[name], connection.facts())
        for name in described.schema.key
    )
