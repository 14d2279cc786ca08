"""Snowflake as a source: captures `snapshot` and `cursor`."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa

from rowtrail.connectors.base import Capture, Problem, ReadState, StreamSpec
from rowtrail.connectors.capture import cursor, snapshot
from rowtrail.connectors.capture.pages import fetched_changes
from rowtrail.connectors.capture.same_shape import while_shape_is
from rowtrail.connectors.changes import Changes, Version
from rowtrail.connectors.schema import TableSchema
from rowtrail.connectors.sources.snowflake_connection import Connection
from rowtrail.connectors.sources.snowflake_cursor import SnowflakeCursorRows
from rowtrail.connectors.sources.snowflake_preflight import find_problems
from rowtrail.connectors.sources.snowflake_rows import SnowflakeRows
from rowtrail.connectors.sources.snowflake_streams import Described, describe_stream
from rowtrail.connectors.sources.snowflake_table import table_columns, table_names
from rowtrail.connectors.sources.snowflake_where import SnowflakeChosenRows


class SnowflakeSource:
    """A database in Snowflake, with the schema that the URL names as its first.

    Implements `Source`, `Catalog`, `ListsColumns`, `OffersCaptures` and `ChoosesKeys`. Statements
    are in autocommit, so that no transaction is ever open, and write nothing. One of them gives
    many items of a read. A session that was lost is opened anew by the next call.

    Raises ConfigurationError where signing in is refused, TransientError where the account cannot
    be reached.
    """

    captures = (Capture.SNAPSHOT, Capture.CURSOR)

    def __init__(self, url: str) -> None:
        self._connection = Connection(url)

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
        if stream.capture is Capture.CURSOR:
            return cursor.read_cursor(self._cursor_rows(stream, described), state)
        return snapshot.read_snapshot(self._rows(stream, described), state)

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
        """The keys of the rows for which the condition is true, from one statement."""
        return self._chosen_rows(stream, condition).chosen()

    def acknowledge(self, streams: Mapping[str, tuple[StreamSpec, str]]) -> None:
        """Snowflake keeps nothing for a reader that it could forget."""

    def preflight(self, streams: Sequence[StreamSpec]) -> list[Problem]:
        """What would stop or endanger a run, found without changing anything."""
        return [
            problem for stream in streams for problem in find_problems(self._connection, stream)
        ]

    def tables(self) -> list[str]:
        """Names of the tables and views of the URL's schema that a person made."""
        return table_names(self._connection)

    def columns(self) -> Mapping[str, Sequence[str]]:
        """The columns of each table, in their order; a view is none."""
        return table_columns(self._connection)

    def close(self) -> None:
        self._connection.close()

    def _rows(self, stream: StreamSpec, described: Described) -> SnowflakeRows:
        return SnowflakeRows(
            connection=self._connection,
            stream=stream,
            table=described.table,
            schema=described.schema,
            readers=described.readers,
            keys=described.keys,
        )

    def _cursor_rows(self, stream: StreamSpec, described: Described) -> SnowflakeCursorRows:
        assert described.cursor is not None
        return SnowflakeCursorRows(
            connection=self._connection,
            stream=stream,
            table=described.table,
            schema=described.schema,
            readers=described.readers,
            keys=described.keys,
            cursor=described.cursor,
        )

    def _chosen_rows(self, stream: StreamSpec, condition: str) -> SnowflakeChosenRows:
        described = describe_stream(self._connection, stream)
        return SnowflakeChosenRows(
            connection=self._connection,
            stream=stream,
            table=described.table,
            schema=described.schema,
            readers=described.readers,
            keys=described.keys,
            condition=condition,
        )


def _version(stream: StreamSpec, state: ReadState) -> Version:
    """What the position has applied, a lower bound of a row that is read now."""
    if state.position is None:
        return Version(state.epoch, 0, 0, 0)
    parse = (
        cursor.position_version if stream.capture is Capture.CURSOR else snapshot.position_version
    )
    return parse(stream.name, state.epoch, state.position)
