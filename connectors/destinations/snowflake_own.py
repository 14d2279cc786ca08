"""Rowtrail's own tables and stage in Snowflake, and the owner row in them that writers wait for."""

from __future__ import annotations

from rowtrail.connectors.base import Fence
from rowtrail.connectors.destinations.claims import CLAIMS
from rowtrail.connectors.destinations.gaps import GAPS, WATERMARKS
from rowtrail.connectors.destinations.owner import OWNER, claim
from rowtrail.connectors.destinations.receipts import RECEIPTS
from rowtrail.connectors.destinations.snowflake_sql import Connected, transaction

STAGE = "_rowtrail_stage"

_OWN_TABLES = (OWNER, CLAIMS, RECEIPTS, GAPS, WATERMARKS)
_GATE = ""
"""The pipeline of a row in the owner's table that nobody has: Snowflake keeps no key unique, so
those who make an owner row change this one first, and so come one after the other."""


def claim_schema(work: Connected, fence: Fence, where: str) -> None:
    """Makes Rowtrail's own tables where they are missing, and the owner row; raises as `claim`."""
    missing = [table for table in _OWN_TABLES if not is_there(work, table.name)]
    for table in missing:
        # Whatever Snowflake calls its types; the words are those that all warehouses share.
        work.run(table.ddl(work.own(table.name)).replace("BYTEA", "BINARY"))
    if missing:
        work.run(f"CREATE STAGE IF NOT EXISTS {work.own(STAGE)}")
    with transaction(work):
        if not _pass_gate(work):
            work.run(
                f"INSERT INTO {work.own(OWNER.name)} VALUES (?, '', 0, 0, CURRENT_TIMESTAMP)",
                [_GATE],
            )
    with transaction(work):
        _pass_gate(work)
        claim(work, fence, where)


def _pass_gate(work: Connected) -> int:
    return work.changed(
        f"UPDATE {work.own(OWNER.name)} SET written_at = CURRENT_TIMESTAMP WHERE pipeline = ?",
        [_GATE],
    )


def is_there(work: Connected, table: str) -> bool:
    """Whether a table of Rowtrail's own is there."""
    return work.describe(work.own(table)) is not None
