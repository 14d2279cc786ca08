"""What is known while a table is read for the first time, into a target made for it: next to
nothing, so that there is next to nothing to wait for."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pyarrow as pa

from rowtrail.connectors.base import Known, known_schema
from rowtrail.connectors.changes import Changes
from rowtrail.connectors.schema import TableSchema
from rowtrail.pipelines.key_extent import Extent, Key, UnknownExtentError, extent_of


class FirstRead:
    """`Known` of a read into an empty target, of which no record was held back when it began.

    The target can have no other keys than those that the read itself has given: of a range beyond
    them nothing is known. For all else `known` is asked, which may have to be waited for.
    """

    def __init__(self, known: Known, schema: TableSchema) -> None:
        self._known = known
        self._nothing = known_schema(schema).empty_table()
        self._given: Extent | None = None
        self._can_tell = True

    def watched(self, items: Iterator[Changes]) -> Iterator[Changes]:
        """The items of the read, whose keys are noted."""
        try:
            for changes in items:
                self._note(changes)
                yield changes
        finally:
            if isinstance(items, Generator):
                items.close()

    def keys(self, after: Key | None, upto: Key | None, limit: int) -> pa.Table:
        if self._is_beyond(after, upto):
            return self._nothing
        return self._known.keys(after, upto, limit)

    def pages(self) -> Iterator[pa.RecordBatch]:
        return self._known.pages()

    def _note(self, changes: Changes) -> None:
        try:
            found = extent_of(changes)
            if found is not None:
                given = self._given
                self._given = found if given is None else given.with_others(found)
        except (UnknownExtentError, TypeError):
            self._can_tell = False

    def _is_beyond(self, after: Key | None, upto: Key | None) -> bool:
        if not self._can_tell:
            return False
        try:
            return self._given is None or not self._given.may_have(after, upto)
        except TypeError:
            return False
