"""Which stream fills which table: two streams in one table would delete each other's rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rowtrail.connectors.base import Target
from rowtrail.connectors.destinations.gaps import forget_table
from rowtrail.connectors.destinations.names import TableName
from rowtrail.connectors.destinations.statements import OwnTable, Statements
from rowtrail.connectors.errors import ConfigurationError

CLAIMS = OwnTable(
    name="_rowtrail_tables",
    columns="""
    table_schema VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    pipeline VARCHAR NOT NULL,
    stream VARCHAR NOT NULL,
    claimed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (table_schema, table_name)
""",
)
"""Schemas and names as the database compares them, so that each table has one row however it is
spelled."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A stream that is to fill a table, and the table's place as it is written down."""

    pipeline: str
    target: Target
    place: tuple[str, str]  # schema and name

    def check(self, work: Statements, is_there: Callable[[], bool]) -> None:
        """Raises ConfigurationError when another stream, or another pipeline's, fills the table.

        A table that was dropped, so that `is_there` says no, belongs to nobody any more. One that
        an older version made, without writing down for whom, goes to the first that asks.
        """
        claims = self._find(work)
        if claims in ([], [self._mine]) or not is_there():
            return
        ((other_pipeline, other_stream),) = claims
        raise ConfigurationError(
            f"Stream {self.target.stream} of pipeline {self.pipeline} cannot fill table "
            f"{self.target.table}, since stream {other_stream} of pipeline {other_pipeline} does: "
            f"each would delete the other's rows. Name another `target` for the stream. If the "
            f"other stream is no more, drop its table at the target instead."
        )

    def clear(self, work: Statements, table: TableName) -> None:
        """Drops what another stream has left of a table that was dropped: its tombstones would
        fence out rows of this one. To be called after `check`, before the table is looked at."""
        if self._find(work) not in ([], [self._mine]):
            work.run(f"DROP TABLE IF EXISTS {table.tombstones.sql}")

    def write_down(self, work: Statements) -> None:
        """Writes down who fills the table; to be called before it is made."""
        claims = self._find(work)
        if claims == [self._mine]:
            return
        if claims:
            forget_table(work, self.target.table)
        work.run(
            f"DELETE FROM {work.own(CLAIMS.name)} WHERE table_schema = ? AND table_name = ?",
            self.place,
        )
        work.run(
            f"INSERT INTO {work.own(CLAIMS.name)} VALUES (?, ?, ?, ?, CURRENT_TIMESTAMP)",
            [*self.place, *self._mine],
        )

    @property
    def _mine(self) -> tuple[str, str]:
        return (self.pipeline, self.target.stream)

    def _find(self, work: Statements) -> list[tuple[str, str]]:
        found = work.run(
            f"SELECT pipeline, stream FROM {work.own(CLAIMS.name)} "
            f"WHERE table_schema = ? AND table_name = ?",
            self.place,
        )
        return [(pipeline, stream) for pipeline, stream in found]
