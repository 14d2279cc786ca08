"""The whole table in key order, once, before a change log is read from where it was then."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from rowtrail.connectors.base import Known
from rowtrail.connectors.capture.pages import (
    KeyedTable,
    Page,
    keyless_changes,
    last_key,
    page_changes,
    whole_keys,
)
from rowtrail.connectors.capture.position import Values
from rowtrail.connectors.capture.reconcile import deletes_beside, key_range, keys_gone
from rowtrail.connectors.capture.row_hash import scratch
from rowtrail.connectors.changes import Changes, Operation, Version


@dataclass(frozen=True, kw_only=True)
class FullPosition:
    """What a position says of the full read, beside the place in the log where it began."""

    started: str  # UTC, ISO 8601: when the full read began
    full: bool = False  # in the midst of it
    after: Values | None = None  # the last key of it, in the source's own values
    known: Values | None = None  # the last key that fitted the schema

    def token(self) -> str:
        raise NotImplementedError


P = TypeVar("P", bound=FullPosition)


def full_read(
    table: KeyedTable, known: Known, at: P, version: Callable[[Page | None], Version]
) -> Generator[Changes, None, P]:
    """Goes on at a position in the midst of the full read; returns the one after it.

    What is known of keys that the table lacks is reported as deletes. `version` is that of a page's
    rows; None stands for the rows without a whole key, which come first.
    """
    if at.after is None:
        yield from keyless_changes(table, version(None), at.token())
    with scratch() as engine:
        while at.full:
            page = table.page(at.after)
            keys = whole_keys(table.schema, page.rows)
            span = key_range(keys, at.known, more=page.full)
            gone = yield from deletes_beside(
                len(page.rows),
                keys_gone(engine, table, known, span, keys),
                table,
                version(page),
                at.token(),
            )
            at = replace(at, full=page.full, after=page.last, known=last_key(keys) or at.known)
            yield page_changes(
                table,
                version(page),
                at.token(),
                page=page,
                operation=Operation.INSERT,
                deletes=gone,
                # Only what was committed before the first page is sure to be in all of them.
                complete=None if at.full else datetime.fromisoformat(at.started),
            )
    return at
