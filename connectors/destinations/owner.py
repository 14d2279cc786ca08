"""The owner row: one writer per pipeline and target (DESIGN 2.10)."""

from __future__ import annotations

from rowtrail.connectors.base import Fence
from rowtrail.connectors.destinations.statements import OwnTable, Statements
from rowtrail.connectors.errors import ConfigurationError, OwnershipError

FORMAT = 1
"""Of Rowtrail's own tables at the target. A newer one is refused."""

OWNER = OwnTable(
    name="_rowtrail_owner",
    columns="""
    pipeline VARCHAR PRIMARY KEY,
    ledger_id VARCHAR NOT NULL,
    generation BIGINT NOT NULL,
    format INTEGER NOT NULL,
    written_at TIMESTAMPTZ NOT NULL
""",
)


def claim(work: Statements, fence: Fence, where: str) -> None:
    """Makes the owner row or raises its generation.

    Raises OwnershipError when another ledger or a higher generation owns the target, and
    ConfigurationError when a newer Rowtrail made its tables. `where` names the target.
    """
    owner = work.own(OWNER.name)
    rows = work.run(
        f"SELECT ledger_id, generation, format FROM {owner} WHERE pipeline = ?",
        [fence.pipeline],
    )
    if not rows:
        work.run(
            f"INSERT INTO {owner} VALUES (?, ?, ?, {FORMAT}, CURRENT_TIMESTAMP)",
            [fence.pipeline, fence.ledger_id, fence.generation],
        )
        return
    ledger_id, generation, made_by = rows[0]
    if made_by > FORMAT:
        raise ConfigurationError(
            f"Rowtrail's own tables in {where} have format {made_by}, and this version knows "
            f"{FORMAT} at most. Upgrade with: pip install --upgrade rowtrail"
        )
    if ledger_id != fence.ledger_id:
        raise _another_ledger(fence, ledger_id, where)
    if generation > fence.generation:
        raise _taken_over(fence, generation, where)
    work.run(
        f"UPDATE {owner} SET generation = ?, written_at = CURRENT_TIMESTAMP WHERE pipeline = ?",
        [fence.generation, fence.pipeline],
    )


def hold(work: Statements, fence: Fence, where: str) -> None:
    """Updates the owner row, as each write must; raises OwnershipError unless it is ours."""
    owner = work.own(OWNER.name)
    touched = work.changed(
        f"UPDATE {owner} SET written_at = CURRENT_TIMESTAMP "
        "WHERE pipeline = ? AND ledger_id = ? AND generation = ?",
        [fence.pipeline, fence.ledger_id, fence.generation],
    )
    if touched == 1:
        return
    rows = work.run(
        f"SELECT ledger_id, generation FROM {owner} WHERE pipeline = ?", [fence.pipeline]
    )
    if rows and rows[0][0] != fence.ledger_id:
        raise _another_ledger(fence, rows[0][0], where)
    if rows:
        raise _taken_over(fence, rows[0][1], where)
    raise OwnershipError(
        f"The row of pipeline {fence.pipeline} in table {OWNER.name} of {where} is gone, so this "
        f"run may not write there any more. Somebody removed it or put an older copy of the "
        f"target in place; start a new run, which compares target and ledger first."
    )


def _another_ledger(fence: Fence, owner: str, where: str) -> OwnershipError:
    return OwnershipError(
        f"Table {OWNER.name} of {where} says that pipeline {fence.pipeline} is kept by ledger "
        f"{owner}, and this run has ledger {fence.ledger_id}. Two ledgers must not fill one "
        f"target: put the old ledger back, or make it anew from the target with `rowtrail ledger "
        f"rebuild`, or choose another target."
    )


def _taken_over(fence: Fence, generation: int, where: str) -> OwnershipError:
    return OwnershipError(
        f"A later run of pipeline {fence.pipeline} has taken over {where}: table {OWNER.name} "
        f"has generation {generation}, this run {fence.generation}. This run stops; what it had "
        f"not yet written is read again by the other one. If no other run exists, an older copy "
        f"of the ledger was put back: use `rowtrail ledger rebuild`.",
        generation=generation,
    )
