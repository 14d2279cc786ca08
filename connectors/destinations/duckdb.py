"""DuckDB as a destination: a warehouse in one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa

from rowtrail.connectors.base import (
    Capabilities,
    Deletes,
    Fence,
    Load,
    Receipt,
    RowsThere,
    Target,
    TargetTable,
    known_schema,
)
from rowtrail.connectors.destinations import duckdb_layout, receipts
from rowtrail.connectors.destinations.claims import CLAIMS, Claim
from rowtrail.connectors.destinations.duckdb_errors import translated
from rowtrail.connectors.destinations.duckdb_file import (
    DuckdbUrl,
    close_file,
    open_file,
    prepare_private_log,
)
from rowtrail.connectors.destinations.duckdb_history import merge_history
from rowtrail.connectors.destinations.duckdb_keys import read_keys
from rowtrail.connectors.destinations.duckdb_layout import place_of, read_layout, refusing
from rowtrail.connectors.destinations.duckdb_memory import Memory
from rowtrail.connectors.destinations.duckdb_merge import merge
from rowtrail.connectors.destinations.duckdb_rows import read_rows
from rowtrail.connectors.destinations.duckdb_rules import refused_rows
from rowtrail.connectors.destinations.duckdb_sql import Connected, Transaction, run, transaction
from rowtrail.connectors.destinations.duckdb_types import check_limits, duckdb_type, takes, widens
from rowtrail.connectors.destinations.gaps import GAPS, WATERMARKS, read_gaps, update_gaps
from rowtrail.connectors.destinations.layout import Layout, for_reading_only, table_is_gone
from rowtrail.connectors.destinations.names import TableName, fold
from rowtrail.connectors.destinations.owner import OWNER, claim, hold
from rowtrail.connectors.destinations.receipts import RECEIPTS

_OWN_TABLES = (OWNER, CLAIMS, RECEIPTS, GAPS, WATERMARKS)


class DuckdbDestination:
    """A DuckDB file. DuckDB lets one process in at a time: close it as soon as possible.

    With a fence the file is made if need be, readable by its owner alone, and claimed; without one
    it is opened for reading only. For one thread. See `connectors.base.Destination` for what each
    method guarantees.
    """

    capabilities = Capabilities(
        probes=True,
        transactional_ddl=True,
        type_of=duckdb_type,
        takes=takes,
        widens=widens,
        same_name=lambda one, other: fold(one) == fold(other),
    )

    def __init__(self, url: str, fence: Fence | None = None) -> None:
        settings = DuckdbUrl.parse(url)
        self._path = settings.path
        self._fence = fence
        self._layouts: dict[str, Layout] = {}  # of tables that were written; `alter` forgets them
        self._connection = open_file(settings, read_only=fence is None)
        self._memory = Memory(self._connection, automatic=settings.memory_limit is None)
        try:
            if fence is not None:
                self._claim(fence)
        except BaseException:
            self.close()
            raise

    def describe(self, table: str) -> TargetTable | None:
        with translated(f"describe table {table} of {self._path}"):
            gaps = read_gaps(Connected(self._connection), table) if self._has(GAPS.name) else ()
            return duckdb_layout.describe(self._connection, table, gaps)

    def plan(self, target: Target) -> list[str]:
        with translated(f"look at table {target.table} of {self._path}"):
            return duckdb_layout.plan(self._connection, target)

    def alter(self, target: Target) -> list[str]:
        doing = f"make or widen table {target.table} of {self._path}"
        pipeline = self._writer().pipeline
        self._layouts.pop(target.table, None)
        table = TableName.parse(target.table)
        # Before the transaction: asking for a table that is not there would abort it.
        with translated(doing):
            stream = Claim(
                pipeline=pipeline, target=target, place=place_of(self._connection, table)
            )
            stream.check(
                Connected(self._connection),
                lambda: read_layout(self._connection, table) is not None,
            )
            statements = duckdb_layout.plan(self._connection, target)
        with self._transaction(doing) as work:
            stream.clear(work, table)
            stream.write_down(work)
            for statement in statements:
                with refusing(target, statement):
                    work.run(statement)
        return statements

    def write(self, load: Load, *, probe: bool = False) -> pa.Array:
        table = load.target.table
        check_limits(table, load.rows)
        doing = f"write to table {table} of {self._path}"
        with self._transaction(doing, keep=not probe) as work:
            known = receipts.superseded_before(work, load.receipt)
            if known is not None:
                return receipts.row_mask(known, len(load.rows))
            with translated(doing, record=True):
                merging = merge_history if load.target.deletes is Deletes.HISTORY else merge
                superseded = merging(work, self._layout(load.target), load, self._memory)
            receipts.write_receipt(work, load.receipt, receipts.row_numbers(superseded))
            update_gaps(work, load)
        return pa.array(superseded)

    def refused(self, load: Load) -> Sequence[int]:
        with translated(f"look up the rules of table {load.target.table} of {self._path}"):
            return refused_rows(self._connection, self._layout(load.target), load)

    def receipts(self) -> list[Receipt]:
        pipeline = self._fence.pipeline if self._fence else None
        with translated(f"read the receipts in {self._path}"):
            if not self._has(RECEIPTS.name):
                return []
            return receipts.newest_receipts(Connected(self._connection), pipeline)

    def keys(
        self,
        target: Target,
        after: tuple[object, ...] | None,
        upto: tuple[object, ...] | None,
        limit: int,
    ) -> pa.Table:
        with translated(f"read keys of table {target.table} of {self._path}"):
            layout = read_layout(self._connection, TableName.parse(target.table))
            if layout is None:
                return known_schema(target.schema).empty_table()
            return read_keys(self._connection, layout, target, after, upto, limit)

    def rows(self, target: Target, keys: pa.RecordBatch) -> RowsThere:
        with translated(f"read rows of table {target.table} of {self._path}"):
            return read_rows(self._connection, target, keys)

    def rename_stream(self, table: str, old: str, new: str, records: Mapping[str, str]) -> None:
        pipeline = self._writer().pipeline
        with self._transaction(f"rename stream {old} to {new} in {self._path}") as work:
            receipts.rename_stream(work, pipeline, table, old, new, records)

    def close(self) -> None:
        """Brings all into the file and lets others in; may be called twice."""
        close_file(self._connection, self._path)

    def _claim(self, fence: Fence) -> None:
        doing = f"claim {self._path}"
        prepare_private_log(self._path)
        with translated(doing), transaction(self._connection) as work:
            for table in _OWN_TABLES:
                work.run(table.ddl(work.own(table.name)))
            claim(work, fence, str(self._path))

    @contextmanager
    def _transaction(self, doing: str, *, keep: bool = True) -> Iterator[Transaction]:
        fence = self._writer()
        prepare_private_log(self._path)
        with translated(doing):
            try:
                with transaction(self._connection, keep=keep) as work:
                    hold(work, fence, str(self._path))
                    yield work
            except BaseException:
                self._memory.rolled_back()
                raise
            self._memory.committed() if keep else self._memory.rolled_back()

    def _writer(self) -> Fence:
        if self._fence is None:
            raise for_reading_only(str(self._path))
        return self._fence

    def _layout(self, target: Target) -> Layout:
        """The table as it is. DuckDB keeps other processes out, so it changes only through us."""
        if target.table not in self._layouts:
            layout = read_layout(self._connection, TableName.parse(target.table))
            if layout is None:
                raise table_is_gone(target, str(self._path))
            self._memory.fit(len(layout.types))
            self._layouts[target.table] = layout
        return self._layouts[target.table]

    def _has(self, table: str) -> bool:
        """Whether a table of Rowtrail's own is there; claiming the file has made them all."""
        return self._fence is not None or bool(
            run(
                self._connection,
                "SELECT 1 FROM duckdb_tables() WHERE table_name = ? AND schema_name = 'main'",
                [table],
            )
        )
