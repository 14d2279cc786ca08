"""Ends a read whose table gets another shape meanwhile, before anything of the new one is lost."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from rowtrail.connectors.capture.pages import no_rows
from rowtrail.connectors.changes import (
    VERSION_SCHEMA,
    Changes,
    Operation,
    constant_operations,
)
from rowtrail.connectors.schema import TableSchema


def while_shape_is(
    schema: TableSchema, describe: Callable[[], TableSchema], read: Iterator[Changes]
) -> Iterator[Changes]:
    """The items of a read as long as the table is described so.

    Rows are read with the columns that were known when the read began. What was written into a
    column that came meanwhile would be missing, and whoever goes on behind these rows would never
    see it. So the shape is looked at after an item was read and before it is given out. Where it is
    another one, an item without rows, which has it, ends the read.
    """
    for changes in read:
        if len(changes) or changes.rejected:
            now = describe()
            if now != schema:
                if isinstance(read, Generator):
                    read.close()
                yield Changes(
                    stream=changes.stream,
                    schema=now,
                    rows=no_rows(now.arrow()),
                    operations=constant_operations(Operation.UPDATE, 0),
                    versions=no_rows(VERSION_SCHEMA),
                    position="",
                )
                return
        yield changes
