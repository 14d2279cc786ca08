"""Rowtrail's own tables in PostgreSQL, and the owner row in them that writers wait for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from rowtrail.connectors.base import Fence
from rowtrail.connectors.destinations.claims import CLAIMS
from rowtrail.connectors.destinations.gaps import GAPS, WATERMARKS
from rowtrail.connectors.destinations.owner import OWNER, claim
from rowtrail.connectors.destinations.postgres_sql import (
    SCHEMA,
    Connected,
    Connection,
    Transaction,
    transaction,
)
from rowtrail.connectors.destinations.receipts import RECEIPTS
from rowtrail.connectors.errors import ConfigurationError, TransientError
from rowtrail.connectors.postgres_errors import translated

_OWN_TABLES = (OWNER, CLAIMS, RECEIPTS, GAPS, WATERMARKS)
_WAIT_SECONDS = 10
_LOCK = 0x526F777472  # of those who make these tables at the same time


def claim_database(connection: Connection, fence: Fence, where: str) -> None:
    """Makes Rowtrail's own tables where they are missing, and the owner row.

    Raises ConfigurationError for a database that does not hold every text, and as `claim` does.
    """
    with translated("claim the database", where), transaction(connection) as work:
        _check_encoding(work, where)
        work.run("SELECT pg_advisory_xact_lock(?)", [_LOCK])
        for table in _OWN_TABLES:
            # Asked first: even IF NOT EXISTS needs the right to make tables.
            if not work.run("SELECT WHERE to_regclass(?) IS NOT NULL", [work.own(table.name)]):
                work.run(table.ddl(work.own(table.name)))
        with waiting_for_owner(work, fence, where):
            claim(work, fence, where)


def limit_waits(work: Transaction) -> None:
    """From now on a lock that is not had within some seconds is an error, in this transaction."""
    work.run(f"SET LOCAL lock_timeout = '{_WAIT_SECONDS}s'")


@contextmanager
def waiting_for_owner(work: Transaction, fence: Fence, where: str) -> Iterator[None]:
    """Whoever writes holds the owner row until the end of its transaction. Waits for it within,
    for some seconds; raises TransientError, which says who holds it."""
    limit_waits(work)
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        work.run("ROLLBACK")  # else nothing can be asked
        raise TransientError(
            f"Another run of pipeline {fence.pipeline} is writing to {where} and holds its row in "
            f"table {SCHEMA}.{OWNER.name}. Try again when it has finished."
            f"{_how_to_end(work, fence)}"
        ) from error
    work.run("SET LOCAL lock_timeout TO DEFAULT")


def _how_to_end(work: Transaction, fence: Fence) -> str:
    """The row's `xmax` is the transaction that is changing it, and that has locked itself."""
    found = work.run(
        f"SELECT l.pid FROM {work.own(OWNER.name)} AS o JOIN pg_locks AS l "
        "ON l.locktype = 'transactionid' AND l.transactionid = o.xmax AND l.granted "
        "WHERE o.pipeline = ?",
        [fence.pipeline],
    )
    if not found:
        return ""
    return f" If it hangs, end it at the server: SELECT pg_terminate_backend({found[0][0]})"


def _check_encoding(work: Connected, where: str) -> None:
    ((encoding,),) = work.run("SHOW server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"The database at {where} has the encoding {encoding}, which does not hold every text. "
            f"Name a database in the URL that was made with ENCODING 'UTF8'."
        )
