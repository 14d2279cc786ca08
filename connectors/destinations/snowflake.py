"""Snowflake as a destination."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import pyarrow as pa
from snowflake.connector import errors as driver

from rowtrail.connectors.base import (
    Capabilities,
    Cost,
    Deletes,
    Fence,
    Gathering,
    Load,
    LoadRows,
    Receipt,
    RowsThere,
    Target,
    TargetTable,
    known_schema,
)
from rowtrail.connectors.changes import Operation
from rowtrail.connectors.destinations import receipts, snowflake_layout
from rowtrail.connectors.destinations.claims import Claim
from rowtrail.connectors.destinations.gaps import GAPS, read_gaps, update_gaps
from rowtrail.connectors.destinations.history import check_versions_are_unique
from rowtrail.connectors.destinations.layout import for_reading_only, not_ours, table_is_gone
from rowtrail.connectors.destinations.owner import hold
from rowtrail.connectors.destinations.receipts import RECEIPTS
from rowtrail.connectors.destinations.rows_there import nothing_there, rows_there
from rowtrail.connectors.destinations.snowflake_history import StagedHistory, tables
from rowtrail.connectors.destinations.snowflake_keys import (
    keys_query,
    read_keys,
    read_rows_query,
    rows_schema,
)
from rowtrail.connectors.destinations.snowflake_layout import (
    SnowflakeLayout,
    check_key,
    check_target_names,
    read_layout,
    refusing,
)
from rowtrail.connectors.destinations.snowflake_merge import Mask, Staged
from rowtrail.connectors.destinations.snowflake_own import (
    claim_schema,
    folder_of,
    is_there,
    staging_of,
)
from rowtrail.connectors.destinations.snowflake_sql import (
    Connected,
    Meter,
    SnowflakeName,
    stored,
    transaction,
)
from rowtrail.connectors.destinations.snowflake_staging import copy, make_table, put, remove
from rowtrail.connectors.destinations.snowflake_types import (
    check_limits,
    snowflake_type,
    takes,
    widens,
)
from rowtrail.connectors.destinations.snowflake_uploads import Uploads
from rowtrail.connectors.destinations.unique_keys import check_keys_are_unique
from rowtrail.connectors.errors import RecordError, TransientError
from rowtrail.connectors.snowflake_client import SnowflakeUrl
from rowtrail.connectors.snowflake_errors import translated

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

GATHERING = Gathering(rows=1_000_000, size=128 << 20, seconds=60.0, quiet_seconds=900.0)
"""A warehouse is billed by the second, and for a minute at least whenever it is woken: four files
of `snowflake_staging.PART_BYTES` for each merge, and a merge each minute while changes come."""

_LOST_KEPT = 3
"""Lost sessions that a new one ends: the last of them may be those of tries to get a new one."""


class SnowflakeDestination:
    """A schema in Snowflake.

    Rowtrail's own tables are in the schema that the URL names, and so are tables of streams whose
    `target` names no schema. Names are stored as Snowflake does without quotes, in upper case,
    where they can be written so; others as they are. Without a fence nothing is written. A session
    that was lost is opened anew by the next call. For one thread, but for `upload`, which another
    one may call meanwhile. See `connectors.base.Destination` for what each method guarantees.
    """

    capabilities = Capabilities(
        probes=True,
        transactional_ddl=False,
        type_of=snowflake_type,
        takes=takes,
        widens=widens,
        same_name=lambda one, other: stored(one) == stored(other),
        gathering=GATHERING,
    )

    def __init__(self, url: str, fence: Fence | None = None) -> None:
        self._url = SnowflakeUrl(url)
        self._name = self._url.name
        self._fence = fence
        self._connection: SnowflakeConnection | None = None
        self._lost: deque[int] = deque(maxlen=_LOST_KEPT)
        self._meter = Meter()
        self._uploads = Uploads(self._url)
        # Of this object alone: whoever was taken over may still be busy with its own.
        self._mark = uuid4().hex[:12]
        self._staged = False
        try:
            with self._reading("claim the schema") as work:
                if fence is not None:
                    claim_schema(work, fence, self._name)
        except BaseException:
            self.close()
            raise

    @property
    def cost(self) -> Cost:
        return self._meter.cost + self._uploads.cost

    def describe(self, table: str) -> TargetTable | None:
        with self._reading(f"describe table {table}") as work:
            gaps = read_gaps(work, table) if is_there(work, GAPS.name) else ()
            return snowflake_layout.describe(work, table, self._place(table), gaps)

    def plan(self, target: Target) -> list[str]:
        check_target_names(target)
        with self._reading(f"look at table {target.table}") as work:
            return snowflake_layout.plan(work, target, self._place(target.table))

    def alter(self, target: Target) -> list[str]:
        pipeline = self._writer().pipeline
        check_target_names(target)
        table = self._place(target.table)
        stream = Claim(pipeline=pipeline, target=target, place=table.place)
        doing = f"make or widen table {target.table}"
        with self._transaction(doing) as work:
            stream.check(work, lambda: read_layout(work, table) is not None)
        with self._reading(doing) as work:
            stream.clear(work, table)
            statements = snowflake_layout.plan(work, target, table)
        with self._transaction(doing) as work:
            stream.write_down(work)
        with self._reading(doing) as work:
            for statement in statements:
                with refusing(target, statement):
                    work.run(statement)
        return statements

    def write(self, load: Load, *, probe: bool = False) -> pa.Array:
        target = load.target
        check_limits(target.table, load.rows)
        _check_keys_are_set(load)
        history = target.deletes is Deletes.HISTORY
        (check_versions_are_unique if history else check_keys_are_unique)(load)
        doing = f"write to table {target.table}"
        tag = _tag(self._writer(), target.stream, load.receipt.run_id)
        with self._reading(doing, tag) as work, ExitStack() as stack:
            layout = self._layout(work, target)
            staged: Staged | StagedHistory | None = None
            if len(load.rows):
                self._staged = True
                rows = make_table(work, self._staging(), load)
                if history:
                    staged = StagedHistory.prepare(work, layout, load, rows, self._staging())
                else:
                    staged = Staged(work=work, layout=layout, load=load, rows=rows)
                folder = stack.enter_context(self._uploaded(work, load))
            with self._transaction(doing, tag, keep=not probe) as work:
                known = receipts.superseded_before(work, load.receipt)
                if known is not None:
                    return receipts.row_mask(known, len(load.rows))
                superseded = np.zeros(len(load.rows), dtype=np.bool_)
                if staged is not None:
                    with translated(doing, self._name, record=True):
                        copy(work, staged.rows, folder, len(load.rows))
                        superseded = staged.merge(_deletes(load))
                receipts.write_receipt(work, load.receipt, receipts.row_numbers(superseded))
                update_gaps(work, load)
        return pa.array(superseded)

    def refused(self, load: Load) -> list[int]:
        """See `connectors.base.TellsRefused`: NULL in a column that forbids it. Snowflake has no
        CHECK, and keeps no values unique."""
        with self._reading(f"look up the rules of table {load.target.table}") as work:
            layout = self._layout(work, load.target)
        missing = np.zeros(len(load.rows), dtype=np.bool_)
        for name in load.rows.schema.names:
            if stored(name) in layout.required:
                missing |= load.rows[name].is_null().to_numpy(zero_copy_only=False)
        rows: list[int] = np.flatnonzero(missing & ~_deletes(load)).tolist()
        return rows

    def upload(self, rows: LoadRows, run_id: str) -> None:
        """See `connectors.base.UploadsAhead`."""
        tag = _tag(self._writer(), rows.target.stream, run_id)
        self._uploads.upload(rows, self._new_folder(), tag)

    def receipts(self) -> list[Receipt]:
        pipeline = self._fence.pipeline if self._fence else None
        with self._reading("read the receipts") as work:
            there = is_there(work, RECEIPTS.name)
            return receipts.newest_receipts(work, pipeline) if there else []

    def keys(
        self,
        target: Target,
        after: tuple[object, ...] | None,
        upto: tuple[object, ...] | None,
        limit: int,
    ) -> pa.Table:
        with self._reading(f"read keys of table {target.table}") as work:
            layout = read_layout(work, self._place(target.table))
            if layout is None:
                return known_schema(target.schema).empty_table()
            return read_keys(work.arrow(*keys_query(layout, target, after, upto, limit)), target)

    def rows(self, target: Target, keys: pa.RecordBatch) -> RowsThere:
        with self._reading(f"read rows of table {target.table}") as work:
            layout = read_layout(work, self._place(target.table))
            if layout is None or not len(keys):
                return nothing_there(keys)
            if not layout.is_ours:
                raise not_ours(target)
            check_key(layout, target)
            found = work.arrow(*read_rows_query(layout, target, keys))
            return rows_there(keys, found, rows_schema(layout, target))

    def rename_stream(self, table: str, old: str, new: str, records: Mapping[str, str]) -> None:
        pipeline = self._writer().pipeline
        with self._transaction(f"rename stream {old} to {new}") as work:
            receipts.rename_stream(work, pipeline, table, old, new, records)

    def close(self) -> None:
        """May be called twice."""
        self._uploads.close()
        connection = self._connection
        if connection is not None and self._staged:
            work = Connected(connection, self._url.schema, self._meter)
            with suppress(driver.Error):
                for table in tables(self._staging(), self._url.schema):
                    work.run(f"DROP TABLE IF EXISTS {table}")
            self._staged = False
        self._let_go()

    @contextmanager
    def _uploaded(self, work: Connected, load: Load) -> Iterator[str]:
        """The folder of the stage that has the rows, for SQL; it is gone in the end, whatever
        became of them: by itself a COPY removes only what it has loaded, not what it has refused.
        """
        folder = self._uploads.take(load)
        try:
            if folder is None:
                folder = self._new_folder()
                put(work, folder, load, load.receipt.written_at)
            yield folder
        finally:
            if folder is not None:
                remove(work, folder)

    def _new_folder(self) -> str:
        """A folder of the stage, for SQL, that nothing has been in."""
        return f"{folder_of(self._url.schema, self._writer())}/{uuid4().hex}"

    def _staging(self) -> str:
        return f"{staging_of(self._writer())}{self._mark}"

    def _let_go(self) -> None:
        """The next call opens another session; the staging table waits for it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(driver.Error):
                connection.close()

    @contextmanager
    def _reading(self, doing: str, tag: str = "") -> Iterator[Connected]:
        try:
            with translated(doing, self._name):
                is_new = self._connection is None or self._connection.is_closed()
                if self._connection is None or is_new:
                    self._connection = self._url.connect()
                tag = tag or _tag(self._fence)
                work = Connected(self._connection, self._url.schema, self._meter, tag)
                if is_new:
                    self._end_lost(work)
                yield work
        except TransientError:
            if self._connection is not None:  # what may have been lost
                self._lost.append(self._connection.session_id)
            self._let_go()
            raise

    def _end_lost(self, work: Connected) -> None:
        """Ends sessions that were lost, in case that the server does not know of it: what one of
        them has not committed would keep the owner row from us until it has been idle for minutes.
        """
        for session in self._lost:
            with suppress(driver.Error):  # it has ended already, or this role may not end it
                work.run(f"SELECT SYSTEM$ABORT_SESSION({session})")

    @contextmanager
    def _transaction(self, doing: str, tag: str = "", *, keep: bool = True) -> Iterator[Connected]:
        fence = self._writer()
        with self._reading(doing, tag) as work, transaction(work, keep=keep):
            hold(work, fence, self._name)
            yield work

    def _layout(self, work: Connected, target: Target) -> SnowflakeLayout:
        """The table as it is now, whatever others have done to it."""
        layout = read_layout(work, self._place(target.table))
        if layout is None:
            raise table_is_gone(target, self._name)
        check_key(layout, target)
        return layout

    def _place(self, table: str) -> SnowflakeName:
        return SnowflakeName.of(table, self._url.schema)

    def _writer(self) -> Fence:
        if self._fence is None:
            raise for_reading_only(self._name)
        return self._fence


def _tag(fence: Fence | None, stream: str = "", run_id: str = "") -> str:
    """Of each statement, for the account's query history; 2,000 characters at most."""
    named = {"pipeline": fence and fence.pipeline, "run": run_id, "stream": stream}
    parts = ["rowtrail", *(f"{name}={value}" for name, value in named.items() if value)]
    return ";".join(parts)[:2_000]


def _deletes(load: Load) -> Mask:
    found: Mask = load.operations.to_numpy(zero_copy_only=False) == Operation.DELETE
    return found


def _check_keys_are_set(load: Load) -> None:
    for name in load.target.schema.key:
        if load.rows[name].null_count:
            raise RecordError(
                f"Column {name} of table {load.target.table} is part of the key, and a row has "
                f"NULL there. Correct it at the source or in a transform.",
                column=name,
            )
