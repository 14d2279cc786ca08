"""The cursor column of a Snowflake table: how far it has settled, and pages along it.

Cursor values are kept as texts, times with all nine digits of their seconds. NULL has no place in
the order: such rows are swept in each read.

Snowflake tells no ordinary role which transactions are open. A row that one of them commits late,
behind the cursor, is seen as long as the end of the last read is read again: for times an hour of
it, or `cursor_lag`; for numbers and texts only what `cursor_lag` says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from math import ceil

import pyarrow as pa

from rowtrail.connectors.capture.cursor import CursorBounds
from rowtrail.connectors.capture.pages import Page
from rowtrail.connectors.capture.position import Values
from rowtrail.connectors.errors import PositionLostError
from rowtrail.connectors.snowflake_client import quote_exactly
from rowtrail.connectors.sources.snowflake_rows import SnowflakeRows, row_beyond
from rowtrail.connectors.sources.snowflake_select import Query
from rowtrail.connectors.sources.snowflake_table import TableColumn
from rowtrail.connectors.sources.snowflake_types import TIMESTAMPS, ZONED
from rowtrail.connectors.sources.snowflake_values import (
    UTC,
    bound_text,
    cursor_text,
    own_order,
)

OPEN_SECONDS = 3_600
"""How long a transaction may be open before its rows are missed, where no lag says otherwise: as
long as a single statement may take."""
_MICROSECONDS = 26  # length of `2024-01-31 10:00:00.123456`


@dataclass(frozen=True, kw_only=True)
class Settled:
    """How far a cursor has settled."""

    column: str
    kind: str  # a value of one type means nothing in another
    value: str

    def token(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def parse(cls, token: object) -> Settled | None:
        return None if token is None else cls(**json.loads(str(token)))


@dataclass(frozen=True, kw_only=True)
class SnowflakeCursorRows(SnowflakeRows):
    """Implements `CursorTable`."""

    cursor: TableColumn

    def bounds(self, settled: object) -> CursorBounds:
        """The bounds of a read that begins now, after one that settled there (None: the first)."""
        newest, now = self._newest()
        last = Settled.parse(settled)
        if last is not None and not self._is_mine(last):
            last = None  # another cursor than before: all rows are read once more
        high = None if newest is None else self._settled(newest, now)
        return CursorBounds(
            start=None if last is None else self._window(last.value),
            newest=newest,
            window=None if high is None else self._window(high.value),
            settled=None if high is None else high.token(),
        )

    def full_page(self, bounds: CursorBounds, after: Values | None) -> Page:
        """All rows in key order, beyond this key."""
        beyond, values = self.beyond(after)
        return self._walk("full", after, [*self.whole_key(), *beyond], values, [], bounds)

    def cursor_page(self, bounds: CursorBounds, after: Values | None) -> Page:
        """Rows from the start to the newest, beyond `after`, which is (cursor, key columns …).

        Raises PositionLostError when the read began with another cursor.
        """
        begun = Settled.parse(bounds.settled)
        if begun is not None and not self._is_mine(begun):
            name = self.stream.name
            raise PositionLostError(
                f"Stream {name} was broken off in the midst of a read by cursor {begun.column} "
                f"({begun.kind}), and its cursor is {self.cursor.name} ({self._kind}) now. Read it "
                f"anew: rowtrail run --resnapshot {name}"
            )
        conditions, values = [f"{self._column} <= {self._mark}"], [str(bounds.newest)]
        if after is not None:
            expressions = [self._column, *self.key_order()]
            beyond, more = row_beyond(
                expressions, [self._mark, *(k.bound for k in self.keys)], after
            )
            conditions, values = [*conditions, *beyond], [*values, *more]
        elif bounds.start is not None:
            conditions.append(f"{self._column} >= {self._mark}")
            values.append(str(bounds.start))
        conditions += self.whole_key()
        return self._walk("cursor", after, conditions, values, [self._column], bounds)

    def unplaced_page(self, bounds: CursorBounds, after: Values | None) -> Page:
        """Rows whose cursor is NULL, in key order."""
        beyond, values = self.beyond(after)
        conditions = [f"{self._reference} IS NULL", *self.whole_key(), *beyond]
        return self._walk("unplaced", after, conditions, values, [], bounds)

    def _walk(
        self,
        what: str,
        after: Values | None,
        conditions: Sequence[str],
        parameters: Sequence[str],
        order: Sequence[str],
        bounds: CursorBounds,
    ) -> Page:
        """A page of rows with a whole key, in this order and then that of the key.

        Pages that are not of all rows are joined with the table: another row of a key may be
        anywhere in it.
        """
        where = " AND ".join(conditions) or "TRUE"
        ordered = ", ".join([*order, *self.key_order()])
        again, window = self._again(bounds)
        same = " AND ".join(
            f"{one} = {other}"
            for one, other in zip(self.key_order(), self.key_order("d"), strict=True)
        )

        def query(rows: int) -> Query:
            tail = f"FROM {self.source} WHERE {where} ORDER BY {ordered} LIMIT {rows}"
            if what != "full":
                tail = (
                    f"FROM (SELECT t.* {tail}) AS t JOIN {self.table.sql} AS d ON {same} "
                    f"ORDER BY {ordered} LIMIT {rows}"
                )
            extra = ((again, pa.bool_()), (self._text, pa.string()))
            return self.query(tail, [*window, *parameters], extra)

        found, ahead = self.next_rows(what, after, query, self.readers)
        keys = found.rows.select(list(self.schema.key))
        self.refuse_doubles(keys)
        if not order:
            self.refuse_disorder(keys)
        page = self.as_page(found, extra=found.extra[:1])
        if order and page.last is not None:
            last = found.extra[1][len(page.rows) - 1].as_py()
            page = replace(page, last=(last, *page.last))
        return self.goes_on(page, ahead)

    def _newest(self) -> tuple[str | None, str]:
        """The greatest value, which Snowflake knows without reading the table, and now (UTC)."""
        newest = cursor_text(self.cursor.type).replace("{c}", f"MAX({self._column})")
        ((value, now),) = self.connection.records(
            f"SELECT {newest}, TO_VARCHAR(SYSDATE(), 'YYYY-MM-DD HH24:MI:SS.FF6') "
            f"FROM {self.source}",
            doing=f"read table {self.table.name}",
            stream=self.stream.name,
        )
        return value, now

    def _settled(self, newest: str, now: str) -> Settled:
        """Times in the future (of the server, in UTC) are read again until they have passed."""
        value = newest
        if self._kind == "DATE":
            value = min(newest, now[:10])
        elif self._kind in TIMESTAMPS:
            value = min(newest, now)
        return Settled(column=self.cursor.name, kind=self._kind, value=value)

    def _window(self, high: str) -> str:
        """Where the next read begins, inclusively, when this one has settled at `high`."""
        lag = self.stream.cursor_lag
        if self._kind == "VARCHAR":
            return high
        if self._kind == "NUMBER":
            step = Decimal(1).scaleb(-self.cursor.type.scale)
            return format(Decimal(high) - Decimal(lag).quantize(step, ROUND_CEILING), "f")
        behind = lag or OPEN_SECONDS
        if self._kind == "DATE":
            return _day_before(high, ceil(behind / 86_400))
        return _earlier(high.removesuffix(UTC), behind) + (UTC if self._kind in ZONED else "")

    def _is_mine(self, settled: Settled) -> bool:
        return (settled.column, settled.kind) == (self.cursor.name, self._kind)

    def _again(self, bounds: CursorBounds) -> tuple[str, list[str]]:
        """SQL, never NULL: the next read will see the row again; and its parameters."""
        if bounds.window is None:
            return "TRUE", []
        again = f"{self._column} >= {self._mark}"
        return f"CASE WHEN {self._reference} IS NULL THEN TRUE ELSE {again} END", [
            str(bounds.window)
        ]

    @property
    def _kind(self) -> str:
        return self.cursor.type.kind

    @property
    def _reference(self) -> str:
        return f"t.{quote_exactly(self.cursor.stored)}"

    @property
    def _column(self) -> str:
        return own_order(self.cursor.type).replace("{c}", self._reference)

    @property
    def _mark(self) -> str:
        return bound_text(self.cursor.type)

    @property
    def _text(self) -> str:
        return cursor_text(self.cursor.type).replace("{c}", self._reference)


def _earlier(text: str, seconds: float) -> str:
    """The time so many seconds before, in microseconds, rounded down."""
    moment = datetime.fromisoformat(text[:_MICROSECONDS])
    try:
        return (moment - timedelta(seconds=seconds)).isoformat(sep=" ", timespec="microseconds")
    except OverflowError:
        return datetime.min.isoformat(sep=" ", timespec="microseconds")


def _day_before(text: str, days: int) -> str:
    try:
        return (date.fromisoformat(text) - timedelta(days=days)).isoformat()
    except OverflowError:
        return date.min.isoformat()
