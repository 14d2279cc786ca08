"""SQLite as a source: captures `trigger`, `cursor` and `snapshot`."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa

from rowtrail.connectors.base import Capture, Problem, ReadState, StreamSpec
from rowtrail.connectors.capture import cursor, snapshot, trigger
from rowtrail.connectors.capture.pages import fetched_changes
from rowtrail.connectors.capture.same_shape import while_shape_is
from rowtrail.connectors.changes import Changes, Version
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import TableSchema
from rowtrail.connectors.sources import sqlite_log_rows
from rowtrail.connectors.sources.sqlite_connection import Connection, parse_url
from rowtrail.connectors.sources.sqlite_cursor import SqliteCursorRows
from rowtrail.connectors.sources.sqlite_log_rows import SqliteLoggedRows, last_sequence
from rowtrail.connectors.sources.sqlite_preflight import find_problems
from rowtrail.connectors.sources.sqlite_rows import SqliteRows
from rowtrail.connectors.sources.sqlite_streams import Described, describe_stream
from rowtrail.connectors.sources.sqlite_table import find_table, table_columns, table_names
from rowtrail.connectors.sources.sqlite_where import SqliteChosenRows


class SqliteSource:
    """A SQLite database file, at `sqlite:///relative.db` or `sqlite:////absolute/path.db`.

    Implements `Source`, `ManagesCapture`, `Catalog`, `ListsColumns`, `OffersCaptures` and
    `ChoosesKeys`. Each item of a read is one short read transaction, so that neither writers nor
    checkpoints wait for a run.
    Only `execute` and `acknowledge` write to the database.

    While this object is open, do not open the same file with Python's `sqlite3` module in the same
    process, nor read it with `open()`: two copies of SQLite in one process undo each other's locks.
    Other processes may read and write as they like.

    Raises ConfigurationError for a missing file or one that is no SQLite database, TransientError
    while another process holds it locked, StopError when it is corrupt.
    """

    captures = (Capture.TRIGGER, Capture.CURSOR, Capture.SNAPSHOT)

    def __init__(self, url: str) -> None:
        self._connection = Connection(parse_url(url))

    def describe(self, stream: StreamSpec) -> TableSchema:
        """The shape of the stream's rows, from the declared types and the stream's `types`."""
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
            return snapshot.read_snapshot(self._rows(stream, described), state)
        if stream.capture is Capture.CURSOR:
            return cursor.read_cursor(self._cursor_rows(stream, described), state)
        return trigger.read_log(self._logged_rows(stream, described), state)

    def fetch(self, stream: StreamSpec, keys: pa.RecordBatch, state: ReadState) -> Changes:
        """The current rows of these keys. Versions are those that the position has applied."""
        described = describe_stream(self._connection, stream)
        page = self._rows(stream, described).lookup(keys)
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
        """Deletes the entries of change logs that every stream of their table has behind it."""
        least: dict[str, int] = {}
        for stream, token in streams.values():
            if stream.capture is Capture.TRIGGER:
                table = find_table(self._connection, stream.table).name
                sequence = trigger.TriggerPosition.parse(stream.name, token).sequence
                least[table] = min(sequence, least.get(table, sequence))
        for table, sequence in least.items():
            sqlite_log_rows.acknowledge(self._connection, table, sequence)

    def preflight(self, streams: Sequence[StreamSpec]) -> list[Problem]:
        """What would stop or endanger a run, found without changing anything."""
        return [
            problem for stream in streams for problem in find_problems(self._connection, stream)
        ]

    def capture_plan(self, streams: Sequence[StreamSpec]) -> list[str]:
        """The SQL that makes the change logs of the streams with capture `trigger`."""
        statements: list[str] = []
        keys: dict[str, tuple[str, ...]] = {}
        for stream in streams:
            if stream.capture is not Capture.TRIGGER:
                continue
            found = describe_stream(self._connection, stream)
            name, key = found.table.name, found.schema.key
            if keys.setdefault(name, key) != key:
                raise ConfigurationError(
                    f"Table {name} has one change log, but its streams name different keys for "
                    f"it: {', '.join(keys[name])} and {', '.join(key)}. Give them the same key."
                )
            statements += sqlite_log_rows.plan(self._connection, found.table, key)
        unique = list(dict.fromkeys(statements))
        return [*sqlite_log_rows.registry_plan(self._connection), *unique] if unique else []

    def removal_plan(self, streams: Sequence[StreamSpec]) -> list[str]:
        """The SQL that takes away the change logs of these streams' tables, whatever they use now.

        A log that no stream uses any more still costs each write, and nobody empties it.
        """
        tables = [stream.table for stream in streams]
        return sqlite_log_rows.removal(self._connection, list(dict.fromkeys(tables)))

    def execute(self, statements: Sequence[str]) -> None:
        """Runs a plan in one transaction."""
        with self._connection.writing():
            for statement in statements:
                self._connection.query(statement)

    def tables(self) -> list[str]:
        """Names of the tables and views that a person made."""
        return table_names(self._connection)

    def columns(self) -> Mapping[str, Sequence[str]]:
        """The columns of each table, in their order; a view is none."""
        return table_columns(self._connection)

    def close(self) -> None:
        self._connection.close()

    def _rows(self, stream: StreamSpec, described: Described) -> SqliteRows:
        return SqliteRows(
            connection=self._connection,
            stream=stream,
            table=described.table,
            schema=described.schema,
            readers=described.readers,
        )

    def _chosen_rows(self, stream: StreamSpec, condition: str) -> SqliteChosenRows:
        described = describe_stream(self._connection, stream)
        return SqliteChosenRows(
            connection=self._connection,
            stream=stream,
            table=described.table,
            schema=described.schema,
            readers=described.readers,
            condition=condition,
        )

    def _cursor_rows(self, stream: StreamSpec, described: Described) -> SqliteCursorRows:
        assert described.cursor is not None
        return SqliteCursorRows(
            connection=self._connection,
            stream=stream,
            table=described.table,
            schema=described.schema,
            readers=described.readers,
            cursor=described.cursor,
        )

    def _logged_rows(self, stream: StreamSpec, described: Described) -> SqliteLoggedRows:
        return SqliteLoggedRows(
            connection=self._connection,
            stream=stream,
            table=described.table,
            schema=described.schema,
            readers=described.readers,
            mark=last_sequence(described.table.name),
        )


def _version(stream: StreamSpec, state: ReadState) -> Version:
    """What the position has applied, a lower bound of a row that is read now."""
    if state.position is None:
        return Version(state.epoch, 0, 0, 0)
    return _POSITION_VERSIONS[stream.capture](stream.name, state.epoch, state.position)


_POSITION_VERSIONS = {
    Capture.SNAPSHOT: snapshot.position_version,
    Capture.CURSOR: cursor.position_version,
    Capture.TRIGGER: trigger.position_version,
}
