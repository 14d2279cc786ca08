"""Runs SELECTs over one SQLite table as Arrow, and finds the rows that do not fit its schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.capture.pages import Misfit, last_key
from rowtrail.connectors.capture.position import BrokenText, Values
from rowtrail.connectors.sources.sqlite_connection import Connection, Parameters
from rowtrail.connectors.sources.sqlite_table import quote
from rowtrail.connectors.sources.sqlite_values import ValueReader, describe_misfit, raw_value

_MOST_COLUMNS = 1_000
"""Of one SELECT; SQLite takes 2,000 (SQLITE_MAX_COLUMN), and a table may have as many."""
_MOST_TERMS = 500
"""Of one sum: it is a tree as deep as that, and SQLite takes 1,000 (SQLITE_MAX_EXPR_DEPTH)."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """What follows the SELECT list, and how a column is referred to in it."""

    tail: str  # FROM … LIMIT; gives the same rows in the same order within one transaction
    parameters: Parameters
    rows: int  # at most so many come back
    reference: Callable[[str], str]
    extra: tuple[str, ...] = ()  # expressions wanted beside the columns


@dataclass(frozen=True, kw_only=True)
class Selected:
    """`rows` is NULL where a value does not fit; `raw` has what the misfits really hold."""

    rows: pa.RecordBatch
    extra: tuple[pa.Array, ...]
    last: Values | None  # the key of the last row, in SQLite's own values
    misfits: tuple[Misfit, ...] = ()
    raw: pa.RecordBatch | None = None


def select(
    connection: Connection, query: Query, readers: Sequence[ValueReader], key: Sequence[str]
) -> Selected:
    """The rows of a query, within the caller's transaction."""
    rows, extra, nulls = _fitted(connection, query, readers)
    fitted_nulls = sum(column.null_count for column in rows.columns)
    keys = rows.select(list(key))
    if fitted_nulls == nulls and not any(column.null_count for column in keys.columns):
        last = last_key(keys)
        return Selected(rows=rows, extra=extra, last=last and tuple(map(raw_value, last)))
    storages, values = _raw(connection, query, readers)
    chosen, culprits = _misfits(rows, storages, readers, key)
    image = _Images(rows, storages, values, readers, key)
    return Selected(
        rows=rows,
        extra=extra,
        last=image.raw_key(len(rows) - 1),
        misfits=tuple(
            image.misfit(int(row), readers[int(culprit)])
            for row, culprit in zip(chosen, culprits, strict=True)
        ),
        raw=pa.RecordBatch.from_arrays(
            [*storages, *values], names=[f"r{n}" for n in range(2 * len(readers))]
        ).take(pa.array(chosen)),
    )


def row_beyond(
    expressions: Sequence[str], bound: Values | None, operator: str = ">"
) -> tuple[list[str], list[object]]:
    """The condition that these expressions, as a row, are beyond the bound; none without one.

    A row comparison is served by an index on the same columns (sqlite.org/rowvalue.html, 2.1).
    """
    if bound is None:
        return [], []
    marks = ["CAST(? AS TEXT)" if isinstance(value, BrokenText) else "?" for value in bound]
    values = [value.data if isinstance(value, BrokenText) else value for value in bound]
    if len(marks) == 1:
        return [f"{expressions[0]} {operator} {marks[0]}"], values
    return [f"({', '.join(expressions)}) {operator} ({', '.join(marks)})"], values


def in_table(name: str) -> str:
    """A column of the table, which every query calls t."""
    return f"t.{quote(name)}"


def _fitted(
    connection: Connection, query: Query, readers: Sequence[ValueReader]
) -> tuple[pa.RecordBatch, tuple[pa.Array, ...], int]:
    """The converted columns, the extra ones, and how many NULLs the source itself has in them."""
    references = [query.reference(reader.name) for reader in readers]
    parts = [reader.select(ref) for reader, ref in zip(readers, references, strict=True)]
    nulls = [
        " + ".join(
            f"({reference} IS NULL)" for reference in references[start : start + _MOST_TERMS]
        )
        for start in range(0, len(references), _MOST_TERMS)
    ]
    listed = [*(expression for part in parts for expression in part), *nulls, *query.extra]
    found = _columns(connection, query, listed)
    columns, at = [], 0
    for reader, part in zip(readers, parts, strict=True):
        columns.append(reader.convert(found[at : at + len(part)]))
        at += len(part)
    schema = pa.schema([(reader.name, reader.type) for reader in readers])
    rows = pa.RecordBatch.from_arrays(columns, schema=schema)
    extra = at + len(nulls)
    return rows, tuple(found[extra:]), sum(pc.sum(one).as_py() or 0 for one in found[at:extra])


