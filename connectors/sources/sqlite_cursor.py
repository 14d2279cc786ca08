"""The cursor column of a SQLite table: which values can be placed in order, and pages along it.

SQLite compares values of different storage classes, and texts, without an error. So the cursor
walks only over rows whose value is of the kind that its column promises (for timestamps: of one
spelling, since 'T' and a blank do not sort together); all others, NULL among them, are unplaced.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from rowtrail.connectors.capture.cursor import CursorBounds
from rowtrail.connectors.capture.pages import Page
from rowtrail.connectors.capture.position import Values
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.sources.sqlite_rows import SqliteRows
from rowtrail.connectors.sources.sqlite_select import Selected, in_table, row_beyond
from rowtrail.connectors.sources.sqlite_table import quote_text
from rowtrail.connectors.sources.sqlite_values import ValueReader

_SECONDS = 19  # length of `2024-01-31 10:00:00`


def check_cursor_type(stream: str, column: str, data_type: pa.DataType) -> None:
    """Raises ConfigurationError for a type that does not sort as its values do in SQLite."""
    zoned = pa.types.is_timestamp(data_type) and data_type.tz is not None
    comparable = (
        pa.types.is_integer(data_type)
        or pa.types.is_floating(data_type)
        or pa.types.is_timestamp(data_type)
        or pa.types.is_date(data_type)
        or pa.types.is_string(data_type)
    )
    if zoned or not comparable:
        advice = (
            f' If all its values have one spelling and zone, set types."{column}" = "text".'
            if zoned
            else ""
        )
        raise ConfigurationError(
            f"Column {column} cannot be the cursor of stream {stream}: it is read as {data_type}, "
            f"which SQLite does not keep in order.{advice} Otherwise choose another column or "
            f"capture `snapshot`."
        )


@dataclass(frozen=True, kw_only=True)
class SqliteCursorRows(SqliteRows):
    """Implements `CursorTable`. Cursor values are SQLite's own: int, float or text."""

    cursor: ValueReader

    def bounds(self, settled: object) -> CursorBounds:
        """The bounds of a read that begins now, after one that settled there (None: the first)."""
        newest = self._newest(settled)
        high = None if newest is None else self._settled(newest)
        return CursorBounds(
            start=None if settled is None else self._window(settled),
            newest=newest,
            window=None if high is None else self._window(high),
            settled=high,
        )

    def full_page(self, bounds: CursorBounds, after: Values | None) -> Page:
        """All rows in key order, beyond this key."""
        found = self._walk(["1"], [], self.key_order(), after, (self._again(bounds),))
        return self.as_page(found, extra=_flags(found.extra))

    def cursor_page(self, bounds: CursorBounds, after: Values | None) -> Page:
        """Rows from the start to the newest, beyond `after`, which is (cursor, key columns …)."""
        conditions = [self._placed(bounds.newest), f"{self._column} <= ?"]
        parameters = [bounds.newest]
        if after is None:  # which says more; the index serves one of them
            conditions.append(f"{self._column} >= ?")
            parameters.append(bounds.start)
        order = [self._column, *self.key_order()]
        extra = (self._again(bounds), self._value)
        found = self._walk(conditions, parameters, order, after, extra)
        page = self.as_page(found, extra=_flags(found.extra))
        if found.last is None:
            return page
        return replace(page, last=(found.extra[1][-1].as_py(), *found.last))

    def unplaced_page(self, bounds: CursorBounds, after: Values | None) -> Page:
        """Rows whose cursor is NULL, or cannot be placed beside the newest, in key order."""
        unplaced = [f"NOT ({self._placed(bounds.newest)})"]
        found = self._walk(unplaced, [], self.key_order(), after, ("1",))
        return self.as_page(found, extra=_flags(found.extra))

    def _walk(
        self,
        conditions: list[str],
        parameters: list[object],
        order: list[str],
        after: Values | None,
        extra: tuple[str, ...],
    ) -> Selected:
        """A page of rows with a whole key, in this order."""
        beyond, values = row_beyond(order, after)
        limit = self.stream.batch_rows
        where = " AND ".join([*conditions, *self.whole_key(), *beyond])
        return self.run(
            f"FROM {self.source} WHERE {where} ORDER BY {', '.join(order)} LIMIT ?",
            (*parameters, *values, limit),
            limit,
            extra=extra,
        )

    def _newest(self, like: object) -> object:
        """The greatest placed value, in the spelling of `like`, or the most common one."""
        if like is None:
            timed = pa.types.is_timestamp(self.cursor.type)
            like = self._common_spelling() if timed else ""
        rows = self._records(f"WHERE {self._placed(like)} ORDER BY {self._column} DESC LIMIT 1")
        return rows[0][0] if rows else None

    def _settled(self, newest: object) -> object:
        """Never beyond now (UTC): times in the future are read again until they have passed."""
        now = datetime.now(UTC).replace(tzinfo=None)
        if pa.types.is_date(self.cursor.type):
            return min(str(newest), now.date().isoformat())
        if pa.types.is_timestamp(self.cursor.type):
            return min(str(newest), now.isoformat(sep=str(newest)[10], timespec="microseconds"))
        return newest

    def _window(self, high: object) -> object:
        """Where the next read begins, inclusively, when this one has settled at `high`."""
        lag = self.stream.cursor_lag
        if isinstance(high, int):
            return high - math.ceil(lag)
        if isinstance(high, float):
            return high - lag
        if pa.types.is_date(self.cursor.type):
            return _earlier(str(high), lag)[:10]
        # From the full second on: `10:00:00` sorts before the equal `10:00:00.000`.
        return _earlier(str(high), lag) if pa.types.is_timestamp(self.cursor.type) else high

    def _again(self, bounds: CursorBounds) -> str:
        """SQL, never NULL: the next read will see the row again."""
        placed = self._placed(bounds.newest)
        window = "NULL" if bounds.window is None else _literal(bounds.window)
        return f"CASE WHEN {placed} THEN {self._column} >= {window} ELSE 1 END"

    @property
    def _column(self) -> str:
        return self.cursor.ordered(in_table(self.cursor.name))

    @property
    def _value(self) -> str:
        """The column as one type: the driver wants no integers among floats."""
        reference = in_table(self.cursor.name)
        return f"CAST({reference} AS REAL)" if pa.types.is_floating(self.cursor.type) else reference

    def _placed(self, like: object) -> str:
        """SQL, never NULL: the value is of the kind, and in the spelling, that is in order."""
        column = in_table(self.cursor.name)
        if like is None:
            return "0"
        if pa.types.is_integer(self.cursor.type):
            return f"typeof({column}) = 'integer'"
        if pa.types.is_floating(self.cursor.type):
            return f"typeof({column}) IN ('integer', 'real')"
        text = f"typeof({column}) = 'text'"
        if pa.types.is_date(self.cursor.type):
            return f"({text} AND length({column}) = 10)"
        if pa.types.is_timestamp(self.cursor.type):
            separator = quote_text(str(like)[10])
            return (
                f"({text} AND length({column}) >= {_SECONDS} "
                f"AND substr({column}, 11, 1) = {separator})"
            )
        return text

    def _common_spelling(self) -> object:
        column = in_table(self.cursor.name)
        rows = self._records(
            f"WHERE typeof({column}) = 'text' AND length({column}) >= {_SECONDS} "
            f"AND substr({column}, 11, 1) IN ('T', ' ') "
            f"GROUP BY substr({column}, 11, 1) ORDER BY count(*) DESC LIMIT 1"
        )
        return rows[0][0] if rows else None

    def _records(self, tail: str) -> list[tuple[object, ...]]:
        return self.connection.records(f"SELECT {self._value} FROM {self.source} {tail}")


def _literal(value: object) -> str:
    """A cursor value in the SELECT list, where binding would come before the rest."""
    if isinstance(value, float):
        return "9e999" if value == math.inf else "-9e999" if value == -math.inf else repr(value)
    return str(value) if isinstance(value, int) else quote_text(str(value))


def _flags(extra: tuple[pa.Array, ...]) -> tuple[pa.Array, ...]:
    return (extra[0].cast(pa.bool_()),)


def _earlier(text: str, seconds: float) -> str:
    """The time so many seconds before, in the same spelling, in full seconds."""
    separator = text[10:11] or " "
    try:
        moment = datetime.fromisoformat(text[:_SECONDS]) - timedelta(seconds=seconds)
    except (ValueError, OverflowError):  # such as the 30th of February: begin with its year
        return f"{text[:4]}-01-01{separator}00:00:00"
    return moment.isoformat(sep=separator, timespec="seconds")
