"""One stream's table in Snowflake: pages in key order, and rows by their keys.

Snowflake has no indexes: each statement in key order reads and sorts what is behind its beginning.
So one statement gives many pages, whose rows are downloaded as they are asked for; they are of the
moment at which it was carried out, and what happens to them meanwhile is for the next read.

Snowflake keeps no key unique, so that any key may have several rows, which would silently take each
other's place. Where rows come in key order, those of one key come together: a page looks at the row
after its last one, and so meets them on either side of its end, too. Other pages are joined with
the table on the key, so that a row comes as often as its key is there. None of it is a statement of
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pyarrow as pa

from rowtrail.connectors.base import StreamSpec
from rowtrail.connectors.capture.pages import KeyPage, Misfit, Page, no_rows, one_batch, valid_keys
from rowtrail.connectors.capture.position import Values
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import TableSchema
from rowtrail.connectors.snowflake_client import quote_text
from rowtrail.connectors.sources.snowflake_connection import Connection
from rowtrail.connectors.sources.snowflake_select import (
    Query,
    Result,
    Rows,
    falling,
    in_table,
    repeated,
)
from rowtrail.connectors.sources.snowflake_table import SourceTable
from rowtrail.connectors.sources.snowflake_values import ValueReader, as_text

PAGES = 64
"""That one statement gives, so that what is sorted at once, and asked for again after a lost
connection, is bounded."""
_MOST_KEYS = 10_000
"""Of one look-up: Snowflake takes 16,384 expressions in a list."""


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """The rest of a statement, for who asks for the page behind its last one."""

    what: str
    after: Values | None
    result: Result
    pages: int  # that it still has, if the table has


@dataclass(frozen=True, kw_only=True)
class SnowflakeRows:
    """Implements `KeyedTable`."""

    connection: Connection
    stream: StreamSpec
    table: SourceTable
    schema: TableSchema
    readers: tuple[ValueReader, ...]  # aligned with the schema's columns
    keys: tuple[ValueReader, ...]  # in key order
    ahead: list[Ahead] = field(default_factory=list, compare=False, repr=False)  # one at most

    @property
    def source(self) -> str:
        return f"{self.table.sql} AS t"

    def page(self, after: Values | None) -> Page:
        """The rows after this key, in key order."""
        return self._keyed("rows", after, self.readers)

    def keyless(self, offset: int) -> Page:
        """Rows with a NULL in their key, all of them misfits."""
        nullable = [in_table(key) for key in self.keys if not key.not_null]
        if not nullable:
            return Page(rows=no_rows(self.schema.arrow()), last=None, full=False)
        missing = " OR ".join(f"{reference} IS NULL" for reference in nullable)
        selects = sum(len(reader.selects) for reader in self.readers)
        order = ", ".join(str(number + 1) for number in range(selects))
        limit = self.stream.batch_rows
        tail = f"FROM {self.source} WHERE {missing} ORDER BY {order}"
        return self.as_page(self.select(self.query(f"{tail} LIMIT {limit + 1} OFFSET {offset}")))

    def key_page(self, after: Values | None) -> KeyPage:
        """The keys after this one, in key order, without those that do not fit."""
        page = self._keyed("keys", after, self.keys)
        whole = valid_keys(self.schema, page.rows)
        return KeyPage(keys=page.rows.filter(pa.array(whole)), last=page.last, full=page.full)

    def lookup(self, keys: pa.RecordBatch) -> Page:
        """The rows of these keys in their order; `extra` is one array: was the row found?"""
        parts = [
            self._looked_up(keys.slice(at, _MOST_KEYS), at)
            for at in range(0, len(keys), _MOST_KEYS)
        ]
        if len(parts) == 1:
            return parts[0]
        rows = pa.Table.from_batches([part.rows for part in parts], schema=self.schema.arrow())
        raws = [part.raw for part in parts if part.raw is not None]
        return Page(
            rows=one_batch(rows),
            last=None,
            full=False,
            misfits=tuple(misfit for part in parts for misfit in part.misfits),
            raw=one_batch(pa.Table.from_batches(raws)) if raws else None,
            extra=(pa.concat_arrays([pa.nulls(0, pa.bool_()), *(p.extra[0] for p in parts)]),),
        )

    def select(self, query: Query) -> Rows:
        return Result(self.connection, query, self.readers).all()

    def query(
        self,
        tail: str,
        parameters: Sequence[str | None] = (),
        extra: tuple[tuple[str, pa.DataType], ...] = (),
    ) -> Query:
        return Query(
            tail=tail,
            parameters=tuple(parameters),
            extra=extra,
            doing=f"read table {self.table.name}",
            stream=self.stream.name,
        )

    def next_rows(
        self,
        what: str,
        after: Values | None,
        query: Callable[[int], Query],
        readers: Sequence[ValueReader],
    ) -> tuple[Rows, Ahead]:
        """The rows of a page and the one after it, if there is one; and what `goes_on` wants.

        `query` gives a statement for so many rows behind `after`. The page goes on with the last
        one where that was of the same kind and ended there.
        """
        limit = self.stream.batch_rows
        found = [one for one in self.ahead if one.pages and (one.what, one.after) == (what, after)]
        self.ahead.clear()
        if found:
            ahead = found[0]
        else:
            result = Result(self.connection, query(PAGES * limit + 1), readers)
            ahead = Ahead(what=what, after=after, result=result, pages=PAGES)
        return ahead.result.take(limit, peek=1), ahead

    def goes_on(self, page: Page, ahead: Ahead) -> Page:
        """The page, behind which the next one of its kind begins."""
        if page.full:
            self.ahead.append(replace(ahead, after=page.last, pages=ahead.pages - 1))
        return page

    def as_page(self, found: Rows, *, extra: tuple[pa.Array, ...] = ()) -> Page:
        """`found` may have a row more than the page, to say that there are more."""
        limit = self.stream.batch_rows
        rows = found.head(limit)
        misfits, raw = rows.misfits(self.schema.key)
        return Page(
            rows=rows.rows,
            last=rows.last(self.schema.key),
            full=len(found) > limit,
            misfits=misfits,
            raw=raw,
            extra=tuple(one.slice(0, len(rows)) for one in extra),
        )

    def refuse_doubles(self, keys: pa.RecordBatch) -> None:
        """Raises ConfigurationError when a key comes twice in a row."""
        row = repeated(keys)
        if row is not None:
            raise self._not_unique(tuple(column[row].as_py() for column in keys.columns))

    def refuse_disorder(self, keys: pa.RecordBatch) -> None:
        """Raises ConfigurationError when keys in key order are not so by their bytes: pages and
        ranges would leave rows out."""
        if falling(keys) is not None:
            raise ConfigurationError(
                f"Snowflake does not sort the key ({', '.join(self.schema.key)}) of table "
                f"{self.table.name} by the bytes of its values, as everything else here does, so "
                f"that rows would be missed. Look at its collation, or set `key` of stream "
                f"{self.stream.name} to other columns."
            )

    def key_order(self, alias: str = "t") -> list[str]:
        return [key.ordered(in_table(key, alias)) for key in self.keys]

    def whole_key(self) -> list[str]:
        """The conditions that no part of the key is NULL."""
        return [f"{in_table(key)} IS NOT NULL" for key in self.keys if not key.not_null]

    def beyond(self, after: Values | None) -> tuple[list[str], list[str]]:
        """The conditions that a row is beyond this key, and their parameters."""
        return row_beyond(self.key_order(), [key.bound for key in self.keys], after)

    def _keyed(self, what: str, after: Values | None, readers: Sequence[ValueReader]) -> Page:
        beyond, parameters = self.beyond(after)
        where = " AND ".join([*self.whole_key(), *beyond]) or "TRUE"
        tail = f"FROM {self.source} WHERE {where} ORDER BY {', '.join(self.key_order())}"

        def query(rows: int) -> Query:
            return self.query(f"{tail} LIMIT {rows}", parameters)

        found, ahead = self.next_rows(what, after, query, readers)
        keys = found.rows.select(list(self.schema.key))
        self.refuse_doubles(keys)
        self.refuse_disorder(keys)
        return self.goes_on(self.as_page(found), ahead)

    def _looked_up(self, keys: pa.RecordBatch, offset: int) -> Page:
        columns = [
            [as_text(value.as_py()) if value.is_valid else None for value in keys.column(number)]
            for number in range(len(self.keys))
        ]
        marks = "?, " * len(self.keys)
        values = ", ".join(f"({marks}{number})" for number in range(len(keys)))
        asked = ", ".join(
            f"{key.bound.replace('?', f'COLUMN{place}')} AS k{place}"
            for place, key in enumerate(self.keys, start=1)
        )
        same = " AND ".join(
            f"{reference} = a.k{place}" for place, reference in enumerate(self.key_order(), start=1)
        )
        query = self.query(
            f"FROM (SELECT {asked}, COLUMN{len(self.keys) + 1} AS n FROM VALUES {values}) AS a "
            f"LEFT JOIN {self.source} ON {same} ORDER BY a.n",
            [text for row in zip(*columns, strict=True) for text in row],
            extra=(("a.n", pa.int64()), (f"{in_table(self.keys[0])} IS NOT NULL", pa.bool_())),
        )
        found = self.select(query)
        if len(found) > len(keys):
            twice = repeated(pa.RecordBatch.from_arrays([found.extra[0]], names=["n"]))
            assert twice is not None
            row = found.extra[0][twice].as_py()
            raise self._not_unique(tuple(column[row].as_py() for column in keys.columns))
        misfits, raw = found.misfits(self.schema.key, keys)
        return Page(
            rows=self._with_keys(found.rows, keys),
            last=None,
            full=False,
            misfits=tuple(_moved(misfit, offset) for misfit in misfits),
            raw=raw,
            extra=(found.extra[1],),
        )

    def _with_keys(self, rows: pa.RecordBatch, keys: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with the keys that were asked for, which are there where no row is."""
        columns = [
            keys.column(self.schema.key.index(name)) if name in self.schema.key else column
            for name, column in zip(self.schema.names, rows.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema.arrow())

    def _not_unique(self, key: Values) -> ConfigurationError:
        shown = ", ".join(
            f"{name} = {_shown(value)}" for name, value in zip(self.schema.key, key, strict=True)
        )
        return ConfigurationError(
            f"The key ({', '.join(self.schema.key)}) of stream {self.stream.name} is not unique "
            f"in table {self.table.name}: several rows have {shown} and would take each other's "
            f"place at the target. Leave one of them at the source (Snowflake itself holds neither "
            f"PRIMARY KEY nor UNIQUE), or set `key` of the stream to columns that are unique "
            f"together."
        )


def row_beyond(
    expressions: Sequence[str], marks: Sequence[str], bound: Values | None
) -> tuple[list[str], list[str]]:
    """The condition that these expressions, as a row, are beyond the bound; none without one.

    Column by column, since Snowflake does not compare rows by `>`. The first one stands by itself
    as well: by it alone parts of the table are left out unread.
    """
    if bound is None:
        return [], []
    values = [str(value) for value in bound]
    condition, parameters = f"{expressions[-1]} > {marks[-1]}", [values[-1]]
    for one, mark, value in reversed(list(zip(expressions, marks, values, strict=True))[:-1]):
        condition = f"({one} > {mark} OR ({one} = {mark} AND {condition}))"
        parameters = [value, value, *parameters]
    if len(expressions) == 1:
        return [condition], parameters
    return [f"{expressions[0]} >= {marks[0]}", condition], [values[0], *parameters]


def _moved(misfit: Misfit, offset: int) -> Misfit:
    return replace(misfit, row=misfit.row + offset)


def _shown(value: object) -> str:
    """As SQL writes it."""
    text = as_text(value)
    return text if isinstance(value, int | Decimal) else quote_text(text)