def _columns(connection: Connection, query: Query, listed: Sequence[str]) -> list[pa.Array]:
    """What these expressions give, in as many SELECTs as it takes: a transaction sees one state."""
    found: list[pa.Array] = []
    for start in range(0, len(listed), _MOST_COLUMNS):
        some = listed[start : start + _MOST_COLUMNS]
        names = ", ".join(f"{expression} AS c{n}" for n, expression in enumerate(some))
        part = connection.query(f"SELECT {names} {query.tail}", query.parameters, rows=query.rows)
        found += part.columns
    return found


def _raw(
    connection: Connection, query: Query, readers: Sequence[ValueReader]
) -> tuple[list[pa.Array], list[pa.Array]]:
    """Each column's storage classes, and its values as bytes: numbers as SQL, text as UTF-8."""
    listed = []
    for reader in readers:
        c = query.reference(reader.name)
        number = f"typeof({c}) IN ('integer', 'real')"
        listed += [
            f"typeof({c})",
            f"CASE WHEN {number} THEN quote({c}) WHEN typeof({c}) = 'text' THEN {c} END",
            f"CASE WHEN typeof({c}) = 'blob' THEN {c} END",
        ]
    found = _columns(connection, query, listed)
    values = [pc.coalesce(_bytes(found[n]), _bytes(found[n + 1])) for n in range(1, len(listed), 3)]
    return found[0::3], values


def _bytes(array: pa.Array) -> pa.Array:
    if array.null_count == len(array):
        return pa.nulls(len(array), pa.binary())
    return array.cast(pa.binary())


def _misfits(
    rows: pa.RecordBatch,
    storages: Sequence[pa.Array],
    readers: Sequence[ValueReader],
    key: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the rows that do not fit, and for each its first column at fault."""
    bad = np.zeros((len(rows), len(readers)), dtype=np.bool_)
    for number, (reader, storage) in enumerate(zip(readers, storages, strict=True)):
        lacking = rows.column(number).is_null().to_numpy(zero_copy_only=False)
        empty = pc.equal(storage, "null").to_numpy(zero_copy_only=False)
        bad[:, number] = lacking if reader.name in key else lacking & ~empty
    chosen = np.flatnonzero(bad.any(axis=1))
    return chosen, bad[chosen].argmax(axis=1)


@dataclass(frozen=True)
class _Images:
    """Makes Python values of the raw ones, for the few rows that need it."""

    rows: pa.RecordBatch
    storages: Sequence[pa.Array]
    values: Sequence[pa.Array]
    readers: Sequence[ValueReader]
    key: Sequence[str]

    def misfit(self, row: int, culprit: ValueReader) -> Misfit:
        number = self.readers.index(culprit)
        return Misfit(
            row=row,
            key=tuple(self._key_value(row, name) for name in self.key),
            column=culprit.name,
            message=describe_misfit(
                culprit, self.storages[number][row].as_py(), self.values[number][row].as_py()
            ),
            image=pa.RecordBatch.from_arrays(
                [self._image(row, number) for number in range(len(self.readers))],
                names=[reader.name for reader in self.readers],
            ),
        )

    def raw_key(self, row: int) -> Values | None:
        """In SQLite's own values, for the next page to begin at; None without a whole key."""
        if row < 0:
            return None
        fitted = [self.rows.column(name)[row].as_py() for name in self.key]
        key = tuple(
            self._value(row, name) if value is None else raw_value(value)
            for name, value in zip(self.key, fitted, strict=True)
        )
        return None if None in key else key

    def _key_value(self, row: int, name: str) -> object:
        fitted = self.rows.column(name)[row].as_py()
        value = self._value(row, name) if fitted is None else fitted
        return value.data if isinstance(value, BrokenText) else value

    def _value(self, row: int, name: str) -> object:
        number = [reader.name for reader in self.readers].index(name)
        storage = self.storages[number][row].as_py()
        data = self.values[number][row].as_py()
        if storage == "integer":
            return int(data)
        if storage == "real":
            return float(data)
        if storage == "text":
            try:
                return str(data, "utf-8")
            except UnicodeDecodeError:
                return BrokenText(data)
        return data

    def _image(self, row: int, number: int) -> pa.Array:
        reader = self.readers[number]
        value = self._value(row, reader.name)
        if value is None:
            return pa.nulls(1, reader.type)
        return pa.array([value.data if isinstance(value, BrokenText) else value])
