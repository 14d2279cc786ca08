"""PostgreSQL as a destination: a warehouse in a database."""

from __future__ import annotations

import operator
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
from rowtrail.connectors.destinations import postgres_layout, receipts
from rowtrail.connectors.destinations.claims import Claim
from rowtrail.connectors.destinations.gaps import GAPS, read_gaps, update_gaps
from rowtrail.connectors.destinations.layout import for_reading_only, not_ours, table_is_gone
from rowtrail.connectors.destinations.owner import hold
from rowtrail.connectors.destinations.postgres_history import merge_history
from rowtrail.connectors.destinations.postgres_keys import keys_query, read_keys
from rowtrail.connectors.destinations.postgres_layout import (
    PostgresLayout,
    check_key,
    check_target_names,
    read_layout,
    refusing,
)
from rowtrail.connectors.destinations.postgres_merge import merge
from rowtrail.connectors.destinations.postgres_own import (
    claim_database,
    limit_waits,
    waiting_for_owner,
)
from rowtrail.connectors.destinations.postgres_rows import read_rows_query, rows_schema
from rowtrail.connectors.destinations.postgres_rules import refused_rows
from rowtrail.connectors.destinations.postgres_session import Session
from rowtrail.connectors.destinations.postgres_sql import (
    Connected,
    PostgresName,
    Transaction,
    transaction,
)
from rowtrail.connectors.destinations.postgres_types import (
    check_limits,
    postgres_type,
    takes,
    widens,
)
from rowtrail.connectors.destinations.receipts import RECEIPTS
from rowtrail.connectors.destinations.rows_there import nothing_there, rows_there
from rowtrail.connectors.postgres_errors import translated


class PostgresDestination:
    """A PostgreSQL database, from version 13 on.

    Rowtrail's own tables are in its schema `public`, and so are tables of streams whose `target`
    names no schema, whatever the `search_path`. Names keep their capitals: `Orders` is to be quoted
    in queries. Without a fence nothing is written. A connection that was lost is made again by the
    next call. For one thread. See `connectors.base.Destination` for what each method guarantees.
    """

    capabilities = Capabilities(
        probes=True,
        transactional_ddl=True,
        type_of=postgres_type,
        takes=takes,
        widens=widens,
        same_name=operator.eq,
    )

    def __init__(self, url: str, fence: Fence | None = None) -> None:
        self._fence = fence
        self._session = Session(url, read_only=fence is None)
        self._name = self._session.name
        try:
            connection = self._session.connection()
            if fence is not None:
                claim_database(connection, fence, self._name)
        except BaseException:
            self.close()
            raise

    def describe(self, table: str) -> TargetTable | None:
        with self._reading(f"describe table {table}") as work:
            gaps = read_gaps(work, table) if _has(work, GAPS.name) else ()
            return postgres_layout.describe(work, table, gaps)

    def plan(self, target: Target) -> list[str]:
        check_target_names(target)
        with self._reading(f"look at table {target.table}") as work:
            return postgres_layout.plan(work, target)

    def alter(self, target: Target) -> list[str]:
        pipeline = self._writer().pipeline
        check_target_names(target)
        table = PostgresName.parse(target.table)
        stream = Claim(pipeline=pipeline, target=target, place=table.place)
        with self._transaction(f"make or widen table {target.table}") as work:
            stream.check(work, lambda: read_layout(work, table) is not None)
            stream.clear(work, table)
            stream.write_down(work)
            statements = postgres_layout.plan(work, target)
            if statements:
                limit_waits(work)  # who waits for a table lets nobody else have it meanwhile
            for statement in statements:
                with refusing(target, statement):
                    work.run(statement)
        return statements

    def write(self, load: Load, *, probe: bool = False) -> pa.Array:
        target = load.target
        check_limits(target.table, load.rows)
        doing = f"write to table {target.table}"
        with self._transaction(doing, keep=not probe) as work:
            known = receipts.superseded_before(work, load.receipt)
            if known is not None:
                return receipts.row_mask(known, len(load.rows))
            layout = self._layout(work, target)
            with translated(doing, self._name, record=True):
                merging = merge_history if target.deletes is Deletes.HISTORY else merge
                superseded = merging(work, layout, load)
            receipts.write_receipt(work, load.receipt, receipts.row_numbers(superseded))
            update_gaps(work, load)
        return pa.array(superseded)

    def refused(self, load: Load) -> Sequence[int]:
        target = load.target
        doing = f"look up the rules of table {target.table}"
        with self._transaction(doing, keep=False) as work:
            return refused_rows(work, self._layout(work, target), load)

    def receipts(self) -> list[Receipt]:
        pipeline = self._fence.pipeline if self._fence else None
        with self._reading("read the receipts") as work:
            return receipts.newest_receipts(work, pipeline) if _has(work, RECEIPTS.name) else []

    def keys(
        self,
        target: Target,
        after: tuple[object, ...] | None,
        upto: tuple[object, ...] | None,
        limit: int,
    ) -> pa.Table:
        doing = f"read keys of table {target.table}"
        with self._reading(doing) as work:
            layout = read_layout(work, PostgresName.parse(target.table))
        if layout is None:
            return known_schema(target.schema).empty_table()
        with translated(doing, self._name), self._session.arrow() as cursor:
            cursor.execute(keys_query(layout, target, after, upto, limit))
            return read_keys(cursor.fetch_arrow_table(), target)

    def rows(self, target: Target, keys: pa.RecordBatch) -> RowsThere:
        doing = f"read rows of table {target.table}"
        with self._reading(doing) as work:
            layout = read_layout(work, PostgresName.parse(target.table))
        if layout is None:
            return nothing_there(keys)
        if not layout.is_ours:
            raise not_ours(target)
        check_key(layout, target)
        with translated(doing, self._name), self._session.arrow() as cursor:
            cursor.execute(read_rows_query(layout, target, keys))
            return rows_there(keys, cursor.fetch_arrow_table(), rows_schema(layout, target))

    def rename_stream(self, table: str, old: str, new: str, records: Mapping[str, str]) -> None:
        pipeline = self._writer().pipeline
        with self._transaction(f"rename stream {old} to {new}") as work:
            receipts.rename_stream(work, pipeline, table, old, new, records)

    def close(self) -> None:
        """May be called twice."""
        self._session.close()

    @contextmanager
    def _reading(self, doing: str) -> Iterator[Connected]:
        with translated(doing, self._name):
            yield Connected(self._session.connection())

    @contextmanager
    def _transaction(self, doing: str, *, keep: bool = True) -> Iterator[Transaction]:
        fence = self._writer()
        with (
            translated(doing, self._name),
            transaction(self._session.connection(), keep=keep) as work,
        ):
            with waiting_for_owner(work, fence, self._name):
                hold(work, fence, self._name)
            yield work

    def _layout(self, work: Connected, target: Target) -> PostgresLayout:
        """The table as it is now, whatever others have done to it."""
        layout = read_layout(work, PostgresName.parse(target.table))
        if layout is None:
            raise table_is_gone(target, self._name)
        check_key(layout, target)
        return layout

    def _writer(self) -> Fence:
        if self._fence is None:
            raise for_reading_only(self._name)
        return self._fence


def _has(work: Connected, table: str) -> bool:
    """Whether a table of Rowtrail's own is there."""
    return read_layout(work, PostgresName.parse(table)) is not None
