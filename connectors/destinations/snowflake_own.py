"""Rowtrail's own tables and stage in Snowflake, and the owner row in them that writers wait for."""

from __future__ import annotations

from hashlib import sha256

from rowtrail.connectors.base import Fence
from rowtrail.connectors.destinations.claims import CLAIMS
from rowtrail.connectors.destinations.gaps import GAPS, WATERMARKS
from rowtrail.connectors.destinations.owner import OWNER, claim
from rowtrail.connectors.destinations.receipts import RECEIPTS
from rowtrail.connectors.destinations.snowflake_sql import (
    Connected,
    SnowflakeName,
    transaction,
)
from rowtrail.connectors.snowflake_client import fold, quote_text

STAGE = "_rowtrail_stage"
_STAGING = "_rowtrail_staging"

_OWN_TABLES = (OWNER, CLAIMS, RECEIPTS, GAPS, WATERMARKS)
_GATE = ""
"""The pipeline of a row in the owner's table that nobody has: Snowflake keeps no key unique, so
those who make an owner row change this one first, and so come one after the other."""


def claim_schema(work: Connected, fence: Fence, where: str) -> None:
    """Makes Rowtrail's own tables where they are missing, and the owner row; raises as `claim`."""
    missing = [table for table in _OWN_TABLES if not is_there(work, table.name)]
    # Each time: the last claim may have been cut off, and somebody may have dropped it.
    work.run(f"CREATE STAGE IF NOT EXISTS {work.own(STAGE)}")
    for table in missing:
        # Whatever Snowflake calls its types; the words are those that all warehouses share.
        work.run(table.ddl(work.own(table.name)).replace("BYTEA", "BINARY"))
    with transaction(work):
        if not _pass_gate(work):
            work.run(
                f"INSERT INTO {work.own(OWNER.name)} VALUES (?, '', 0, 0, CURRENT_TIMESTAMP)",
                [_GATE],
            )
    with transaction(work):
        _pass_gate(work)
        claim(work, fence, where)
    if len(missing) < len(_OWN_TABLES):
        _clean(work, fence)


def staging_of(fence: Fence) -> str:
    """What the names of the staging tables of this ledger's writers begin with."""
    return f"{_STAGING}_{_mark(fence)}_"


def folder_of(schema: str, fence: Fence) -> str:
    """Where in the stage this ledger's writers put their files, for SQL."""
    return f"@{SnowflakeName(schema, fold(STAGE)).sql}/{_mark(fence)}"


def _mark(fence: Fence) -> str:
    """Tells the pipelines of one schema apart, whatever is in their names."""
    return sha256(fence.ledger_id.encode()).hexdigest()[:12]


def _clean(work: Connected, fence: Fence) -> None:
    """Takes away what writers that were killed have left in the stage and in staging tables.

    One that is still at work has lost the target to this claim, and finds nothing more to merge.
    """
    work.run(f"REMOVE {folder_of(work.schema, fence)}/")
    beginning = fold(staging_of(fence))
    left = work.run(
        f"SELECT table_name FROM information_schema.tables "
        f"WHERE table_schema = {quote_text(work.schema)} "
        f"AND LEFT(table_name, {len(beginning)}) = {quote_text(beginning)}"
    )
    for (name,) in left:
        work.run(f"DROP TABLE IF EXISTS {SnowflakeName(work.schema, name).sql}")


def _pass_gate(work: Connected) -> int:
    return work.changed(
        f"UPDATE {work.own(OWNER.name)} SET written_at = CURRENT_TIMESTAMP WHERE pipeline = ?",
        [_GATE],
    )


def is_there(work: Connected, table: str) -> bool:
    """Whether a table of Rowtrail's own is there."""
    return work.describe(work.own(table)) is not None
