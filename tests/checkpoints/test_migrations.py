"""The ledger's schema: the way from older versions to it, and newer ones."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from rowtrail.checkpoints import migrations, sqlite
from rowtrail.checkpoints.errors import LedgerError, LedgerVersionError
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.store import Store, utc_now

SCHEMAS = Path(__file__).with_name("schemas")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def shape(path: Path) -> dict[str, object]:
    """Tables with their columns, foreign keys and indexes, however they were made."""
    with closing(sqlite3.connect(path)) as connection:
        ask = lambda sql: connection.execute(sql).fetchall()  # noqa: E731
        tables = [name for (name,) in ask("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: (
                sorted(row[1:] for row in ask(f"PRAGMA table_info({table})")),
                sorted(row[2:] for row in ask(f"PRAGMA foreign_key_list({table})")),
                sorted(
                    (row[1:], ask(f"PRAGMA index_info({row[1]})"), ask(_INDEX.format(row[1])))
                    for row in ask(f"PRAGMA index_list({table})")
                ),
            )
            for table in tables
        }


_INDEX = "SELECT replace(sql, '\"', '') FROM sqlite_master WHERE name = '{}'"


def script(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
        return ";\n\n".join(sql.strip() for (sql,) in rows) + ";\n"


@pytest.mark.parametrize("version", range(1, migrations.CURRENT + 1))
def test_a_migrated_schema_equals_a_fresh_one(version: int, path: Path, tmp_path: Path) -> None:
    """`schemas/N.sql` is what a fresh ledger of version N looked like, and is never changed."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((SCHEMAS / f"{version}.sql").read_text())
        connection.execute("INSERT INTO rowtrail_ledger VALUES ('id', 'shop', 0, 0)")
        connection.execute("INSERT INTO schema_versions VALUES (?, 0)", [version])
        connection.commit()
    with closing(open_ledger(path, "shop")) as ledger:
        assert ledger.id == "id"
    open_ledger(tmp_path / "fresh.db", "shop").close()
    assert shape(path) == shape(tmp_path / "fresh.db")


def test_the_schema_of_this_version_is_kept() -> None:
    """Fails when tables change without a new version; make one, with its migration and script."""
    assert len(list(SCHEMAS.glob("*.sql"))) == migrations.CURRENT
    assert sorted(migrations.MIGRATIONS) == list(range(2, migrations.CURRENT + 1))


def add_color(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE streams ADD COLUMN color TEXT")


def add_size(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE streams ADD COLUMN size INTEGER")


def fail(connection: Connection) -> None:
    add_size(connection)
    raise RuntimeError("the migration is broken")


def migrate(path: Path, current: int, steps: dict[int, Callable[[Connection], None]]) -> None:
    engine = sqlite.sqlite_engine(path)
    store = Store(engine, str(path), utc_now)
    try:
        with store.write() as connection:
            migrations.migrate(connection, store, current, steps)
    finally:
        engine.dispose()


def columns(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[1] for row in connection.execute("PRAGMA table_info(streams)")]


def versions(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT version FROM schema_versions")]


def test_migrations_run_once_and_in_order(path: Path) -> None:
    open_ledger(path, "shop").close()
    steps = {migrations.CURRENT + 1: add_color, migrations.CURRENT + 2: add_size}
    for _ in range(2):
        migrate(path, migrations.CURRENT + 2, steps)
        assert columns(path)[-2:] == ["color", "size"]
        assert versions(path) == [migrations.CURRENT + n for n in range(3)]


def test_migrations_are_done_together_or_not_at_all(path: Path) -> None:
    open_ledger(path, "shop").close()
    before = shape(path)
    with pytest.raises(RuntimeError, match="the migration is broken"):
        steps = {migrations.CURRENT + 1: add_color, migrations.CURRENT + 2: fail}
        migrate(path, migrations.CURRENT + 2, steps)
    assert shape(path) == before
    assert versions(path) == [migrations.CURRENT]
    open_ledger(path, "shop").close()


def test_a_ledger_of_a_newer_version_is_refused_and_not_touched(path: Path) -> None:
    open_ledger(path, "shop").close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO schema_versions VALUES (99, 0)")
        connection.commit()
    before = path.read_bytes()
    message = rf"has version 99, .* up to {migrations.CURRENT}\. Upgrade Rowtrail"
    with pytest.raises(LedgerVersionError, match=message) as caught:
        open_ledger(path, "shop")
    assert isinstance(caught.value, LedgerError)
    assert path.read_bytes() == before
