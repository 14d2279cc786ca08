"""The comparer is right about a faithful copy and finds every single change to one."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from tests.realdata.compare import compare, expected_rows
from tests.realdata.mutate import keyed_tables, mutate, prepare

ARROW = {
    "TEXT": pa.string(),
    "INTEGER": pa.int64(),
    "SMALLINT": pa.int64(),
    "INTEGER_OR_TEXT": pa.string(),
    "BOOLEAN": pa.bool_(),
    "FLOAT": pa.float64(),
    "DOUBLE": pa.float64(),
}


def naive_copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as proj, duckdb.connect(str(target)) as house:
        for table in keyed_tables(proj):
            schema = pa.schema([(name, ARROW[kind]) for name, kind in table.columns.items()])
            house.register("data", pa.Table.from_pylist(list(expected_rows(proj, table)), schema))
            house.execute(f"CREATE TABLE {table.name} AS FROM data")
            house.unregister("data")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "proj.db"
    prepare(path)
    mutate(path, seed=1)
    return path


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    path = tmp_path_factory.mktemp("copy") / "proj.duckdb"
    naive_copy(source, path)
    return path


def test_preparing_keeps_every_table_and_leaves_no_trigger(tmp_path: Path) -> None:
    prepare(tmp_path / "proj.db")
    with closing(sqlite3.connect(tmp_path / "proj.db")) as proj:
        tables = keyed_tables(proj)
        kinds = dict(proj.execute("SELECT type, count(*) FROM sqlite_master GROUP BY type"))
        ties = proj.execute(
            "SELECT max(n) FROM (SELECT count(*) n FROM axis GROUP BY updated_at)"
        ).fetchone()
        assert len(tables) == 31
        assert "trigger" not in kinds
        assert kinds["view"] == 7
        assert ties[0] > 1
        for table in tables:
            nulls = " OR ".join(f"{column} IS NULL" for column in (*table.key, "updated_at"))
            query = f"SELECT count(*) FROM {table.name} WHERE {nulls}"
            assert proj.execute(query).fetchone() == (0,), table.name


def test_mutating_does_what_it_says_and_the_same_each_time(tmp_path: Path) -> None:
    reports = []
    for name in ("one.db", "two.db"):
        prepare(tmp_path / name)
        reports.append(mutate(tmp_path / name, seed=3))
    assert reports[0] == reports[1]
    naive_copy(tmp_path / "one.db", tmp_path / "one.duckdb")
    assert compare(tmp_path / "two.db", tmp_path / "one.duckdb").equal
    prepare(tmp_path / "before.db")
    differences = compare(tmp_path / "before.db", tmp_path / "one.duckdb").differences
    missing = sum(d.what == "is not at the target" for d in differences)
    extra = sum(d.what == "is at the target and should not be" for d in differences)
    assert missing == sum(m.deleted + m.rekeyed for m in reports[0].values())
    assert extra == sum(m.inserted + m.rekeyed for m in reports[0].values())
    changed = {(d.table, d.key) for d in differences if d.what.startswith("updated_at is ")}
    assert len(changed) == sum(m.updated + m.replaced + m.reentered for m in reports[0].values())


def test_a_faithful_copy_is_equal(source: Path, copied: Path) -> None:
    comparison = compare(source, copied)
    assert comparison.equal, comparison.differences[:5]
    assert comparison.rows > 50_000
    assert comparison.values > 500_000


CHANGES = {
    "UPDATE usage SET scope_code = '0' || scope_code WHERE code = '77'": {
        "usage 'PROJ', '77': scope_code is '01177', not '1177'"
    },
    "UPDATE usage SET code = '078' WHERE code = '78'": {
        "usage 'PROJ', '78': is not at the target",
        "usage 'PROJ', '078': is at the target and should not be",
    },
    "UPDATE ellipsoid SET semi_major_axis = nextafter(semi_major_axis, 0.0::DOUBLE)"
    " WHERE code = '7030'": {
        "ellipsoid 'EPSG', '7030': semi_major_axis is 6378136.999999999, not 6378137.0"
    },
    "UPDATE ellipsoid SET semi_minor_axis = 'nan' WHERE code = '7030'": {
        "ellipsoid 'EPSG', '7030': semi_minor_axis is nan, not None"
    },
    "UPDATE ellipsoid SET deprecated = NOT deprecated WHERE code = '7030'": {
        "ellipsoid 'EPSG', '7030': deprecated is True, not False"
    },
    "UPDATE prime_meridian SET uom_code = NULL WHERE code = '8901'": {
        "prime_meridian 'EPSG', '8901': uom_code is None, not '9102'"
    },
    "DELETE FROM geodetic_crs WHERE auth_name = 'EPSG' AND code = '4326'": {
        "geodetic_crs 'EPSG', '4326': is not at the target"
    },
    "INSERT INTO metadata FROM metadata WHERE key = 'EPSG.VERSION'": {
        "metadata 'EPSG.VERSION': is at the target more than once"
    },
    "INSERT INTO grid_packages (package_name) VALUES ('x')": {
        "grid_packages 'x': is at the target and should not be"
    },
}


def test_every_single_change_is_found(tmp_path: Path, source: Path, copied: Path) -> None:
    target = tmp_path / "proj.duckdb"
    shutil.copy(copied, target)
    with duckdb.connect(str(target)) as house:
        for statement in CHANGES:
            assert house.execute(statement).fetchone() == (1,), statement
    found = {str(difference) for difference in compare(source, target).differences}
    assert found == set().union(*CHANGES.values())
