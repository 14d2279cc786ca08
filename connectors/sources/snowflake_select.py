"""SELECTs over a Snowflake table as Arrow, and the rows among them that do not fit its schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.capture.pages import Mask, Misfit
from rowtrail.connectors.capture.position import Values
from rowtrail.connectors.snowflake_client import quote_exactly
from rowtrail.connectors.sources.snowflake_connection import Connection
from rowtrail.connectors.sources.snowflake_values import (
    ValueReader,
    as_text,
    describe_misfit,
    typed,
)


@dataclass(frozen=True, kw_only=True)
class Query:
    """A SELECT. Its table is called t; `parameters` stand for its marks, in their order."""

    tail: str  # FROM …
    parameters: tuple[str | None, ...] = ()
    extra: tuple[tuple[str, pa.DataType], ...] = ()  # wanted beside the columns
    doing: str
    stream: str


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What one statement gave: each reader's columns as they came, and as they fit."""

    readers: Sequence[ValueReader]
    arrays: tuple[tuple[pa.Array, ...], ...]  # aligned with readers
    rows: pa.RecordBatch  # NULL where a value does not fit
    lost: tuple[Mask | None, ...]  # aligned with readers: where one did not
    extra: tuple[pa.Array, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def head(self, count: int) -> Rows:
        if count >= len(self):
            return self
        return Rows(
            readers=self.readers,
            arrays=tuple(tuple(one.slice(0, count) for one in some) for some in self.arrays),
            rows=self.rows.slice(0, count),
            lost=tuple(None if mask is None else mask[:count] for mask in self.lost),
            extra=tuple(one.slice(0, count) for one in self.extra),
        )

    def last(self, key: Sequence[str]) -> Values | None:
        """The last key, as texts for the next page to begin at; None without a whole key."""
        if not len(self):
            return None
        row, found = len(self) - 1, []
        for name in key:
            fitted = self.rows.column(name)[row].as_py()
            found.append(self._raw_text(name, row) if fitted is None else as_text(fitted))
        return None if None in found else tuple(found)

    def misfits(
        self, key: Sequence[str], keys: pa.RecordBatch | None = None
    ) -> tuple[tuple[Misfit, ...], pa.RecordBatch | None]:
        """The rows that do not fit, and all that was read of them, for hashing.

        A NULL in the key does not fit. `keys` are those that were asked for, where they are known:
        then NULL only says that there is no row.
        """
        lost = dict(zip((reader.name for reader in self.readers), self.lost, strict=True))
        for name in key if keys is None else ():
            if self.rows.column(name).null_count:
                lost[name] = self.rows.column(name).is_null().to_numpy(zero_copy_only=False)
        bad = {name: mask for name, mask in lost.items() if mask is not None and mask.any()}
        if not bad:
            return (), None
        chosen = np.flatnonzero(np.logical_or.reduce(list(bad.values())))
        found = []
        for row in map(int, chosen):
            culprit = next(name for name, mask in bad.items() if mask[row])
            number = [reader.name for reader in self.readers].index(culprit)
            found.append(
                Misfit(
                    row=row,
                    key=tuple(self._key_value(name, row, key, keys) for name in key),
                    column=culprit,
                    message=describe_misfit(self.readers[number], self.arrays[number], row),
                    image=self._image(row),
                )
            )
        flat = [one for some in self.arrays for one in some]
        raw = pa.RecordBatch.from_arrays(flat, names=[f"r{n}" for n in range(len(flat))])
        return tuple(found), raw.take(pa.array(chosen))

    def _key_value(
        self, name: str, row: int, key: Sequence[str], keys: pa.RecordBatch | None
    ) -> object:
        if keys is not None:
            return keys.column(list(key).index(name))[row].as_py()
        fitted = self.rows.column(name)[row].as_py()
        return self._raw_text(name, row) if fitted is None else fitted

    def _raw_text(self, name: str, row: int) -> str | None:
        number = [reader.name for reader in self.readers].index(name)
        return self.readers[number].raw_text(self.arrays[number], row)

    def _image(self, row: int) -> pa.RecordBatch:
        """As it is read where it fits, else as a text that says all of it."""
        columns = []
        for reader, mask in zip(self.readers, self.lost, strict=True):
            if mask is not None and mask[row]:
                columns.append(pa.array([self._raw_text(reader.name, row)]))
            else:
                columns.append(self.rows.column(reader.name).slice(row, 1))
        return pa.RecordBatch.from_arrays(columns, names=[one.name for one in self.readers])


class Result:
    """The rows of one statement, given out in parts while they are downloaded.

    All are of the moment at which it was carried out; the server keeps them for a day.
    """

    def __init__(
        self, connection: Connection, query: Query, readers: Sequence[ValueReader]
    ) -> None:
        self._query, self._readers = query, readers
        self._pieces = _pieces(connection, query, readers)
        self._waiting: list[pa.Table] = []

    def take(self, count: int, *, peek: int = 0) -> Rows:
        """The next rows, fewer at the end; and so many more of those that are next after them."""
        while sum(map(len, self._waiting)) < count + peek:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._waiting.append(piece)
        found = _head(self._waiting, count + peek)
        self._waiting = _rest(self._waiting, count)
        return _rows(found, self._query, self._readers)

    def all(self) -> Rows:
        return _rows([*self._waiting, *self._pieces], self._query, self._readers)


def _pieces(
    connection: Connection, query: Query, readers: Sequence[ValueReader]
) -> Iterator[pa.Table]:
    listed = [one for reader in readers for one in reader.select(in_table(reader))]
    listed += [expression for expression, _ in query.extra]
    names = ", ".join(f"{item} AS c{n}" for n, item in enumerate(listed))
    return connection.tables(
        f"SELECT {names} {query.tail}", query.parameters, doing=query.doing, stream=query.stream
    )


def _head(tables: Sequence[pa.Table], count: int) -> list[pa.Table]:
    found = []
    for table in tables:
        found.append(table.slice(0, max(count, 0)))
        count -= len(table)
    return found


def _rest(tables: Sequence[pa.Table], count: int) -> list[pa.Table]:
    found = []
    for table in tables:
        if len(table) > count:
            found.append(table.slice(max(count, 0)))
        count -= len(table)
    return found


def in_table(reader: ValueReader, alias: str = "t") -> str:
    """A column of the table, which every query calls t."""
    return f"{alias}.{quote_exactly(reader.stored)}"


def repeated(keys: pa.RecordBatch) -> int | None:
    """The first row whose key is that of the row before it. A NULL equals nothing."""
    same, _ = _against_the_row_before(keys)
    return _first(same)


def falling(keys: pa.RecordBatch) -> int | None:
    """The first row whose key is below that of the row before it, in binary order."""
    same, above = _against_the_row_before(keys)
    return _first(pc.invert(pc.or_kleene(same, above)))


def _against_the_row_before(keys: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
    """Of each row but the first: whether its key is equal, and whether it is above."""
    count = max(len(keys) - 1, 0)
    same, above = pa.repeat(True, count), pa.repeat(False, count)
    for column in keys.columns:
        before, after = column.slice(0, count), column.slice(min(1, len(keys)))
        above = pc.or_kleene(above, pc.and_kleene(same, pc.greater(after, before)))
        same = pc.and_kleene(same, pc.equal(after, before))
    return same, above


def _first(mask: pa.Array) -> int | None:
    place = int(pc.index(mask, True).as_py())
    return None if place < 0 else place + 1


def _rows(tables: Sequence[pa.Table], query: Query, readers: Sequence[ValueReader]) -> Rows:
    wanted = [kind for reader in readers for kind in reader.selected]
    wanted += [kind for _, kind in query.extra]
    columns = [
        typed([chunk for table in tables for chunk in table.column(number).chunks], kind)
        for number, kind in enumerate(wanted)
    ]
    arrays, at = [], 0
    for reader in readers:
        arrays.append(tuple(columns[at : at + len(reader.selects)]))
        at += len(reader.selects)
    read = [reader.read(some) for reader, some in zip(readers, arrays, strict=True)]
    return Rows(
        readers=readers,
        arrays=tuple(arrays),
        rows=pa.RecordBatch.from_arrays(
            [values for values, _ in read],
            schema=pa.schema([(reader.name, reader.type) for reader in readers]),
        ),
        lost=tuple(mask for _, mask in read),
        extra=tuple(columns[at:]),
    )
