"""The merge of a batch into a table that keeps the history; see `history`.

Snowflake gives rows no place of their own: the place of an event is its number among `there`, and
it is found again by its key and version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rowtrail.connectors.base import Load
from rowtrail.connectors.destinations.history import beside_them, judge, times_of
from rowtrail.connectors.destinations.names import (
    DELETED_AT,
    HISTORY_COLUMNS,
    IS_CURRENT,
    VALID_FROM,
    VALID_TO,
    VERSION_COLUMNS,
)
from rowtrail.connectors.destinations.names import FILTERED as FILTERED_COLUMN
from rowtrail.connectors.destinations.snowflake_layout import SnowflakeLayout
from rowtrail.connectors.destinations.snowflake_sql import (
    Connected,
    SnowflakeName,
    column,
    columns,
    newer,
    version_of,
)
from rowtrail.connectors.destinations.snowflake_staging import (
    AT,
    COMMITTED,
    FILTERED,
    GONE,
    ROW,
    VERSION,
)
from rowtrail.connectors.destinations.snowflake_types import INSTANT

Mask = npt.NDArray[np.bool_]

_INTEGER = "NUMBER(19,0)"
_THERE = (
    f"K {_INTEGER}, E {_INTEGER}, P {_INTEGER}, O {_INTEGER}, R {_INTEGER}, SINCE {INSTANT}, "
    f"UPTO {INSTANT}, GONE BOOLEAN, FILTERED BOOLEAN, PLACE {_INTEGER}"
)
_VERDICTS = (
    f"N {_INTEGER}, LATE BOOLEAN, PLACE {_INTEGER}, WAS_GONE BOOLEAN, STARTS {INSTANT}, "
    f"ENDS {INSTANT}"
)
# Rows of the staging table and of its neighbours, within one statement.
_ASKED, _BESIDE, _ALIKE = "_rowtrail_asked", "_rowtrail_beside", "_rowtrail_alike"


def _newer(one: str, other: str) -> str:
    mine, theirs = ([f"{alias}.{part}" for part in "epor"] for alias in (one, other))
    return newer(mine, theirs)


@dataclass(frozen=True, kw_only=True)
class StagedHistory:
    """A batch in its staging table, to be merged within one transaction."""

    work: Connected
    layout: SnowflakeLayout
    load: Load
    rows: str  # the staging table, for SQL
    there: str  # likewise, of what the target has of its records
    verdicts: str  # and of what becomes of them

    @classmethod
    def prepare(
        cls, work: Connected, layout: SnowflakeLayout, load: Load, rows: str, name: str
    ) -> StagedHistory:
        """Makes the tables beside the staging table. DDL: before the transaction."""
        there, verdicts = work.own(f"{name}_there"), work.own(f"{name}_verdicts")
        for table, shape in ((there, _THERE), (verdicts, _VERDICTS)):
            work.run(f"CREATE OR REPLACE TRANSIENT TABLE {table} ({shape})")
        return cls(work=work, layout=layout, load=load, rows=rows, there=there, verdicts=verdicts)

    def merge(self, deletes: Mask) -> Mask:
        """Merges the rows and returns, per row, whether it was superseded and changed nothing."""
        superseded = np.zeros(len(deletes), dtype=np.bool_)
        self._judge()
        found = self.work.arrow(f"SELECT N, LATE, WAS_GONE FROM {self.verdicts}")
        numbers = found.column(0).cast("int64")
        fresh = numbers.is_valid().to_numpy()
        rows = numbers.fill_null(-1).to_numpy()
        late = found.column(1).to_numpy().astype(np.bool_)
        superseded[rows[late]] = True
        replaced = found.column(2).is_valid().to_numpy() & fresh & ~late
        was_gone = found.column(2).fill_null(False).to_numpy().astype(np.bool_)
        self._apply(
            ends=bool((~fresh).any()),
            unburied=bool((replaced & was_gone).any()),
            replaced=bool((replaced & ~was_gone).any()),
            deletes=bool(deletes[rows[fresh & ~late]].any()),
            upserts=bool((~deletes[rows[fresh & ~late]]).any()),
        )
        return superseded

    def _judge(self) -> None:
        key = self._staged(self.load.target.schema.key, "")
        version = ", ".join(f'"{part}"' for part in VERSION)
        event = ", ".join(version_of("t"))
        records = (
            f'(SELECT *, MIN("{ROW}") OVER (PARTITION BY {", ".join(key)}) AS K FROM {self.rows} '
            f'QUALIFY "{ROW}" = K) AS s'
        )
        table, tombstones = self.layout.table, self.layout.table.tombstones
        self.work.run(
            f"INSERT INTO {self.there} SELECT *, ROW_NUMBER() OVER (ORDER BY K, E, P, O, R) FROM ("
            f"SELECT s.K AS K, {self._named(event)}, t.{VALID_FROM} AS SINCE, "
            f"t.{VALID_TO} AS UPTO, FALSE AS GONE, FALSE AS FILTERED "
            f"FROM {records} JOIN {table.sql} AS t ON {self._same_key('t')} UNION ALL "
            f"SELECT s.K, {event}, t.{DELETED_AT}, NULL, TRUE, t.{FILTERED_COLUMN} "
            f"FROM {records} JOIN {tombstones.sql} AS t ON {self._same_key('t')}) AS f"
        )
        same = "".join(
            f" AND t.{column(name)} IS NOT DISTINCT FROM {value}"
            for name, value in zip(
                self.load.target.schema.names,
                self._staged(self.load.target.schema.names),
                strict=True,
            )
            if name not in self.load.target.schema.key
        )
        verdicts = judge(
            _ASKED,
            self.there,
            _BESIDE,
            _ALIKE,
            fresh=times_of(self.load).fresh,
            replaces=self.load.replaces,
            newer=_newer,
        )
        self.work.run(
            f"INSERT INTO {self.verdicts} WITH {_ASKED} AS ("
            f'SELECT "{ROW}" AS N, MIN("{ROW}") OVER (PARTITION BY {", ".join(key)}) AS K, '
            f'{version}, "{AT}", "{COMMITTED}", "{GONE}", "{FILTERED}" FROM {self.rows}), '
            f"{_BESIDE} AS ({beside_them(_ASKED, self.there, _newer)}), "
            f"{_ALIKE} AS (SELECT b.N FROM {_BESIDE} AS b "
            f'JOIN {self.rows} AS s ON s."{ROW}" = b.N JOIN {self.there} AS h ON h.PLACE = b.PLACE '
            f"JOIN {table.sql} AS t ON {self._same_key('t')} AND {self._same_version}{same} "
            f'WHERE NOT b.GONE AND NOT s."{GONE}") SELECT * FROM ({verdicts}) AS v'
        )

    def _apply(
        self, *, ends: bool, unburied: bool, replaced: bool, deletes: bool, upserts: bool
    ) -> None:
        schema, table = self.load.target.schema, self.layout.table
        tombstones = table.tombstones
        until = f"{column(VALID_TO)} = x.ENDS, {column(IS_CURRENT)} = x.ENDS IS NULL"
        # By MERGE: it takes an alias for its target, and minds two rows of the source for one row.
        merge = f"MERGE INTO {table.sql} AS t USING"
        if ends:
            self.work.run(
                f"{merge} ({self._events('h.K')}) AS x ON {self._found} AND x.MINE IS NULL "
                f"WHEN MATCHED THEN UPDATE SET {until}"
            )
        old = self._events("v.N")
        if unburied:
            self.work.run(
                f"MERGE INTO {tombstones.sql} AS t USING ({old}) AS x "
                f"ON {self._found} AND x.WAS_GONE WHEN MATCHED THEN DELETE"
            )
        names = [*schema.names, *VERSION_COLUMNS]
        if replaced:
            values = [
                f"{column(name)} = {value}"
                for name, value in zip(names, self._all("x."), strict=True)
                if name not in schema.key
            ]
            values.append(f"{column(VALID_FROM)} = x.STARTS")
            self.work.run(
                f"{merge} ({old}) AS x ON {self._found} AND NOT x.WAS_GONE "
                f'WHEN MATCHED AND x."{GONE}" THEN DELETE '
                f"WHEN MATCHED THEN UPDATE SET {', '.join(values)}, {until}"
            )
        chosen = f'{self.rows} AS s JOIN {self.verdicts} AS v ON v.N = s."{ROW}" AND NOT v.LATE'
        if upserts:
            self.work.run(
                f"INSERT INTO {table.sql} ({columns([*names, *HISTORY_COLUMNS])}) "
                f"SELECT {', '.join(self._all('s.'))}, v.STARTS, v.ENDS, v.ENDS IS NULL "
                f'FROM {chosen} WHERE NOT s."{GONE}" AND (v.PLACE IS NULL OR v.WAS_GONE)'
            )
        if deletes:
            kept = [*schema.key, *VERSION_COLUMNS, FILTERED_COLUMN, DELETED_AT]
            values = [*self._staged(schema.key), *(f's."{part}"' for part in VERSION)]
            self.work.run(
                f"INSERT INTO {tombstones.sql} ({columns(kept)}) "
                f'SELECT {", ".join(values)}, s."{FILTERED}", v.STARTS FROM {chosen} '
                f'WHERE s."{GONE}"'
            )

    def _events(self, row: str) -> str:
        """Verdicts on events that are there, with the row of the batch whose number is `row`."""
        return (
            f"SELECT s.*, v.N AS MINE, v.WAS_GONE, v.STARTS, v.ENDS, h.E AS OLD_E, h.P AS OLD_P, "
            f"h.O AS OLD_O, h.R AS OLD_R FROM {self.verdicts} AS v "
            f"JOIN {self.there} AS h ON h.PLACE = v.PLACE "
            f'JOIN {self.rows} AS s ON s."{ROW}" = {row} WHERE NOT v.LATE'
        )

    @property
    def _found(self) -> str:
        """That `t` is the event that a row `x` of `_events` is about."""
        same = " AND ".join(
            f"{mine} = x.OLD_{part}" for mine, part in zip(version_of("t"), "EPOR", strict=True)
        )
        return f"{self._same_key('t', 'x')} AND {same}"

    @property
    def _same_version(self) -> str:
        return " AND ".join(
            f"{mine} = h.{part}" for mine, part in zip(version_of("t"), VERSION, strict=True)
        )

    def _named(self, event: str) -> str:
        return ", ".join(
            f"{one} AS {part}" for one, part in zip(event.split(", "), VERSION, strict=True)
        )

    def _all(self, alias: str) -> list[str]:
        """A staged row as one of the table, but for its times."""
        versions = [f'{alias}"{part}"' for part in VERSION]
        return [*self._staged(self.load.target.schema.names, alias), *versions]

    def _staged(self, names: Sequence[str], alias: str = "s.") -> list[str]:
        all_names = self.load.target.schema.names
        return [f'{alias}"C{all_names.index(name)}"' for name in names]

    def _same_key(self, table: str, staged: str = "s") -> str:
        key = self.load.target.schema.key
        return " AND ".join(
            f"{table}.{column(name)} = {value}"
            for name, value in zip(key, self._staged(key, f"{staged}."), strict=True)
        )


def tables(name: str, schema: str) -> list[str]:
    """The tables that a staging table of this name may have beside it, for SQL."""
    return [
        SnowflakeName(schema, f"{name}{more}".upper()).sql for more in ("", "_there", "_verdicts")
    ]
