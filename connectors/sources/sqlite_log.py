"""The change log that capture `trigger` keeps in a SQLite source: its tables and triggers.

One log table per source table has the keys of changed rows, in the order of commits: SQLite has one
writer at a time, and AUTOINCREMENT never gives a number twice. The triggers run inside the
application's own statements, with its version of SQLite, so they use nothing recent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rowtrail.connectors.schema import RESERVED_PREFIX
from rowtrail.connectors.sources.sqlite_table import SourceTable, UniqueIndex, quote, quote_text

LOGS = f"{RESERVED_PREFIX}logs"
_INSERT, _UPDATE, _DELETE = 1, 2, 3  # values of Operation
_NEW_ID = "lower(hex(randomblob(8)))"


@dataclass(frozen=True, kw_only=True)
class LogObject:
    """A table or trigger of the log and the statement that makes it."""

    kind: str  # TABLE or TRIGGER
    name: str
    sql: str


def log_table(table: str) -> str:
    return f"{RESERVED_PREFIX}log_{table}"


def registry() -> LogObject:
    """One row per log: which it is, and up to where its entries may be gone."""
    return LogObject(
        kind="TABLE",
        name=LOGS,
        sql=f"CREATE TABLE {quote(LOGS)} (source_table TEXT PRIMARY KEY, log_id TEXT NOT NULL, "
        f"acknowledged INTEGER NOT NULL)",
    )


def log_objects(table: SourceTable, key: Sequence[str]) -> list[LogObject]:
    """The log table and its triggers. The key's columns have no affinity: values stay as are.

    Each entry draws a token, by which it is known from one that got the same number after the
    database was restored from a back-up.
    """
    columns = ", ".join(f"k{number}" for number in range(len(key)))
    name = log_table(table.name)
    made = LogObject(
        kind="TABLE",
        name=name,
        sql=f"CREATE TABLE {quote(name)} (seq INTEGER PRIMARY KEY AUTOINCREMENT, "
        f"token INTEGER NOT NULL DEFAULT (random()), op INTEGER NOT NULL, {columns})",
    )
    return [made, *_triggers(table, key), *_replace_triggers(table, key)]


def registration(table: str) -> str:
    """A new identity for the log: positions in an older one are void."""
    return (
        f"INSERT OR REPLACE INTO {quote(LOGS)} (source_table, log_id, acknowledged) VALUES "
        f"({quote_text(table)}, {_NEW_ID}, 0)"
    )


def expression_indexes(table: SourceTable) -> list[str]:
    """Unique indexes for which a REPLACE cannot be followed."""
    return [index.name for index in table.unique if not index.is_plain]


def _triggers(table: SourceTable, key: Sequence[str]) -> list[LogObject]:
    insert = _log(table.name, _INSERT, "NEW", key)
    update = _log(table.name, _UPDATE, "NEW", key)
    delete = _log(table.name, _DELETE, "OLD", key)
    moved = " OR ".join(
        f"OLD.{quote(name)} IS NOT NEW.{quote(name)} COLLATE BINARY" for name in key
    )
    # The new key first: its row has to be complete at the target before the old one goes.
    left = _select(table.name, _DELETE, "OLD", key, f"WHERE {moved}")
    return [
        _trigger(table.name, "insert", "AFTER INSERT", [insert]),
        _trigger(table.name, "update", "AFTER UPDATE", [update, left]),
        _trigger(table.name, "delete", "AFTER DELETE", [delete]),
    ]


def _replace_triggers(table: SourceTable, key: Sequence[str]) -> list[LogObject]:
    """REPLACE deletes the rows in its way without a DELETE trigger: log their keys beforehand.

    Not needed where such a row must have the key of the new one, which is logged anyway.
    """
    found = []
    for index in table.unique:
        if not index.is_plain or _implies_key(index, key):
            continue
        names = [name for name, _ in index.columns if name is not None]
        collides = " AND ".join(
            f"t.{quote(name)} = NEW.{quote(name)} COLLATE {quote(collation)}"
            for name, collation in index.columns
            if name is not None
        )
        itself = " AND ".join(
            f"t.{quote(name)} IS OLD.{quote(name)} COLLATE BINARY" for name in key
        )
        source = f"FROM {quote(table.name)} AS t WHERE {collides}"
        others = f"{source} AND NOT ({itself})"
        listed = ", ".join(quote(name) for name in names)
        found += [
            _trigger(
                table.name,
                f"insert_{index.name}",
                "BEFORE INSERT",
                [_select(table.name, _DELETE, "t", key, source)],
            ),
            _trigger(
                table.name,
                f"update_{index.name}",
                f"BEFORE UPDATE OF {listed}",
                [_select(table.name, _DELETE, "t", key, others)],
            ),
        ]
    return found


def _implies_key(index: UniqueIndex, key: Sequence[str]) -> bool:
    return set(key) <= {name for name, collation in index.columns if collation == "BINARY"}


def _trigger(table: str, name: str, event: str, statements: Sequence[str]) -> LogObject:
    full = f"{log_table(table)}_{name}"
    body = " ".join(f"{statement};" for statement in statements)
    return LogObject(
        kind="TRIGGER",
        name=full,
        sql=f"CREATE TRIGGER {quote(full)} {event} ON {quote(table)} BEGIN {body} END",
    )


def _log(table: str, operation: int, row: str, key: Sequence[str]) -> str:
    columns = ", ".join(f"k{number}" for number in range(len(key)))
    values = ", ".join(f"{row}.{quote(name)}" for name in key)
    return f"INSERT INTO {quote(log_table(table))} (op, {columns}) VALUES ({operation}, {values})"


def _select(table: str, operation: int, row: str, key: Sequence[str], tail: str) -> str:
    columns = ", ".join(f"k{number}" for number in range(len(key)))
    values = ", ".join(f"{row}.{quote(name)}" for name in key)
    log = quote(log_table(table))
    return f"INSERT INTO {log} (op, {columns}) SELECT {operation}, {values} {tail}"
