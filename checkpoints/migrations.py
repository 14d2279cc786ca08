"""The version of the ledger's schema, and the way from older versions to it.

A new ledger is made as `tables.py` says. A change of the tables raises `CURRENT` and adds a
migration to that number; a test compares the two ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, inspect, select

from rowtrail.checkpoints import tables
from rowtrail.checkpoints.errors import LedgerCorruptError, LedgerVersionError
from rowtrail.checkpoints.store import Store

CURRENT = 3


@dataclass(frozen=True)
class Identity:
    """Which ledger this is, and whose."""

    ledger_id: str
    pipeline: str


Migration = Callable[[Connection], None]


def _to_2(connection: Connection) -> None:
    """Changes wait for others; what is to be known of an image, and what was pruned; decisions are
    about groups, and replays about records that nobody has named, or from another origin than the
    source."""
    for table in (tables.prepared_failures, tables.failures):
        for name in ("waits_for", "image_note"):
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {name} TEXT")
    tables.pruned.create(connection)
    for column in (
        "failure_group TEXT",
        "origin TEXT",
        "of_run TEXT",
        "since BIGINT",
        "until BIGINT",
        "condition TEXT",
    ):
        connection.exec_driver_sql(f"ALTER TABLE decisions ADD COLUMN {column}")
    connection.exec_driver_sql(
        "UPDATE decisions SET from_stage = NULL, "
        "origin = CASE from_stage WHEN 'transform' THEN 'image' ELSE 'source' END "
        "WHERE kind = 'replay' AND from_stage IS NOT NULL"
    )


def _to_3(connection: Connection) -> None:
    """When a change was committed or read, for a target that keeps the history."""
    for table in (tables.prepared_failures, tables.failures):
        for column in ("happened_at BIGINT", "committed BOOLEAN"):
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {column}")


MIGRATIONS: Mapping[int, Migration] = {2: _to_2, 3: _to_3}
"""Version -> what brings the version before it there. Runs in the transaction of all of them."""


def is_empty(connection: Connection) -> bool:
    """Whether the database holds no tables at all: a ledger that is not made yet."""
    return not inspect(connection).get_table_names()


def schema_version(connection: Connection, location: str) -> int:
    """The version of the ledger. Raises LedgerCorruptError when this is no ledger."""
    if not inspect(connection).has_table(tables.ledger.name):
        raise LedgerCorruptError(
            f"{location} is a database but no ledger of Rowtrail: nothing was changed in it. "
            "Give the ledger another path."
        )
    versions = select(tables.schema_versions.c.version)
    return max(connection.scalars(versions), default=0)


def is_current(connection: Connection, store: Store) -> bool:
    """Whether nothing is to be done. Raises what `schema_version` and `migrate` raise."""
    version = schema_version(connection, store.location)
    _refuse_newer(version, CURRENT, store.location)
    return version == CURRENT


def _refuse_newer(version: int, current: int, location: str) -> None:
    if version > current:
        raise LedgerVersionError(
            f"The ledger {location} has version {version}, and this Rowtrail knows versions up "
            f"to {current}. Upgrade Rowtrail (pip install --upgrade rowtrail); nothing was changed."
        )


def create(connection: Connection, store: Store, new: Identity) -> None:
    """Makes the tables of a new ledger."""
    tables.metadata.create_all(connection, checkfirst=False)
    now = store.now()
    connection.execute(
        tables.ledger.insert().values(
            id=new.ledger_id, pipeline=new.pipeline, created_at=now, last_decision=0
        )
    )
    connection.execute(tables.schema_versions.insert().values(version=CURRENT, applied_at=now))


def migrate(
    connection: Connection,
    store: Store,
    current: int = CURRENT,
    migrations: Mapping[int, Migration] = MIGRATIONS,
) -> None:
    """Brings a ledger to the current version. Raises LedgerVersionError for a newer one."""
    version = schema_version(connection, store.location)
    _refuse_newer(version, current, store.location)
    for number in range(version + 1, current + 1):
        migrations[number](connection)
        connection.execute(
            tables.schema_versions.insert().values(version=number, applied_at=store.now())
        )


def identity(connection: Connection) -> Identity:
    """Which ledger this is."""
    row = connection.execute(select(tables.ledger.c.id, tables.ledger.c.pipeline)).one()
    return Identity(row.id, row.pipeline)
