"""The fenced merge: a batch goes into its table where it is newer than what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rowtrail.connectors.base import Deletes, Load
from rowtrail.connectors.destinations.names import DELETED_AT, VERSION_COLUMNS
from rowtrail.connectors.destinations.names import FILTERED as FILTERED_COLUMN
from rowtrail.connectors.destinations.snowflake_layout import SnowflakeLayout
from rowtrail.connectors.destinations.snowflake_sql import (
    Connected,
    SnowflakeName,
    column,
    columns,
    instant,
    newer,
    version_of,
)
from rowtrail.connectors.destinations.snowflake_staging import FILTERED, GONE, ROW, VERSION

Mask = npt.NDArray[np.bool_]

_STAGED_VERSION = tuple(f's."{part}"' for part in VERSION)
_SUPERSEDED = newer(version_of("t"), _STAGED_VERSION, or_same=True)


@dataclass(frozen=True, kw_only=True)
class Staged:
    """A batch in its staging table, to be merged within one transaction."""

    work: Connected
    layout: SnowflakeLayout
    load: Load
    rows: str  # the staging table, for SQL

    def merge(self, deletes: Mask) -> Mask:
        """Merges the rows and returns, per row, whether it was superseded and changed nothing.

        What the target has as new or newer leaves the staging table first. The merges compare
        versions all the same: Snowflake keeps no key unique, nor rows still between statements.
        """
        superseded = np.zeros(len(deletes), dtype=np.bool_)
        found = self.work.arrow(
            f'SELECT "{ROW}", BURIED, NEWER FROM ({self._hits(self.layout.table, buried=False)} '
            f"UNION ALL {self._hits(self.layout.table.tombstones, buried=True)}) AS f "
            f"WHERE BURIED OR NEWER"
        )
        numbers = found.column(0).cast("int64").to_numpy()
        buried, late = (found.column(i).to_numpy().astype(np.bool_) for i in (1, 2))
        superseded[numbers[late]] = True
        if late.any():
            for table in (self.layout.table, self.layout.table.tombstones):
                self.work.run(
                    f'DELETE FROM {self.rows} WHERE "{ROW}" IN (SELECT s."{ROW}" '
                    f"FROM {self.rows} AS s JOIN {table.sql} AS t "
                    f"ON {self._same_key('t')} AND {_SUPERSEDED})"
                )
        if (buried & ~late).any() or (deletes & ~superseded).any():
            self._merge_tombstones()
        if not superseded.all():
            self._merge_rows()
        return superseded

    def _hits(self, table: SnowflakeName, *, buried: bool) -> str:
        return (
            f'SELECT s."{ROW}", {buried} AS BURIED, {_SUPERSEDED} AS NEWER '
            f"FROM {self.rows} AS s JOIN {table.sql} AS t ON {self._same_key('t')}"
        )

    def _merge_tombstones(self) -> None:
        """Before the rows: a row that stays says itself that it was deleted, but not that a
        transform dropped it."""
        bury = f's."{GONE}"'
        source = self.rows
        if self._soft:
            absent = f"x.{column(self.load.target.schema.key[0])} IS NULL"
            bury = f'(s."{GONE}" AND (s."{FILTERED}" OR {absent}))'
            source += f" AS s LEFT JOIN {self.layout.table.sql} AS x ON {self._same_key('x')}"
        else:
            source += " AS s"
        key = self.load.target.schema.key
        kept = [*key, *VERSION_COLUMNS, FILTERED_COLUMN, DELETED_AT]
        values = [*self._staged(key), *_STAGED_VERSION, f's."{FILTERED}"', self._written_at]
        changed = zip(kept[len(key) :], values[len(key) :], strict=True)
        self.work.run(
            f"MERGE INTO {self.layout.table.tombstones.sql} AS t "
            f"USING (SELECT s.*, {bury} AS BURY FROM {source}) AS s ON {self._same_key('t')} "
            f"WHEN MATCHED AND NOT {_SUPERSEDED} AND NOT s.BURY THEN DELETE "
            f"WHEN MATCHED AND NOT {_SUPERSEDED} THEN UPDATE SET "
            f"{', '.join(f'{column(name)} = {value}' for name, value in changed)} "
            f"WHEN NOT MATCHED AND s.BURY THEN INSERT ({columns(kept)}) "
            f"VALUES ({', '.join(values)})"
        )

    def _merge_rows(self) -> None:
        schema = self.load.target.schema
        names = [*schema.names, *VERSION_COLUMNS]
        values = [*self._staged(schema.names), *_STAGED_VERSION]
        pairs = list(zip(names, values, strict=True))
        fenced = f"WHEN MATCHED AND NOT {_SUPERSEDED}"
        if self._soft:
            marks = [f"{column(name)} = {value}" for name, value in pairs[len(schema.names) :]]
            at = column(DELETED_AT)
            marks.append(f"{at} = COALESCE(t.{at}, {self._written_at})")
            delete = f"UPDATE SET {', '.join(marks)}"
        else:
            delete = "DELETE"
        changes = [f"{column(name)} = {value}" for name, value in pairs if name not in schema.key]
        if self.layout.has(DELETED_AT):
            changes.append(f"{column(DELETED_AT)} = NULL")
        self.work.run(
            f"MERGE INTO {self.layout.table.sql} AS t USING {self.rows} AS s "
            f"ON {self._same_key('t')} "
            f'{fenced} AND s."{GONE}" THEN {delete} '
            f"{fenced} THEN UPDATE SET {', '.join(changes)} "
            f'WHEN NOT MATCHED AND NOT s."{GONE}" THEN INSERT ({columns(names)}) '
            f"VALUES ({', '.join(values)})"
        )

    def _staged(self, names: Sequence[str]) -> list[str]:
        all_names = self.load.target.schema.names
        return [f's."C{all_names.index(name)}"' for name in names]

    def _same_key(self, alias: str) -> str:
        key = self.load.target.schema.key
        return " AND ".join(
            f"{alias}.{column(name)} = {value}"
            for name, value in zip(key, self._staged(key), strict=True)
        )

    @property
    def _soft(self) -> bool:
        return self.load.target.deletes is Deletes.SOFT

    @property
    def _written_at(self) -> str:
        return instant(self.load.receipt.written_at)
