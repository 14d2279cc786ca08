"""PostgreSQL as a source: captures `log`, `trigger`, `cursor` and `snapshot`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa

from rowtrail.connectors.base import Capture, Problem, ReadState, StreamSpec
from rowtrail.connectors.capture import cursor, log, snapshot, trigger_windows
from rowtrail.connectors.capture.pages import fetched_changes
from rowtrail.connectors.capture.same_shape import while_shape_is
from rowtrail.connectors.changes import Changes, Version
from rowtrail.connectors.errors import about_stream
from rowtrail.connectors.schema import TableSchema
from rowtrail.connectors.sources import postgres_log_plan, postgres_trigger_plan
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_cursor import open_cursor_rows
from rowtrail.connectors.sources.postgres_follow import LogFollower
from rowtrail.connectors.sources.postgres_log_preflight import server_problems
from rowtrail.connectors.sources.postgres_log_rows import open_log_rows
from rowtrail.connectors.sources.postgres_names import table_columns, table_names
from rowtrail.connectors.sources.postgres_preflight import find_problems
from rowtrail.connectors.sources.postgres_rows import key_columns, open_rows
from rowtrail.connectors.sources.postgres_shared_log import SharedLog
from rowtrail.connectors.sources.postgres_streams import Described, describe_stream
from rowtrail.connectors.sources.postgres_trigger_rows import open_logged_rows
from rowtrail.connectors.sources.postgres_where import PostgresChosenRows

_LOCK_SECONDS = 3
"""A plan waits so long for a table's lock: while it waits, the application's writers wait, too. A
run tries again some moments later, when the writers that queued up are through."""


class PostgresSource:
    """A PostgreSQL database, at `postgresql://user@host:5432/database` (13 or newer).

    Implements `Source`, `ManagesCapture`, `Catalog`, `ListsColumns`, `OffersCaptures`,
    `RetainsLog`, `ReleasesLog`, `FollowsLog` and `ChoosesKeys`. Each page of a read is one short
    transaction, so that no old snapshot keeps the server from cleaning up. Only `execute` and
    `acknowledge` write to the database. A connection that was lost is made again by the next call.

    Raises ConfigurationError for a URL, user or database that is refused, TransientError while the
    server cannot be reached.
    """

    captures = (Capture.LOG, Capture.TRIGGER, Capture.CURSOR, Capture.SNAPSHOT)

    def __init__(self, url: str) -> None:
        self._connection = Connection(url)
        self._log = SharedLog(self._connection)

    def describe(self, stream: StreamSpec) -> TableSchema:
        """The shape of the stream's rows, from the table's types and the stream's `types`."""
        return describe_stream(self._connection, stream).schema

    def read(self, stream: StreamSpec, state: ReadState) -> Iterator[Changes]:
        """All changes since the position, as the stream's capture finds them."""
        described = describe_stream(self._connection, stream)
        found = self._read(stream, described, state)
        return while_shape_is(described.schema, partial(self.describe, stream), found)

    def _read(
        self, stream: StreamSpec, described: Described, state: ReadState
    ) -> Iterator[Changes]:
        if stream.capture is Capture.SNAPSHOT:
            return snapshot.read_snapshot(open_rows(self._connection, stream, described), state)
        if stream.capture is Capture.CURSOR:
            return cursor.read_cursor(open_cursor_rows(self._connection, stream, described), state)
        if stream.capture is Capture.LOG:
            rows = open_rows(self._connection, stream, described)
            return log.read_log(open_log_rows(rows, self._log), state)
        return trigger_windows.read_windows(
            open_logged_rows(self._connection, stream, described), state
        )

    def follow(
        self, streams: Mapping[str, tuple[StreamSpec, ReadState]], stop: Callable[[], bool]
    ) -> Generator[tuple[str, Changes] | None, None, None]:
        """Changes as they are committed, over the streaming protocol.

        Ends by itself when a table has got a column that its stream does not know.
        """
        opened = {}
        for name, (stream, state) in streams.items():
            with about_stream(name):
                described = describe_stream(self._connection, stream)
                rows = open_rows(self._connection, stream, described)
                opened[name] = (open_log_rows(rows, self._log), state)
        return LogFollower(self._connection, self._log, opened, stop).changes()

    def fetch(self, stream: StreamSpec, keys: pa.RecordBatch, state: ReadState) -> Changes:
        """The current rows of these keys. Versions are those that the position has applied."""
        described = describe_stream(self._connection, stream)
        page = open_rows(self._connection, stream, described).lookup(keys)
        return fetched_changes(
            stream.name, described.schema, page, _version(stream, state), state.position or ""
        )

    def check_condition(self, stream: StreamSpec, condition: str) -> None:
        """Raises ConfigurationError for what is not one expression over the stream's table."""
        self._chosen_rows(stream, condition).check()

    def keys_where(
        self, stream: StreamSpec, condition: str
    ) -> Generator[pa.RecordBatch, None, None]:
        """The keys of the rows for which the condition is true, in one read transaction."""
        return self._chosen_rows(stream, condition).chosen()

    def acknowledge(self, streams: Mapping[str, tuple[StreamSpec, str]]) -> None:
        """Deletes what every stream has behind it: entries of change logs, and the server's log."""
        self._log.acknowledge(streams)
        postgres_trigger_plan.acknowledge(
            self._connection,
            [
                (stream, position)
                for stream, position in streams.values()
                if stream.capture is Capture.TRIGGER
            ],
        )

    def preflight(self, streams: Sequence[StreamSpec]) -> list[Problem]:
        """What would stop or endanger a run, found without changing anything."""
        problems = list(server_problems(self._connection, streams))
        for stream in streams:
            problems += find_problems(self._connection, stream)
        return problems

    def retained(self, streams: Mapping[str, tuple[StreamSpec, str]]) -> Mapping[str, int]:
        """Bytes of the server's log behind each position of capture `log`."""
        return self._log.retained(streams)

    def release(self, streams: Sequence[StreamSpec]) -> None:
        """The server may forget all of its log up to now."""
        self._log.release(streams)

    def capture_plan(self, streams: Sequence[StreamSpec]) -> list[str]:
        """The SQL that makes publication and slot (`log`) and change logs (`trigger`)."""
        return [
            *postgres_trigger_plan.plan(self._connection, streams),
            *postgres_log_plan.plan(self._connection, streams),
        ]

    def removal_plan(self, streams: Sequence[StreamSpec]) -> list[str]:
        """The SQL that takes away what these streams' tables have, whatever they use now.

        A change log that no stream uses any more still costs each write, and nobody empties it; a
        slot makes the server keep its log for ever.
        """
        return [
            *postgres_log_plan.removal(self._connection, streams),
            *postgres_trigger_plan.removal(self._connection, [stream.table for stream in streams]),
        ]

    def execute(self, statements: Sequence[str]) -> None:
        """Runs a plan in one transaction, and then what makes or drops slots: the server does not
        do that in a transaction that has written. Raises TransientError while tables are in use."""
        slots = [one for one in statements if postgres_log_plan.is_slot_statement(one)]
        with self._connection.writing("set up its captures") as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
            for statement in statements:
                if statement not in slots:
                    cursor.execute(statement)
        for statement in slots:
            self._connection.records(statement, doing="make or drop a replication slot")

    def tables(self) -> list[str]:
        """Names of the tables and views that a person made."""
        return table_names(self._connection)

    def columns(self) -> Mapping[str, Sequence[str]]:
        """The columns of each table, in their order; a view is none."""
        return table_columns(self._connection)

    def close(self) -> None:
        self._log.close()
        self._connection.close()

    def _chosen_rows(self, stream: StreamSpec, condition: str) -> PostgresChosenRows:
        described = describe_stream(self._connection, stream)
        return PostgresChosenRows(
            connection=self._connection,
            stream=stream,
            table=described.table,
            schema=described.schema,
            readers=described.readers,
            keys=key_columns(self._connection, described),
            condition=condition,
        )


def _version(stream: StreamSpec, state: ReadState) -> Version:
    """What the position has applied, a lower bound of a row that is read now."""
    if state.position is None:
        return Version(state.epoch, 0, 0, 0)
    return _POSITION_VERSIONS[stream.capture](stream.name, state.epoch, state.position)


_POSITION_VERSIONS = {
    Capture.SNAPSHOT: snapshot.position_version,
    Capture.CURSOR: cursor.position_version,
    Capture.TRIGGER: trigger_windows.position_version,
    Capture.LOG: log.position_version,
}
