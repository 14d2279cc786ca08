"""The cursor column of a PostgreSQL table: how far it has settled, and pages along it.

Cursor values are kept as the texts that PostgreSQL itself writes. NULL, NaN and the infinities have
no place in the order: such rows are swept in each read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import pyarrow as pa

from rowtrail.connectors.base import StreamSpec
from rowtrail.connectors.capture.cursor import CursorBounds
from rowtrail.connectors.capture.key_sums import KeySum
from rowtrail.connectors.capture.pages import Page
from rowtrail.connectors.capture.position import Values
from rowtrail.connectors.errors import ConfigurationError, PositionLostError
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_horizon import UNREPORTED_SECONDS, Horizon, horizon
from rowtrail.connectors.sources.postgres_key_sums import key_starts, key_sums
from rowtrail.connectors.sources.postgres_keys import KeyColumn, key_column, row_beyond
from rowtrail.connectors.sources.postgres_rows import PostgresRows, key_columns
from rowtrail.connectors.sources.postgres_select import Selected, in_table
from rowtrail.connectors.sources.postgres_streams import Described
from rowtrail.connectors.sources.postgres_types import TIMES, WHOLE_NUMBERS, natural_type
from rowtrail.connectors.sources.postgres_values import value_reader

_ENDLESS_NUMERICS = 140_000  # the version in which numeric got its infinities


@dataclass(frozen=True, kw_only=True)
class Settled:
    """How far a cursor has settled, in PostgreSQL's own texts.

    Of a cursor that is no time the newest value that was seen is `pending` until all transactions
    have ended that were open then, since they may have drawn lower ones.
    """

    column: str
    kind: str  # pg_type.typname: a value of one type means nothing in another
    value: str | None
    pending: str | None = None
    since: float = 0.0  # when `pending` was seen: seconds of the server's clock

    def token(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def parse(cls, token: object) -> Settled | None:
        return None if token is None else cls(**json.loads(str(token)))


@dataclass(frozen=True, kw_only=True)
class PostgresCursorRows(PostgresRows):
    """Implements `CursorTable` and `SummedTable`."""

    cursor: KeyColumn
    kind: str  # pg_type.typname

    def bounds(self, settled: object) -> CursorBounds:
        """The bounds of a read that begins now, after one that settled there (None: the first).

        The newest value is read first: what is not seen then although it is lower belongs to a
        transaction that is open afterwards, or to one whose rows the read will see. Raises
        ConfigurationError where open transactions cannot be seen and no lag makes up for it.
        """
        newest = self._newest()
        seen = horizon(self.connection)
        if seen.blind is not None and not self.stream.cursor_lag:
            raise ConfigurationError(blind_cursor(self.stream, seen.blind))
        last = Settled.parse(settled)
        if last is not None and not self._is_mine(last):
            last = self._settled(None)  # another cursor than before: all rows are read once more
        new = None
        if newest is not None:
            new = (
                self._timed(newest, seen) if self.kind in TIMES else self._drawn(last, newest, seen)
            )
        return CursorBounds(
            start=None if last is None else self._lagging_value(last.value),
            newest=newest,
            window=None if new is None else self._lagging_value(new.value),
            settled=None if new is None else new.token(),
        )

    def key_starts(self) -> list[int] | None:
        return key_starts(self)

    def key_sums(self, starts: Sequence[int]) -> Mapping[int, KeySum]:
        return key_sums(self, starts)

    def full_page(self, bounds: CursorBounds, after: Values | None) -> Page:
        """All rows in key order, beyond this key."""
        return self._walk([*self.whole_key(), *self.beyond(after)], [], self._again(bounds))

    def cursor_page(self, bounds: CursorBounds, after: Values | None) -> Page:
        """Rows from the start to the newest, beyond `after`, which is (cursor, key columns …).

        Raises PositionLostError when the read began with another cursor.
        """
        begun = Settled.parse(bounds.settled)
        if begun is not None and not self._is_mine(begun):
            name = self.stream.name
            raise PositionLostError(
                f"Stream {name} was broken off in the midst of a read by cursor {begun.column} "
                f"({begun.kind}), and its cursor is {self.cursor.name} ({self.kind}) now. Read it "
                f"anew: rowtrail run --resnapshot {name}"
            )
        conditions = [self._placed, f"{self.ordered} <= {self.cursor.literal(bounds.newest)}"]
        if after is not None:  # which says more; the index serves one of them
            references = [in_table(key.name) for key in (self.cursor, *self.keys)]
            conditions += row_beyond((self.cursor, *self.keys), references, after)
        elif bounds.start is not None:
            conditions.append(f"{self.ordered} >= {self.cursor.literal(bounds.start)}")
        return self._walk(
            [*conditions, *self.whole_key()], [self.ordered], self._again(bounds), self._text
        )

    def unplaced_page(self, bounds: CursorBounds, after: Values | None) -> Page:
        """Rows whose cursor is NULL or endless, in key order."""
        return self._walk(
            [f"NOT ({self._placed})", *self.whole_key(), *self.beyond(after)], [], "true"
        )

    def _walk(self, conditions: list[str], order: list[str], again: str, *last: str) -> Page:
        """A page of rows with a whole key. `last` is asked for to go before the last key."""
        where = " AND ".join(conditions) or "true"
        found: Selected = self.run(
            f"FROM {self.source} WHERE {where} ORDER BY {', '.join([*order, *self.key_order()])} "
            f"LIMIT {self.stream.batch_rows}",
            extra=(again, *last),
        )
        page = self.as_page(found, extra=found.extra[:1])
        if not last or found.last is None:
            return page
        return replace(page, last=(found.extra[1][-1].as_py(), *found.last))

    def _timed(self, newest: str, seen: Horizon) -> Settled:
        """Times are those of the beginning of a transaction, or later.

        What has a zone has settled where the oldest open transaction began. What has none is in a
        zone that nobody tells: as far behind the newest value as that beginning is behind now. A
        day lasts longer than most transactions, which may be on either side of midnight. Times in
        the future (of the server, in UTC) are read again until they have passed.
        """
        open_for = (seen.now - seen.begun).total_seconds() + UNREPORTED_SECONDS
        now, high = f"'{seen.now.isoformat()}'::timestamptz", _literal(newest, self.kind)
        behind = {
            "timestamptz": f"least({high}, {now} - {_interval(open_for)})",
            "timestamp": f"least({high}, {now}::timestamp) - {_interval(open_for)}",
            "date": f"least({high}, {now}::date) - {math.floor(open_for / 86_400) + 1}",
        }[self.kind]
        ((value,),) = self.connection.records(f"SELECT ({behind})::text")
        return self._settled(value)

    def _drawn(self, last: Settled | None, newest: str, seen: Horizon) -> Settled:
        """Numbers and texts are drawn within the transaction that writes them, in rising order."""
        now = seen.now.timestamp()
        if seen.oldest is None:
            return self._settled(newest, pending=newest, since=now)
        if last is None or last.pending is None:
            return self._settled(None, pending=newest, since=now)
        if seen.oldest.timestamp() > last.since:
            return self._settled(last.pending, pending=newest, since=now)
        return last

    def _settled(
        self, value: str | None, *, pending: str | None = None, since: float = 0.0
    ) -> Settled:
        return Settled(
            column=self.cursor.name, kind=self.kind, value=value, pending=pending, since=since
        )

    def _is_mine(self, settled: Settled) -> bool:
        return (settled.column, settled.kind) == (self.cursor.name, self.kind)

    def _lagging_value(self, value: str | None) -> str | None:
        if value is None or not self.stream.cursor_lag:
            return value
        ((text,),) = self.connection.records(
            f"SELECT ({self._lagging(_literal(value, self.kind))})::text"
        )
        return str(text)

    def _lagging(self, expression: str) -> str:
        """SQL: so far behind as the stream's `cursor_lag` says."""
        lag = self.stream.cursor_lag
        if not lag:
            return expression
        if self.kind == "date":
            return f"{expression} - {math.ceil(lag / 86_400)}"
        if self.kind in TIMES:
            return f"{expression} - {_interval(lag)}"
        if self.kind in WHOLE_NUMBERS:  # below the least of the type there is nothing to be read
            lagging = f"{expression}::int8::numeric - {math.ceil(lag)}"
            return f"greatest({lagging}, {WHOLE_NUMBERS[self.kind]})"
        return f"{expression} - {lag!r}::pg_catalog.{self.kind}"

    def _newest(self) -> str | None:
        rows = self.connection.records(
            f"SELECT {self._text} FROM {self.source} WHERE {self._placed} "
            f"ORDER BY {self.ordered} DESC LIMIT 1",
            doing=f"read {self.table.name}",
        )
        return rows[0][0] if rows else None

    def _again(self, bounds: CursorBounds) -> str:
        """SQL, never NULL: the next read will see the row again."""
        if bounds.window is None:
            return "true"
        window = self.cursor.literal(bounds.window)
        return f"CASE WHEN {self._placed} THEN {self.ordered} >= {window} ELSE true END"

    @property
    def ordered(self) -> str:
        return self.cursor.ordered(in_table(self.cursor.name))

    @property
    def _text(self) -> str:
        return f"{in_table(self.cursor.name)}::text"

    @property
    def _placed(self) -> str:
        """SQL, never NULL: the value has a place in the order. NaN is above all numbers."""
        column = in_table(self.cursor.name)
        placed = [f"{column} IS NOT NULL"]
        if self.kind == "numeric":
            placed.append(f"{column} <> 'NaN'")
        if self.kind in ("float4", "float8", *TIMES) or (
            self.kind == "numeric" and self.connection.facts().version >= _ENDLESS_NUMERICS
        ):
            placed.append(f"{column} > '-infinity' AND {column} < 'infinity'")
        return f"({' AND '.join(placed)})"


def blind_cursor(stream: StreamSpec, blind: str) -> str:
    return (
        f"Stream {stream.name} has capture `cursor`, but {blind}: rows that such a transaction "
        f"commits later, behind the cursor, would be missed. Grant the role pg_read_all_stats (or "
        f"pg_monitor) to this user on a primary, or set `cursor_lag` of the stream to more than "
        f"the longest transaction takes."
    )


def open_cursor_rows(
    connection: Connection, stream: StreamSpec, described: Described
) -> PostgresCursorRows:
    assert described.cursor is not None
    column, facts = described.cursor, connection.facts()
    # A numeric of any precision is only compared, so that any number will do.
    reader = value_reader(column, natural_type(column) or pa.float64())
    return PostgresCursorRows(
        connection=connection,
        stream=stream,
        table=described.table,
        schema=described.schema,
        readers=described.readers,
        keys=key_columns(connection, described),
        cursor=key_column(column, reader, facts),
        kind=column.type_name,
    )


def _interval(seconds: float) -> str:
    return f"interval '{seconds:.6f} s'"


def _literal(value: str, kind: str) -> str:
    return f"'{value}'::pg_catalog.{kind}"
