"""The change log that capture `trigger` keeps in a PostgreSQL source: its tables and triggers.

All of it is in a schema of its own. One log table per source table has the keys of changed rows,
with the id of the transaction that changed them.

The functions run as their owner, so that the application's roles need no rights on the log. What
they say is found without the caller's search path: every name is qualified, and there is no
operator in them (the comparison of keys is the trigger's condition, which is resolved when that is
made). To set a search path for each call would be as safe and make each logged row twice as dear.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from rowtrail.connectors.postgres_client import quote, quote_text
from rowtrail.connectors.sources.postgres_table import SourceTable

SCHEMA = "_rowtrail"
LOGS = f"{SCHEMA}.logs"
PREFIX = "_rowtrail_"  # of the triggers, which are the table's
INSERT, UPDATE, DELETE, TRUNCATE = 1, 2, 3, 4  # the first three are values of Operation
_LONGEST = 63  # bytes of a name
_FUNCTIONS = (" new", " old", " truncate")  # what their names end with


@dataclass(frozen=True, kw_only=True)
class Trigger:
    name: str
    sql: str


@dataclass(frozen=True, kw_only=True)
class LogDesign:
    """What there is to be for one table."""

    log: str  # name of the log table, and the beginning of the functions' names
    statements: tuple[str, ...]  # that make its parts, the triggers last
    triggers: tuple[Trigger, ...]

    @property
    def fingerprint(self) -> str:
        """What was made by other statements does not fit."""
        return hashlib.sha256("\0".join(self.statements).encode()).hexdigest()[:16]

    def grant(self, user: str) -> str:
        return f"GRANT SELECT, DELETE ON {in_schema(self.log)} TO {quote(user)}"


def log_name(schema: str, relation: str, suffix: str = "") -> str:
    """Name of a table's log, or of something of its: `shop.orders`, cut short where it must be."""
    name = f"{schema}.{relation}"
    if len(f"{name}{suffix}".encode()) > _LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        room = _LONGEST - len(f"…{digest}{suffix}".encode())
        name = name.encode()[:room].decode(errors="ignore") + f"…{digest}"
    return f"{name}{suffix}"


def in_schema(name: str) -> str:
    return f"{SCHEMA}.{quote(name)}"


def registry(user: str) -> list[str]:
    """The schema, and one row per log: which it is, and up to where its entries may be gone."""
    return [
        f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
        f"CREATE TABLE IF NOT EXISTS {LOGS} (log text PRIMARY KEY, source_table text NOT NULL, "
        f"log_id uuid NOT NULL DEFAULT gen_random_uuid(), design text NOT NULL, acknowledged text)",
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {quote(user)}",
        f"GRANT SELECT, UPDATE ON {LOGS} TO {quote(user)}",
    ]


def design(table: SourceTable, key: Sequence[str]) -> LogDesign:
    """The log of a table with this key.

    An entry's time is also what it is known by from another one that got the same number after the
    database was restored from a back-up.
    """
    log = log_name(table.schema, table.relation)
    columns = [table.column(name) for name in key]
    numbered = ", ".join(f"k{number}" for number in range(len(key)))
    declared = ", ".join(f"k{number} {column.sql_type}" for number, column in enumerate(columns))
    new, old, emptied = map(in_schema, functions(table.schema, table.relation))
    into = f"INSERT INTO {in_schema(log)}"
    news = ", ".join(f"NEW.{quote(name)}" for name in key)
    olds = ", ".join(f"OLD.{quote(name)}" for name in key)
    # Byte for byte: a type's own comparison may take two keys for one, as that of citext does.
    moved = f"ROW({olds})::record OPERATOR(pg_catalog.*<>) ROW({news})::record"
    triggers = (
        _trigger(table, "delete", "DELETE", "ROW", f"{old}()"),
        _trigger(table, "insert", "INSERT", "ROW", f"{new}('{INSERT}')"),
        _trigger(table, "truncate", "TRUNCATE", "STATEMENT", f"{emptied}()"),
        # Triggers fire in the order of their names. The new key comes first: its row has to be
        # complete at the target before the old one goes.
        _trigger(table, "update", "UPDATE", "ROW", f"{new}('{UPDATE}')"),
        _trigger(table, "update_key", "UPDATE", "ROW", f"{old}()", f"WHEN ({moved}) "),
    )
    statements = (
        f"CREATE TABLE {in_schema(log)} (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        f"xid xid8 NOT NULL DEFAULT pg_current_xact_id(), "
        f"at timestamptz NOT NULL DEFAULT clock_timestamp(), op smallint NOT NULL, {declared})",
        f"CREATE INDEX ON {in_schema(log)} (xid)",
        _function(
            new,
            f"{into} (op, {numbered}) VALUES (TG_ARGV[0]::pg_catalog.int2, {news}); RETURN NULL",
        ),
        _function(old, f"{into} (op, {numbered}) VALUES ({DELETE}, {olds}); RETURN NULL"),
        _function(emptied, f"{into} (op) VALUES ({TRUNCATE}); RETURN NULL"),
        *(trigger.sql for trigger in triggers),
    )
    return LogDesign(log=log, statements=statements, triggers=triggers)


def always(table: SourceTable, triggers: Sequence[Trigger]) -> str:
    """Makes them fire for what logical replication brings, too; only the table's owner may."""
    enabled = ", ".join(f"ENABLE ALWAYS TRIGGER {quote(trigger.name)}" for trigger in triggers)
    return f"ALTER TABLE {table.sql} {enabled}"


def registration(log: str, table: SourceTable, fingerprint: str) -> str:
    """A new identity for the log: positions in an older one are void."""
    return (
        f"INSERT INTO {LOGS} (log, source_table, design) VALUES ({quote_text(log)}, "
        f"{quote_text(table.name)}, {quote_text(fingerprint)}) ON CONFLICT (log) DO UPDATE SET "
        f"source_table = excluded.source_table, log_id = excluded.log_id, "
        f"design = excluded.design, acknowledged = NULL"
    )


def functions(schema: str, relation: str) -> tuple[str, ...]:
    """Names of the functions that fill a table's log."""
    return tuple(log_name(schema, relation, suffix) for suffix in _FUNCTIONS)


def _function(name: str, body: str) -> str:
    return (
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
        f"{quote_text(f'BEGIN {body}; END')}"
    )


def _trigger(
    table: SourceTable, name: str, event: str, each: str, call: str, when: str = ""
) -> Trigger:
    full = f"{PREFIX}{name}"
    return Trigger(
        name=full,
        sql=f"CREATE TRIGGER {quote(full)} AFTER {event} ON {table.sql} FOR EACH {each} {when}"
        f"EXECUTE FUNCTION {call}",
    )
