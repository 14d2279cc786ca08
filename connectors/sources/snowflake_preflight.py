"""What would stop or endanger a run over a Snowflake source, found without a warehouse."""

from __future__ import annotations

from collections.abc import Iterator

from rowtrail.connectors.base import Problem, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.sources.snowflake_connection import Connection
from rowtrail.connectors.sources.snowflake_streams import describe_stream
from rowtrail.connectors.sources.snowflake_types import TIMESTAMPS


def find_problems(connection: Connection, stream: StreamSpec) -> Iterator[Problem]:
    """Keys that are not unique are not looked for: that would read the whole table, as the run
    does anyway."""
    try:
        described = describe_stream(connection, stream)
    except ConfigurationError as error:
        yield Problem(stream=stream.name, message=str(error), remedy="")
        return
    cursor = described.cursor
    if (
        cursor is not None
        and not stream.cursor_lag
        and cursor.type.kind not in ("DATE", *TIMESTAMPS)
    ):
        yield Problem(
            stream=stream.name,
            message=f"Column {cursor.name} of {described.table.name} is drawn before its row is "
            f"committed, and Snowflake does not say which transactions are open: a row that is "
            f"changed with a lower value and committed later is missed.",
            remedy="Set `cursor_lag` of the stream to more than is drawn while a transaction is "
            "open, or take a column of times."
            if cursor.type.kind == "NUMBER"
            else "Take a column of times, or capture `snapshot`.",
            fatal=False,
        )
