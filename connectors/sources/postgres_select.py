"""SELECTs over a PostgreSQL table as Arrow, and the rows among them that do not fit its schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from rowtrail.connectors.capture.pages import Mask, Misfit
from rowtrail.connectors.capture.position import BrokenText, Values
from rowtrail.connectors.postgres_client import quote
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_values import (
    ValueReader,
    describe_misfit,
    key_text,
    raw_text,
)


@dataclass(frozen=True, kw_only=True)
class Query:
    """What follows the SELECT list, and how a column is referred to in it."""

    tail: str  # FROM … LIMIT; gives the same rows in the same order within one transaction
    reference: Callable[[str], str]
    extra: tuple[str, ...] = ()  # expressions wanted beside the columns
    record: bool = False  # an error about a value is a RecordError


@dataclass(frozen=True, kw_only=True)
class Selected:
    """`rows` is NULL where a value does not fit; `raw` has what the misfits really hold."""

    rows: pa.RecordBatch
    extra: tuple[pa.Array, ...]
    last: Values | None  # the key of the last row, as texts that PostgreSQL reads in
    misfits: tuple[Misfit, ...] = ()
    raw: pa.RecordBatch | None = None  # of the misfits, as PostgreSQL writes them, as bytes


def in_table(name: str) -> str:
    """A column of the table, which every query calls t."""
    return f"t.{quote(name)}"


def select(
    connection: Connection, query: Query, readers: Sequence[ValueReader], key: Sequence[str]
) -> Selected:
    """The rows of a query, within the caller's transaction."""
    listed = [reader.selected(query.reference(reader.name)) for reader in readers]
    names = ", ".join(f"{item} AS c{n}" for n, item in enumerate([*listed, *query.extra]))
    found = connection.query(f"SELECT {names} {query.tail}", record=query.record)
    read = [reader.read(found.column(n)) for n, reader in enumerate(readers)]
    rows = pa.RecordBatch.from_arrays(
        [values for values, _ in read],
        schema=pa.schema([(reader.name, reader.type) for reader in readers]),
    )
    extra = tuple(found.columns[len(readers) :])
    lost = {reader.name: mask for reader, (_, mask) in zip(readers, read, strict=True)}
    for name in key:
        if rows.column(name).null_count:
            lost[name] = rows.column(name).is_null().to_numpy(zero_copy_only=False)
    bad = {name: mask for name, mask in lost.items() if mask is not None}
    if not bad:
        return Selected(rows=rows, extra=extra, last=_last_key(rows, key))
    chosen = np.flatnonzero(np.logical_or.reduce(list(bad.values())))
    raw = _raw(connection, query, readers, chosen)
    images = _Images(rows, raw, chosen, bad, readers, key)
    return Selected(
        rows=rows,
        extra=extra,
        last=images.last_key(),
        misfits=tuple(images.misfit(place) for place in range(len(chosen))),
        raw=raw,
    )


def _last_key(rows: pa.RecordBatch, key: Sequence[str]) -> Values | None:
    if not len(rows):
        return None
    return tuple(key_text(rows.column(name)[-1].as_py()) for name in key)


def _raw(
    connection: Connection,
    query: Query,
    readers: Sequence[ValueReader],
    chosen: np.ndarray,
) -> pa.RecordBatch:
    """All columns of the chosen rows, by their number in the query's order, as text in bytes."""
    texts = [reader.as_text(query.reference(reader.name)) for reader in readers]
    listed = ", ".join(f"{text} AS r{n}" for n, text in enumerate(texts))
    wanted = ", ".join(f"q.r{n}" for n in range(len(texts)))
    numbers = ",".join(str(row + 1) for row in chosen)
    found = connection.query(
        f"SELECT {wanted} FROM (SELECT p.*, row_number() OVER () AS n "
        f"FROM (SELECT {listed} {query.tail}) AS p) AS q "
        f"WHERE q.n = ANY ('{{{numbers}}}'::int8[]) ORDER BY q.n"
    )
    return pa.RecordBatch.from_arrays(
        [column.view(pa.binary()) for column in found.columns],
        names=[f"r{n}" for n in range(len(texts))],
    )


@dataclass(frozen=True)
class _Images:
    """Makes Python values of the misfits, of which there are few."""

    rows: pa.RecordBatch
    raw: pa.RecordBatch
    chosen: np.ndarray  # row numbers, aligned with raw
    bad: dict[str, Mask]
    readers: Sequence[ValueReader]
    key: Sequence[str]

    def misfit(self, place: int) -> Misfit:
        row = int(self.chosen[place])
        culprit = next(
            reader for reader in self.readers if reader.name in self.bad and self._lost(reader, row)
        )
        return Misfit(
            row=row,
            key=tuple(self._key_value(place, name) for name in self.key),
            column=culprit.name,
            message=describe_misfit(culprit, self._text(place, culprit.name)),
            image=pa.RecordBatch.from_arrays(
                [self._image(place, reader) for reader in self.readers],
                names=[reader.name for reader in self.readers],
            ),
        )

    def last_key(self) -> Values | None:
        """For the next page to begin at; None without a whole key."""
        row = len(self.rows) - 1
        if self.chosen[-1] != row:
            return _last_key(self.rows, self.key)
        values = [self._text(len(self.chosen) - 1, name) for name in self.key]
        if None in values:
            return None
        return tuple(BrokenText(one) if isinstance(one, bytes) else one for one in values)

    def _lost(self, reader: ValueReader, row: int) -> bool:
        return bool(self.bad[reader.name][row])

    def _key_value(self, place: int, name: str) -> object:
        fitted = self.rows.column(name)[int(self.chosen[place])].as_py()
        return self._text(place, name) if fitted is None else fitted

    def _text(self, place: int, name: str) -> str | bytes | None:
        number = [reader.name for reader in self.readers].index(name)
        return raw_text(self.raw.column(number)[place].as_py())

    def _image(self, place: int, reader: ValueReader) -> pa.Array:
        """As it is read where it fits, else as PostgreSQL writes it."""
        row = int(self.chosen[place])
        if reader.name in self.bad and self._lost(reader, row):
            text = self._text(place, reader.name)
            return pa.nulls(1, reader.type) if text is None else pa.array([text])
        return self.rows.column(reader.name).slice(row, 1)
