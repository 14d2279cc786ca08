"""Carries out the merge of a staged batch, in SQL.

Rows that are there are updated rather than deleted and inserted: columns of others keep what they
hold, foreign keys of others stay satisfied, and PostgreSQL need not touch any index but when an
indexed value changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import psycopg

from rowtrail.connectors.base import Deletes, Load
from rowtrail.connectors.destinations.names import (
    DELETED_AT,
    FILTERED,
    ROW,
    VERSION_COLUMNS,
    quote,
    quoted,
)
from rowtrail.connectors.destinations.postgres_layout import PostgresLayout
from rowtrail.connectors.destinations.postgres_sql import PostgresName, Transaction, instant
from rowtrail.connectors.destinations.postgres_staging import DELETE
from rowtrail.connectors.destinations.postgres_types import column_type
from rowtrail.connectors.schema import TableSchema

_ASIDE = "pg_temp._rowtrail_aside"
_NEWER = f"({quoted(VERSION_COLUMNS, 't.')}) >= ({quoted(VERSION_COLUMNS, 's.')})"


@dataclass(frozen=True, kw_only=True)
class Staged:
    """A batch in its staging table, to be merged within one transaction."""

    work: Transaction
    layout: PostgresLayout
    load: Load
    rows: str  # the staging table, for SQL
    has_tombstones: bool  # the table has some

    def take_out_superseded(self) -> npt.NDArray[np.int64]:
        """Removes from the staging table what table or tombstones have as new or newer, and
        returns the numbers of these rows. All that is left is to be applied."""
        found = [self._take_out(self.layout.table)]
        if self.has_tombstones:
            found.append(self._take_out(self.layout.table.tombstones))
        return np.concatenate(found)

    def _take_out(self, table: PostgresName) -> npt.NDArray[np.int64]:
        ((numbers,),) = self.work.run(
            f"WITH gone AS (DELETE FROM {self.rows} AS s USING {table.sql} AS t "
            f"WHERE {self._same_key} AND {_NEWER} RETURNING s.{ROW} AS n) "
            f"SELECT string_agg(int4send(n), ''::bytea) FROM gone"
        )
        return np.frombuffer(numbers or b"", dtype=">i4").astype(np.int64)

    def apply(self, *, upserts: int, deletes: int) -> None:
        """Merges the rows that are left, so many of either kind.

        Old rows go before new ones come, and change before they come: new ones may take the values
        that a unique index had for old ones.
        """
        if self.has_tombstones:
            self._unbury()
        if deletes:
            self._bury()
            self._delete()
        if upserts:
            self._upsert(upserts)

    def _unbury(self) -> None:
        self.work.run(
            f"DELETE FROM {self.layout.table.tombstones.sql} AS t USING {self.rows} AS s "
            f"WHERE {self._same_key}"
        )

    def _bury(self) -> None:
        """A row that stays says itself that it was deleted, but not that a transform dropped it."""
        left = "true"
        if self._soft:
            left = f"(s.{FILTERED} OR NOT {self._has_row})"
        columns = [*self.load.target.schema.key, *VERSION_COLUMNS, FILTERED]
        self.work.run(
            f"INSERT INTO {self.layout.table.tombstones.sql} ({quoted(columns)}, {DELETED_AT}) "
            f"SELECT {quoted(columns, 's.')}, {self._written_at} FROM {self.rows} AS s "
            f"WHERE s.{DELETE} AND {left}"
        )

    def _delete(self) -> None:
        condition = f"WHERE {self._same_key} AND s.{DELETE}"
        if not self._soft:
            self.work.run(
                f"DELETE FROM {self.layout.table.sql} AS t USING {self.rows} AS s {condition}"
            )
            return
        # With the delete's version and the time of the first delete.
        self.work.run(
            f"UPDATE {self.layout.table.sql} AS t SET {self._set(VERSION_COLUMNS)}, "
            f"{DELETED_AT} = coalesce(t.{DELETED_AT}, {self._written_at}) "
            f"FROM {self.rows} AS s {condition}"
        )

    def _upsert(self, upserts: int) -> None:
        if not self.layout.has_unique or self.layout.is_referenced:
            # What foreign keys point at is never deleted only to come back.
            self._update_and_insert(upserts)
            return
        try:
            with self.work.savepoint():
                self._update_and_insert(upserts)
        except (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation):
            # Perhaps rows have swapped values: none of them can be updated first.
            self._delete_and_insert()

    def _update_and_insert(self, upserts: int) -> None:
        columns = [*self.load.target.schema.names, *VERSION_COLUMNS]
        changing = [name for name in columns if name not in self.load.target.schema.key]
        alive = f", {DELETED_AT} = NULL" if self.layout.has(DELETED_AT) else ""
        updated = self.work.changed(
            f"UPDATE {self.layout.table.sql} AS t SET {self._set(changing)}{alive} "
            f"FROM {self.rows} AS s WHERE {self._same_key} AND NOT s.{DELETE}"
        )
        if updated == upserts:
            return
        absent = f"NOT {self._has_row}" if updated else "true"
        self._insert(columns, f"{self.rows} AS s WHERE NOT s.{DELETE} AND {absent}")

    def _delete_and_insert(self) -> None:
        """Columns that the stream does not bring keep what they hold; those of new rows get their
        defaults."""
        columns = [*self.load.target.schema.names, *VERSION_COLUMNS]
        extra = [
            name
            for name in self.layout.columns
            if name not in columns and name not in self.layout.generated
        ]
        table, condition = self.layout.table.sql, f"WHERE {self._same_key} AND NOT s.{DELETE}"
        kept = "".join(f", t.{quote(name)}" for name in extra)
        self.work.run(
            f"CREATE TEMP TABLE {_ASIDE} ON COMMIT DROP AS SELECT s.{ROW}{kept} "
            f"FROM {table} AS t, {self.rows} AS s {condition}"
        )
        self.work.run(f"DELETE FROM {table} AS t USING {self.rows} AS s {condition}")
        self._insert(columns, f"{self.rows} AS s JOIN {_ASIDE} AS a USING ({ROW})", extra)
        self._insert(
            columns,
            f"{self.rows} AS s WHERE NOT s.{DELETE} "
            f"AND NOT EXISTS (SELECT FROM {_ASIDE} AS a WHERE a.{ROW} = s.{ROW})",
        )

    def _insert(self, columns: Sequence[str], source: str, extra: Sequence[str] = ()) -> None:
        """From rows `s`, and the extra columns from `a`."""
        values = ", ".join([quoted(columns, "s."), *(f"a.{quote(name)}" for name in extra)])
        self.work.run(
            f"INSERT INTO {self.layout.table.sql} ({quoted([*columns, *extra])}) "
            f"SELECT {values} FROM {source}"
        )

    @property
    def _soft(self) -> bool:
        return self.load.target.deletes is Deletes.SOFT

    @property
    def _written_at(self) -> str:
        return instant(self.load.receipt.written_at)

    @property
    def _has_row(self) -> str:
        return f"EXISTS (SELECT FROM {self.layout.table.sql} AS t WHERE {self._same_key})"

    @property
    def _same_key(self) -> str:
        return same_key(self.layout, self.load.target.schema)

    @staticmethod
    def _set(columns: Sequence[str]) -> str:
        return ", ".join(f"{quote(name)} = s.{quote(name)}" for name in columns)


def same_key(layout: PostgresLayout, schema: TableSchema) -> str:
    """Between `s` and `t`. A key that is wider in the table is cast to what its index has."""
    conditions = []
    for name in schema.key:
        has = layout.types[name]
        same = has == column_type(schema.table, schema.column(name))
        value = f"s.{quote(name)}" if same else f"CAST(s.{quote(name)} AS {has})"
        conditions.append(f"t.{quote(name)} = {value}")
    return " AND ".join(conditions)
